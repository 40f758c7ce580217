"""The dual bound of a reduced network: one number per open ReLU, ascended by its gradient.

The number of a ReLU is the slope of the line below it, in [0, 1], or, where a sign of its value is
supposed, the multiplier of that supposition, at least 0. Any numbers give a lower bound.
Everything is (values, columns): a column is a row of the specification in one domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.bounds.reduced import OpenLayer, Reduced, Rows
from robustcode.threat import Norm

# Adam's, Kingma and Ba 2015, arXiv:1412.6980, with a shorter memory of squares: an ascent has
# tens of steps.
MEAN, SQUARE = 0.9, 0.99
# Length of the first step: of slopes, and of multipliers in units of a layer's coefficients.
SLOPE_STEP, MULTIPLIER_STEP = 0.1, 0.3
DECAY = 0.97


@dataclass(frozen=True, eq=False)
class Start:
    """What is to be bounded: coefficients of the input, of the open ReLUs' outputs, a constant.

    Attributes:
        inputs: (inputs, columns).
        earlier: by layer, (open, columns).
        bias: (columns,).
    """

    inputs: Tensor
    earlier: dict[int, Tensor]
    bias: Tensor

    @classmethod
    def of(cls, rows: Rows, columns: int | None = None) -> Start:
        """A column for each row, or a single row in so many columns."""
        wide = -1 if columns is None else columns
        return cls(
            rows.inputs.t().expand(-1, wide),
            {k: matrix.t().expand(-1, wide) for k, matrix in rows.earlier.items()},
            rows.bias.expand(wide),
        )


class Bound(NamedTuple):
    """What one evaluation found.

    Attributes:
        lower: (columns,).
        gradient: of ``lower`` by the numbers, (open, columns); None if it was not asked for.
        coefficients: those of the ReLUs' outputs, (open, columns).
        point: the input at which the bound is attained, as the reduced network has it,
            (inputs, columns).
    """

    lower: Tensor
    gradient: Tensor | None
    coefficients: Tensor
    point: Tensor


class Dual:
    """Evaluates the bound for the layers before the one that is bounded."""

    def __init__(self, reduced: Reduced, layers: int | None = None) -> None:
        self.layers: list[OpenLayer] = reduced.layers[:layers]
        # None is the unit cube.
        linf = reduced.region.norm is Norm.LINF
        self.region = None if linf else reduced.region.to(torch.float32)
        ends = torch.tensor([0, *(len(layer) for layer in self.layers)]).cumsum(0).tolist()
        self.slices = [slice(a, b) for a, b in pairwise(ends)]
        self.open = ends[-1]
        like = torch.zeros(0, 1)
        self.lower = torch.cat([like, *(layer.lower for layer in self.layers)])
        self.upper = torch.cat([like, *(layer.upper for layer in self.layers)])
        self.rising = self.upper / (self.upper - self.lower)
        # Of the triangle between the lines, above 0.
        self.height = -self.rising * self.lower

    def first(self, columns: int) -> Tensor:
        """The slopes of the smaller area, (open, columns)."""
        return (self.upper > -self.lower).float().repeat(1, columns)

    def evaluate(self, start: Start, numbers: Tensor, signs: Tensor, gradient: bool) -> Bound:
        """``signs`` are int8, (open, columns): 1 or -1 where a sign is supposed, else 0.

        Source: Wang et al. 2021, arXiv:2103.06624.
        """
        free, active = signs == 0, (signs > 0).to(numbers)
        split = signs.to(numbers)
        coefficients = numbers.new_zeros(numbers.shape)
        for k, part in start.earlier.items():
            coefficients[self.slices[k]] = part
        a, lower = start.inputs.clone(), start.bias.clone()
        for k in range(len(self.layers) - 1, -1, -1):
            layer, at = self.layers[k], self.slices[k]
            c, p, f = coefficients[at], numbers[at], free[at]
            below = c.clamp(max=0)
            lines = (c - below) * p + below * self.rising[at]
            d = torch.where(f, lines, active[at] * c - split[at] * p)
            lower += (below * self.height[at] * f).sum(0) + layer.bias.t().squeeze(0) @ d
            a += layer.inputs.back(d)
            for j, matrix in layer.earlier.items():
                coefficients[self.slices[j]] += matrix.back(d)
        least, point = self.least(a)
        lower += least
        if not gradient:
            return Bound(lower, None, coefficients, point)
        slope = torch.empty_like(numbers)
        given = torch.empty_like(numbers)  # what each ReLU gives at the point that is least
        for layer, at in zip(self.layers, self.slices, strict=True):
            z = layer.inputs @ point + layer.bias
            for j, matrix in layer.earlier.items():
                z += matrix @ given[self.slices[j]]
            c, f = coefficients[at], free[at]
            above = c > 0
            lines = torch.where(above, numbers[at] * z, self.rising[at] * z + self.height[at])
            given[at] = torch.where(f, lines, active[at] * z)
            slope[at] = torch.where(f, c.clamp(min=0), -split[at]) * z
        return Bound(lower, slope, coefficients, point)

    def least(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The least of ``<a, t>`` over the region, (columns,), and where it is taken, like a."""
        if self.region is None:
            return -a.abs().sum(0), -a.sign()
        with torch.enable_grad():
            rows = a.t().unflatten(1, self.region.x.shape[1:])[None].detach().requires_grad_()
            found = self.region.least(rows)[0]
            # It is attained, and its gradient is where.
            (point,) = torch.autograd.grad(found.sum(), rows)
        return found.detach(), point[0].flatten(1).t()


