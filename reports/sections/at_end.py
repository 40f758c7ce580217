"""Whether the attacks were at the end of what they could find, in words."""

from __future__ import annotations

import numpy as np

from robustcode.reports.grids import counted, listed, percent
from robustcode.reports.numbers.over_passes import furthest, state_at
from robustcode.reports.numbers.sheet import Bools, Floats, Sheet
from robustcode.statistics import paired_difference
from robustcode.verdicts import CONTROL

MORE = "more passes may leave less"
UNTOLD = "began before it, and records do not tell when within them"


def at_end(sheet: Sheet) -> str:
    """Whether the accuracy still fell in the last half of the passes, and to whom.

    An attack that ended in the last half may have begun before it. It is known when a sample fell
    to it only if the attack leaves a sample as soon as it is broken.
    """
    end = furthest(sheet)
    if all(map(CONTROL.fullmatch, sheet.names)):
        return "Noise is a control, which does not search: the line says nothing of attacks."
    span = f"the last half of the passes ({end / 2:,.0f} to {end:,.0f} a sample)"
    said = _fell(sheet, end / 2, span) if sheet.draws is None else _lost(sheet, end / 2, span)
    left = int(state_at(sheet, end)[1].sum()) + sheet.missing
    if not left:
        return said
    doubt = f"A budget left {counted(left, 'sample')} unfinished: of these nothing is known."
    return f"{said} {doubt}".strip()


def _fell(sheet: Sheet, half: float, span: str) -> str:
    """Where decisions are not random: how many samples fell late, and the last of them."""
    broken = np.diff(sheet.held, axis=1) < 0
    if not broken.any():
        return "No sample that was right fell: it is flat from its beginning."
    at = np.where(broken, sheet.spent[:, 1:], -1.0)
    latest = at.max()
    who = listed(n for n, when in zip(sheet.names, at.max(0), strict=True) if when == latest)
    count = int((at.max(1) == latest).sum())
    last = f"The last to fall, {counted(count, 'sample')}, fell to {who} by {latest:,.0f} passes."
    late = at > half
    certain = int((late & (np.array(sheet.stops) | (sheet.spent[:, :-1] >= half))).sum())
    open_ones = int(late.sum()) - certain
    untold = f"{counted(open_ones, 'sample')} fell to attacks that ended in {span} but {UNTOLD}"
    if certain:
        beside = f"; {untold}" if open_ones else ""
        return (
            f"It is not flat at its end: {counted(certain, 'sample')} fell in {span}{beside}; "
            f"{MORE}. {last}"
        )
    if open_ones:
        return f"Whether it is flat at its end is not known: {untold}. {last}"
    # To find nothing says more of some attacks than of others.
    late = (sheet.passes > 0) & (sheet.spent[:, 1:] > half)
    work = listed(name for place, name in enumerate(sheet.names) if late[:, place].any())
    return f"It is flat at its end: none fell in {span}, spent by {work}. {last}"


def _lost(sheet: Sheet, half: float, span: str) -> str:
    """Of a random defence: how much of the expected accuracy was lost late, with its interval."""
    before, open_before = state_at(sheet, half)
    after, open_after = state_at(sheet, furthest(sheet))
    known = ~(open_before | open_after)
    if not known.any():
        return ""
    # What every attack left that had begun by half of the passes, wherever it ended.
    begun = np.minimum((sheet.spent < half).sum(1), len(sheet.names))
    certain = sheet.held[np.arange(len(begun)), begun]
    low, told = _loss(certain, after, known)
    if low > 0:
        return f"It still falls at its end: by {told} in {span}; {MORE}."
    low, told = _loss(before, after, known)
    if low > 0:
        return (
            f"Whether it is flat at its end is not known: {told} were lost to attacks that ended "
            f"in {span} but {UNTOLD}."
        )
    # To see no fall is not to see that there is none: of few samples the interval is wide.
    return f"No fall is certain at its end: it is {told} in {span}."


def _loss(before: Floats, after: Floats, known: Bools) -> tuple[float, str]:
    """How much the ``known`` samples lost in the mean: the least, and in words."""
    fell, low, high = paired_difference(after[known], before[known])
    count = int(known.sum())
    interval = f"95 % interval {percent(low, count)} to {percent(high, count)}"
    return low, f"{percent(fell, count)} points ({interval})"
