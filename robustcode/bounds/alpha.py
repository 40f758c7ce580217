"""Bounds inside a network with the best slopes for each value (alpha-CROWN)."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.bounds.checked import Checker
from robustcode.bounds.nested import cases_of, least_of
from robustcode.bounds.network import Network
from robustcode.bounds.reduced import Reduced
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.slopes import Dual

# Columns that are ascended together: wide enough for fast products, few enough for the cache.
COLUMNS = 512


def optimised(
    network: Network, region: Region, bounds: list[Interval], steps: int, splits: int = 0
) -> tuple[Reduced, list[Interval]]:
    """The open ReLUs of one sample, and bounds in which ``steps`` made each value's as good.

    ``bounds`` are those of ``crown_bounds``. Values that are affine in the input have the best
    bounds there are; the slopes of all others are their own, one set for each bound.

    Source: Xu et al. 2021, arXiv:2011.13824.
    """
    reduced = Reduced(network, region)
    bounds = list(bounds)
    for relu in network.relus:
        node = network.nodes[relu].inputs[0]
        places = _open(bounds[node])
        rows = reduced.values(relu, places) if len(places) else None
        if rows is not None and rows.earlier and steps:
            bounds[node] = _improved(reduced, bounds, node, places, steps, splits)
            kept = torch.isin(places, _open(bounds[node]))
            rows, places = rows[kept], places[kept]
        reduced.add(relu, bounds[node], rows, places)
    return reduced, bounds


def _improved(
    reduced: Reduced,
    bounds: list[Interval],
    node: int,
    places: Tensor,
    steps: int,
    splits: int,
) -> Interval:
    """The node's interval, better at ``places``."""
    lower, upper = (side.clone() for side in bounds[node])
    checker, dual = Checker(reduced, bounds), Dual(reduced)
    for some in places.split(COLUMNS // 2):
        spec = torch.zeros(2 * len(some), lower[0].numel(), dtype=lower.dtype)
        spec[torch.arange(len(some)), some] = 1
        spec[len(some) + torch.arange(len(some)), some] = -1
        spec = spec.view(-1, *lower.shape[1:])
        cases = cases_of(dual, reduced.rows(node, spec), steps, splits)
        proved = []
        for part in torch.arange(len(cases.row)).split(COLUMNS):
            own = cases.numbers[:, part], cases.signs[:, part], spec[cases.row[part]]
            proved.append(checker.lower(dual, *own, node))
        least = least_of(torch.cat(proved), cases.row, len(spec))
        low, high = least[: len(some)], -least[len(some) :]
        flat = lower.view(-1), upper.view(-1)
        flat[0][some] = torch.maximum(flat[0][some], low)
        flat[1][some] = torch.minimum(flat[1][some], high)
    return Interval(lower, upper)


def _open(interval: Interval) -> Tensor:
    return ((interval.lower < 0) & (interval.upper > 0)).flatten().nonzero().squeeze(1)
