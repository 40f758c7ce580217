"""Clean accuracy against worst-case accuracy: what robustness costs, and what is left of it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustcode.reports.comparison.compare import Comparison
from robustcode.reports.drawing import RUNS, Drawing, Ink, drawable
from robustcode.reports.figures.accuracies import Dot, Dots, dot_of
from robustcode.reports.grids import setting_of

WIDTH = 6.8  # inches
LETTERS = 30  # of a label in one line, which leave two thirds of the width to the chart
LINE = 0.15  # inches, for one line of a label
MARGIN = 0.75  # inches of a chart's height that are not its axes
STEP = 10  # per cent, to which the beginning of an axis is rounded
EDGE = 0.015  # of an axis, beyond 100 %
NOTE = (
    "Marks: clean and worst-case accuracy; crosses: their 95 % intervals. On the dashed line an "
    "attack would change nothing."
)
RINGS = " Hollow marks: what is certified, with its interval."
# Of each run one; with the colours of RUNS runs they repeat after more than any page has.
MARKERS = "os^Dv<>"
CUT = " (axis does not start at 0)"


@dataclass(frozen=True)
class Point:
    """One run: its letter and label, and its accuracies with intervals; ``place`` from 0."""

    mark: str
    label: str
    clean: Dot
    worst: Dot
    certified: Dot | None
    place: int = 0

    @property
    def said(self) -> str:
        """The values in words."""
        certified = "" if self.certified is None else f", certified {self.certified.said}"
        attacked = f"clean {self.clean.said}, worst case {self.worst.said}"
        return f"{self.mark} {self.label}: {attacked}{certified}"


@dataclass(frozen=True)
class Against:
    """Runs as points, clean accuracy to the right and worst-case accuracy up; a Drawing."""

    stem: str
    title: str
    points: tuple[Point, ...]

    @property
    def note(self) -> str:
        """What the marks are."""
        return NOTE + (RINGS if any(point.certified is not None for point in self.points) else "")

    @property
    def said(self) -> str:
        """Each run in words."""
        return "; ".join(point.said for point in self.points)

    @property
    def size(self) -> tuple[float, float]:
        """Inches: a square of axes at least, and room for all labels one below the other."""
        lines = sum(len(_wrapped(point)) + 0.5 for point in self.points)
        return WIDTH, max(3.8, MARGIN + LINE * lines)

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        axes = figure.add_subplot()
        axes.spines["left"].set_visible(True)
        for point in self.points:
            _cross(axes, point, ink)
        left, bottom = _ends(self.points)
        axes.plot([0, 100], [0, 100], color=ink.muted, lw=0.9, ls=(0, (4, 3)), zorder=0)
        axes.set_xlim(left, _end(left))
        axes.set_ylim(bottom, _end(bottom))
        axes.set_xlabel(f"clean accuracy, %{CUT if left > 0 else ''}")
        axes.set_ylabel(f"worst-case accuracy, %{CUT if bottom > 0 else ''}")
        axes.grid(color=ink.grid, lw=0.7)
        axes.set_axisbelow(True)
        self._name(axes, ink, bottom)

    def _name(self, axes: Axes, ink: Ink, bottom: float) -> None:
        """Labels in a column beside the chart, none over another, each with a line to its dot."""
        ordered = sorted(self.points, key=lambda point: -point.worst.value)
        lines = [_wrapped(point) for point in ordered]
        share = LINE / (self.size[1] - MARGIN)  # of the axes' height, for one line
        height = _end(bottom) - bottom
        wanted = [(100 * point.worst.value - bottom) / height for point in ordered]
        places = spread(wanted, [share * (len(label) + 0.5) for label in lines])
        for point, label, place in zip(ordered, lines, places, strict=True):
            axes.annotate(
                "\n".join(label),
                (100 * point.clean.value, 100 * point.worst.value),
                (1.04, place),
                textcoords="axes fraction",
                va="center",
                fontsize=8.0,
                color=ink.text,
                annotation_clip=False,
                parse_math=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": ink.muted,
                    "lw": 0.6,
                    "shrinkA": 2,
                    "shrinkB": 4,
                    "relpos": (0, 0.5),
                },
            )


def chart_of(group: Comparison, stem: str) -> Drawing:
    """The chart of a comparison; of one run, or of runs not attacked, as dots in lines."""
    title = setting_of(group.members[0])
    points: list[Point] = []
    for member in group.members:
        clean, worst, proof = (
            group.row_of(member.label, kind) for kind in ("clean", "worst case", "certified")
        )
        if clean and worst and worst.most is None:
            points.append(
                Point(
                    group.mark_of(member.label),
                    member.label,
                    dot_of(clean, "clean", "clean"),
                    dot_of(worst, "worst case", "worst case"),
                    dot_of(proof, "certified", "certified") if proof else None,
                    len(points),
                )
            )
    if len(points) > 1:
        return Against(stem, f"Clean against worst-case accuracy: {title}", tuple(points))
    return Dots(stem, title, _dots(group))


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Middles of labels from the top down, near where they are wanted and none over another."""
    places: list[float] = []
    edge = 1.0
    for middle, height in zip(wanted, heights, strict=True):
        place = min(middle, edge - height / 2)
        places.append(place)
        edge = place - height / 2
    # What went below the axes is pushed up again, with what it meets.
    edge = 0.0
    for index in reversed(range(len(places))):
        places[index] = max(places[index], edge + heights[index] / 2)
        edge = places[index] + heights[index] / 2
    return places


