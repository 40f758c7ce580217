"""Small charts of a pilot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustcode.reports.drawing import Ink, drawable
from robustcode.wording import counted, percent

Points = tuple[tuple[float, float], ...]

SIZE = (3.4, 2.3)  # inches: three stand side by side on a page
MARK: dict[str, Any] = {"lw": 0.9, "ls": (0, (2, 2))}
# So few points are drawn as points, and named by themselves.
FEW = 6
# Values whose names stand side by side differ by this factor, and by this root of all they span.
APART, PLACES = 1.6, 6
# Decades that are named at most under a histogram.
DECADES = 5


@dataclass(frozen=True)
class Plot:
    """Points joined by a line.

    Attributes:
        stem: file name without ending, of letters, digits and hyphens.
        title: what is shown.
        note: what it should look like, and of what it is.
        x: name of the axis.
        y: likewise.
        points: ascending in x; with ``shares`` y is a fraction of 1.
        shares: y is drawn in per cent, from 0 to 100.
        powers: x is drawn by its logarithm above the least value that is not 0.
        mark: a place on x to be marked.
    """

    stem: str
    title: str
    note: str
    x: str
    y: str
    points: Points
    shares: bool = False
    powers: bool = False
    mark: float | None = None

    @property
    def said(self) -> str:
        """The first and the last point in words."""
        ends = (self.points[0], self.points[-1])
        return ", ".join(
            f"{percent(y, None)} % at {x:g}" if self.shares else f"{y:.4g} at {x:g}"
            for x, y in ends
        )

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return SIZE

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        _line(_axes(figure, ink), self, ink)


@dataclass(frozen=True)
class Sizes:
    """How many samples have a gradient of which size; ``sizes`` are not negative."""

    stem: str
    title: str
    note: str
    sizes: tuple[float, ...]

    @property
    def said(self) -> str:
        """Range and zeros in words."""
        some = [size for size in self.sizes if size > 0]
        none = len(self.sizes) - len(some)
        spread = [f"{min(some):.1e} to {max(some):.1e}"] if some else []
        return ", ".join([*spread, f"{none} of {counted(len(self.sizes), 'sample')} have none"])

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return SIZE

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        _histogram(_axes(figure, ink), self.sizes, ink)


def _axes(figure: Figure, ink: Ink) -> Axes:
    axes = figure.add_subplot()
    axes.spines["left"].set_visible(True)
    axes.grid(axis="y", color=ink.grid, lw=0.7)
    axes.set_axisbelow(True)
    return axes


def _line(axes: Axes, plot: Plot, ink: Ink) -> None:
    places = [place for place, _ in plot.points]
    heights = [100 * y if plot.shares else y for _, y in plot.points]
    few = len(places) <= FEW
    if plot.mark is not None:
        axes.axvline(plot.mark, color=ink.muted, **MARK)
    axes.plot(places, heights, marker="o" if few else "", ms=4.0, color=ink.colour("clean"), lw=1.3)
    least = min((place for place in places if place > 0), default=None)
    if plot.powers and least is not None:
        # Linear from 0 to the least value, which has no logarithm's place otherwise.
        axes.set_xscale("symlog", linthresh=least, linscale=0.5, subs=[])
    if plot.shares:
        axes.set_ylim(-3, 103)
        axes.set_yticks([0, 25, 50, 75, 100])
    else:
        # No loss, or the boundary between two classes: a course is read against it.
        axes.axhline(0.0, color=ink.muted, lw=0.7)
    if plot.powers:
        shown = _named(places)
        axes.set_xticks(shown, [f"{place:.3g}" for place in shown])
        axes.set_xticks([], minor=True)
    # The norm's name comes from outside: a dollar sign must not start a formula.
    axes.set_xlabel(drawable(plot.x), parse_math=False)
    axes.set_ylabel(plot.y)


def _named(places: list[float]) -> list[float]:
    """Values of an axis by logarithm that are named: some of these, or round ones if many."""
    first, last = places[0], places[-1]
    if last <= 0:  # nothing has a logarithm
        return [first]
    least = min(place for place in places if place > 0)
    if len(places) > FEW:
        rounds = [factor * 10.0**power for power in range(-6, 9) for factor in (1, 3)]
        places = [first, *(place for place in rounds if least <= place < last), last]
    apart = max(APART, (last / least) ** (1 / PLACES))
    shown = [last]
    for place in reversed(places[:-1]):
        # The last one is named in any case, and each needs room.
        if place == 0 or shown[-1] >= apart * place:
            shown.append(place)
    return shown[::-1]


def _histogram(axes: Axes, sizes: tuple[float, ...], ink: Ink) -> None:
    """A bar for each decade, and one for what has no logarithm."""
    decades = [math.floor(math.log10(size)) for size in sizes if size > 0]
    low, high = (min(decades), max(decades)) if decades else (0, 0)
    bars = range(low, high + 1) if decades else range(0)
    axes.bar(
        [decade + 0.5 for decade in bars],
        [decades.count(decade) for decade in bars],
        0.9,
        color=ink.colour("clean"),
    )
    zeros = len(sizes) - len(decades)
    if zeros:
        axes.bar(
            [low - 1.0],
            [zeros],
            0.9,
            color=ink.colour("worst case"),
            hatch="//",
            edgecolor=ink.paper,
        )
    every = 1 + (high - low) // DECADES
    ticks = [float(edge) for edge in range(low, high + 2, every)] if decades else []
    labels = [rf"$10^{{{edge:g}}}$" for edge in ticks]
    if zeros:
        ticks, labels = [low - 1.0, *ticks], ["0", *labels]
    axes.set_xticks(ticks, labels)
    # One bar alone would be as wide as the chart.
    left = low - 1.6 if zeros else low - 0.1
    axes.set_xlim(left, max(high + 1.1, left + 1 + DECADES))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("size")
    axes.set_ylabel("samples")