class Ascended(NamedTuple):
    """The best that an ascent saw, column by column.

    Attributes:
        lower: (columns,).
        numbers: (open, columns).
        coefficients: see Bound; of the last step.
        point: likewise.
    """

    lower: Tensor
    numbers: Tensor
    coefficients: Tensor
    point: Tensor


def ascend(
    dual: Dual, start: Start, numbers: Tensor, signs: Tensor, steps: int, proof: bool = True
) -> Ascended:
    """Ascend each column's bound from ``numbers`` by itself, with ``steps`` evaluations.

    If a ``proof`` is wanted it ends as soon as every column is above 0.

    Source: Xu et al. 2021, arXiv:2011.13824, and Wang et al. 2021, arXiv:2103.06624, in which
    both kinds of numbers are optimised by Adam.
    """
    numbers = numbers.clone()
    best, held = torch.full_like(start.bias, -torch.inf), numbers.clone()
    mean, square = torch.zeros_like(numbers), torch.zeros_like(numbers)
    length = ceiling = None
    for step in range(steps - 1):
        found = dual.evaluate(start, numbers, signs, gradient=True)
        best, held = _better(best, held, found.lower, numbers)
        if proof and bool((best > 0).all()):
            break
        if length is None or ceiling is None:
            length, ceiling = _lengths(dual, found.coefficients, signs)
        gradient = found.gradient
        assert gradient is not None
        mean.mul_(MEAN).add_(gradient, alpha=1 - MEAN)
        square.mul_(SQUARE).addcmul_(gradient, gradient, value=1 - SQUARE)
        scale = (square / (1 - SQUARE ** (step + 1))).sqrt_().add_(1e-9)
        share = DECAY**step / (1 - MEAN ** (step + 1))
        numbers.addcdiv_(mean * length, scale, value=share)
        numbers.clamp_(min=0)
        torch.minimum(numbers, ceiling, out=numbers)
    else:
        found = dual.evaluate(start, numbers, signs, gradient=False)
        best, held = _better(best, held, found.lower, numbers)
    return Ascended(best, held, found.coefficients, found.point)


def _better(best: Tensor, held: Tensor, lower: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    better = lower > best
    return torch.where(better, lower, best), torch.where(better, numbers, held)


def _lengths(dual: Dual, coefficients: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """How far the first step goes, and how high the numbers may get, (open, columns) each."""
    free = signs == 0
    length = torch.full_like(coefficients, SLOPE_STEP)
    for at in dual.slices:
        size = coefficients[at].abs().mean(0, keepdim=True)
        length[at] = torch.where(free[at], length[at], MULTIPLIER_STEP * size)
    ceiling = torch.where(free, 1.0, torch.inf)
    return length, ceiling
