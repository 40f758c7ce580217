"""A search for an input that breaks what is to be proved, on the reduced network."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.bounds.reduced import Reduced, Rows
from robustcode.bounds.slopes import Dual, Start
from robustcode.seeds import Streams
from robustcode.threat import Norm

# Descents of one row, and their steps: the network is small, and an input that is found saves
# thousands of bounds.
STARTS, STEPS = 16, 60
PASSES = STARTS * STEPS


def lowest(reduced: Reduced, rows: Rows, streams: Streams) -> Tensor:
    """For each row the point of the unit ball where it is least, of those met, (inputs, rows).

    Projected descent from random points; ``streams`` is one sample's.

    Source: Madry et al. 2018, arXiv:1706.06083, section 2.1, with one descent for each class as in
    Gowal et al. 2019, arXiv:1910.09338.
    """
    dual, count = Dual(reduced), len(rows.bias)
    which = torch.arange(count).repeat(STARTS)
    start = Start.of(rows[which])
    draws = streams.uniform(rows.inputs.shape[1], len(which))[0]
    point = _project(2 * draws - 1, dual.norm)
    best = torch.full((len(which),), torch.inf)
    held = point
    for step in range(STEPS):
        value, gradient = _descent(dual, start, point)
        better = value < best
        best, held = torch.where(better, value, best), torch.where(better, point, held)
        length = 1.0 if step < STEPS // 2 else 4.0 * (1 - step / STEPS) ** 2 / 2
        point = _project(point - length * _steepest(gradient, dual.norm), dual.norm)
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


def _project(point: Tensor, norm: Norm) -> Tensor:
    if norm is Norm.LINF:
        return point.clamp(-1, 1)
    order = 2 if norm is Norm.L2 else 1
    # In l1 a smaller point of the same direction: all that matters is that it is in the ball.
    return point / torch.linalg.vector_norm(point, ord=order, dim=0).clamp(min=1)


def _steepest(gradient: Tensor, norm: Norm) -> Tensor:
    if norm is Norm.LINF:
        return gradient.sign()
    if norm is Norm.L2:
        size = torch.linalg.vector_norm(gradient, dim=0)
        return gradient / size.clamp(min=torch.finfo(gradient.dtype).tiny)
    place = gradient.abs().argmax(0)[None]
    return torch.zeros_like(gradient).scatter_(0, place, gradient.gather(0, place).sign())
