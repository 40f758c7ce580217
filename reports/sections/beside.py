"""Corruptions beside attacks on the same defence: what befalls it, and what is done to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from robustcode.reports.grids import CLUSTERED, EXACT, Grid, accuracy_of, interval_of, percent
from robustcode.reports.parts import Part
from robustcode.reports.sections.corruption import ONCE
from robustcode.reports.sections.origins import same_inputs
from robustcode.reports.source import Source, as_text
from robustcode.reports.table import Row, rows_of

KIND = "beside corruptions"
# What must agree of what a run says it evaluated, beside its inputs.
FACTS = ("model", "defense", "data")
CHOSEN = (
    "The worst corruption was chosen by these numbers, so that its own is too low by chance; its "
    "value is the mean over its severities."
)
APART = (
    "Nobody chooses a corruption, and an adversary is held to its budget: neither number bounds "
    "the other."
)
AT_ZERO = "A calibration error of 0 is an estimate without bias that chance left below 0."
OTHERS = "The two runs are of different samples: compare the rows of each with its own clean one."


class Beside(NamedTuple):
    """A run of corruptions and one of attacks on the same defence and data."""

    corrupted: Source
    attacked: Source


def besides_of(found: Sequence[Source]) -> list[Beside]:
    """Each run of corruptions with each run of attacks on the same model, defence and data."""
    return [
        Beside(one, other)
        for one in found
        if one.corrupts
        for other in found
        if other.attacks and _same(one, other)
    ]


def part_beside(found: Sequence[Source]) -> Part | None:
    """The tables of all such pairs; None where there is none."""
    pairs = besides_of(found)
    if not pairs:
        return None
    return Part(
        key="beside-corruptions",
        title="Corruptions beside attacks",
        grids=tuple(map(_grid, pairs)),
        rows=tuple(row for pair in pairs for row in _rows(pair)),
    )


def _same(one: Source, other: Source) -> bool:
    facts = [[source.fact(name) for name in FACTS] for source in (one, other)]
    return facts[0] == facts[1] and same_inputs(one, other)


def _rows(pair: Beside) -> Iterator[Row]:
    """Clean, corrupted on average, under the worst corruption, and under attack."""
    summary = pair.corrupted.run.summary
    means = summary["corruption_means"]
    named = means["corruptions"]
    worst = min(named, key=lambda name: named[name]["accuracy"])
    entries = {
        "clean": summary["clean"],
        "mean over corruptions": means["all"],
        f"worst corruption: {worst}": named[worst],
    }
    for name, entry in entries.items():
        yield Row(
            run=pair.corrupted.label,
            kind=KIND,
            name=name,
            samples=summary["samples"],
            value=entry["accuracy"],
            low=entry["low"],
            high=entry["high"],
            nll=entry["nll"],
            calibration=entry["calibration"],
        )
    attacked = pair.attacked
    for row in rows_of(attacked):
        if row.kind == "worst case" or (row.kind == "clean" and _others(pair)):
            yield Row(
                run=attacked.label,
                kind=KIND,
                name="clean, as attacked"
                if row.kind == "clean"
                else f"worst case under attack in {attacked.fact('threat')}",
                samples=row.samples,
                value=row.value,
                low=row.low,
                high=row.high,
                unfinished=row.unfinished,
                most=row.most,
            )


def _others(pair: Beside) -> bool:
    """Whether the two runs are of different samples."""
    asked = [
        [as_text(source.run.spec.get(name)) for name in ("samples", "indices")] for source in pair
    ]
    return asked[0] != asked[1]


def _grid(pair: Beside) -> Grid:
    random = pair.corrupted.draws or pair.attacked.draws
    notes = [CLUSTERED if random else EXACT, ONCE, CHOSEN, APART]
    if any(row.calibration == 0 for row in _rows(pair)):
        notes.append(AT_ZERO)
    return Grid(
        f"{pair.attacked.label}: what befalls it, and what is done to it",
        ("what", "n", "accuracy, %", "95 % interval, %", "NLL", "calibration error, %"),
        ("text", *["number"] * 5),
        tuple(
            (
                row.name,
                f"{row.samples or 0:,}",
                accuracy_of(row),
                interval_of(row),
                "" if row.nll is None else f"{row.nll:.3f}",
                percent(row.calibration, row.samples),
            )
            for row in _rows(pair)
        ),
        (OTHERS, *notes) if _others(pair) else tuple(notes),
        f"beside-corruptions-{pair.attacked.key}",
    )
