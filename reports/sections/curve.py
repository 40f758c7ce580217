"""Runs that differ in eps alone, as one curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
)
from robustcode.reports.names import slug
from robustcode.reports.sections.origins import NEEDED
from robustcode.reports.table import Row, Source, as_text, name_of

MONOTONE = (
    "What breaks a sample at one eps is allowed at every larger one: a worst case that rises with "
    "eps shows attacks that were too weak there. Where runs were started from one another, passes "
    "are what each eps cost on top of those before it."
)


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
    """One line an eps: what is left, and what it cost."""
    lines, unfinished = [], False
    for _, source in series.members:
        worst = first_of(rows[source.label], "worst case")
        if worst is None:
            continue
        attacks = source.attacks
        passes = sum(a.get("forwards", 0) + a.get("backwards", 0) for a in attacks)
        unfinished |= bool(worst.unfinished)
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
    return Grid(
        series.title,
        ("threat", "n", "worst case, %", "95 % interval, %", "unfinished", "attacks' passes"),
        ("text", *("number",) * 5),
        tuple(lines),
        (*notes, AFTER_BUDGET) if unfinished else tuple(notes),
        f"curve-{slug(series.name)}-{slug(series.norm)}",
    )


def curve_dots(
    series: Series, rows: Mapping[str, Sequence[Row]]
) -> tuple[tuple[Dot, ...], tuple[float, ...]]:
    """The values of a curve, and the eps at which each stands."""
    found = []
    for eps, source in series.members:
        worst = first_of(rows[source.label], "worst case")
        if worst is not None and worst.value is not None:
            # The axis names the norm.
            _, _, label = source.fact("threat").partition(":")
            found.append((dot_of(worst, label, "worst case"), eps))
    return tuple(dot for dot, _ in found), tuple(eps for _, eps in found)


def curve_verdict(series: Series, rows: Mapping[str, Sequence[Row]]) -> str:
    """The curve in one sentence."""
    kept = []
    for _, source in series.members:
        worst = first_of(rows[source.label], "worst case")
        if worst is not None:
            left = f" ({worst.unfinished} of {worst.samples} unfinished)" if worst.most else ""
            kept.append(f"{accuracy_of(worst)} %{left} at {source.fact('threat')}")
    _, first = series.members[0]
    count = counted(first.run.summary.get("samples") or 0, "sample")
    return f"On {count} of {first.data}, {series.name} keeps {', '.join(kept)}."
