"""The courses of one run: accuracy over eps, over passes and over draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robustcode.certified import told
from robustcode.reports.figures.courses import Stairs
from robustcode.reports.grids import CLUSTERED, SAMPLED, counted
from robustcode.reports.numbers import over_draws, over_eps, over_passes
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.numbers.sheet import Sheet, sheet_of
from robustcode.reports.numbers.steps import PLACES, Course
from robustcode.reports.parts import Part
from robustcode.reports.sections.at_end import at_end
from robustcode.reports.source import Source
from robustcode.reports.table import Row

BAND = "Bands are 95 % intervals at each place by itself, not of a whole line at once."
FEWER = (
    f"Lines are told at {PLACES} places at most, exactly there; between two of them they are as "
    "high as bounds of their side may be."
)
LOWER = "Certified from below: what is proved within each distance."


def part_of(source: Source, place: int, pairs: Sequence[Pair] = ()) -> Part | None:
    """The courses of a run; None if it has neither records nor certificates.

    ``pairs`` are those of a page; the ones with this run bound it from below.
    """
    if source.proves:
        shown = _of_proofs(source)
    else:
        sheet = sheet_of(source)
        own = [pair for pair in pairs if pair.attack.label == source.label]
        shown = [] if sheet is None else _of_attacks(source, sheet, own)
    if not shown:
        return None
    courses = [course for _, figure in shown for course in figure.courses]
    thinned = any(len(course.points) >= PLACES for course in courses)
    return Part(
        key=f"courses-{place}",
        title=f"How the accuracy comes about: {source.label}",
        drawings=tuple(figure for _, figure in shown),
        notes=tuple([BAND, CLUSTERED if source.draws else SAMPLED, *([FEWER] if thinned else [])]),
        rows=tuple(row for kind, figure in shown for row in _rows(source, kind, figure)),
    )


def _rows(source: Source, kind: str, figure: Stairs) -> list[Row]:
    return [row for course in figure.courses for row in course.rows(source.label, kind)]


def _of_proofs(source: Source) -> list[tuple[str, Stairs]]:
    course = over_eps.certified_over_radius(source)
    found = over_eps.threat_of(source)
    if course is None or found is None:
        return []
    figure = Stairs(
        stem=f"eps-{source.key}",
        title=f"Certified accuracy of {source.label} over radius",
        note="At each place: the samples that are proved right so far. Dots: radii asked for.",
        x=f"radius in {found[0]}",
        courses=(course,),
        edge=(found[1], "eps"),
    )
    return [(over_eps.KIND, figure)]


def _of_attacks(source: Source, sheet: Sheet, pairs: Sequence[Pair]) -> list[tuple[str, Stairs]]:
    shown = []
    if over_passes.furthest(sheet) > 0:
        notes = [at_end(sheet), over_passes.EXACT]
        notes += [] if sheet.draws is None else [over_passes.CHOSEN]
        figure = Stairs(
            stem=f"passes-{source.key}",
            title=f"Accuracy of {source.label} over passes: are the attacks at their end?",
            note=" ".join(notes),
            x="passes spent on a sample so far",
            courses=(over_passes.left_over_passes(sheet),),
            spans=tuple(over_passes.ends(sheet)),
            powers=True,
        )
        shown.append((over_passes.KIND, figure))
    courses = over_draws.left_over_draws(sheet)
    if courses:
        figure = Stairs(
            stem=f"draws-{source.key}",
            title=f"Accuracy of {source.label} left to k tries",
            note=over_draws.TRIED,
            x="draws that the adversary may try, k",
            courses=tuple(courses),
        )
        shown.append((over_draws.KIND, figure))
    over = _over_eps(source, sheet, pairs)
    if over is None:
        return shown
    # A bound that nobody tried to make a good one does not stand before what was measured.
    last = all(course.loose for course in over.courses)
    return [*shown, (over_eps.KIND, over)] if last else [(over_eps.KIND, over), *shown]


def _over_eps(source: Source, sheet: Sheet, pairs: Sequence[Pair]) -> Stairs | None:
    """What the attacks left over eps, and what is proved.

    None where neither bounds anything, or where nobody looked for nearer wrong inputs and nothing
    is proved: a line that is flat until eps would flatter.
    """
    found = over_eps.threat_of(source)
    if found is None or not sheet.names:
        return None
    norm, eps = found
    below = [over_eps.proved_over_eps(pair, eps) for pair in pairs]
    notes, above = [], []
    # Of a batch the mates were moved as well, by up to eps: nearer to 0 that bounds nothing.
    if not source.together and (below or over_eps.sought(source, sheet)):
        loose = over_eps.loose(source, sheet)
        above = [replace(over_eps.left_over_eps(sheet, eps), loose=loose)]
        notes = over_eps.notes_of(source, sheet)
    if not (above or below):
        return None
    title = f"Robust accuracy of {source.label} over eps"
    if above and above[0].loose:
        title = f"A loose upper bound at smaller eps: {source.label}"
        title = f"Certified over eps, under a loose upper bound: {source.label}" if below else title
    return Stairs(
        stem=f"eps-{source.key}",
        title=title,
        note=" ".join([*notes, *([LOWER, *_fewer(sheet, below)] if below else [])]),
        x=f"eps' in {norm}, up to eps = {told(eps)}",
        courses=(*above, *below),
        edge=(eps, "eps"),
    )


def _fewer(sheet: Sheet, below: Sequence[Course]) -> list[str]:
    """That what is proved is of other samples than what was attacked."""
    count = len(sheet.clean) + sheet.missing
    return [
        f"{course.name} is of the {counted(course.samples, 'sample')} that both runs have."
        for course in below
        if course.samples != count
    ]
