"""Charts of a run of corruptions: error over severity, and confidence against what it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustcode.reports.drawing import Ink, drawable
from robustcode.wording import percent

WIDTH, HEIGHT = 6.3, 3.2  # inches
# Lines are told apart by marks too, and not by colour alone.
MARKS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1)), "-")
KINDS = ("clean", "worst case", "certified", "attack", "undecided", "other")


@dataclass(frozen=True)
class Errors:
    """Mean error of each group over severity, 0 for what is clean; a Drawing.

    Attributes:
        stem: see Drawing, as are title and note.
        title: see there.
        lines: of each group its name, and severities with their errors in [0, 1].
        note: see there.
    """

    stem: str
    title: str
    lines: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    note: str = (
        "Each line is the mean over the corruptions of a group; severity 0 is no corruption."
    )

    @property
    def said(self) -> str:
        """Each line in words."""
        told = [
            f"{name} {', '.join(f'{percent(error, None)} % at {at}' for at, error in points)}"
            for name, points in self.lines
        ]
        return "; ".join(told)

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return WIDTH, HEIGHT

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(self.lines):
            _line(axes, ink, number, name, [(at, 100 * error) for at, error in points])
        axes.set_xticks(sorted({at for _, points in self.lines for at, _ in points}))
        axes.set_xlabel("severity")
        axes.set_ylabel("error, %")
        axes.set_ylim(0, None)
        _finish(figure, axes, ink)


@dataclass(frozen=True)
class Reliability:
    """Share of right over confidence, for what is clean and for each severity; a Drawing.

    Attributes:
        stem: see Drawing, as are title and note.
        title: see there.
        lines: of each its name and bins: samples, mean confidence, share of right.
        note: see there.
    """

    stem: str
    title: str
    lines: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]
    note: str = (
        "Below the diagonal confidence is too high. Bins of fewer than 20 answers, or of fewer "
        "than 1 in 200, are left out here: chance moves them too far."
    )

    @property
    def said(self) -> str:
        """Each line in words."""
        told = [
            f"{name}: "
            + ", ".join(f"{100 * right:.0f} % right at {at:.2f}" for at, right in self._shown(bins))
            for name, bins in self.lines
            if self._shown(bins)
        ]
        return "; ".join(told) or "no bin holds answers enough"

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return WIDTH, 1.25 * HEIGHT

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        axes = figure.add_subplot()
        begin = self._begin
        axes.plot([begin, 1], [100 * begin, 100], color=ink.muted, lw=0.9)
        for number, (name, bins) in enumerate(self.lines):
            points = [(at, 100 * right) for at, right in self._shown(bins)]
            _line(axes, ink, number, name, points)
        past = 0.02 * (1 - begin)
        axes.set_xlim(begin, 1 + past)
        axes.set_ylim(100 * begin, 100 * (1 + past))
        cut = " (axis does not start at 0)" if begin else ""
        axes.set_xlabel(f"confidence{cut}")
        axes.set_ylabel(f"right, %{cut}")
        _finish(figure, axes, ink)

    @property
    def _begin(self) -> float:
        """Where both axes begin: not at 0 if all answers are surer and more of them right."""
        ends = [end for _, bins in self.lines for point in self._shown(bins) for end in point]
        return max(0, math.ceil(10 * min(ends, default=0.0)) - 1) / 10

    def _shown(self, bins: tuple[tuple[float, ...], ...]) -> list[tuple[float, float]]:
        least = max(20, sum(part[0] for part in bins) / 200)
        return [(part[1], part[2]) for part in bins if part[0] >= least]


def _line(axes: Axes, ink: Ink, number: int, name: str, points: list[tuple[float, float]]) -> None:
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=ink.colour(KINDS[number % len(KINDS)]),
        ls=DASHES[number % len(DASHES)],
        marker=MARKS[number % len(MARKS)],
        ms=4.0,
        lw=1.3,
        label=drawable(name),
    )


def _finish(figure: Figure, axes: Axes, ink: Ink) -> None:
    axes.spines["left"].set_visible(True)
    axes.grid(axis="y", color=ink.grid, lw=0.7)
    axes.set_axisbelow(True)
    legend = figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
