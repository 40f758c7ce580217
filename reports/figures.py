"""Charts of accuracies with their intervals, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.figure import Figure

from robustcode.reports.escape import plain

LONGEST_LABEL = 48  # characters; longer ones would leave no room for the chart
COLOURS = {"clean": "#4a6fa5", "attack": "#8a8a8a", "worst case": "#b03a2e", "certified": "#3a7d44"}
OTHER = "#5f5f5f"

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
    """One value in [0, 1] with its interval; ``kind`` gives the colour."""

    label: str
    kind: str
    value: float
    low: float | None
    high: float | None


def chart(dots: Sequence[Dot]) -> dict[str, bytes]:
    """A dot chart, one line a dot from the top down, as ``{"svg": .., "pdf": ..}``."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(6.8, 0.62 + 0.3 * len(dots)), layout="constrained")
        axes = figure.add_subplot()
        for line, dot in enumerate(dots):
            colour = COLOURS.get(dot.kind, OTHER)
            if dot.low is not None and dot.high is not None:
                axes.plot([100 * dot.low, 100 * dot.high], [line, line], color=colour, lw=1.6)
            axes.plot(100 * dot.value, line, "o", color=colour, ms=5.5)
        # Names come from outside: a dollar sign must not start a formula.
        labels = [_drawable(dot.label) for dot in dots]
        axes.set_yticks(range(len(dots)), labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.set_xlim(-1, 101)
        axes.set_xlabel("samples classified correctly, % (lines: 95 % intervals)")
        axes.grid(axis="x", color="#e2e2e2", lw=0.7)
        axes.set_axisbelow(True)
        return {kind: _saved(figure, kind) for kind in METADATA}


def curve(dots: Sequence[Dot], places: Sequence[float]) -> dict[str, bytes]:
    """The dots at their places along an axis of eps, in [0, 1] or beyond, joined by a line."""
    with matplotlib.style.context(["default", STYLE, {"axes.spines.left": True}]):
        figure = Figure(figsize=(6.8, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for dot, place in zip(dots, places, strict=True):
            colour = COLOURS.get(dot.kind, OTHER)
            if dot.low is not None and dot.high is not None:
                axes.plot([place, place], [100 * dot.low, 100 * dot.high], color=colour, lw=1.6)
            axes.plot(place, 100 * dot.value, "o", color=colour, ms=5.5)
        heights = [100 * dot.value for dot in dots]
        axes.plot(places, heights, color=COLOURS.get(dots[0].kind, OTHER), lw=1.0, alpha=0.6)
        axes.set_xticks(places, [_drawable(dot.label) for dot in dots], parse_math=False)
        axes.set_ylim(-1, 101)
        axes.set_xlabel("eps")
        axes.set_ylabel("samples classified correctly, %\n(lines: 95 % intervals)")
        axes.grid(axis="y", color="#e2e2e2", lw=0.7)
        axes.set_axisbelow(True)
        return {kind: _saved(figure, kind) for kind in METADATA}


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()


def _drawable(label: str) -> str:
    """Latin letters only: the built-in font lacks others, and would warn and draw boxes."""
    shown = plain(label).encode("latin-1", "replace").decode("latin-1")
    if len(shown) <= LONGEST_LABEL:
        return shown
    return f"{shown[: LONGEST_LABEL // 2]}...{shown[3 - LONGEST_LABEL // 2 :]}"
