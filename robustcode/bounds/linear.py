"""Linear bounds: a specification of the output carried back to the input (CROWN)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.bounds import windows
from robustcode.bounds.layers import Affine, Convolution, ReLU, Scale, Shape, Sum
from robustcode.bounds.network import Network
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.relaxation import Choice, Line, Relaxations
from robustcode.bounds.rounding import BESIDE, gamma, size_of, terms_of
from robustcode.bounds.windows import Window


class Linear(NamedTuple):
    """``<spec, f(x)> >= <coefficients, x> + bias >= lower`` for all x in the region.

    Attributes:
        coefficients: (batch, rows, ...) of the input's shape.
        bias: (batch, rows).
        lower: the least value over the region, (batch, rows).
        slack: at most so much do roundings put ``bias`` and ``lower`` above a true bound,
            (batch, rows); 0 if it was not asked for.
    """

    coefficients: Tensor
    bias: Tensor
    lower: Tensor
    slack: Tensor

    @property
    def proved(self) -> Tensor:
        """What holds in spite of rounding, (batch, rows)."""
        return self.lower - self.slack


def linear_bounds(
    network: Network,
    region: Region,
    relaxations: Relaxations,
    spec: Tensor,
    *,
    node: int = -1,
    extra: Mapping[int, Tensor] | None = None,
    sizes: list[Tensor] | None = None,
    keep: dict[int, Tensor] | None = None,
) -> Linear:
    """Lower bounds on ``<spec, value of the node>`` over the region.

    ``spec`` is (batch, rows, ...) of the node's shape. ``extra``, by ReLU node, is added to the
    coefficients of the values that the ReLU is given, broadcast against (batch, rows, ...): what
    is bounded is then the sum with these terms, as a Lagrangian of split ReLUs has them. With
    ``sizes`` (see ``sizes_of``) roundings are accounted for; a specification is taken as exact.
    ``keep`` is filled, by ReLU node, with the coefficients of the values that the ReLU gives.

    Source: Zhang et al. 2018 (CROWN), arXiv:1811.00866, section 3.2; Xu et al. 2020,
    arXiv:2002.12920, for graphs; ``extra`` as in Wang et al. 2021, arXiv:2103.06624, section 3.1.
    """
    carried = carry(network, relaxations, spec, node=node, extra=extra, sizes=sizes, keep=keep)
    return over(region, carried, sizes is not None)


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
    pending: dict[int, tuple[Tensor, Window | None]] = {last: (spec, window)}
    bias, slack = spec.new_zeros(lead), spec.new_zeros(lead)
    for i in range(last, 0, -1):
        if i not in pending:
            continue
        (rows, window), current = pending.pop(i), nodes[i]
        if keep is not None and isinstance(current.layer, ReLU):
            keep[i] = rows
        if sizes is not None:
            share = gamma(terms_of(network, i), rows.dtype)
            slack = slack + share * _mass(rows) * pick(sizes[i])[:, None]
        if isinstance(current.layer, Affine):
            if current.layer.bias is not None:
                bias = bias + _reduced(rows, _on(window, current.layer.bias))
            parts = _transposed(network, i, rows, window)
        else:
            relaxation = relaxations[i]
            if isinstance(relaxation, Line):
                # The window first: taking the whole plane of every row would cost more than
                # all the rest.
                part, constant = _through_relu(
                    rows, Line(*(pick(_on(window, values)) for values in relaxation))
                )
            else:
                rows, window = _whole(rows, window, current.shape), None
                shape = nodes[current.inputs[0]].shape
                chosen = Choice(*(pick(values) for values in relaxation))
                part, constant = _through_pool(rows, chosen, shape)
            bias = bias + constant
            if sizes is not None:  # its terms are of one sign: it is off by a share of itself
                terms = prod(rows.shape[2:]) + len(nodes)
                slack = slack - 2 * gamma(terms, rows.dtype) * constant.detach()
            if extra is not None and i in extra:
                part = part + extra[i]
            parts = [(part, window)]
        for j, (part, on) in zip(current.inputs, parts, strict=True):
            placed = (part, on)
            pending[j] = _added(pending[j], placed, nodes[j].shape) if j in pending else placed
    rows, window = pending.get(0, (spec.new_zeros(*lead, *network.shape), None))
    return Carried(rows, window, bias, slack)


def over(region: Region, carried: Carried, rounded: bool) -> Linear:
    """The least value over the region; ``rounded`` if roundings are accounted for."""
    coefficients, window, bias, slack = carried
    if window is not None:  # where coefficients are zero it does not matter what an input does
        region = region.on(window.of)
    if not rounded:
        lower = region.least(coefficients) + bias
        return Linear(coefficients, bias, lower, slack)
    # The sum over the input is taken in float64, where its rounding is nothing beside the rest.
    exact = region.to(torch.float64)
    lower = exact.least(coefficients.double()) + bias
    slack = slack + _input_slack(exact, coefficients, bias)
    return Linear(coefficients, bias, lower, slack)


def interval_margins(network: Network, bounds: list[Interval], spec: Tensor) -> Tensor:
    """Lower bounds on ``<spec, logits>``, (batch, rows), from bounds on what the last layer reads.

    Outward of all rounding. The last layer and the specification make one affine map, which is
    bounded better than a difference of bounds on logits.

    Source: Gowal et al. 2018, arXiv:1810.12715, section 3 (elision of the last layer).
    """
    last = len(network.nodes) - 1
    node = network.nodes[last]
    if not isinstance(node.layer, Affine):
        inputs: tuple[int, ...] = (last,)
        parts, least = [spec], spec.new_zeros(spec.shape[:2])
    else:
        inputs, bias = node.inputs, node.layer.bias
        parts = [part for part, _ in _transposed(network, last, spec, None)]
        least = spec.new_zeros(spec.shape[:2]) if bias is None else _reduced(spec, bias)
    share = gamma(terms_of(network, last), spec.dtype)
    slack = share * _mass(spec) * size_of(network, last, bounds)[:, None]
    for j, part in zip(inputs, parts, strict=True):
        lower, upper = (side.flatten(1)[:, None] for side in bounds[j])
        flat = part.flatten(2)
        least = least + _times(flat, (lower + upper) / 2) - _times(flat.abs(), (upper - lower) / 2)
        share = gamma(2 * flat.shape[2] + BESIDE, spec.dtype)
        slack = slack + share * _mass(part) * bounds[j].size.flatten(1).amax(1)[:, None].detach()
    return least - slack


def margins(labels: Tensor, classes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Logit of the label minus that of each other class, ascending, (batch, classes - 1, classes).

    >>> margins(torch.tensor([1]), 3)[0].tolist()
    [[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]
    """
    unit = torch.eye(classes, dtype=dtype, device=labels.device)
    spec = unit[labels][:, None] - unit
    others = torch.arange(classes, device=labels.device) != labels[:, None]
    return spec[others].view(len(labels), classes - 1, classes)


