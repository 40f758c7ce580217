"""Tables as they are shown: the rows as text, under their captions and over their notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from robustcode.reports.compare import Comparison
from robustcode.reports.table import Row, Source, as_text

MAIN_KINDS = ("clean", "attack", "worst case", "certified")
# Two decimals need a thousand samples: below, one sample moves the first decimal.
MANY = 1000

CHOSEN = (
    "The worst proposal of each sample was chosen on other draws than those it is judged on, since "
    "the least of several noisy numbers is too low; so the worst case may stand above one attack."
)
WHOLE = "Passes and seconds of the worst case are those of the whole run, with its judge."
BOUND = "An attack gives an upper bound of the true robust accuracy: a stronger one may leave less."
PROOF = (
    "A certificate is a lower bound of the true robust accuracy: another method may prove more. "
    "Clean counts the samples whose class, as the method found it, is the label."
)
EXACT = (
    "Intervals are Clopper-Pearson's at 95 %. They speak of the draw of the n samples only, "
    "not of the attack's seeds and not of its strength."
)
SAMPLED = "Intervals are Clopper-Pearson's at 95 %. They speak of the draw of the n samples only."
CLUSTERED = (
    "Intervals are at 95 %, with the draws of one sample counted as one cluster. They speak of the "
    "draw of the n samples and of the defence's randomness, not of the attack's strength."
)
AFTER = (
    "after: the accuracy left after this attack and those before it, controls aside; it was given "
    "only what they had left standing."
)
AFTER_BUDGET = (
    "Unfinished: a budget ended the attack before its end and none had broken the sample. "
    "The first number and low ends count it as broken, the second number and high ends as right."
)


@dataclass(frozen=True)
class Grid:
    """A table as it is shown; ``widths`` says of each column: text, number, long, word or phrase.

    A table with texts in several columns has words and phrases.
    """

    caption: str
    headers: tuple[str, ...]
    widths: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def _outcomes(source: Source) -> list[str]:
    """What came of the samples that are not certified."""
    said = source.run.summary["certified"]
    if "undecided" not in said:
        return []
    return [
        f"Of {counted(said['samples'], 'sample')} {said['correct']} certified, {said['undecided']} "
        f"undecided (right, but not proved at {said['threat']}), {said['wrong']} wrong, "
        f"{said['abstained']} abstained (the method speaks of no class)."
    ]


def own_grids(source: Source, rows: Sequence[Row]) -> list[Grid]:
    """A run's own tables: clean, each attack and the worst case; then the readings of its draws."""
    main = [row for row in rows if row.kind in MAIN_KINDS]
    notes = [BOUND] if source.attacks else []
    if source.proves:
        notes.append(SAMPLED)
    else:
        notes.append(CLUSTERED if source.draws else EXACT)
    if source.attacks:
        notes += [WHOLE, CHOSEN] if source.draws else [WHOLE]
    abstained = any(row.abstained for row in main)
    refused = source.run.summary.get("detector")
    if refused:
        notes.append(refusals(refused))
    elif abstained:
        notes.append("An abstention is not a right answer; those in each row are counted.")
    if any(source.after(attack) for attack in source.attacks):
        notes.append(AFTER)
    unfinished = any(row.unfinished for row in main)
    if unfinished:
        notes.append(AFTER_BUDGET)
    if source.proves:
        notes += [PROOF, *_outcomes(source)]
    proved = source.run.summary.get("proved")
    if proved:
        notes.append(
            f"{counted(proved, 'sample')} proved robust beforehand: counted as right, not attacked."
        )
    grids = [
        Grid(
            f"Accuracy of {source.label} on {setting_of(source)}",
            (
                *("what", "settings", "n", "accuracy, %", "95 % interval, %"),
                *(("abstained",) if abstained else ()),
                *(("unfinished",) if unfinished else ()),
                *("forwards", "backwards", "seconds"),
            ),
            ("text", "long", *("number",) * (6 + abstained + unfinished)),
            tuple(
                (
                    *(row.name, row.settings, _count(row.samples)),
                    *(accuracy_of(row), interval_of(row)),
                    *((_count(row.abstained),) if abstained else ()),
                    *((_count(row.unfinished),) if unfinished else ()),
                    *(_count(row.forwards), _count(row.backwards), _seconds(row.seconds)),
                )
                for row in main
            ),
            tuple(notes),
        )
    ]
    drawn = [row for row in rows if row.kind == "stochastic"]
    if drawn:
        grids.append(
            Grid(
                f"Three readings of a random defence: {source.label}, {source.draws} draws",
                ("accuracy", "n", "accuracy, %", "95 % interval, %"),
                ("text", "number", "number", "number"),
                tuple(
                    (
                        *(row.name, _count(row.samples)),
                        *(accuracy_of(row), interval_of(row)),
                    )
                    for row in drawn
                ),
                (
                    "Expected: one draw per input. Majority vote: the class with most draws. Right "
                    "in all of k draws: what is left against an adversary who may ask k times.",
                ),
            )
        )
    return grids


def refusals(shares: Mapping[str, float]) -> str:
    """What a detector refused, and how that was counted."""
    return (
        f"This defence may refuse to decide: it refused {percent(shares['clean_refused'], 0)} % of "
        f"decisions on clean inputs, counted as wrong, and {percent(shares['attacked_refused'], 0)}"
        " % on the worst perturbed ones, counted as held."
    )


