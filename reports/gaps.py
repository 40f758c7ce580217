"""What a report of unfinished or damaged runs says everywhere: how many samples are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from robustcode.partial import Gap
from robustcode.reports.drawing import Drawing, Ink
from robustcode.reports.figures.small import Plot, Sizes
from robustcode.reports.grids import Grid
from robustcode.reports.page import Page
from robustcode.reports.parts import Part
from robustcode.reports.sections.checks import Checkup
from robustcode.reports.sections.findings import Weakness, by_severity
from robustcode.store import Run

REMEDY = "Run the command of the run again: it goes on where it stopped, and redoes what is lost."

NOT_REVIEWED = "those made at the end of a run, and of all its records, were not made"


@dataclass(frozen=True)
class Captioned:
    """A figure under a longer title; a Drawing."""

    drawing: Drawing
    title: str

    @property
    def stem(self) -> str:
        """As it was."""
        return self.drawing.stem

    @property
    def note(self) -> str:
        """As it was."""
        return self.drawing.note

    @property
    def said(self) -> str:
        """As it was."""
        return self.drawing.said

    @property
    def size(self) -> tuple[float, float]:
        """As it was."""
        return self.drawing.size

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing."""
        self.drawing.draw(figure, ink)


def marked(page: Page, runs: Sequence[Run]) -> Page:
    """The page on ``runs``, in the same order, with what is missing of each that was read in part.

    It is said by the verdict, a finding, the caption of every table and figure that is not plainly
    another run's, and every row.
    """
    labels = [origin.run for origin in page.origins]
    gaps = {label: run.gap for label, run in zip(labels, runs, strict=True) if run.gap is not None}
    if not gaps:
        return page
    mark = _Mark(gaps, tuple(labels))
    explorer = page.explorer
    if explorer is not None:
        notes = (*explorer.notes, *(_of(label, gap, labels) for label, gap in gaps.items()))
        explorer = replace(explorer, notes=notes)
    return replace(
        page,
        said=(*page.said, *(_of(label, gaps[label], labels) for label in gaps)),
        findings=by_severity([*page.findings, *_found(gaps)]),
        grids=tuple(map(mark.grid, page.grids)),
        charts=tuple(map(mark.drawing, page.charts)),
        checkups=tuple(map(mark.checkup, page.checkups)),
        parts=tuple(map(mark.part, page.parts)),
        rows=tuple(
            replace(row, missing=gaps[row.run].missing) if row.run in gaps else row
            for row in page.rows
        ),
        explorer=explorer,
    )


def _of(label: str, gap: Gap, labels: Sequence[str]) -> str:
    """The sentences about a run, which is named where there are several."""
    return gap.sentences if len(labels) == 1 else f"{label}: {gap.sentences}"


def _found(gaps: Mapping[str, Gap]) -> list[Weakness]:
    return [
        Weakness(label, "read-in-part", "warning", gap.sentences, REMEDY, "", "")
        for label, gap in gaps.items()
    ]


@dataclass(frozen=True)
class _Mark:
    """The ends of captions, for the runs of a page that lack samples."""

    gaps: Mapping[str, Gap]
    labels: tuple[str, ...]

    def end(self, title: str, cells: Iterable[str] = ()) -> str:
        """What is added to a caption: of each run that it or a cell names, or else of all."""
        told = [label for label in self.gaps if label in title or label in set(cells)]
        whole = [label for label in self.labels if label not in self.gaps]
        if not told and any(label in title for label in whole):
            return ""
        told = told or list(self.gaps)
        if len(self.labels) == 1:
            return f" ({self.gaps[told[0]].said})"
        return f" ({'; '.join(f'of {label} {self.gaps[label].said}' for label in told)})"

    def grid(self, grid: Grid, heading: str = "") -> Grid:
        cells = {cell for row in grid.rows for cell in row}
        end = self.end(f"{heading} {grid.caption}", cells)
        return replace(grid, caption=f"{grid.caption}{end}")

    def drawing(self, drawing: Drawing, heading: str = "") -> Drawing:
        end = self.end(f"{heading} {drawing.title} {drawing.said}")
        return Captioned(drawing, f"{drawing.title}{end}")

    def part(self, part: Part) -> Part:
        return replace(
            part,
            grids=tuple(self.grid(grid, part.title) for grid in part.grids),
            drawings=tuple(self.drawing(drawing, part.title) for drawing in part.drawings),
        )

    def checkup(self, checkup: Checkup) -> Checkup:
        def plot(drawing: Plot | Sizes) -> Plot | Sizes:
            end = self.end(f"{checkup.run} {drawing.title}")
            return replace(drawing, title=f"{drawing.title}{end}")

        gap, counts = self.gaps.get(checkup.run), checkup.tally
        if gap is not None and not gap.reviewed and counts:
            counts = f"{counts}; {NOT_REVIEWED}"
        return replace(
            checkup,
            tally=counts,
            grids=tuple(self.grid(grid, checkup.run) for grid in checkup.grids),
            repairs=tuple(self.grid(grid, checkup.run) for grid in checkup.repairs),
            plots=tuple(map(plot, checkup.plots)),
            end=self.end(checkup.run),
        )
