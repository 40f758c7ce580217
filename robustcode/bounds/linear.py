"""Linear bounds: a specification of the output carried back to the input (CROWN)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.bounds.backward import Carried, back, carry, mass, times, with_bias
from robustcode.bounds.layers import Affine
from robustcode.bounds.network import Network
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.relaxation import Relaxations
from robustcode.bounds.rounding import BESIDE, gamma, size_of, terms_of


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
        parts = [part for part, _ in back(network, last, spec, None)]
        least = spec.new_zeros(spec.shape[:2]) if bias is None else with_bias(spec, bias)
    share = gamma(terms_of(network, last), spec.dtype)
    slack = share * mass(spec) * size_of(network, last, bounds)[:, None]
    for j, part in zip(inputs, parts, strict=True):
        lower, upper = (side.flatten(1)[:, None] for side in bounds[j])
        flat = part.flatten(2)
        least = least + times(flat, (lower + upper) / 2) - times(flat.abs(), (upper - lower) / 2)
        share = gamma(2 * flat.shape[2] + BESIDE, spec.dtype)
        slack = slack + share * mass(part) * bounds[j].size.flatten(1).amax(1)[:, None].detach()
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
    return share * (mass(coefficients) * reach[:, None] + bias.detach().abs())
