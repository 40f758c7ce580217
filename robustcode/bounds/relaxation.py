"""Lines below and above what is not affine: ReLU and max pooling over known intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.bounds.layers import MaxPool, ReLU
from robustcode.bounds.network import Network
from robustcode.bounds.region import Interval


class Line(NamedTuple):
    """``lower * z <= relu(z) <= upper * z + intercept`` for z between its bounds.

    Each is (batch, rows, ...), of 1 row where all rows of a specification share it.
    """

    lower: Tensor
    upper: Tensor
    intercept: Tensor


class Choice(NamedTuple):
    """``x[place] <= max pool <= intercept``, or ``== x[place]`` where that is ``certain``.

    Each is (batch, 1, ...) of the output's shape; ``place`` is an index into the flat plane of
    the input.
    """

    place: Tensor
    certain: Tensor
    intercept: Tensor


Relaxations = dict[int, Line | Choice]
"""By the index of the node."""


def relaxed(
    network: Network, bounds: list[Interval], slopes: Mapping[int, Tensor] | None = None
) -> Relaxations:
    """Lines for every ReLU and pooling of the network.

    ``bounds`` has an Interval for each node. ``slopes`` gives, by ReLU node, those of the lines
    below, in [0, 1], (batch, ...) or (batch, rows, ...); where the sign of a value is known they
    are not looked at. ReLUs without are given the slope of the smaller area.

    Source: Zhang et al. 2018 (CROWN), arXiv:1811.00866, sections 3.2 and 3.3.
    """
    given = slopes or {}
    found: Relaxations = {}
    for i, node in enumerate(network.nodes):
        if isinstance(node.layer, ReLU):
            found[i] = line(bounds[node.inputs[0]], given.get(i))
        elif isinstance(node.layer, MaxPool):
            found[i] = choice(node.layer, bounds[node.inputs[0]])
    return found


def line(interval: Interval, slopes: Tensor | None = None) -> Line:
    """For a ReLU of values in ``interval``."""
    lower, upper = (side[:, None] for side in interval)
    low, high = lower.clamp(max=0), upper.clamp(min=0)
    # Bounds that overflowed are not numbers, and nothing is known of the sign.
    unstable = ~((lower >= 0) | (upper <= 0))
    active = (lower >= 0).to(lower)
    # Where it is stable the denominator is only kept from being zero.
    rising = torch.where(unstable, high / torch.where(unstable, high - low, 1), active)
    if slopes is None:
        below = (upper > -lower).to(lower)
    else:
        below = slopes if slopes.ndim > interval.lower.ndim else slopes[:, None]
    below = torch.where(unstable, below, active)
    # For any slope the line must be above 0 at the lower end and above z at the upper one; the
    # rounding of the intercept itself goes up.
    intercept = torch.maximum(-rising * low, (1 - rising) * high)
    intercept = intercept * (1 + 4 * torch.finfo(lower.dtype).eps)
    return Line(below, rising, torch.where(unstable, intercept, 0))


def choice(layer: MaxPool, interval: Interval) -> Choice:
    """For a pooling of values in ``interval``: the value whose lower bound is the largest."""
    lower, upper = interval
    place = layer.largest(lower.detach())
    intercept = layer.value(upper)
    certain = torch.zeros_like(place, dtype=torch.bool)
    if layer.disjoint:
        # What stays in the window when that value is taken out is below it: it is the largest.
        rest = upper.detach().flatten(2).scatter(2, place.flatten(2), -torch.inf)
        floor = lower.detach().flatten(2).gather(2, place.flatten(2)).view(place.shape)
        certain = layer.value(rest.view_as(upper)) <= floor
    return Choice(place[:, None], certain[:, None], intercept[:, None])
