"""A section of a report: what answers one question, before any format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustcode.reports.drawing import Drawing
from robustcode.reports.grids import Grid
from robustcode.reports.table import Row


@dataclass(frozen=True)
class Part:
    """A section under its heading.

    Attributes:
        key: its anchor, of letters, digits and hyphens; unique on a page.
        title: its heading.
        grids: its tables.
        drawings: its figures.
        notes: sentences at its end.
        rows: its numbers, for programs.
        gallery: its pictures, which only a page shows.
        run: the label of the run it is about; empty if of several.
    """

    key: str
    title: str
    grids: tuple[Grid, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    gallery: tuple[Any, ...] = ()
    run: str = ""
