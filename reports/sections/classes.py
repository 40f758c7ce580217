"""The classes of one run, each with its own accuracy: a mean hides the one that is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robustcode.reports.grids import (
    AFTER_BUDGET,
    CLUSTERED,
    EXACT,
    SAMPLED,
    Grid,
    accuracy_of,
    counted,
    interval_of,
    percent,
)
from robustcode.reports.numbers.by_class import (
    SHUFFLES,
    Measure,
    Taken,
    by_chance,
    measures_of,
    taken_for,
)
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.numbers.sheet import sheet_of
from robustcode.reports.numbers.steps import point_of
from robustcode.reports.parts import Part
from robustcode.reports.source import Source
from robustcode.reports.table import Row

KIND = "class"
# Classes of a table; of more those are shown of which least is left. The rows hold all.
SHOWN = 100
# Classes differ by more than chance where the test's p is below it.
LEVEL = 0.05
NO_CLASS = "no class"


def part_of(source: Source, place: int, pairs: Sequence[Pair] = ()) -> Part | None:
    """The table of the classes; None for a run that has neither records nor certificates.

    ``pairs`` are those of a page: one that proves something of this run adds what is certified.
    """
    measures = measures_of(source, pairs)
    if not measures:
        return None
    names = source.class_names
    classes = np.unique(np.concatenate([measure.labels for measure in measures])).tolist()
    rows = {
        (number, measure.name): row
        for number in classes
        for measure in measures
        if (row := _row(source, measure, number, names)) is not None
    }
    sheet = sheet_of(source)
    taken = {} if sheet is None else taken_for(source, sheet)
    return Part(
        key=f"classes-{place}",
        title=f"Class by class: {source.label}",
        grids=(_grid(source, measures, rows, taken, names),),
        rows=(*rows.values(), *_taken_rows(source, taken, names)),
    )


def _row(source: Source, measure: Measure, number: int, names: Sequence[str]) -> Row | None:
    """The accuracy of a class; None where there is no sample of it."""
    mine = measure.labels == number
    if not mine.any():
        return None
    point = point_of(number, measure.shares[mine], measure.unknown[mine], 0, measure.draws)
    return Row(
        run=source.label,
        kind=KIND,
        name=f"{measure.name} of {_titled(number, names)}",
        samples=int(mine.sum()),
        value=point.value,
        low=point.low,
        high=point.high,
        unfinished=point.unfinished or None,
        most=point.most if point.unfinished else None,
        at=number,
    )


def _taken_rows(source: Source, taken: Mapping[int, Taken], names: Sequence[str]) -> list[Row]:
    return [
        Row(
            run=source.label,
            kind=KIND,
            name=f"{_titled(number, names)} taken for {_titled(found.other, names)}",
            samples=found.samples,
            value=found.share,
            at=number,
        )
        for number, found in sorted(taken.items())
    ]


def _grid(
    source: Source,
    measures: Sequence[Measure],
    rows: Mapping[tuple[int, str], Row],
    taken: Mapping[int, Taken],
    names: Sequence[str],
) -> Grid:
    classes = sorted({number for number, _ in rows})
    last = measures[1 if len(measures) > 1 else 0]
    if len(classes) > SHOWN:
        left = {n: rows[n, last.name].value or 0.0 for n in classes if (n, last.name) in rows}
        shown = sorted(sorted(left, key=left.__getitem__)[:SHOWN])
    else:
        shown = classes
    lines = []
    for number in shown:
        line = [f"{number}", *([_name(number, names)] if names else [])]
        first = next(row for (n, _), row in rows.items() if n == number)
        line.append(f"{first.samples or 0:,}")
        for measure in measures:
            row = rows.get((number, measure.name))
            line += [accuracy_of(row), interval_of(row)] if row else ["", ""]
        if taken:
            found = taken.get(number)
            line.append(f"{_titled(found.other, names, '')}" if found else "")
            line.append(percent(found.share, found.samples) if found else "")
        lines.append(tuple(line))
    headers = ["class", *(["name"] if names else []), "n"]
    for measure in measures:
        headers += [f"{measure.name}, %", "95 % interval, %"]
    widths = ["number", *(["word"] if names else []), *["number"] * (1 + 2 * len(measures))]
    if taken:
        headers += ["most often taken for", "of the wrong, %"]
        widths += ["word", "number"]
    return Grid(
        f"Accuracy by class of {source.label}",
        tuple(headers),
        tuple(widths),
        tuple(lines),
        tuple(_notes(source, measures, len(classes), bool(taken))),
        f"by-class-{source.key}",
    )


def _notes(source: Source, measures: Sequence[Measure], classes: int, taken: bool) -> list[str]:
    """What the table's numbers mean, and whether the classes differ by more than chance."""
    notes = [SAMPLED if source.proves else CLUSTERED if source.draws else EXACT]
    notes += [f"Certified: proved by {m.by}." for m in measures if m.by]
    last = measures[1 if len(measures) > 1 else 0]
    if classes > SHOWN:
        notes.append(
            f"Of {classes:,} classes the {SHOWN} of which least is left are shown; CSV and JSON "
            "hold all."
        )
    if taken:
        what = "wrong decisions on worst inputs" if source.draws else "worst inputs that are wrong"
        notes.append(f"Most often taken for: the class that most of the {what} went to.")
    missing = source.run.summary.get("samples")
    seen = len(measures[0].labels)
    if isinstance(missing, int) and missing > seen:
        notes.append(f"{counted(missing - seen, 'sample')} without a record are in no class.")
    if last.unknown.any():
        notes.append(AFTER_BUDGET)
        return notes
    chance = by_chance(last.labels, last.shares)
    if chance is not None:
        accuracy = f"{last.name.replace(' ', '-')} accuracy"
        # Not to be told apart is not to be alike: of few samples a lost class may not show.
        said = f"These samples do not tell the classes apart in {accuracy}"
        if chance < LEVEL:
            said = f"The classes differ in {accuracy} by more than chance allows"
        notes.append(
            f"{said} (p = {chance:.3f}, permutation test with {SHUFFLES} shuffles of the classes)."
        )
    return notes


def _titled(number: int, names: Sequence[str], before: str = "class ") -> str:
    """A class in words: its number, and its name if that says more."""
    if number < 0:
        return NO_CLASS
    name = _name(number, names)
    return f"{before}{number} ({name})" if name else f"{before}{number}"


def _name(number: int, names: Sequence[str]) -> str:
    return names[number] if number < len(names) and names[number] != str(number) else ""
