"""Which sections a report has: of each run what it has measured, then of all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from robustcode.reports import classes, corruption, courses, gallery
from robustcode.reports.beside import part_beside
from robustcode.reports.parts import Part
from robustcode.reports.proofs import Pair
from robustcode.reports.table import Source


def parts_of(found: Sequence[Source], pairs: Sequence[Pair]) -> tuple[Part, ...]:
    """The sections of a page, those of a run after one another.

    What certificates say of the samples of an attack is shown with the attack.
    """
    parts: list[Part | None] = [part_beside(found)]
    shown = {pair.proof.label for pair in pairs if pair.complete}
    attacked = sum(bool(source.attacks) for source in found)
    for place, source in enumerate(found, 1):
        if source.label in shown:
            continue
        parts += [
            courses.part_of(source, place, pairs),
            classes.part_of(source, place, pairs),
            corruption.part_of(source, place),
            gallery.part_of(source, place, attacked),
        ]
    return tuple(part for part in parts if part is not None)
