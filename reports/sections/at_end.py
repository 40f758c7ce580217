"""Whether the attacks were at the end of what they could find, in words."""

from __future__ import annotations

import numpy as np

from robustcode.reports.grids import counted, listed, percent
from robustcode.reports.numbers.over_passes import furthest, state_at
from robustcode.reports.numbers.sheet import Sheet
from robustcode.statistics import Difference, paired_difference, proportion
from robustcode.verdicts import CONTROL

MORE = "more passes may leave less"
UNTOLD = "began before it, and records do not tell when within them"
BOUND = "upper end of Clopper-Pearson's 95 % interval"


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
    at = np.where(broken, sheet.spent[:, 1:], -1.0)
    latest = at.max()
    last = ""
    if broken.any():
        who = listed(n for n, when in zip(sheet.names, at.max(0), strict=True) if when == latest)
        count = int((at.max(1) == latest).sum())
        last = (
            f" The last to fall, {counted(count, 'sample')}, fell to {who} by {latest:,.0f} passes."
        )
    late = at > half
    certain = int((late & (np.array(sheet.stops) | (sheet.spent[:, :-1] >= half))).sum())
    open_ones = int(late.sum()) - certain
    untold = f"{counted(open_ones, 'sample')} fell to attacks that ended in {span} but {UNTOLD}"
    if certain:
        beside = f"; {untold}" if open_ones else ""
        return (
            f"It is not flat at its end: {counted(certain, 'sample')} fell in {span}{beside}; "
            f"{MORE}.{last}"
        )
    if open_ones:
        return f"Whether it is flat at its end is not known: {untold}.{last}"
    # To find nothing says more of some attacks than of others.
    spent = (sheet.passes > 0) & (sheet.spent[:, 1:] > half)
    work = listed(name for place, name in enumerate(sheet.names) if spent[:, place].any())
    return f"{_none_of(sheet, half, span, work)}{last}"


def _none_of(sheet: Sheet, half: float, span: str, work: str) -> str:
    """That no sample fell late, and how many of all may fall so though none of these did."""
    _, unknown = state_at(sheet, furthest(sheet))
    count = int((~unknown).sum())
    if not count:
        return ""
    # Each sample of the data set falls in these passes or does not; none of ``count`` did.
    most = percent(proportion(0, count).high, count)
    standing = int(((state_at(sheet, half)[0] > 0) & ~unknown).sum())
    if not standing:
        return f"When {span} began, no sample stood any more."
    return (
        f"{span[0].upper()}{span[1:]}, spent by {work}, lowered it by {percent(0.0, count)} "
        f"points: none of {counted(standing, 'sample')} that still stood fell. A fall of up to "
        f"{most} points is not ruled out by {counted(count, 'sample')} ({BOUND})."
    )


def _lost(sheet: Sheet, half: float, span: str) -> str:
    """Of a random defence: how much of the expected accuracy was lost late, with its interval."""
    before, open_before = state_at(sheet, half)
    after, open_after = state_at(sheet, furthest(sheet))
    known = ~(open_before | open_after)
    if not known.any():
        return ""
    count = int(known.sum())
    # What every attack left that had begun by half of the passes, wherever it ended.
    begun = np.minimum((sheet.spent < half).sum(1), len(sheet.names))
    certain = sheet.held[np.arange(len(begun)), begun]
    loss = paired_difference(after[known], certain[known])
    if loss.low > 0:
        return f"It still falls at its end: by {_told(loss, count)} in {span}; {MORE}."
    loss = paired_difference(after[known], before[known])
    if loss.low > 0:
        return (
            f"Whether it is flat at its end is not known: {_told(loss, count)} were lost to "
            f"attacks that ended in {span} but {UNTOLD}."
        )
    # To see no fall is not to see that there is none: of few samples the interval is wide.
    return (
        f"{span[0].upper()}{span[1:]} lowered it by {_told(loss, count)}: a fall of up to "
        f"{percent(loss.high, count)} points is not ruled out by these samples."
    )


def _told(loss: Difference, count: int) -> str:
    interval = f"95 % interval {percent(loss.low, count)} to {percent(loss.high, count)}"
    return f"{percent(loss.value, count)} points ({interval})"
