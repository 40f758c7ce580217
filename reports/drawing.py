"""What a figure of a report is, and how it becomes a file: the same bytes for the same numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import matplotlib.style
from matplotlib.figure import Figure

from robustcode.reports.escape import plain

RUNS = 6  # that have a colour of their own
LONGEST_LABEL = 48  # characters; longer ones would leave no room for the chart

# The identifiers inside an SVG are hashes with a random salt unless one is given. Glyphs are drawn
# as paths, so that a page shows the same figure without the font.
STYLE: dict[str, Any] = {
    "svg.hashsalt": "robustcode",
    "svg.fonttype": "path",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "robustcode"},
    "pdf": {"CreationDate": None, "Creator": "robustcode", "Producer": "Matplotlib"},
}


class Theme(StrEnum):
    """What a figure is looked at on."""

    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True)
class Ink:
    """The colours of a theme; ``kinds`` are those of rows, of samples' states and of RUNS runs.

    ``paper`` is what a figure stands on, and the colour of text inside a bar.
    """

    text: str
    paper: str
    muted: str
    grid: str
    other: str
    kinds: tuple[tuple[str, str], ...]

    def colour(self, kind: str) -> str:
        """The colour of what is clean, attacked, worst case, certified, .."""
        return dict(self.kinds).get(kind, self.other)


INKS = {
    Theme.LIGHT: Ink(
        text="#1c1c1c",
        paper="#ffffff",
        muted="#8a8a8a",
        grid="#e2e2e2",
        other="#5f5f5f",
        kinds=(
            ("clean", "#4a6fa5"),
            ("attack", "#8a8a8a"),
            ("worst case", "#b03a2e"),
            ("certified", "#3a7d44"),
            ("undecided", "#767676"),
            ("broken", "#b03a2e"),
            ("run 0", "#1f5fa8"),
            ("run 1", "#c2571a"),
            ("run 2", "#7a3e9d"),
            ("run 3", "#0f7f7a"),
            ("run 4", "#8a6d00"),
            ("run 5", "#a8326e"),
        ),
    ),
    Theme.DARK: Ink(
        text="#e4e4e4",
        paper="#17181b",
        muted="#9a9a9a",
        grid="#3b3d42",
        other="#b4b4b4",
        kinds=(
            ("clean", "#86aee6"),
            ("attack", "#9a9a9a"),
            ("worst case", "#e8837a"),
            ("certified", "#72bf7e"),
            ("undecided", "#8f8f8f"),
            ("broken", "#e8837a"),
            ("run 0", "#7fb0ee"),
            ("run 1", "#f0a070"),
            ("run 2", "#c59ae0"),
            ("run 3", "#5fc9c2"),
            ("run 4", "#d6bb55"),
            ("run 5", "#ee8fbb"),
        ),
    ),
}


class Drawing(Protocol):
    """A figure of a report: it knows its numbers, and draws them in any ink.

    Attributes:
        stem: its file name without ending, of letters, digits and hyphens, by what it shows: so
            that runs which are added to a report rename nothing.
        title: what it shows.
        note: what stands under it; may be empty.
        said: its numbers in words, for who does not see it; without the title or a full stop.
        size: width and height in inches.
    """

    @property
    def stem(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def said(self) -> str: ...
    @property
    def size(self) -> tuple[float, float]: ...

    def draw(self, figure: Figure, ink: Ink) -> None:
        """Draw on an empty figure of its size."""


def drawn(drawing: Drawing) -> dict[str, bytes]:
    """The files of a figure: ``{"svg": .., "pdf": ..}``, on white."""
    with matplotlib.style.context(["default", STYLE]):
        figure = _figure(drawing, Theme.LIGHT)
        return {kind: _saved(figure, kind) for kind in METADATA}


def shown(drawing: Drawing, theme: Theme) -> bytes:
    """A figure as SVG for a page in ``theme``; its background is the page's."""
    ink = INKS[theme]
    coloured: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink.text
    )
    clear: dict[Any, Any] = {
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
    }
    with matplotlib.style.context(["default", STYLE, coloured, clear]):
        return _saved(_figure(drawing, theme), "svg")


def drawable(label: str) -> str:
    """Latin letters only: the built-in font lacks others, and would warn and draw boxes."""
    latin = plain(label).encode("latin-1", "replace").decode("latin-1")
    if len(latin) <= LONGEST_LABEL:
        return latin
    return f"{latin[: LONGEST_LABEL // 2]}...{latin[3 - LONGEST_LABEL // 2 :]}"


def _figure(drawing: Drawing, theme: Theme) -> Figure:
    figure = Figure(figsize=drawing.size, layout="constrained")
    drawing.draw(figure, INKS[theme])
    # Laid out once, and not anew for each file.
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    return figure


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()
