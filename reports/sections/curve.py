"""Runs that differ in eps alone, as one curve."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustcode.reports.comparison.comparable import attacked_by
from robustcode.reports.figures.accuracies import Dot, dot_of
from robustcode.reports.grids import (
    AFTER_BUDGET,
    BOUND,
    CLUSTERED,
    EXACT,
    Grid,
    accuracy_of,
    counted,
    first_of,
    interval_of,
    listed,
    stated,
)
from robustcode.reports.names import slug
from robustcode.reports.sections.origins import NEEDED
from robustcode.reports.source import Source, as_text, name_of
from robustcode.reports.table import Row

MONOTONE = (
    "What breaks a sample at one eps is allowed at every larger one: a worst case that rises with "
    "eps shows attacks that were too weak there. Where runs were started from one another, passes "
    "are what each eps cost on top of those before it."
)
FEW = 4  # eps of which a sentence names all
HALF = 0.5
AT_ZERO = "0"

Point = tuple[float, Source, Row]  # an eps, its run, its worst case


@dataclass(frozen=True)
class Series:
    """One defence in one norm under ascending eps.

    Attributes:
        name: what was attacked.
        norm: in which norm.
        members: eps and run.
    """

    name: str
    norm: str
    members: tuple[tuple[float, Source], ...]

    @property
    def title(self) -> str:
        """What the curve shows."""
        return f"Accuracy of {self.name} as eps grows, in {self.norm}"


def series_of(found: Sequence[Source]) -> list[Series]:
    """The curves among some runs: at least two eps, and the same in all else that matters."""
    groups: dict[tuple[str, ...], list[tuple[float, Source]]] = {}
    for source in found:
        if source.attacks and source.eps is not None:
            key = (source.norm, *_held(source))
            groups.setdefault(key, []).append((source.eps, source))
    series = []
    for key, members in groups.items():
        at: dict[float, Source] = {}
        # Each run is an upper bound: of two at one eps the lower one stands.
        for eps, source in sorted(members, key=lambda point: -_left(point[1])):
            at[eps] = source
        if len(at) > 1:
            series.append(
                Series(
                    name_of(members[0][1]),
                    key[0],
                    tuple(sorted(at.items(), key=lambda point: point[0])),
                )
            )
    return series


def _left(source: Source) -> float:
    """What the attacks left, as far as the run says it."""
    return float((source.run.summary.get("robust") or {}).get("accuracy", 1.0))


def _held(source: Source) -> list[str]:
    """What must not differ along a curve: the defence, the samples, the attacks."""
    named = ("model", "defense", "data", "samples", "indices", "adversary", "max_passes")
    facts = [source.fact(name) for name in named]
    inputs = [source.run.manifest.get(name) for name in NEEDED]
    if not all(inputs):  # what is not known is the same as nothing else
        inputs = [source.label]
    # The attack that goes on from the last point is there on all points but the first.
    attacks = [
        {"name": attack["name"], **(attack.get("settings") or {})}
        for attack in source.attacks
        if attack["name"] != "warm"
    ]
    return [*facts, *map(as_text, inputs), as_text(attacks)]


def curve_grid(series: Series, rows: Mapping[str, Sequence[Row]]) -> Grid:
    """One line an eps: what is left, and what it cost; before them what is right unattacked."""
    lines = []
    clean = _clean(series, rows)
    if clean is not None and series.members[0][0] > 0:
        said = (f"{clean.samples or 0:,}", accuracy_of(clean), interval_of(clean))
        lines.append(("clean", *said, "", ""))
    points = _points(series, rows)
    for _, source, worst in points:
        passes = sum(a.get("forwards", 0) + a.get("backwards", 0) for a in source.attacks)
        lines.append(
            (
                source.fact("threat"),
                f"{worst.samples or 0:,}",
                accuracy_of(worst),
                interval_of(worst),
                f"{worst.unfinished or 0:,}",
                f"{passes:,}",
            )
        )
    notes = [BOUND, CLUSTERED if any(s.draws for _, s in series.members) else EXACT, MONOTONE]
    if any(worst.unfinished for *_, worst in points):
        notes.append(AFTER_BUDGET)
    return Grid(
        series.title,
        ("threat", "n", "worst case, %", "95 % interval, %", "unfinished", "attacks' passes"),
        ("text", *("number",) * 5),
        tuple(lines),
        tuple(notes),
        f"curve-{slug(series.name)}-{slug(series.norm)}",
    )


def curve_dots(
    series: Series, rows: Mapping[str, Sequence[Row]]
) -> tuple[tuple[Dot, ...], tuple[float, ...]]:
    """The values of a curve, clean at its beginning, and the eps at which each stands."""
    found = []
    clean = _clean(series, rows)
    if clean is not None and series.members[0][0] > 0:
        found.append((dot_of(clean, AT_ZERO, "clean"), 0.0))
    for eps, source, worst in _points(series, rows):
        # The axis names the norm.
        label = source.fact("threat").partition(":")[2] if eps else AT_ZERO
        found.append((dot_of(worst, label, "worst case"), eps))
    return tuple(dot for dot, _ in found), tuple(eps for _, eps in found)


def curve_verdict(series: Series, rows: Mapping[str, Sequence[Row]]) -> str:
    """The curve in one sentence: all of few eps; of many both ends, and where half is passed."""
    _, first = series.members[0]
    points = [point for point in _points(series, rows) if point[0] > 0]
    clean, parts = _clean(series, rows), []
    if clean is not None:
        parts.append(f"classifies {stated(clean)} correctly")
    told = points if len(points) <= FEW else [points[0], points[-1]]
    if told:
        parts.append(f"under {_attacked_by(first)} keeps {listed(map(_kept, told))}")
    said = listed(parts) or "was not measured"
    count = counted(first.run.summary.get("samples") or 0, "sample")
    half = "" if told is points else _half(points)
    draws = f"; these are expectations over {first.draws} draws" if first.draws else ""
    return f"On {count} of {first.data}, {series.name} {said}{half}{draws}."


def _clean(series: Series, rows: Mapping[str, Sequence[Row]]) -> Row | None:
    """What is right without attack, which is the same for all eps."""
    found = (first_of(rows[source.label], "clean") for _, source in series.members)
    return next((row for row in found if row is not None), None)


def _points(series: Series, rows: Mapping[str, Sequence[Row]]) -> list[Point]:
    """Each eps with its run and what that left, where it was measured."""
    found = [
        (eps, source, first_of(rows[source.label], "worst case")) for eps, source in series.members
    ]
    return [(eps, source, worst) for eps, source, worst in found if worst is not None]


def _attacked_by(source: Source) -> str:
    """By what; the first of a curve has not yet the attack that goes on from another run."""
    return attacked_by(source) if source.searched else "random noise alone, which is no attack,"


def _kept(point: Point) -> str:
    _, source, worst = point
    return f"{stated(worst)} at {source.fact('threat')}"


def _half(points: Sequence[Point]) -> str:
    """Between which eps less than half is left, as the end of a sentence; empty if nowhere."""
    for before, after in itertools.pairwise(points):
        if (before[2].value or 0) >= HALF > (after[2].value or 0):
            return f"; it falls below 50 % between {_kept(before)} and {_kept(after)}"
    return ""