def _input_slack(region: Region, coefficients: Tensor, bias: Tensor) -> Tensor:
    """Rounding of the coefficients where several layers read the input, and of what follows."""
    values = prod(coefficients.shape[2:])
    reach = region.x.flatten(1).abs().amax(1) + region.radius
    share = gamma(8, coefficients.dtype) + gamma(2 * values + 16, torch.float64)
    return share * (_mass(coefficients) * reach[:, None] + bias.detach().abs())


def _mass(rows: Tensor) -> Tensor:
    """Sum of absolute values of each row, (batch, rows)."""
    return torch.linalg.vector_norm(rows.detach().flatten(2), ord=1, dim=2)


def _reduced(rows: Tensor, bias: Tensor) -> Tensor:
    """``<row, b>`` for each row, (batch, rows), of a bias that may be broadcast."""
    bias = bias.reshape(*[1] * (rows.ndim - 2 - bias.ndim), *bias.shape)
    repeated = [2 + k for k, size in enumerate(bias.shape) if size == 1]
    if repeated:
        rows = rows.sum(repeated, keepdim=True)
    return rows.flatten(2) @ bias.flatten()


def _transposed(
    network: Network, i: int, rows: Tensor, window: Window | None
) -> list[tuple[Tensor, Window | None]]:
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


Placed = tuple[Tensor, Window | None]


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


def _through_relu(rows: Tensor, relaxation: Line) -> tuple[Tensor, Tensor]:
    """Coefficients of what the ReLUs are given, and a constant <= 0 to be added.

    A positive coefficient needs a line below the ReLU, a negative one a line above.
    """
    part = rows * torch.where(rows > 0, relaxation.lower, relaxation.upper)
    return part, _times(rows.clamp(max=0), relaxation.intercept)


def _through_pool(
    rows: Tensor, relaxation: Choice, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The same for poolings, of planes of ``shape``; values above a pooling are its intercept."""
    above = rows.clamp(max=0)
    taken = torch.where(relaxation.certain, rows, rows - above)
    place = relaxation.place.expand(rows.shape).flatten(3)
    part = rows.new_zeros(*rows.shape[:3], shape[1] * shape[2])
    part = part.scatter_add(3, place, taken.flatten(3)).view(*rows.shape[:2], *shape)
    constant = torch.where(relaxation.certain, 0, above * relaxation.intercept)
    return part, constant.flatten(2).sum(2)


def _times(rows: Tensor, values: Tensor) -> Tensor:
    """``<row, values>``, (batch, rows); ``values`` has one row or as many."""
    flat, other = rows.flatten(2), values.flatten(2)
    if other.shape[1] == 1:
        return (flat @ other.transpose(1, 2)).squeeze(2)
    return (flat * other).sum(2)
