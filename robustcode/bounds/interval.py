"""Interval bounds: what each value of a network can be if those before it were independent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcode.bounds.layers import Affine, Convolution, Dense, Input, Reshape
from robustcode.bounds.network import Network, Node
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.rounding import BESIDE, gamma
from robustcode.bounds.scaling import Scale
from robustcode.threat import Norm


def interval_bounds(network: Network, region: Region) -> list[Interval]:
    """Bounds on every node's values over the region, outward of all rounding.

    Differentiable by the parameters, the centres and the radii. In l2 and l1 the first layer that
    mixes values is bounded by the dual norms of its rows, which without a box is exact.

    Source: Gowal et al. 2018, arXiv:1810.12715, section 3.
    """
    found: list[Interval] = []
    for i in range(len(network.nodes)):
        found.append(step(network, region, i, found))
    return found


def step(network: Network, region: Region, i: int, found: list[Interval]) -> Interval:
    """Bounds on node ``i`` from ``found``, those of the nodes before it."""
    node = network.nodes[i]
    if isinstance(node.layer, Input):
        return region.box()
    inputs = [found[j] for j in node.inputs]
    if not isinstance(node.layer, Affine):  # it is monotone
        return Interval(*(node.layer.value(*sides) for sides in zip(*inputs, strict=True)))
    through = affine(node.layer, inputs)
    if region.norm is Norm.LINF:
        return through
    first = _first(network, region, node)
    return through if first is None else through.within(first)


def affine(layer: Affine, inputs: list[Interval]) -> Interval:
    """Bounds on ``W x + b`` for values anywhere in ``inputs``."""
    if layer.terms == 0:  # values are moved, and none is rounded
        return Interval(*(layer.linear(*sides) for sides in zip(*inputs, strict=True)))
    error = gamma(layer.terms + BESIDE, inputs[0].lower.dtype)
    middles = [(lower + upper) / 2 for lower, upper in inputs]
    # W middle is wrong by up to error * |W| |middle|: as if the values lay in wider intervals.
    widths = [
        (upper - lower) / 2 + error * (middle.detach().abs() + (upper - lower).detach())
        for (lower, upper), middle in zip(inputs, middles, strict=True)
    ]
    return _around(layer, layer.value(*middles), layer.absolute(*widths), error)


def _around(layer: Affine, middle: Tensor, width: Tensor, error: float) -> Interval:
    bias = layer.bias
    width = width * (1 + 2 * error)
    if bias is not None:
        width = width + error * bias.detach().abs()
    return Interval(middle - width, middle + width)


def _first(network: Network, region: Region, node: Node) -> Interval | None:
    """Bounds by dual norms, for a layer that mixes values which were only scaled before."""
    layer = node.layer
    mixes = isinstance(layer, Convolution) or (isinstance(layer, Dense) and len(node.shape) == 1)
    if not mixes:
        return None
    assert isinstance(layer, Dense | Convolution)
    before = _scaling(network, node.inputs[0], region.x)
    if before is None:
        return None
    scale, centre = before
    gains = _row_norms(layer, scale, region.norm)
    if gains is None:
        return None
    error = gamma(layer.terms + BESIDE, centre.dtype)
    radius = region.radius.view(-1, *[1] * len(node.shape))
    slack = error * layer.absolute(centre.detach().abs() * (1 + 2 * error))
    return _around(layer, layer.value(centre), radius * gains + slack, error)


def _scaling(network: Network, i: int, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """If node ``i`` is the input scaled value by value: by what, (1, ...), and its value at x."""
    layer = network.nodes[i].layer
    if isinstance(layer, Input):
        return torch.ones_like(x[:1]), x
    if not isinstance(layer, Scale | Reshape):
        return None
    before = _scaling(network, network.nodes[i].inputs[0], x)
    if before is None:
        return None
    scale, centre = before
    # The roundings of a factor are few; the last factor below covers them.
    return layer.linear(scale), layer.value(centre)


def _row_norms(layer: Dense | Convolution, scale: Tensor, norm: Norm) -> Tensor | None:
    """The dual norm of each row of ``W diag(scale)``, (1, ...) of the output's shape."""
    weight = layer.module.weight
    error = gamma(layer.terms + BESIDE, weight.dtype)
    if norm is Norm.L2:
        squares, weights = scale.square(), weight.square()
        if isinstance(layer, Dense):
            sums = F.linear(squares, weights)
        else:
            sums = layer.convolved(squares, weights)
        return sums.clamp(min=torch.finfo(sums.dtype).tiny).sqrt() * (1 + 2 * error)
    if isinstance(layer, Dense):
        return (weight * scale).abs().amax(1)[None] * (1 + 2 * error)
    if layer.module.groups > 1:
        return None
    m = layer.module
    windows = F.unfold(scale.abs(), m.kernel_size, m.dilation, layer.padding, m.stride)
    # (outputs, values of a window, windows)
    largest = (weight.abs().flatten(1)[:, :, None] * windows).amax(1)
    out = layer.linear(scale).shape
    return largest.view(1, *out[1:]) * (1 + 2 * error)


def exact(network: Network, region: Region, i: int) -> bool:
    """Whether the interval bounds of node ``i`` are attained in this region, but for rounding."""
    node = network.nodes[i]
    if isinstance(node.layer, Input):
        return True
    if isinstance(node.layer, Scale | Reshape):
        return exact(network, region, node.inputs[0])
    if region.norm is Norm.LINF:
        mixes = isinstance(node.layer, Affine) and len(node.inputs) == 1
        return mixes and _scaling(network, node.inputs[0], region.x) is not None
    return region.low is None and _first(network, region, node) is not None
