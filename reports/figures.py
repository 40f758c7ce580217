"""Charts of accuracies with their intervals, the same bytes for the same numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from robustcode.reports.escape import plain
from robustcode.reports.table import Row

LONGEST_LABEL = 48  # characters; longer ones would leave no room for the chart
COLOURS = {"clean": "#4a6fa5", "attack": "#8a8a8a", "worst case": "#b03a2e", "certified": "#3a7d44"}
OTHER = "#5f5f5f"
STATES = {"certified": "#3a7d44", "undecided": "#8a8a8a", "broken": "#b03a2e"}
LEGEND: dict[str, Any] = {"loc": "outside upper center", "ncols": 3, "frameon": False}
INSIDE: dict[str, Any] = {"ha": "center", "va": "center", "color": "white", "fontsize": 8.0}
ROOM = 0.05  # the least share whose number fits into its part of a bar
BAR: dict[str, Any] = {"lw": 6.0, "alpha": 0.35, "solid_capstyle": "butt"}
BARS = "; bars: unfinished samples"
# Along an axis of eps, as shares of its 5.5 inches: a letter of 9 points, and a line of them, which
# is what a tick needs that stands upright.
LETTER = 0.016
CLOSEST = 0.03

# The identifiers inside an SVG are hashes with a random salt unless one is given. Glyphs are drawn
# as paths, so that a page shows the same figure without the font.
STYLE = {
    "svg.hashsalt": "robustcode",
    "svg.fonttype": "path",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
METADATA = {
    "svg": {"Date": None, "Creator": "robustcode"},
    "pdf": {"CreationDate": None, "Creator": "robustcode", "Producer": "Matplotlib"},
}


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
        most = "" if self.most is None else f" to {100 * self.most:.1f}"
        return f"{100 * self.value:.1f}{most} %"


@dataclass(frozen=True)
class Bar:
    """Shares of all samples that add up to 1, by what is known of them, under one label."""

    label: str
    shares: tuple[tuple[str, float], ...]

    @property
    def said(self) -> str:
        """The shares in per cent."""
        return ", ".join(f"{100 * share:.1f} % {state}" for state, share in self.shares)


def dot_of(row: Row, label: str, kind: str) -> Dot:
    """The dot of a row that has a value."""
    return Dot(label, kind, row.value or 0.0, row.low, row.high, row.most)


def chart(dots: Sequence[Dot]) -> dict[str, bytes]:
    """A dot chart, one line a dot from the top down, as ``{"svg": .., "pdf": ..}``."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(6.8, 0.62 + 0.3 * len(dots)), layout="constrained")
        axes = figure.add_subplot()
        for line, dot in enumerate(dots):
            colour = COLOURS.get(dot.kind, OTHER)
            if dot.low is not None and dot.high is not None:
                axes.plot([100 * dot.low, 100 * dot.high], [line, line], color=colour, lw=1.6)
            if dot.most is None:
                axes.plot(100 * dot.value, line, "o", color=colour, ms=5.5)
            else:
                axes.plot([100 * dot.value, 100 * dot.most], [line, line], color=colour, **BAR)
        # Names come from outside: a dollar sign must not start a formula.
        labels = [drawable(dot.label) for dot in dots]
        axes.set_yticks(range(len(dots)), labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.set_xlim(-1, 101)
        legend = _legend(dots)
        between = "\n" if BARS in legend else " "
        axes.set_xlabel(f"samples classified correctly, %{between}({legend})")
        axes.grid(axis="x", color="#e2e2e2", lw=0.7)
        axes.set_axisbelow(True)
        return {kind: saved(figure, kind) for kind in METADATA}


def bars(rows: Sequence[Bar]) -> dict[str, bytes]:
    """Brackets, one a line from the top down: proved, open and broken, side by side."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(6.8, 0.95 + 0.4 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for line, bar in enumerate(rows):
            left = 0.0
            for state, share in bar.shares:
                # The legend has each state once.
                label = state if line == 0 else None
                colour = STATES.get(state, OTHER)
                axes.barh(line, 100 * share, 0.6, left=100 * left, color=colour, label=label)
                if share >= ROOM:
                    middle = 100 * (left + share / 2)
                    axes.text(middle, line, f"{100 * share:.1f}", **INSIDE)
                left += share
        labels = [drawable(bar.label) for bar in rows]
        axes.set_yticks(range(len(rows)), labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("samples, %")
        figure.legend(*axes.get_legend_handles_labels(), **LEGEND)
        return {kind: saved(figure, kind) for kind in METADATA}


def curve(dots: Sequence[Dot], places: Sequence[float], norm: str = "") -> dict[str, bytes]:
    """The dots at their places along an axis of eps in ``norm``, joined by a line."""
    with matplotlib.style.context(["default", STYLE, {"axes.spines.left": True}]):
        figure = Figure(figsize=(6.8, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for dot, place in zip(dots, places, strict=True):
            colour = COLOURS.get(dot.kind, OTHER)
            if dot.low is not None and dot.high is not None:
                axes.plot([place, place], [100 * dot.low, 100 * dot.high], color=colour, lw=1.6)
            if dot.most is None:
                axes.plot(place, 100 * dot.value, "o", color=colour, ms=5.5)
            else:
                axes.plot([place, place], [100 * dot.value, 100 * dot.most], color=colour, **BAR)
        # A bound is no point to draw a line through.
        heights = [100 * dot.value if dot.most is None else math.nan for dot in dots]
        axes.plot(places, heights, color=COLOURS.get(dots[0].kind, OTHER), lw=1.0, alpha=0.6)
        shown = _apart(places)
        labels = [drawable(dots[place].label) for place in shown]
        ticks = [places[place] for place in shown]
        axes.set_xticks(ticks, labels, parse_math=False, rotation=_turned(ticks, labels))
        axes.set_ylim(-1, 101)
        axes.set_xlabel(drawable(f"eps in {norm}" if norm else "eps"))
        axes.set_ylabel(f"samples classified correctly, %\n({_legend(dots)})")
        axes.grid(axis="y", color="#e2e2e2", lw=0.7)
        axes.set_axisbelow(True)
        return {kind: saved(figure, kind) for kind in METADATA}


def _legend(dots: Sequence[Dot]) -> str:
    return "lines: 95 % intervals" + (BARS if any(dot.most is not None for dot in dots) else "")


def _apart(places: Sequence[float]) -> list[int]:
    """Which of ascending places have a tick: the last, and before it those far enough apart."""
    span = max(places) - min(places)
    shown: list[int] = []
    for place in reversed(range(len(places))):
        if not shown or places[shown[-1]] - places[place] >= CLOSEST * span:
            shown.append(place)
    return shown[::-1]


def _turned(ticks: Sequence[float], labels: Sequence[str]) -> int:
    """The angle at which labels do not meet, in degrees."""
    span = ticks[-1] - ticks[0]
    for place in range(1, len(ticks)):
        room = 2 * (ticks[place] - ticks[place - 1])
        letters = len(labels[place - 1]) + 1 + len(labels[place]) + 1
        if room < LETTER * letters * span:
            return 90
    return 0


def saved(figure: Figure, kind: str) -> bytes:
    """The file of a drawn figure; ``kind`` is svg or pdf."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()


def drawable(label: str) -> str:
    """Latin letters only: the built-in font lacks others, and would warn and draw boxes."""
    shown = plain(label).encode("latin-1", "replace").decode("latin-1")
    if len(shown) <= LONGEST_LABEL:
        return shown
    return f"{shown[: LONGEST_LABEL // 2]}...{shown[3 - LONGEST_LABEL // 2 :]}"
