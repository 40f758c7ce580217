"""Tables as they are shown: the rows as text, under their captions and over their notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from robustcode.certified import outcomes_of
from robustcode.reports.source import Source
from robustcode.reports.table import Row

# Of the same words as a notebook has; given on from here to all that makes tables.
from robustcode.wording import counted as counted
from robustcode.wording import listed as listed
from robustcode.wording import percent as percent

MAIN_KINDS = ("clean", "attack", "worst case", "certified")

CHOSEN = (
    "The worst proposal of each sample was chosen on other draws than those it is judged on, since "
    "the least of several noisy numbers is too low; so the worst case may stand above one attack."
)
WHOLE = (
    "Passes and seconds of the worst case are those of the whole run, with its judge and its "
    "checks."
)
BOUND = "An attack gives an upper bound of the true robust accuracy: a stronger one may leave less."
PROOF = (
    "A certificate is a lower bound of the true robust accuracy: another method may prove more. "
    "Clean counts the samples whose class, as the method found it, is the label."
)
QUICK = "The suite quick is a short search: adaptive searches longer and may leave less."
QUICK_LEAVES = (
    "The suite quick leaves alone what is far from the boundary after a short search: adaptive "
    "goes on with these samples and may leave less."
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
TOGETHER = (
    "The samples of a batch were attacked together and are judged among each other. Intervals take "
    "samples as independent, so that they may be too narrow here."
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

    A table with texts in several columns has words and phrases. What is long may stand below its
    row. ``name`` is of letters, digits and hyphens, and says what the table is of, so that it stays
    when others come before it.
    """

    caption: str
    headers: tuple[str, ...]
    widths: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    name: str = "table"


def _outcomes(source: Source) -> list[str]:
    """What came of the samples that are not certified."""
    said = source.run.summary["certified"]
    if "undecided" not in said:
        return []
    return [outcomes_of(said)]


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
    if source.together:
        notes.append(TOGETHER)
    abstained = any(row.abstained for row in main)
    refused = source.run.summary.get("detector")
    if refused:
        notes.append(refusals(refused))
    elif abstained:
        notes.append("An abstention is not a right answer; those in each row are counted.")
    if source.fact("suite") == "quick":
        left_alone = any(attack["name"] == "scout" for attack in source.attacks)
        notes.append(QUICK_LEAVES if left_alone else QUICK)
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
            f"Accuracy of {source.label} on {setting_of(source)}{asked_of(source)}",
            (
                *("what", "n", "accuracy, %", "95 % interval, %"),
                *(("abstained",) if abstained else ()),
                *(("unfinished",) if unfinished else ()),
                *("forwards", "backwards", "seconds", "settings"),
            ),
            ("text", *("number",) * (6 + abstained + unfinished), "long"),
            tuple(
                (
                    *(row.name, amount(row.samples)),
                    *(accuracy_of(row), interval_of(row)),
                    *((amount(row.abstained),) if abstained else ()),
                    *((amount(row.unfinished),) if unfinished else ()),
                    *(amount(row.forwards), amount(row.backwards), tenths(row.seconds)),
                    row.settings,
                )
                for row in main
            ),
            tuple(notes),
            f"accuracy-{source.key}",
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
                        *(row.name, amount(row.samples)),
                        *(accuracy_of(row), interval_of(row)),
                    )
                    for row in drawn
                ),
                (
                    "Expected: one draw per input. Majority vote: the class with most draws. Right "
                    "in all of k draws: what is left against an adversary who may ask k times.",
                    CLUSTERED,
                ),
                f"draws-{source.key}",
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


def first_of(rows: Iterable[Row], kind: str) -> Row | None:
    """The first row of a kind that has a value."""
    return next((row for row in rows if row.kind == kind and row.value is not None), None)


def accuracy_of(row: Row) -> str:
    """The value in per cent; ``least to most`` where samples are unfinished."""
    value = percent(row.value, row.samples)
    return value if row.most is None else f"{value} to {percent(row.most, row.samples)}"


def interval_of(row: Row) -> str:
    """``low to high`` in per cent; empty if the row has none."""
    if row.low is None or row.high is None:
        return ""
    return f"{percent(row.low, row.samples)} to {percent(row.high, row.samples)}"


def stated(row: Row) -> str:
    """The value in a sentence, with its interval and with what is unfinished."""
    interval = interval_of(row)
    limits = [f"95 % interval {interval} %"] if interval else []
    if row.unfinished:
        limits = [f"{row.unfinished} of {counted(row.samples or 0, 'sample')} unfinished", *limits]
    return f"{accuracy_of(row)} %" + (f" ({'; '.join(limits)})" if limits else "")


def amount(number: int | None) -> str:
    """A whole number with its thousands apart; empty for none."""
    return "" if number is None else f"{number:,}"


def tenths(number: float | None) -> str:
    """A number to one decimal; empty for none."""
    return "" if number is None else f"{number:,.1f}"


def called(numbers: Sequence[int]) -> str:
    """Notes by their numbers, in a sentence.

    >>> called([2]), called([1, 3, 4])
    ('Note 2', 'Notes 1, 3 and 4')
    """
    return f"Note{'s' if len(numbers) > 1 else ''} {listed(map(str, numbers))}"


def ended(sentence: str) -> str:
    """With a full stop, where it does not end in a mark of its own."""
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def asked_of(source: Source) -> str:
    """The suite of a run, for the end of a caption; empty without one."""
    return f", attacked by {source.suite}" if source.suite else ""


def setting_of(source: Source) -> str:
    """Data and threat in words."""
    data, threat = source.data or "unnamed data", source.fact("threat")
    return f"{data} under {threat}" if threat else data