def _dots(group: Comparison) -> tuple[Dot, ...]:
    kinds = ("clean", "worst case")
    rows = [
        (member.label, kind, group.row_of(member.label, kind))
        for member in group.members
        for kind in kinds
    ]
    return tuple(
        dot_of(row, f"{label}: {kind}", kind)
        for label, kind, row in rows
        if row is not None and row.value is not None
    )


def _cross(axes: Axes, point: Point, ink: Ink) -> None:
    x, y = 100 * point.clean.value, 100 * point.worst.value
    colour, marker = ink.colour(f"run {point.place % RUNS}"), MARKERS[point.place % len(MARKERS)]
    line: dict[str, Any] = {"color": colour, "lw": 1.4, "alpha": 0.8}
    if point.clean.low is not None and point.clean.high is not None:
        axes.plot([100 * point.clean.low, 100 * point.clean.high], [y, y], **line)
    if point.worst.low is not None and point.worst.high is not None:
        axes.plot([x, x], [100 * point.worst.low, 100 * point.worst.high], **line)
    axes.plot(x, y, marker, color=colour, ms=5.5)
    if point.certified is not None:
        # Hollow, since it is no measurement of an attack but a bound from below.
        proved, at = ink.colour("certified"), 100 * point.certified.value
        if point.certified.low is not None and point.certified.high is not None:
            ends = [100 * point.certified.low, 100 * point.certified.high]
            axes.plot([x, x], ends, color=proved, lw=1.2, ls=(0, (2, 1)))
        axes.plot(x, at, marker, mfc=ink.paper, mec=proved, mew=1.4, ms=6.5)


def _ends(points: Sequence[Point]) -> tuple[float, float]:
    """Where the axes begin, so that all of every mark is seen."""
    clean = [_least(point.clean) for point in points]
    worst = [_least(point.worst) for point in points]
    worst += [_least(point.certified) for point in points if point.certified is not None]
    return _rounded(min(clean)), _rounded(min(worst))


def _rounded(share: float) -> float:
    return max(STEP * ((100 * share) // STEP), 0.0) - 0.5


def _end(begin: float) -> float:
    """Where an axis ends that begins there: a dot at 100 % is seen whole."""
    return 100 + EDGE * (100 - begin)


def _least(dot: Dot) -> float:
    return dot.value if dot.low is None else dot.low


def _wrapped(point: Point) -> list[str]:
    named = f"{point.mark}  {drawable(point.label)}"
    return textwrap.wrap(named, LETTERS, break_on_hyphens=False)