def group_grids(group: Comparison, rows: dict[str, list[Row]]) -> list[Grid]:
    """One row a run, then the paired differences to the first run."""
    found = {(row.run, row.kind): row for row in group.rows}
    lines = []
    for member in group.members:
        clean = found.get((member.label, "compared clean"))
        worst = found.get((member.label, "compared worst case"))
        proof = first_of(rows[member.label], "certified")
        cost = member.run.summary.get("cost") or {}
        lines.append(
            (
                member.label,
                _count(worst.samples if worst else len(group.samples)),
                accuracy_of(clean) if clean else "",
                interval_of(clean) if clean else "",
                accuracy_of(worst) if worst else "",
                interval_of(worst) if worst else "",
                percent(proof.value, proof.samples) if proof else "",
                _count(len(member.attacks)),
                _count(cost.get("forwards")),
                _count(cost.get("backwards")),
                _seconds(cost.get("seconds")),
            )
        )
    grids = [
        Grid(
            f"Side by side: {setting_of(group.members[0])}",
            (
                *("run", "n", "clean, %", "95 % interval, %", "worst case, %", "95 % interval, %"),
                *("certified, %", "attacks", "forwards", "backwards", "seconds"),
            ),
            ("text", *("number",) * 10),
            tuple(lines),
            tuple(_group_notes(group)),
        )
    ]
    differences = [row for row in group.rows if row.kind == "difference"]
    if differences:
        grids.append(_difference_grid(group, differences))
    return grids


def _group_notes(group: Comparison) -> list[str]:
    notes = [BOUND, CLUSTERED if any(member.draws for member in group.members) else EXACT]
    if group.trimmed:
        owned = ", ".join(f"{member.label}: {len(member.verdicts)}" for member in group.members)
        notes.append(
            f"The runs have different samples ({owned}); compared are the {len(group.samples)} "
            "that all share. Certified accuracy, passes and seconds are of each whole run."
        )
    if not all(member.whole for member in group.members):
        notes.append(AFTER_BUDGET)
    attacks = {
        tuple((str(attack["name"]), as_text(attack.get("settings") or {})) for attack in m.attacks)
        for m in group.members
    }
    if len(attacks) > 1:
        notes.append(
            "The runs were not attacked alike: one that was attacked less may look better than it "
            "is."
        )
    return notes


def _difference_grid(group: Comparison, differences: Sequence[Row]) -> Grid:
    tested = any(row.p_value is not None for row in differences)
    notes = ["Differences are paired: the same samples in both runs."]
    if tested:
        notes.append(
            "p is the exact McNemar test between deterministic runs, adjusted by Holm for all "
            "differences in this table."
        )
    return Grid(
        f"Worst-case accuracy less that of {group.members[0].label}",
        (
            *("run", "n", "difference, points", "95 % interval, points"),
            *(("p", "p, adjusted") if tested else ()),
        ),
        ("text", *("number",) * (5 if tested else 3)),
        tuple(
            (
                *(row.run, _count(row.samples)),
                *(percent(row.value, row.samples), interval_of(row)),
                *((_p(row.p_value), _p(row.p_holm)) if tested else ()),
            )
            for row in differences
        ),
        tuple(notes),
    )


def apart(groups: Sequence[Comparison]) -> str:
    """Which runs were not compared with which, and why."""
    settings = "; ".join(
        f"{', '.join(member.label for member in group.members)} ({setting_of(group.members[0])})"
        for group in groups
    )
    reasons = "Runs under another threat, on other data or without common samples are not compared"
    open_ones = [m.label for group in groups for m in group.members if not m.whole]
    if open_ones:
        reasons += (
            f"; nor are those that a budget left unfinished ({', '.join(open_ones)}), since the "
            "samples they have finished are those that were easy to break"
        )
    return f"{reasons}: {settings}."


def with_note(grid: Grid, note: str) -> Grid:
    """The table with one more note under it."""
    return Grid(grid.caption, grid.headers, grid.widths, grid.rows, (*grid.notes, note))


def first_of(rows: Iterable[Row], kind: str) -> Row | None:
    """The first row of a kind that has a value."""
    return next((row for row in rows if row.kind == kind and row.value is not None), None)


def percent(value: float | None, samples: int | None) -> str:
    """A fraction in per cent, without the sign; empty for none.

    >>> percent(0.5234, 500), percent(0.5234, 5000)
    ('52.3', '52.34')
    """
    if value is None:
        return ""
    return f"{100 * value:.{2 if (samples or 0) >= MANY else 1}f}"


def accuracy_of(row: Row) -> str:
    """The value in per cent; ``least to most`` where samples are unfinished."""
    value = percent(row.value, row.samples)
    return value if row.most is None else f"{value} to {percent(row.most, row.samples)}"


def interval_of(row: Row) -> str:
    """``low to high`` in per cent; empty if the row has none."""
    if row.low is None or row.high is None:
        return ""
    return f"{percent(row.low, row.samples)} to {percent(row.high, row.samples)}"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "run"), counted(2, "run")
    ('1 run', '2 runs')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def setting_of(source: Source) -> str:
    """Data and threat in words."""
    data, threat = source.fact("data") or "unnamed data", source.fact("threat")
    return f"{data} under {threat}" if threat else data
