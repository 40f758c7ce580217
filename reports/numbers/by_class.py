"""The numbers of one run by class: who is lost, and what the lost are taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustcode.reports.numbers.over_eps import proved_of, threat_of
from robustcode.reports.numbers.proofs import Pair, proved_within, right_of
from robustcode.reports.numbers.sheet import Bools, Floats, Sheet, sheet_of
from robustcode.reports.source import Source

# Shuffles of the classes in the test whether they differ: p is told in thousandths.
SHUFFLES = 999


@dataclass(frozen=True)
class Measure:
    """One number of every sample, to be averaged by class.

    Attributes:
        name: clean, worst case or certified.
        labels: class of each sample; shape (samples,).
        shares: of right decisions, the most that it may be where ``unknown``; likewise.
        unknown: whether a budget ended an attack on it; likewise.
        draws: decisions about each; None where they are not random.
        by: what proved it; empty for what was measured.
    """

    name: str
    labels: NDArray[np.intp]
    shares: Floats
    unknown: Bools
    draws: int | None
    by: str = ""


class Taken(NamedTuple):
    """What the samples of a class that are wrong in the worst case are most often taken for.

    Attributes:
        other: that class; -1 for none.
        share: of the wrong decisions on their worst inputs.
        samples: whose worst inputs were counted.
    """

    other: int
    share: float
    samples: int


def measures_of(source: Source, pairs: Sequence[Pair]) -> list[Measure]:
    """Clean, worst case and certified accuracy, as far as the run has them.

    Of ``pairs``, those of a page, the one that proves most of this run is taken.
    """
    if source.proves:
        return _proved(source)
    sheet = sheet_of(source)
    own = [pair for pair in pairs if pair.attack.label == source.label]
    return [] if sheet is None else _attacked(sheet, own)


def _attacked(sheet: Sheet, pairs: Sequence[Pair]) -> list[Measure]:
    known = np.zeros(len(sheet.clean), dtype=bool)
    found = [Measure("clean", sheet.labels, sheet.clean, known, sheet.draws)]
    if sheet.names:
        worst = sheet.held[:, -1], sheet.unknown[:, -1]
        found.append(Measure("worst case", sheet.labels, *worst, sheet.draws))
    if pairs:
        pair = max(pairs, key=lambda pair: pair.found.certified.value)
        eps = (threat_of(pair.attack) or ("", 0.0))[1]
        shares, labels = proved_of(pair, eps), pair.found.table.label.to_numpy(np.intp)
        known = np.zeros(len(shares), dtype=bool)
        found.append(Measure("certified", labels, shares, known, sheet.draws, pair.method))
    return found


def _proved(source: Source) -> list[Measure]:
    table, found = source.run.certificates, threat_of(source)
    if table.empty:
        return []
    labels = table.label.to_numpy(np.intp)
    right = right_of(table)
    known = np.zeros(len(table), dtype=bool)
    measures = [Measure("clean", labels, right.astype(float), known, None)]
    if found is not None:
        proved = proved_within(table, found[1]).astype(float)
        measures.append(Measure("certified", labels, proved, known, None))
    return measures


def taken_for(source: Source, sheet: Sheet) -> dict[int, Taken]:
    """What the wrong samples of each class are most often taken for; none wrong, no entry.

    Without chance each sample counts by the prediction of its worst input, if that is wrong; else
    each wrong decision on it counts. Of equals the least number counts, no class behind the others.
    """
    records = source.run.records
    first = records.drop_duplicates("sample").set_index("sample").loc[sheet.samples]
    chosen = records[records["selected"].astype(bool)].drop_duplicates("sample")
    chosen = chosen.set_index("sample").reindex(sheet.samples)
    proposed = chosen["attack"].notna().to_numpy()
    if sheet.draws is None:
        known = chosen["prediction"].where(proposed, first["clean"])
        wrong = sheet.held[:, -1] == 0
        other = known.fillna(-1).to_numpy(int)[wrong]
        return _most(sheet.labels[wrong], other, np.ones(len(other)))
    votes = _votes(chosen["votes"].where(proposed, first["clean_votes"]), sheet.labels)
    if votes is None:
        return {}
    count, classes = votes.shape
    mine = np.arange(count), sheet.labels
    # Of a detector a refusal may be right: then it is among the right decisions.
    right = np.rint(sheet.held[:, -1] * sheet.draws)
    refused = np.clip(sheet.draws - votes.sum(1) - (right - votes[mine]), 0, None)
    votes[mine] = 0
    weight = np.column_stack([votes, refused]).ravel()
    other = np.tile(np.append(np.arange(classes), -1), count)
    return _most(np.repeat(sheet.labels, classes + 1), other, weight, classes + 1)


def _most(
    labels: NDArray[np.intp], other: NDArray[np.intp], weight: Floats, each: int = 1
) -> dict[int, Taken]:
    """Of each class the heaviest other one; ``each`` is how many weights a sample has."""
    found = {}
    for number in np.unique(labels):
        mine = labels == number
        heavy = np.bincount(other[mine] + 1, weights=weight[mine])
        heavy = np.append(heavy[1:], heavy[0])  # no class behind the others
        if total := heavy.sum():
            best = int(heavy.argmax())
            samples = int((weight[mine].reshape(-1, each).sum(1) > 0).sum())
            taken = -1 if best == len(heavy) - 1 else best
            found[int(number)] = Taken(taken, float(heavy.max() / total), samples)
    return found


def _votes(column: pd.Series, labels: NDArray[np.intp]) -> NDArray[np.float64] | None:
    """Decisions by class of shape (samples, classes); None where records do not hold them all."""
    lengths = {len(votes) if isinstance(votes, tuple) else 0 for votes in column}
    if len(lengths) != 1 or min(lengths) <= labels.max():
        return None
    return np.array(column.tolist(), dtype=float)


def by_chance(labels: NDArray[np.intp], shares: Floats) -> float | None:
    """Probability of classes that differ so much in their means if all are alike.

    A permutation test: the classes are dealt out anew to the samples, SHUFFLES times from one seed,
    and the sums of squares between classes compared. Without chance that is the chi-squared
    statistic given its margins, so it is right also where the counts are too small for the
    chi-squared distribution. None where there is nothing to compare.

    Source: Pitman 1937, Supplement to the Journal of the Royal Statistical Society 4(1).
    """
    known, place = np.unique(labels, return_inverse=True)
    if len(known) < 2 or np.ptp(shares) == 0:
        return None
    counts, centred = np.bincount(place), shares - shares.mean()

    def between(order: NDArray[np.intp]) -> float:
        sums = np.bincount(order, weights=centred, minlength=len(known))
        return float((sums**2 / counts).sum())

    rng = np.random.default_rng(0)
    seen = between(place) * (1 - 1e-9)  # sums in another order are rounded otherwise
    above = sum(between(rng.permutation(place)) >= seen for _ in range(SHUFFLES))
    return (1 + above) / (1 + SHUFFLES)
