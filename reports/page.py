"""A whole report, before any format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup

from robustcode.reports.drawing import Drawing
from robustcode.reports.grids import Grid
from robustcode.reports.names import numbered
from robustcode.reports.parts import Part
from robustcode.reports.sections.checks import Checkup
from robustcode.reports.sections.explorer import Explorer
from robustcode.reports.sections.findings import Weakness
from robustcode.reports.sections.origins import Origin
from robustcode.reports.table import Row


class Note(NamedTuple):
    """A note where it is said in full, by its number on the page."""

    text: str
    number: int


class Notes(NamedTuple):
    """The notes of a table or section: those said there, and the numbers of those said before."""

    said: list[Note]
    again: list[int]


@dataclass(frozen=True)
class Page:
    """A whole report; ``said`` is its verdict, each run or group of runs in a paragraph.

    ``doubt`` is the one of them that says why not to believe the others; empty if none does.
    """

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
    doubt: str = ""

    @property
    def verdict(self) -> str:
        """The verdict as one text."""
        return " ".join(self.said)

    @property
    def groups(self) -> list[tuple[str, list[Part]]]:
        """The sections by the run they are about, in their order; no name where they are of all."""
        return [(run, list(parts)) for run, parts in groupby(self.parts, lambda part: part.run)]

    @property
    def lead(self) -> tuple[str, ...]:
        """What stands first: of one run all of its verdict, of several a sentence and the doubt."""
        if len(self.origins) < 2:
            return self.said
        return tuple(dict.fromkeys(filter(None, (*self.said[:1], self.doubt))))

    @property
    def aside(self) -> tuple[str, ...]:
        """The rest of the verdict."""
        return tuple(said for said in self.said if said not in self.lead)

    @property
    def grave(self) -> tuple[Weakness, ...]:
        """The findings that take something from the numbers, as far as is known."""
        return tuple(finding for finding in self.unanswered if finding.severity != "info")

    @property
    def mild(self) -> tuple[Weakness, ...]:
        """The others that no added attack has answered."""
        return tuple(finding for finding in self.unanswered if finding.severity == "info")

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
        return 1 + self._places[id(grid)]

    def name_of(self, grid: Grid) -> Markup:
        """The name of a table in files, labels and links; no other table of the page has it.

        It is of letters, digits and hyphens, which no format need escape.
        """
        return Markup(self._names[self._places[id(grid)]])

    def notes_of(self, noted: Grid | Part) -> Notes:
        """What is said under a table or at the end of a section, each note once on a page."""
        return self._notes[id(noted)]

    @property
    def checked(self) -> tuple[Grid, ...]:
        """The checkups as tables."""
        return tuple(grid for c in self.checkups for grid in (*c.grids, *c.repairs))

    @property
    def noted(self) -> list[Grid | Part]:
        """What has notes, in the order of the page."""
        noted: list[Grid | Part] = list(self.grids)
        for part in self.parts:
            noted += [*part.grids, part]
        return [*noted, *self.checked]

    # By identity: two runs may have tables that say the same.
    @cached_property
    def _places(self) -> dict[int, int]:
        return {id(grid): place for place, grid in enumerate(self.tables)}

    @cached_property
    def _names(self) -> list[str]:
        return numbered(grid.name for grid in self.tables)

    @cached_property
    def _notes(self) -> dict[int, Notes]:
        numbers: dict[str, int] = {}
        found = {}
        for one in self.noted:
            own = dict.fromkeys(one.notes)
            again = sorted(numbers[note] for note in own if note in numbers)
            said = []
            for note in (note for note in own if note not in numbers):
                numbers[note] = 1 + len(numbers)
                said.append(Note(note, numbers[note]))
            found[id(one)] = Notes(said, again)
        return found
