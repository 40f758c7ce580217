"""Accuracy over passes: whether the attacks had come to an end of what they could find."""

from __future__ import annotations

import numpy as np

from robustcode.reports.grids import counted, percent
from robustcode.reports.sheet import Bools, Floats, Sheet, named
from robustcode.reports.steps import Course, Point, Side, places, point_of
from robustcode.statistics import paired_difference

KIND = "over passes"
EXACT = (
    "Passes are forwards and backwards together, and known of each sample at the end of each "
    "attack: there the line is exact, in between it is an upper bound."
)
CHOSEN = (
    "At each place the proposal counts that other draws than those it is judged on show to be the "
    "worst so far."
)


def left_over_passes(sheet: Sheet) -> Course:
    """The share of right decisions on what was found within so many passes on each sample.

    A sample changes at the passes it had cost when an attack on it ended. What a budget left
    unfinished is unknown from the last end before that on.
    """
    changed = np.diff(sheet.held, axis=1) != 0
    changed |= np.diff(sheet.unknown.astype(int), axis=1) != 0

    def at(place: float) -> Point:
        shares, unknown = state_at(sheet, place)
        return point_of(place, shares, unknown, sheet.missing, sheet.draws)

    told = places(sheet.spent[:, 1:][changed], furthest(sheet), [end for _, end in ends(sheet)])
    count = len(sheet.clean) + sheet.missing
    points = tuple(map(at, told))
    return Course("left by the attacks", "worst case", count, points, Side.AFTER, (points[-1].at,))


def state_at(sheet: Sheet, place: float) -> tuple[Floats, Bools]:
    """Each sample's share of right decisions within so many passes, and whether it is unknown.

    It is unknown from where an attack began that was stopped, but at no passes at all.
    """
    # The last attack that had ended by then; each begins where the one before it has ended.
    ended = (sheet.spent <= place).sum(1) - 1
    rows = np.arange(len(ended))
    begun = np.minimum(ended + 1, sheet.spent.shape[1] - 1)
    unknown = sheet.unknown[rows, ended]
    stopped = sheet.unknown[rows, begun] & (place > sheet.spent[rows, ended])
    shares: Floats = sheet.held[rows, ended]
    return shares, (unknown | stopped) & (place > 0)


def furthest(sheet: Sheet) -> float:
    """The most passes that were spent on a sample."""
    return float(sheet.spent[:, -1].max())


def ends(sheet: Sheet) -> list[tuple[str, float]]:
    """Attacks that cost passes, and where each had ended on every sample."""
    last = sheet.spent.max(0)[1:]
    cost = sheet.passes.max(0) > 0
    return [
        (name, float(end)) for name, end, some in zip(sheet.names, last, cost, strict=True) if some
    ]


def ended_flat(sheet: Sheet) -> str:
    """Whether the accuracy still fell in the last half of the passes, and by whom."""
    half, end = furthest(sheet) / 2, furthest(sheet)
    before, open_before = state_at(sheet, half)
    after, open_after = state_at(sheet, end)
    span = f"the last half of the passes ({half:,.0f} to {end:,.0f} a sample)"
    left = int(open_after.sum()) + sheet.missing
    doubt = (
        f" A budget left {counted(left, 'sample')} unfinished: of these nothing is known."
        if left
        else ""
    )
    if sheet.draws is None:
        return f"{_fallen(sheet, span, (before > 0) & (after == 0))}{doubt}"
    known = ~(open_before | open_after)
    if not known.any():
        return doubt.strip()
    value, low, high = paired_difference(after[known], before[known])
    count = int(known.sum())
    told = (
        f"{percent(value, count)} points in {span} (95 % interval {percent(low, count)} to "
        f"{percent(high, count)})"
    )
    flat = (
        f"It still falls at its end: by {told}; more passes may leave less."
        if low > 0
        else f"It is flat at its end as far as can be told: it fell by {told}."
    )
    return f"{flat}{doubt}"


def _fallen(sheet: Sheet, span: str, fell: Bools) -> str:
    """The note where decisions are not random: how many samples fell late, and the last."""
    broken = (np.diff(sheet.held, axis=1) < 0).astype(bool)
    if not broken.any():
        return "No sample that was right fell: it is flat from its beginning."
    at = np.where(broken, sheet.spent[:, 1:], -1.0)
    latest = at.max()
    who = named([n for n, when in zip(sheet.names, at.max(0), strict=True) if when == latest])
    count = int((at.max(1) == latest).sum())
    last = f"the last to fall, {counted(count, 'sample')}, fell to {who} by {latest:,.0f} passes"
    if not fell.any():
        return f"It is flat at its end: none fell in {span}; {last}."
    return (
        f"It is not flat at its end: {counted(int(fell.sum()), 'sample')} fell in {span}; {last}; "
        "more passes may leave less."
    )
