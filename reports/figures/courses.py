"""Courses, drawn: steps with a band of intervals, and marks along the axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustcode.reports.drawing import Ink, drawable
from robustcode.reports.numbers.steps import Course, Side, thinned
from robustcode.wording import percent

SAID = 5  # places of a course that are told in words
# A letter of 7.5 points as a share of the width of the axes.
LETTER = 0.0115
# Names under the axis: letters of a line, and lines.
LINE, LINES = 84, 4
# Round numbers on an axis by logarithm stand at least this far apart, as a factor.
APART = 2.5
LEGEND: dict[str, Any] = {"loc": "outside upper center", "ncols": 4, "frameon": False}


@dataclass(frozen=True)
class Stairs:
    """Courses over one axis.

    Attributes:
        stem: see Drawing, as the next two.
        title: what is shown.
        note: what is to be known about it.
        x: what the axis is.
        courses: at least one.
        spans: parts of the axis, each under its name up to its end, in ascending order.
        edge: a place that is marked, and its name; None for none.
        powers: whether the axis is by logarithm, but linear from 0 to the first place.
    """

    stem: str
    title: str
    note: str
    x: str
    courses: tuple[Course, ...]
    spans: tuple[tuple[str, float], ...] = ()
    edge: tuple[float, str] | None = None
    powers: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.8, 3.3

    @property
    def said(self) -> str:
        """A few numbers of each course, its ends among them."""
        told = []
        for course in self.courses:
            numbers = []
            for place in thinned(range(len(course.points)), SAID):
                point = course.points[int(place)]
                most = f" to {percent(point.most, course.samples)}" if point.unfinished else ""
                numbers.append(f"{percent(point.value, course.samples)}{most} % at {point.at:.4g}")
            low, high = (
                percent(end, course.samples) for end in (course.last.low, course.last.high)
            )
            interval = f"95 % interval at the end {low} to {high} %"
            loose = ", a loose bound before its end" if course.loose else ""
            told.append(f"{course.name}{loose}: {', '.join(numbers)} ({interval})")
        return "; ".join(told)

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        axes = figure.add_subplot()
        axes.spines["left"].set_visible(True)
        for course in self.courses:
            _course(axes, course, ink)
        first = min(course.points[0].at for course in self.courses)
        last = max(course.last.at for course in self.courses)
        if self.powers:
            self._by_logarithm(axes, last)
        else:
            # A little room, so that what stands at the ends is seen.
            room = 0.02 * (last - first or 1.0)
            axes.set_xlim(first - room, last + room)
            if all(course.side is Side.NONE for course in self.courses):  # counts of something
                axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
        axes.set_ylim(-2, 102)
        if self.edge is not None:
            axes.axvline(self.edge[0], color=ink.muted, lw=0.9, ls=(0, (4, 2)))
        numbers = _spans(axes, self.spans, ink)
        below = f"\n{numbers}" if numbers else ""
        axes.set_xlabel(f"{drawable(self.x)}{below}", parse_math=False)
        band = "mark at the end" if all(course.loose for course in self.courses) else "band"
        axes.set_ylabel(f"classified correctly, %\n({band}: 95 % interval)")
        axes.grid(axis="y", color=ink.grid, lw=0.7)
        axes.set_axisbelow(True)
        if len(self.courses) > 1 or any(p.unfinished for c in self.courses for p in c.points):
            legend = figure.legend(*axes.get_legend_handles_labels(), **LEGEND)
            for text in legend.get_texts():
                # Names hold those of methods, which come from outside: none may start a formula.
                text.set_parse_math(False)

    def _by_logarithm(self, axes: Axes, last: float) -> None:
        places = sorted({point.at for course in self.courses for point in course.points})
        least = next(place for place in places if place > 0)
        axes.set_xscale("symlog", linthresh=least, linscale=0.4, subs=[])
        axes.set_xlim(-0.15 * least, last * 1.08)
        ticks = _round(least, last)
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.set_xticks([], minor=True)


def _course(axes: Axes, course: Course, ink: Ink) -> None:
    colour = ink.colour(course.kind)
    x = [point.at for point in course.points]
    value, low, high, most = (
        [100 * getattr(point, name) for point in course.points]
        for name in ("value", "low", "high", "most")
    )
    step: Any = None if course.side is Side.NONE else course.side.value
    style = "default" if step is None else f"steps-{step}"
    if course.loose:
        label = f"{drawable(course.name)}, loose bound"
        axes.plot(x, value, color=colour, lw=0.8, ls=(0, (4, 3)), drawstyle=style, label=label)
    else:
        axes.fill_between(x, low, high, step=step, color=colour, alpha=0.16, lw=0)
        axes.plot(x, value, color=colour, lw=1.5, drawstyle=style, label=drawable(course.name))
    if any(point.unfinished for point in course.points):
        axes.fill_between(
            x, value, most, step=step, color=colour, alpha=0.3, lw=0, label="unfinished"
        )
    for point in course.points:
        if point.at in course.dots:
            axes.plot(point.at, 100 * point.value, "o", color=colour, ms=4.0)
            ends = [100 * point.low, 100 * point.high]
            axes.plot([point.at, point.at], ends, color=colour, lw=1.2)


def _spans(axes: Axes, spans: Sequence[tuple[str, float]], ink: Ink) -> str:
    """Mark where parts of the axis end and name them; numbers where a name does not fit."""
    numbered, before = [], 0.0
    for number, (name, end) in enumerate(spans, 1):
        axes.axvline(end, color=ink.muted, lw=0.8, ls=(0, (1, 2)))
        left, right = (_share(axes, place) for place in (before, end))
        label = drawable(name)
        if len(label) * LETTER > right - left:
            numbered.append(f"{number} {label}")
            label = str(number)
        if len(label) * LETTER <= right - left:
            axes.text(
                (left + right) / 2,
                1.01,
                label,
                transform=axes.transAxes,
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=ink.text,
                parse_math=False,
            )
        before = end
    return _wrapped(numbered)


def _share(axes: Axes, place: float) -> float:
    """Where a place of the axis is, as a share of the axes' width."""
    scaled = axes.transScale.transform((place, 1.0))
    return float(axes.transLimits.transform(scaled)[0])


def _wrapped(labels: Sequence[str]) -> str:
    """Labels side by side, in as many lines as a figure has room for; then how many more."""
    lines: list[str] = []
    for place, label in enumerate(labels):
        if lines and len(lines[-1]) + len(label) + 2 <= LINE:
            lines[-1] += f", {label}"
        elif len(lines) < LINES:
            lines.append(label)
        else:
            return "\n".join([*lines, f"and {len(labels) - place} more"])
    return "\n".join(lines)


def _round(least: float, last: float) -> list[float]:
    """0 and round numbers of an axis by logarithm."""
    ticks = [0.0]
    for power in range(math.floor(math.log10(least)), math.ceil(math.log10(last)) + 1):
        for factor in (1, 3):
            tick = factor * 10.0**power
            if least <= tick <= last and (ticks[-1] == 0 or tick >= APART * ticks[-1]):
                ticks.append(tick)
    return ticks
