"""Several runs on the samples they share, and what their differences are worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustcode.reports.table import WORST, Row, Source, rows_of
from robustcode.statistics import (
    Difference,
    Proportion,
    clustered,
    holm,
    mcnemar,
    paired_difference,
    proportion,
)


@dataclass(frozen=True)
class Comparison:
    """Runs on the same data under the same threat, on the samples that all of them share.

    A run with unfinished samples is alone: what it has finished is what was easy to break, and to
    compare others on that would be to choose samples by their outcome.
    """

    members: tuple[Source, ...]
    samples: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def trimmed(self) -> bool:
        """Whether some run has samples that are left out here."""
        return any(len(member.verdicts) != len(self.samples) for member in self.members)

    def gap(self, first: str, second: str) -> Difference:
        """Worst-case accuracy of the run labelled ``second`` less that of ``first``."""
        found = {member.label: member for member in self.members}
        before, after = (
            _shares(found[label], "robust", list(self.samples)) for label in (first, second)
        )
        return paired_difference(before, after)


def comparisons(runs: list[Source]) -> list[Comparison]:
    """The runs in groups that may be compared, in the order given; a group may be of one."""
    groups: list[list[Source]] = []
    for source in runs:
        for group in groups:
            if _comparable(group, source):
                group.append(source)
                break
        else:
            groups.append([source])
    return [_compare(tuple(group)) for group in groups]


def _comparable(group: list[Source], source: Source) -> bool:
    first = group[0]
    if not (first.whole and source.whole):
        return False
    if source.fact("threat") != first.fact("threat") or not _same_data(first, source):
        return False
    common = _common([*group, source])
    labels = [member.verdicts["label"].loc[common] for member in (first, source)]
    return len(common) > 0 and bool((labels[0] == labels[1]).all())


def _same_data(first: Source, second: Source) -> bool:
    hashes = [source.run.manifest.get("data_sha256") for source in (first, second)]
    return first.fact("data") == second.fact("data") or (
        hashes[0] is not None and hashes[0] == hashes[1]
    )


def _common(members: Iterable[Source]) -> list[int]:
    return sorted(set.intersection(*(set(member.verdicts.index) for member in members)))


def _compare(members: tuple[Source, ...]) -> Comparison:
    common = _common(members)
    if len(members) == 1 and not members[0].whole:
        return Comparison(members, tuple(common), _alone(members[0]))
    rows: list[Row] = []
    for member in members:
        for column in ("clean", "robust"):
            if not common or (column == "robust" and not member.attacks):
                continue
            value, low, high = _interval(_shares(member, column, common), member.draws)
            name = "clean" if column == "clean" else WORST
            kind = "compared clean" if column == "clean" else "compared worst case"
            rows.append(
                Row(
                    run=member.label,
                    kind=kind,
                    name=name,
                    samples=len(common),
                    value=value,
                    low=low,
                    high=high,
                )
            )
    return Comparison(members, tuple(common), (*rows, *_differences(members, common)))


def _alone(source: Source) -> tuple[Row, ...]:
    """A run's own numbers, which are bounds where samples are unfinished."""
    kinds = {"clean": "compared clean", "worst case": "compared worst case"}
    return tuple(
        replace(row, kind=kinds[row.kind], forwards=None, backwards=None, seconds=None)
        for row in rows_of(source)
        if row.kind in kinds
    )


def _differences(members: tuple[Source, ...], common: list[int]) -> list[Row]:
    """Worst-case accuracy of each later run less that of the first, on the same samples."""
    first, *others = members
    measured = []
    for other in others:
        before, after = (_shares(source, "robust", common) for source in (first, other))
        p_value = None
        if first.draws is None and other.draws is None:
            lost, won = int((before > after).sum()), int((after > before).sum())
            p_value = mcnemar(lost, won)
        measured.append((other, paired_difference(before, after), p_value))
    tested = iter(holm([p for _, _, p in measured if p is not None]))
    return [
        Row(
            run=other.label,
            kind="difference",
            name=f"{WORST}, less that of {first.label}",
            samples=len(common),
            value=value,
            low=low,
            high=high,
            p_value=p_value,
            p_holm=None if p_value is None else next(tested),
        )
        for other, (value, low, high), p_value in measured
    ]


def _shares(source: Source, column: str, samples: list[int]) -> NDArray[np.float64]:
    return source.verdicts.loc[samples, column].to_numpy(dtype=np.float64)


def _interval(shares: NDArray[np.float64], draws: int | None) -> Proportion:
    if draws is None:
        return proportion(int(shares.sum()), len(shares))
    return clustered(shares, draws)
