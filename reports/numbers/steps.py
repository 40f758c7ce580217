"""Accuracy along an axis, as steps: numbers with intervals at few places, each of them exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustcode.reports.table import Row
from robustcode.statistics import Proportion, clustered, proportion

# Places of one course, in a figure and as rows. A page has many courses, and at more steps than
# this a staircase looks smooth.
PLACES = 64
# Steps nearer to each other than this share of the axis are one: roundings set proposals that use
# all of eps apart, and nobody could see between them.
NEAR = 1e-4
# What is said of the values of a course that is loose.
LOOSE = "loose upper bound"


class Side(StrEnum):
    """What is drawn from one place to the next.

    ``AFTER``: the value of the place before; ``BEFORE``: that of the place to come; ``NONE``: there
    is nothing between.
    """

    AFTER = "post"
    BEFORE = "pre"
    NONE = "none"


class Point(NamedTuple):
    """An accuracy with its 95 % interval at a place of an axis.

    ``value`` and ``low`` count what is ``unfinished`` as not right, ``most`` and ``high`` as right.
    """

    at: float
    value: float
    low: float
    high: float
    most: float
    unfinished: int


@dataclass(frozen=True)
class Course:
    """One line of a figure.

    Attributes:
        name: what is measured.
        kind: which colour it has, as rows of that kind.
        samples: how many the values are means over.
        points: in ascending order of their places.
        side: what stands between them.
        dots: places at which a number was asked for.
        loose: whether it is a measured number at its end only, and before that a bound which
            nobody tried to make a good one.
    """

    name: str
    kind: str
    samples: int
    points: tuple[Point, ...]
    side: Side
    dots: tuple[float, ...] = ()
    loose: bool = False

    @property
    def last(self) -> Point:
        """Where it ends."""
        return self.points[-1]

    def rows(self, run: str, kind: str) -> list[Row]:
        """What CSV and JSON print of it."""
        return [
            Row(
                run=run,
                kind=kind,
                name=self.name,
                samples=self.samples,
                at=point.at,
                value=point.value,
                low=point.low,
                high=point.high,
                unfinished=point.unfinished or None,
                most=point.most if point.unfinished else None,
                said=LOOSE if self.loose and point.at < self.last.at else "",
            )
            for point in self.points
        ]


def point_of(
    at: float,
    shares: NDArray[np.float64],
    unknown: NDArray[np.bool_],
    missing: int,
    draws: int | None,
) -> Point:
    """The accuracy of which ``shares``, of shape (samples,), are right; see Point.

    Of the ``unknown`` ones the share is the most that it may be. As in summary.json, of which this
    is the interval at one place.
    """
    least = np.concatenate([np.where(unknown, 0.0, shares), np.zeros(missing)])
    value, low, high = accuracy(least, draws)
    unfinished = int(unknown.sum()) + missing
    most = value
    if unfinished:
        most, _, high = accuracy(np.concatenate([shares, np.ones(missing)]), draws)
    return Point(float(at), value, low, high, most, unfinished)


def accuracy(shares: NDArray[np.float64], draws: int | None) -> Proportion:
    """Mean of ``shares``, of shape (samples,), with its 95 % interval.

    Exact where decisions are not random, and ``draws`` is None; else the draws of a sample are one
    cluster.
    """
    if draws is None:
        return proportion(round(float(shares.sum())), len(shares))
    return clustered(shares, draws)


def places(jumps: ArrayLike, last: float, kept: Iterable[float] = ()) -> list[float]:
    """Where a course is told: at 0, at ``last``, at ``kept`` between them, and where it falls most.

    ``jumps`` is where single samples change. Jumps that are near each other are one, at the last of
    them; of too many those are taken between which equally many samples change.

    >>> places([0.5, 0.2, 0.2], 1.0)
    [0.0, 0.2, 0.5, 1.0]
    """
    inside = {float(place) for place in kept if 0 <= place <= last}
    asked = thinned(sorted({0.0, float(last), *inside}), PLACES)
    where = np.sort(np.asarray(jumps, dtype=float))
    # A jump near the end is at the end, where the course is told anyway.
    where = where[(where > 0) & (where < last * (1 - NEAR))]
    group = np.ceil(where / (last * NEAR)) if last else where
    ends = np.flatnonzero(np.diff(group, append=np.inf) > 0)
    room = PLACES - len(asked)
    if len(ends) > room:
        wanted = len(where) * np.arange(1, room + 1) / (room + 1)
        ends = ends[np.unique(np.searchsorted(ends + 1, wanted))]
    tops = where[ends]
    return sorted({*asked, *map(float, tops)})


def thinned(values: Sequence[float], room: int) -> list[float]:
    """At most ``room`` of some values, the first and the last among them."""
    if len(values) <= room:
        return list(values)
    return [values[place] for place in np.unique(np.linspace(0, len(values) - 1, room).astype(int))]
