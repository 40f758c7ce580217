"""A search for an input that breaks what is to be proved, on the reduced network."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.bounds.reduced import Reduced, Rows
from robustcode.bounds.slopes import Dual, Start
from robustcode.seeds import Streams

# Descents of one row, and their steps: the network is small, and an input that is found saves
# thousands of bounds.
STARTS, STEPS = 16, 60
PASSES = STARTS * STEPS


def lowest(reduced: Reduced, rows: Rows, streams: Streams) -> Tensor:
    """For each row the input where it is least, of those met, (inputs, rows).

    Each step goes some of the way to where the row's tangent is least over the region; ``streams``
    is one sample's, and gives the tangents to begin with.

    Source: Frank and Wolfe 1956, Naval Research Logistics Quarterly 3; one descent for each class
    as in Gowal et al. 2019, arXiv:1910.09338.
    """
    dual, count = Dual(reduced), len(rows.bias)
    which = torch.arange(count).repeat(STARTS)
    start = Start.of(rows[which])
    _, point = dual.least(streams.normal(rows.inputs.shape[1], len(which))[0])
    best, held = torch.full((len(which),), torch.inf), point
    for step in range(STEPS):
        value, gradient = _descent(dual, start, point)
        better = value < best
        best, held = torch.where(better, value, best), torch.where(better, point, held)
        _, corner = dual.least(gradient)
        point = point + 2 / (step + 2) * (corner - point)
    least = best.view(STARTS, count).argmin(0) * count + torch.arange(count)
    return held[:, least]


def _descent(dual: Dual, start: Start, point: Tensor) -> tuple[Tensor, Tensor]:
    """The rows' values at a point each, and their gradients."""
    given = point.new_zeros(dual.open, point.shape[1])
    for layer, at in zip(dual.layers, dual.slices, strict=True):
        z = layer.inputs @ point + layer.bias
        for j, matrix in layer.earlier.items():
            z += matrix @ given[dual.slices[j]]
        given[at] = z.clamp(min=0)
    value = start.bias + (start.inputs * point).sum(0)
    coefficients = torch.zeros_like(given)
    for k, part in start.earlier.items():
        coefficients[dual.slices[k]] = part
        value = value + (part * given[dual.slices[k]]).sum(0)
    gradient = start.inputs.clone()
    for k in range(len(dual.layers) - 1, -1, -1):
        layer, at = dual.layers[k], dual.slices[k]
        d = torch.where(given[at] > 0, coefficients[at], 0)
        gradient += layer.inputs.back(d)
        for j, matrix in layer.earlier.items():
            coefficients[dual.slices[j]] += matrix.back(d)
    return value, gradient
