"""Bounds on every value inside a network, by carrying back only what is undecided."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from robustcode.bounds.backward import carry
from robustcode.bounds.interval import exact, step
from robustcode.bounds.layers import MaxPool, ReLU, Shape
from robustcode.bounds.linear import Linear, linear_bounds, over
from robustcode.bounds.network import Network
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.relaxation import Relaxations, choice, line, relaxed
from robustcode.bounds.rounding import size_of, sizes_of
from robustcode.bounds.windows import Window, along_a_curve

ROWS = 256


def crown(network: Network, region: Region, spec: Tensor, rows: int = ROWS) -> Linear:
    """Lower bounds on ``<spec, logits>``, with intermediate bounds of the same kind."""
    bounds = crown_bounds(network, region, rows=rows)
    sizes = sizes_of(network, bounds)
    return linear_bounds(network, region, relaxed(network, bounds), spec, sizes=sizes)


def crown_bounds(
    network: Network,
    region: Region,
    *,
    rows: int = ROWS,
    bounds: list[Interval] | None = None,
    carried: Tensor | None = None,
) -> list[Interval]:
    """Bounds on every node's values, outward of all rounding; the logits' are interval bounds.

    Values are bounded by intervals first, and by ``bounds`` where they are given; those that a
    ReLU reads and whose sign is then still open are bounded by carrying them back to the input,
    ``rows`` at once. A value whose sign is known has an exact relaxation already. To ``carried``,
    int64 (batch,), the number of rows that each sample took is added.
    """
    found: list[Interval] = []
    relaxations: Relaxations = {}
    sizes: list[Tensor] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node.layer, ReLU):
            relaxations[i] = line(found[node.inputs[0]])
        elif isinstance(node.layer, MaxPool):
            relaxations[i] = choice(node.layer, found[node.inputs[0]])
        interval = step(network, region, i, found)
        if bounds is not None:
            interval = interval.within(bounds[i])
        read = any(isinstance(network.nodes[j].layer, ReLU) for j in network.users[i])
        sizes.append(size_of(network, i, [*found, interval]))
        if read and not exact(network, region, i):
            before = interval
            interval = _tightened(network, region, i, interval, relaxations, sizes, rows)
            if carried is not None:
                carried += 2 * _open(before).flatten(1).sum(1)
        found.append(interval)
    return found


def _tightened(
    network: Network,
    region: Region,
    i: int,
    interval: Interval,
    relaxations: Relaxations,
    sizes: list[Tensor],
    rows: int,
) -> Interval:
    """``interval`` of node ``i`` where its values' signs are known, and a tighter one elsewhere."""
    lower, upper = (side.flatten(1) for side in interval)
    shape = network.nodes[i].shape
    samples, places = _open(interval).flatten(1).nonzero(as_tuple=True)
    if not len(samples):
        return interval
    if len(shape) == 3:
        order = along_a_curve(places, shape)
        samples, places = samples[order], places[order]
    for chosen in torch.arange(len(samples), device=samples.device).split(max(1, rows // 2)):
        sample, place = samples[chosen], places[chosen]
        spec, window = _one_by_one(place, shape, lower.dtype)
        carried = carry(
            network,
            relaxations,
            spec,
            window=window,
            samples=sample,
            node=i,
            sizes=sizes,
        )
        proved = over(region.rows(sample), carried, True).proved.to(lower)
        # Back in a lower precision: by no more than its rounding.
        proved = proved - torch.finfo(lower.dtype).eps * proved.detach().abs()
        low, high = proved[:, 0], -proved[:, 1]
        at = (sample, place)
        lower = lower.index_put(at, torch.maximum(low, lower[at]))
        upper = upper.index_put(at, torch.minimum(high, upper[at]))
    return Interval(lower.view_as(interval.lower), upper.view_as(interval.upper))


def _open(interval: Interval) -> Tensor:
    """Where the sign of a value is not known."""
    return (interval.lower < 0) & (interval.upper > 0)


def _one_by_one(places: Tensor, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Window | None]:
    """A specification of each value by itself, and of its negative, (values, 2, ...)."""
    window = Window.around(places, shape) if len(shape) == 3 else None
    if window is not None:
        channel = places // (shape[1] * shape[2])
        y, x = places % (shape[1] * shape[2]) // shape[2], places % shape[2]
        shape = (shape[0], *window.shape)
        places = (channel * shape[1] + y - window.top) * shape[2] + x - window.left
    spec = torch.zeros(len(places), 2, prod(shape), dtype=dtype, device=places.device)
    which = torch.arange(len(places), device=places.device)
    spec[which, 0, places] = 1
    spec[which, 1, places] = -1
    return spec.view(len(places), 2, *shape), window
