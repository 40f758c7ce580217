"""A whole report, before any format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from robustcode.reports.drawing import Drawing
from robustcode.reports.grids import Grid
from robustcode.reports.parts import Part
from robustcode.reports.sections.checks import Checkup
from robustcode.reports.sections.explorer import Explorer
from robustcode.reports.sections.findings import Weakness
from robustcode.reports.sections.origins import Origin
from robustcode.reports.table import Row


@dataclass(frozen=True)
class Page:
    """A whole report; ``said`` is its verdict, each run or group of runs in a paragraph."""

    title: str
    said: tuple[str, ...]
    findings: tuple[Weakness, ...]
    grids: tuple[Grid, ...]
    charts: tuple[Drawing, ...]
    origins: tuple[Origin, ...]
    references: tuple[str, ...]
    rows: tuple[Row, ...]
    checkups: tuple[Checkup, ...] = ()
    parts: tuple[Part, ...] = ()
    explorer: Explorer | None = None
    bibtex: str = ""

    @property
    def verdict(self) -> str:
        """The verdict as one text."""
        return " ".join(self.said)

    @property
    def groups(self) -> list[tuple[str, list[Part]]]:
        """The sections by the run they are about, in their order; no name where they are of all."""
        return [(run, list(parts)) for run, parts in groupby(self.parts, lambda part: part.run)]

    @property
    def unanswered(self) -> tuple[Weakness, ...]:
        """The findings that no added attack has answered."""
        return tuple(finding for finding in self.findings if not finding.answered)

    @property
    def answered(self) -> tuple[Weakness, ...]:
        """The others."""
        return tuple(finding for finding in self.findings if finding.answered)

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """Every figure, in the order of the page."""
        parts = (drawing for part in self.parts for drawing in part.drawings)
        plots = (plot for checkup in self.checkups for plot in checkup.plots)
        return (*self.charts, *parts, *plots)

    @cached_property
    def tables(self) -> tuple[Grid, ...]:
        """Every table, in the order of the page."""
        return (*self.grids, *(grid for part in self.parts for grid in part.grids), *self.checked)

    def number_of(self, grid: Grid) -> int:
        """The number under which a table is shown, from 1."""
        return 1 + self.tables.index(grid)

    @property
    def checked(self) -> tuple[Grid, ...]:
        """The checkups as tables."""
        return tuple(grid for c in self.checkups for grid in (*c.grids, *c.repairs))
