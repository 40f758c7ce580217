"""Accuracy over passes: whether the attacks had come to an end of what they could find."""

from __future__ import annotations

import numpy as np

from robustcode.reports.numbers.sheet import Bools, Floats, Sheet
from robustcode.reports.numbers.steps import Course, Point, Side, places, point_of

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
