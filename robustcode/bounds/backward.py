"""Carrying coefficients from a node of a network back to its input."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.bounds import windows
from robustcode.bounds.layers import Affine, Convolution, ReLU, Shape, Sum
from robustcode.bounds.network import Network
from robustcode.bounds.relaxation import Choice, Line, Relaxations
from robustcode.bounds.rounding import gamma, terms_of
from robustcode.bounds.scaling import Scale
from robustcode.bounds.windows import Window

# Coefficients, and the window that they are on; None for the whole plane, or where there is none.
Placed = tuple[Tensor, Window | None]


class Carried(NamedTuple):
    """Coefficients at the input, on a window of it or all of it, and what goes with them."""

    rows: Tensor
    window: Window | None
    bias: Tensor
    slack: Tensor


def carry(
    network: Network,
    relaxations: Relaxations,
    spec: Tensor,
    *,
    window: Window | None = None,
    samples: Tensor | None = None,
    node: int = -1,
    extra: Mapping[int, Tensor] | None = None,
    sizes: list[Tensor] | None = None,
    keep: dict[int, Tensor] | None = None,
) -> Carried:
    """The backward pass of ``linear_bounds``, more generally.

    ``spec`` may be given on a ``window`` of the node, and with ``samples`` its batch is of these,
    by their index in the relaxations and sizes.
    """
    pick = _all if samples is None else itemgetter(samples)
    nodes = network.nodes
    last = node % len(nodes)
    lead = spec.shape[:2]
    pending: dict[int, Placed] = {last: (spec, window)}
    bias, slack = spec.new_zeros(lead), spec.new_zeros(lead)
    for i in range(last, 0, -1):
        if i not in pending:
            continue
        (rows, window), current = pending.pop(i), nodes[i]
        if keep is not None and isinstance(current.layer, ReLU):
            keep[i] = rows
        if sizes is not None:
            share = gamma(terms_of(network, i), rows.dtype)
            slack = slack + share * mass(rows) * pick(sizes[i])[:, None]
        if isinstance(current.layer, Affine):
            if current.layer.bias is not None:
                bias = bias + with_bias(rows, _on(window, current.layer.bias))
            parts = back(network, i, rows, window)
        else:
            relaxation = relaxations[i]
            if isinstance(relaxation, Line):
                # The window first: taking the whole plane of every row would cost more than
                # all the rest.
                part, constant, size = _through_relu(
                    rows, Line(*(pick(_on(window, values)) for values in relaxation))
                )
            else:
                rows, window = _whole(rows, window, current.shape), None
                shape = nodes[current.inputs[0]].shape
                chosen = Choice(*(pick(values) for values in relaxation))
                part, constant, size = _through_pool(rows, chosen, shape)
            bias = bias + constant
            if sizes is not None:
                terms = prod(rows.shape[2:]) + len(nodes)
                slack = slack + 2 * gamma(terms, rows.dtype) * size.detach()
            if extra is not None and i in extra:
                part = part + extra[i]
            parts = [(part, window)]
        for j, (part, on) in zip(current.inputs, parts, strict=True):
            placed = (part, on)
            pending[j] = _added(pending[j], placed, nodes[j].shape) if j in pending else placed
    rows, window = pending.get(0, (spec.new_zeros(*lead, *network.shape), None))
    return Carried(rows, window, bias, slack)


def mass(rows: Tensor) -> Tensor:
    """Sum of absolute values of each row, (batch, rows)."""
    return torch.linalg.vector_norm(rows.detach().flatten(2), ord=1, dim=2)


def with_bias(rows: Tensor, bias: Tensor) -> Tensor:
    """``<row, b>`` for each row, (batch, rows), of a bias that may be broadcast."""
    bias = bias.reshape(*[1] * (rows.ndim - 2 - bias.ndim), *bias.shape)
    repeated = [2 + k for k, size in enumerate(bias.shape) if size == 1]
    if repeated:
        rows = rows.sum(repeated, keepdim=True)
    return rows.flatten(2) @ bias.flatten()


def times(rows: Tensor, values: Tensor) -> Tensor:
    """``<row, values>``, (batch, rows); ``values`` has one row or as many."""
    flat, other = rows.flatten(2), values.flatten(2)
    if other.shape[1] == 1:
        return (flat @ other.transpose(1, 2)).squeeze(2)
    return (flat * other).sum(2)


def back(network: Network, i: int, rows: Tensor, window: Window | None) -> list[Placed]:
    """The coefficients of what node ``i`` reads, each on its window."""
    node = network.nodes[i]
    layer, lead = node.layer, rows.shape[:2]
    assert isinstance(layer, Affine)
    shapes = tuple(network.nodes[j].shape for j in node.inputs)
    if window is not None and isinstance(layer, Convolution):
        part, before = windows.transposed(layer, rows.flatten(0, 1), window, shapes[0][1:])
        return [(part.unflatten(0, lead), before)]
    if window is not None and isinstance(layer, Scale):
        return [(rows * window.of(layer.factor), window)]
    if window is not None and isinstance(layer, Sum):
        return [(part, window) for part in layer.transposed(rows, shapes)]
    parts = layer.transposed(_whole(rows, window, node.shape).flatten(0, 1), shapes)
    return [(part.unflatten(0, lead), None) for part in parts]


def _added(a: Placed, b: Placed, shape: Shape) -> Placed:
    if a[1] is not None and b[1] is not None:
        return windows.added(a[0], a[1], b[0], b[1])
    return _whole(*a, shape) + _whole(*b, shape), None


def _whole(rows: Tensor, window: Window | None, shape: Shape) -> Tensor:
    return rows if window is None else window.filled(rows, shape[1:])


def _on(window: Window | None, values: Tensor) -> Tensor:
    return values if window is None else window.of(values)


def _all(values: Tensor) -> Tensor:
    return values


class _Through(NamedTuple):
    """Coefficients of what a layer is given, a constant, and the size of the constant's terms."""

    part: Tensor
    constant: Tensor
    size: Tensor


def _through_relu(rows: Tensor, relaxation: Line) -> _Through:
    """A positive coefficient needs a line below the ReLU, a negative one a line above."""
    part = rows * torch.where(rows > 0, relaxation.lower, relaxation.upper)
    constant = times(rows.clamp(max=0), relaxation.intercept)
    return _Through(part, constant, -constant)  # no intercept is below 0


def _through_pool(rows: Tensor, relaxation: Choice, shape: Shape) -> _Through:
    """The same for poolings, of planes of ``shape``: above them is their intercept."""
    above = rows.clamp(max=0)
    taken = torch.where(relaxation.certain, rows, rows - above)
    place = relaxation.place.expand(rows.shape).flatten(3)
    part = rows.new_zeros(*rows.shape[:3], shape[1] * shape[2])
    part = part.scatter_add(3, place, taken.flatten(3)).view(*rows.shape[:2], *shape)
    constant = torch.where(relaxation.certain, 0, above * relaxation.intercept).flatten(2)
    return _Through(part, constant.sum(2), constant.abs().sum(2))
