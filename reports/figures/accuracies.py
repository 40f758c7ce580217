"""Charts of accuracies with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from robustcode.reports.drawing import Ink, drawable
from robustcode.reports.numbers.proofs import Bar
from robustcode.reports.table import Row
from robustcode.wording import percent

WIDTH = 6.8  # inches
LEGEND: dict[str, Any] = {"loc": "outside upper center", "ncols": 3, "frameon": False}
INSIDE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.0}
ROOM = 0.05  # the least share whose number fits into its part of a bar
BAR: dict[str, Any] = {"lw": 6.0, "alpha": 0.35, "solid_capstyle": "butt"}
BARS = "; bars: unfinished samples"
# Along an axis of eps, as shares of its 5.5 inches: a letter of 9 points, and a line of them, which
# is what a tick needs that stands upright.
LETTER = 0.016
CLOSEST = 0.03


@dataclass(frozen=True)
class Dot:
    """One value in [0, 1] with its interval; ``kind`` gives the colour.

    With ``most`` all that is known is that it lies between ``value`` and that: it is drawn as a
    bar, and not as a dot that would look like a measured number.
    """

    label: str
    kind: str
    value: float
    low: float | None
    high: float | None
    most: float | None = None

    @property
    def said(self) -> str:
        """The value in per cent."""
        most = "" if self.most is None else f" to {percent(self.most, None)}"
        return f"{percent(self.value, None)}{most} %"


def dot_of(row: Row, label: str, kind: str) -> Dot:
    """The dot of a row that has a value."""
    return Dot(label, kind, row.value or 0.0, row.low, row.high, row.most)


@dataclass(frozen=True)
class Dots:
    """A dot chart, one line a dot from the top down; a Drawing."""

    stem: str
    title: str
    dots: tuple[Dot, ...]
    note: str = ""

    @property
    def said(self) -> str:
        """Each dot in words."""
        return _said(self.dots)

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return WIDTH, 0.62 + 0.3 * len(self.dots)

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        axes = figure.add_subplot()
        for line, dot in enumerate(self.dots):
            colour = ink.colour(dot.kind)
            if dot.low is not None and dot.high is not None:
                axes.plot([100 * dot.low, 100 * dot.high], [line, line], color=colour, lw=1.6)
            if dot.most is None:
                axes.plot(100 * dot.value, line, "o", color=colour, ms=5.5)
            else:
                axes.plot([100 * dot.value, 100 * dot.most], [line, line], color=colour, **BAR)
        # Names come from outside: a dollar sign must not start a formula.
        labels = [drawable(dot.label) for dot in self.dots]
        axes.set_yticks(range(len(self.dots)), labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(self.dots) - 0.4, -0.6)
        axes.set_xlim(-1, 101)
        legend = _legend(self.dots)
        between = "\n" if BARS in legend else " "
        axes.set_xlabel(f"samples classified correctly, %{between}({legend})")
        axes.grid(axis="x", color=ink.grid, lw=0.7)
        axes.set_axisbelow(True)


@dataclass(frozen=True)
class Brackets:
    """Brackets, one a line from the top down: proved, open and broken; a Drawing."""

    stem: str
    title: str
    bars: tuple[Bar, ...]
    note: str = ""

    @property
    def said(self) -> str:
        """Each bar in words."""
        return _said(self.bars)

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return WIDTH, 0.95 + 0.4 * len(self.bars)

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        axes = figure.add_subplot()
        for line, bar in enumerate(self.bars):
            left = 0.0
            for state, share in bar.shares:
                # The legend has each state once.
                label = state if line == 0 else None
                colour = ink.colour(state)
                axes.barh(line, 100 * share, 0.6, left=100 * left, color=colour, label=label)
                if share >= ROOM:
                    middle = 100 * (left + share / 2)
                    axes.text(middle, line, percent(share, None), color=ink.paper, **INSIDE)
                left += share
        labels = [drawable(bar.label) for bar in self.bars]
        axes.set_yticks(range(len(self.bars)), labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(self.bars) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("samples, %")
        figure.legend(*axes.get_legend_handles_labels(), **LEGEND)


@dataclass(frozen=True)
class Curve:
    """The dots at their places along an axis of eps in ``norm``, joined by a line; a Drawing."""

    stem: str
    title: str
    dots: tuple[Dot, ...]
    places: tuple[float, ...]
    norm: str = ""
    note: str = ""

    @property
    def said(self) -> str:
        """Each dot in words."""
        return _said(self.dots) + ("; 0 is clean" if 0 in self.places else "")

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return WIDTH, 3.4

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        axes = figure.add_subplot()
        axes.spines["left"].set_visible(True)
        for dot, place in zip(self.dots, self.places, strict=True):
            colour = ink.colour(dot.kind)
            if dot.low is not None and dot.high is not None:
                axes.plot([place, place], [100 * dot.low, 100 * dot.high], color=colour, lw=1.6)
            if dot.most is None:
                axes.plot(place, 100 * dot.value, "o", color=colour, ms=5.5)
            else:
                axes.plot([place, place], [100 * dot.value, 100 * dot.most], color=colour, **BAR)
        # A bound is no point to draw a line through.
        heights = [100 * dot.value if dot.most is None else math.nan for dot in self.dots]
        # The first dot may be of another kind: what is right without attack.
        axes.plot(self.places, heights, color=ink.colour(self.dots[-1].kind), lw=1.0, alpha=0.6)
        named = _apart(self.places)
        labels = [drawable(self.dots[place].label) for place in named]
        ticks = [self.places[place] for place in named]
        axes.set_xticks(ticks, labels, parse_math=False, rotation=_turned(ticks, labels))
        axes.set_ylim(-1, 101)
        name = f"eps in {self.norm}" if self.norm else "eps"
        clean = " (0 is clean)" if 0 in self.places else ""
        axes.set_xlabel(drawable(name) + clean, parse_math=False)
        axes.set_ylabel(f"samples classified correctly, %\n({_legend(self.dots)})")
        axes.grid(axis="y", color=ink.grid, lw=0.7)
        axes.set_axisbelow(True)


def _said(named: Sequence[Dot | Bar]) -> str:
    return "; ".join(f"{entry.label} {entry.said}" for entry in named)


def _legend(dots: Sequence[Dot]) -> str:
    return "lines: 95 % intervals" + (BARS if any(dot.most is not None for dot in dots) else "")


def _apart(places: Sequence[float]) -> list[int]:
    """Which of ascending places have a tick: the last, and before it those far enough apart."""
    span = max(places) - min(places)
    named: list[int] = []
    for place in reversed(range(len(places))):
        if not named or places[named[-1]] - places[place] >= CLOSEST * span:
            named.append(place)
    return named[::-1]


def _turned(ticks: Sequence[float], labels: Sequence[str]) -> int:
    """The angle at which labels do not meet, in degrees."""
    span = ticks[-1] - ticks[0]
    for place in range(1, len(ticks)):
        room = 2 * (ticks[place] - ticks[place - 1])
        letters = len(labels[place - 1]) + 1 + len(labels[place]) + 1
        if room < LETTER * letters * span:
            return 90
    return 0
