"""Branch and bound of many small specifications together: bounds inside a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.bounds.choice import chosen, halves
from robustcode.bounds.reduced import Rows
from robustcode.bounds.slopes import Dual, Start, ascend

# Evaluations of a new case: it starts from the numbers of the one it is a half of.
STEPS = 5


@dataclass(frozen=True, eq=False)
class Cases:
    """Suppositions about signs that leave nothing out, for each of several rows.

    Attributes:
        row: which row each case is of, int64 (cases,).
        lower: found in float32, (cases,).
        signs: int8, (open, cases).
        numbers: (open, cases).
    """

    row: Tensor
    lower: Tensor
    signs: Tensor
    numbers: Tensor

    def least(self, rows: int) -> Tensor:
        """The least bound of each row's cases, (rows,)."""
        return least_of(self.lower, self.row, rows)


def least_of(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """The least value of each row, (rows,)."""
    start = values.new_full((rows,), torch.inf)
    return start.scatter_reduce(0, row, values, "amin")


def cases_of(dual: Dual, rows: Rows, steps: int, splits: int) -> Cases:
    """Cases of each row after ``splits`` of the worst one of each, from slopes of ``steps``.

    A row whose cases are all above 0 is left alone.

    Source: bounds of inner values by branching, as mixed-integer programs give them exactly:
    Tjeng et al. 2019, arXiv:1711.07356.
    """
    count = len(rows.bias)
    signs = torch.zeros(dual.open, count, dtype=torch.int8)
    found = ascend(dual, Start.of(rows), dual.first(count), signs, steps, proof=False)
    cases = Cases(torch.arange(count), found.lower, signs, found.numbers)
    for _ in range(splits):
        worst = _worst(cases, count)
        if not len(worst):
            break
        cases = _split(dual, rows, cases, worst)
    return cases


def _worst(cases: Cases, rows: int) -> Tensor:
    """For each row its worst case that is not above 0 and can be split, (at most rows,)."""
    order = cases.lower.argsort(stable=True)
    order = order[cases.row[order].argsort(stable=True)]
    row = cases.row[order]
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    worst = order[first]
    can = (cases.lower[worst] <= 0) & (cases.signs[:, worst] == 0).any(0)
    return worst[can]


def _split(dual: Dual, rows: Rows, cases: Cases, worst: Tensor) -> Cases:
    row, signs, numbers = cases.row[worst], cases.signs[:, worst], cases.numbers[:, worst]
    places = chosen(dual, Start.of(rows[row]), numbers, signs, 1)
    signs, numbers = halves(signs, numbers, places)
    row = row.repeat(2)
    both = ascend(dual, Start.of(rows[row]), numbers, signs, STEPS, proof=False)
    lower = torch.maximum(both.lower, cases.lower[worst].repeat(2))
    kept = torch.ones_like(cases.row, dtype=torch.bool)
    kept[worst] = False
    return Cases(
        torch.cat([cases.row[kept], row]),
        torch.cat([cases.lower[kept], lower]),
        torch.cat([cases.signs[:, kept], signs], 1),
        torch.cat([cases.numbers[:, kept], both.numbers], 1),
    )
