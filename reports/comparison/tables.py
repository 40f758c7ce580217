"""Tables of several runs side by side: what they keep, what their differences are worth, costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from robustcode.reports.comparison.comparable import chosen_of, doubt_of
from robustcode.reports.comparison.compare import LEVEL, MCNEMAR, Comparison, Contrast
from robustcode.reports.comparison.ranks import Leaderboard, Refusal
from robustcode.reports.grids import (
    AFTER_BUDGET,
    BOUND,
    CLUSTERED,
    EXACT,
    Grid,
    accuracy_of,
    amount,
    counted,
    interval_of,
    listed,
    setting_of,
    tenths,
)
from robustcode.reports.names import slug
from robustcode.reports.source import Source
from robustcode.reports.table import Row

OWN = "attacks that not all had"
SHOWN = 15  # pairs that are all shown: those of six runs

RANKED = (
    f"Rank: one more than the number of runs in this table that are better at "
    f"{100 * LEVEL:g} % after Holm's adjustment. That is the best rank these samples leave open to "
    "it: rank 1 is shared by all runs of which no other is shown to be better. Lines are in the "
    "order of accuracies, in which ranks need not ascend."
)
UNRESOLVED = (
    "Unresolved from: the runs whose worst-case accuracy these samples do not tell from this one's "
    f"at {100 * LEVEL:g} % after Holm's adjustment for all pairs."
)
BRACKETS = "In brackets: 95 % intervals."
PAIRED = (
    "Differences are paired: the same samples in both runs. In brackets: 95 % intervals, by the "
    "spread of the samples' differences with Clopper-Pearson's form, which are not adjusted. What "
    "is resolved is decided by p; an interval is made otherwise, and may just hold 0 where p "
    "resolves a pair of few differences."
)
TESTED = "p is that of the exact McNemar test between two deterministic runs."
REFUSING = (
    "{} may refuse to decide: a refusal of a perturbed input counts as right, though it then goes "
    "without a class, and that of a clean one as wrong."
)
INVERTED = (
    "Where a run is random, p is the least alpha at which the paired interval at 1 - alpha leaves "
    "out 0, which is larger than need be for few samples."
)
WHOLE_COST = (
    "Costs are of each whole run: its attacks on all of its samples, its judge and its checks."
)


def group_grids(group: Comparison, boards: Sequence[Leaderboard]) -> list[Grid]:
    """What the runs keep and cost, and the difference of each pair; none for a run alone.

    A leaderboard of all runs is the first table itself; one of some stands after it.
    """
    if len(group.members) < 2:
        return []
    boards = [board for board in boards if board.group is group]
    whole = next((board for board in boards if len(board.members) == len(group.members)), None)
    grids = [_board(whole)] if whole else [_side_by_side(group), *map(_board, boards)]
    if group.contrasts:
        grids.append(_difference_grid(group))
    return [*grids, _cost_grid(group)]


def refusal_grids(refusals: Sequence[Refusal]) -> list[Grid]:
    """Who was left out and why, those with one reason in one line; no table for nobody."""
    grids = []
    titles = {"not compared": "Not compared", "not ranked": "Not ranked together"}
    for kind, title in titles.items():
        reasons: dict[str, list[str]] = {}
        for refusal in refusals:
            if refusal.kind == kind:
                reasons.setdefault(refusal.why, []).append(refusal.run)
        if reasons:
            lines = tuple((", ".join(runs), why) for why, runs in reasons.items())
            name = slug(kind)
            grids.append(Grid(title, ("run", "why"), ("phrase", "phrase"), lines, name=name))
    return grids


def _side_by_side(group: Comparison) -> Grid:
    caption = f"Side by side: {setting_of(group.members[0])}"
    return _table(group, group.members, caption, _notes(group), named("side by side", group))


def _board(board: Leaderboard) -> Grid:
    group = board.group
    title = f"Leaderboard: {setting_of(group.members[0])}, attacked by {board.attacked_by}"
    name = f"{named('leaderboard', group)}-{slug(board.attacked_by.removeprefix('the same '))}"
    return _table(group, board.members, title, [RANKED, *_notes(group)], name, board.ranks)


def _table(
    group: Comparison,
    members: Sequence[Source],
    caption: str,
    notes: list[str],
    name: str,
    ranks: dict[str, int] | None = None,
) -> Grid:
    certified = any(group.row_of(member.label, "certified") for member in members)
    chosen = chosen_of([member for member in members if member.attacks])
    headers = (
        *(("rank",) if ranks else ()),
        *("mark", "run", "clean, %", "worst case, %"),
        *(("certified, %",) if certified else ()),
        *(("unresolved from",) if group.contrasts else ()),
        *((OWN,) if chosen else ()),
    )
    lines = []
    for member in members:
        clean, worst, proof = (
            group.row_of(member.label, kind) for kind in ("clean", "worst case", "certified")
        )
        lines.append(
            (
                *((str(ranks[member.label]),) if ranks else ()),
                *(group.mark_of(member.label), member.label),
                *(_measured(clean), _measured(worst)),
                *((_measured(proof),) if certified else ()),
                *((_unresolved(group, member) if worst else "",) if group.contrasts else ()),
                *((chosen.get(member.label, ""),) if chosen else ()),
            )
        )
    widths = (
        *(("number",) if ranks else ()),
        *("word", "phrase", *("number",) * (2 + certified)),
        *(("word",) if group.contrasts else ()),
        *(("long",) if chosen else ()),
    )
    caption = f"{caption}, on {counted(len(group.samples), 'sample')}"
    return Grid(
        caption,
        headers,
        widths,
        tuple(lines),
        tuple(filter(None, [*notes, doubt_of(members)])),
        name,
    )


def named(what: str, group: Comparison) -> str:
    """The name of a table or figure of a group, by what the group was measured on."""
    return f"{slug(what)}-{slug(setting_of(group.members[0]))}"


def _measured(row: Row | None) -> str:
    """The value, and in brackets its interval."""
    if row is None:
        return ""
    return f"{accuracy_of(row)} ({interval_of(row)})" if interval_of(row) else accuracy_of(row)


def _unresolved(group: Comparison, member: Source) -> str:
    others = group.unresolved(member.label)
    if len(others) == len(group.contrasts_of(member.label)):
        return "all others" if len(others) > 1 else group.mark_of(others[0])
    return ", ".join(map(group.mark_of, others)) or "none"


def _notes(group: Comparison) -> list[str]:
    random = any(member.draws for member in group.members)
    notes = [*([UNRESOLVED] if group.contrasts else []), BOUND, BRACKETS]
    notes.append(CLUSTERED if random else EXACT)
    refusing = [member.label for member in group.members if member.run.summary.get("detector")]
    if refusing:
        notes.append(REFUSING.format(listed(refusing)))
    if group.trimmed:
        others = [
            f"{member.label} has {len(member.verdicts) - len(group.samples)} more"
            for member in group.members
            if len(member.verdicts) > len(group.samples)
        ]
        notes.append(
            "The runs have different samples. Every number here is of the "
            f"{len(group.samples)} that all share; {', '.join(others)}."
        )
    if not all(member.whole for member in group.members):
        notes.append(AFTER_BUDGET)
    return [*notes, *group.unsaid]


def _difference_grid(group: Comparison) -> Grid:
    shown = _shown(group)
    notes = [PAIRED]
    tests = {contrast.test for contrast in shown}
    notes += [TESTED] if MCNEMAR in tests else []
    notes += [INVERTED] if tests - {MCNEMAR} else []
    pairs = len(group.contrasts)
    if pairs > 1:
        notes.append(f"Adjusted by Holm for all {pairs} pairs of these runs.")
    if len(shown) < pairs:
        notes.append(
            f"Shown are {len(shown)} of them: those of neighbours by worst case and those with "
            f"{group.contrasts[0].first}. The CSV and JSON beside this page have all."
        )
    return Grid(
        "Differences of worst-case accuracy, pair by pair, on "
        f"{counted(len(group.samples), 'sample')}",
        (
            *("pair", "run", "less that of", "difference, points"),
            *("p", "p, adjusted", "resolved"),
        ),
        ("word", "phrase", "phrase", *("number",) * 3, "word"),
        tuple(
            (
                f"{group.mark_of(contrast.second)} - {group.mark_of(contrast.first)}",
                *(contrast.second, contrast.first),
                _measured(contrast.row),
                *(f"{contrast.p_value:.3g}", f"{contrast.p_holm:.3g}"),
                "yes" if contrast.resolved else "unresolved",
            )
            for contrast in shown
        ),
        tuple(notes),
        named("differences", group),
    )


def _shown(group: Comparison) -> list[Contrast]:
    """Every pair, or of many those of neighbours by worst case and those with the first run."""
    if len(group.contrasts) <= SHOWN:
        return list(group.contrasts)
    first = group.contrasts[0].first
    kept = {
        label: row.value or 0.0
        for label in (member.label for member in group.members)
        if (row := group.row_of(label, "worst case"))
    }
    ordered = sorted(kept, key=lambda label: -kept[label])
    neighbours = {frozenset(pair) for pair in itertools.pairwise(ordered)}
    return [
        contrast
        for contrast in group.contrasts
        if contrast.first == first or frozenset((contrast.first, contrast.second)) in neighbours
    ]


def _cost_grid(group: Comparison) -> Grid:
    lines = []
    for member in group.members:
        cost = member.run.summary.get("cost") or {}
        lines.append(
            (
                *(group.mark_of(member.label), member.label),
                *(amount(len(member.verdicts)), amount(len(member.attacks))),
                *(amount(cost.get("forwards")), amount(cost.get("backwards"))),
                *(tenths(cost.get("seconds")), tenths(cost.get("cpu_seconds"))),
                tenths(cost.get("peak_memory_mb")),
            )
        )
    return Grid(
        "What the runs cost",
        (
            *("mark", "run", "samples", "attacks", "forwards", "backwards"),
            *("seconds", "CPU seconds", "peak MB"),
        ),
        ("word", "phrase", *("number",) * 7),
        tuple(lines),
        (WHOLE_COST,),
        named("costs", group),
    )
