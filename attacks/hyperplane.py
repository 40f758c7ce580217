"""The nearest point of a hyperplane inside a box, in linf, l2 and l1, for many rows at once.

The move goes along the sign of the weights, and each value stops where it meets the box. In linf
and l2 what is gained is then a concave, piecewise linear function of one radius: Newton's method
from the radius without a box climbs to the exact one in as many rounds as there are kinks on its
way, on images two to five, where the published code sorts every row. In l1 the largest weights
are used up first.

Source: the problem is equation 5 of Croce and Hein 2020, arXiv:1907.02044.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.threat import Norm

# A float32 sum over an image is off by some 1e-7 of itself.
CLOSE = {torch.float32: 1e-6, torch.float64: 1e-14}
# Rounds end by themselves; this only stops a loop that rounding or NaN would keep going.
MAX_ROUNDS = 60
# Largest weights that an l1 search looks at before it sorts them all. With a few thousand values
# a hundred of them reach the plane in all but odd rows.
FIRST = 128


class Move(NamedTuple):
    """From points to the plane, or as far towards it as the box lets them."""

    move: Tensor  # (batch, values)
    size: Tensor  # (batch,), of the move in its norm


class Box(NamedTuple):
    """The values that a point may have; both walls are finite."""

    low: float = 0.0
    high: float = 1.0


def onto_plane(norm: Norm, z: Tensor, weight: Tensor, gap: Tensor, box: Box) -> Move:
    """The smallest move from points ``z`` of the box to ``weight . point = weight . z + gap``.

    ``z`` and ``weight`` are of shape (batch, values) and ``gap`` of shape (batch,). Where the box
    does not reach the plane, every value goes as far as it can; where a weight is zero, nowhere.
    """
    way = weight.sign().mul_(gap.sign()[:, None])
    # One of the two is the way to the wall ahead, the other is behind and negative. What has no
    # weight has no room, and so does not set the size of the move.
    ahead, behind = (box.high - z).mul_(way), (box.low - z).mul_(way)
    room = torch.maximum(ahead, behind, out=ahead)
    steps, size = SIZES[norm](weight.abs(), room, gap.abs())
    return Move(steps.mul_(way), size)


def _linf(weight: Tensor, room: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """Every value moves by the radius, or its room."""
    radius = _newton(weight, room, gap, _first(gap, weight.sum(1)), _level)
    steps = torch.minimum(room, radius[:, None], out=room)
    # With the whole room used up, the radius may be more than any value moves.
    return steps, steps.amax(1) if steps.shape[1] else radius


def _l2(weight: Tensor, room: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """Every value moves by its weight times the radius, or its room."""
    radius = _newton(weight, room, gap, _first(gap, weight.square().sum(1)), _slanted)
    # A product of zero and infinity has no room either.
    steps = torch.nan_to_num(weight * radius[:, None], nan=0.0).minimum(room)
    return steps, torch.linalg.vector_norm(steps, dim=1)


def _l1(weight: Tensor, room: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """The values with the largest weights move as far as they can, the last one in part."""
    first = min(FIRST, weight.shape[1])
    steps, reached = _greedy(weight, room, gap, first)
    rest = (~reached).nonzero().squeeze(1)
    if len(rest) and first < weight.shape[1]:
        own = weight[rest], room[rest], gap[rest]
        steps[rest] = _greedy(*own, weight.shape[1])[0]
    return steps, steps.sum(1)


def _greedy(weight: Tensor, room: Tensor, gap: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Steps of the ``count`` largest weights, and which rows they bring to the plane."""
    largest, order = weight.topk(count, dim=1)
    space = room.gather(1, order)
    gain = largest * space
    after = gain.cumsum(1)
    left = (gap[:, None] - (after - gain)).clamp_(min=0)
    part = (left / largest.clamp(min=torch.finfo(weight.dtype).tiny)).minimum(space)
    return torch.zeros_like(room).scatter_(1, order, part), after[:, -1] >= gap


Gain = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(weight, room, radius) -> what is gained with a radius, and its slope, each (batch,)."""


# Both are sums of products, with comparisons written as 0.0 and 1.0 over numbers that are used up:
# on a CPU torch takes five to ten times as long for masks, where() and batched dot products.


def _level(weight: Tensor, room: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    steps = torch.minimum(room, radius[:, None])
    gained = steps.mul_(weight).sum(1)
    free = torch.gt(room, radius[:, None], out=steps)
    return gained, free.mul_(weight).sum(1)


def _slanted(weight: Tensor, room: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    steps = weight * radius[:, None]
    gained = steps.minimum(room).mul_(weight).sum(1)
    free = torch.gt(room, steps, out=steps)
    return gained, free.mul_(weight).mul_(weight).sum(1)


def _newton(weight: Tensor, room: Tensor, gap: Tensor, radius: Tensor, gain: Gain) -> Tensor:
    """The radius that gains ``gap``, from one below it; infinite where the box is too small."""
    close = CLOSE.get(weight.dtype, 1e-6)
    found, rows = radius.clone(), torch.arange(len(radius), device=radius.device)
    for _ in range(MAX_ROUNDS):
        gained, slope = gain(weight, room, radius)
        missing = gap - gained
        going = missing > close * gap
        radius = radius + missing.clamp(min=0) / slope
        found[rows] = torch.where(going, radius, found[rows])
        # What has no value left to move will not get further.
        some = (going & (slope > 0) & radius.isfinite()).nonzero().squeeze(1)
        if len(some) == 0:
            break
        rows, gap, radius = rows[some], gap[some], radius[some]
        weight, room = weight.index_select(0, some), room.index_select(0, some)
    return found


def _first(gap: Tensor, slope: Tensor) -> Tensor:
    """The radius without a box; zero on the plane itself, infinite where there is no plane."""
    return torch.where(gap > 0, gap / slope, 0)


SIZES: dict[Norm, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    Norm.LINF: _linf,
    Norm.L2: _l2,
    Norm.L1: _l1,
}
