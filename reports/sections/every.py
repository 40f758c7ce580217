"""Which sections a report has: of each run what it has measured, then of all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from robustcode.reports.grids import Grid
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.parts import Part
from robustcode.reports.sections import classes, corruption, courses, gallery
from robustcode.reports.sections.beside import part_beside
from robustcode.reports.source import Source


def parts_of(
    found: Sequence[Source], pairs: Sequence[Pair], own: Mapping[str, Sequence[Grid]]
) -> tuple[Part, ...]:
    """The sections of a page, those of a run after one another.

    ``own`` has the tables of a run, by its label, where they are not among those of the page. What
    certificates say of the samples of an attack is shown with the attack.
    """
    parts: list[Part | None] = [part_beside(found)]
    shown = {pair.proof.label for pair in pairs if pair.complete}
    attacked = sum(bool(source.attacks) for source in found)
    for place, source in enumerate(found, 1):
        label = source.label
        mine: list[Part | None] = []
        if own.get(label):
            mine.append(Part(f"accuracy-{place}", f"Accuracy: {label}", tuple(own[label])))
        if label not in shown:
            mine += [
                courses.part_of(source, place, pairs),
                classes.part_of(source, place, pairs),
                corruption.part_of(source, place),
                gallery.part_of(source, place, attacked),
            ]
        parts += [replace(part, run=label) for part in mine if part is not None]
    return tuple(part for part in parts if part is not None)
