"""Which sections a report has: of each run what it has measured, then of all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from robustcode.reports import classes, corruption, courses, gallery
from robustcode.reports.beside import part_beside
from robustcode.reports.parts import Part
from robustcode.reports.proofs import Pair
from robustcode.reports.table import Source


def parts_of(found: Sequence[Source], pairs: Sequence[Pair]) -> tuple[Part, ...]:
    """The sections of a page, those of a run after one another."""
    parts: list[Part | None] = [part_beside(found)]
    for place, source in enumerate(found, 1):
        parts += [
            courses.part_of(source, place, pairs),
            classes.part_of(source, place, pairs),
            corruption.part_of(source, place),
            gallery.part_of(source, place, len(found)),
        ]
    return tuple(part for part in parts if part is not None)
