"""How fast outputs can change within a region: local Lipschitz constants."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.bounds.layers import Affine, ReLU
from robustcode.bounds.network import Network
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.rounding import BESIDE, gamma
from robustcode.errors import ConfigError


def local_lipschitz(
    network: Network, region: Region, bounds: list[Interval], spec: Tensor
) -> Tensor:
    """How much ``<spec, logits>`` changes over the region for a unit of its norm, at most.

    (batch, rows), for a specification (batch, rows, classes); ``bounds`` hold in the region. The
    network is as steep as its gradients are in the norm's dual, wherever it has any. Each value of
    a gradient is bounded by an interval, carried back through the layers: a ReLU passes all of a
    value that is above zero in the whole region, nothing of one that is below, and of others
    something between. Outward of all rounding.

    Source: Weng et al. 2018 (Fast-Lip), arXiv:1804.09699, section 4, with intervals for the
    activation patterns of a region.
    """
    lower, upper = gradients(network, bounds, spec)
    largest = torch.maximum(-lower, upper).flatten(2)
    share = gamma(largest.shape[2] + BESIDE, largest.dtype)
    return region.dual_norm(largest) * (1 + 2 * share)


def gradients(network: Network, bounds: list[Interval], spec: Tensor) -> Interval:
    """Bounds on the gradient of ``<spec, logits>`` by the input, (batch, rows, ...) each.

    At a kink of a ReLU it bounds all that the gradients nearby can be mixed to.
    """
    nodes = network.nodes
    lead = spec.shape[:2]
    pending = {len(nodes) - 1: Interval(spec, spec)}
    for i in range(len(nodes) - 1, 0, -1):
        if i not in pending:
            continue
        found, node = pending.pop(i), nodes[i]
        if isinstance(node.layer, ReLU):
            parts = [_through_relu(found, bounds[node.inputs[0]])]
        elif isinstance(node.layer, Affine):
            shapes = tuple(nodes[j].shape for j in node.inputs)
            terms = node.layer.terms + len(network.users[i]) + BESIDE
            error = gamma(terms, spec.dtype)
            middle = (found.lower + found.upper) / 2
            width = (found.upper - found.lower) / 2
            width = (width + error * (middle.abs() + width)) * (1 + 2 * error)
            parts = [
                Interval((m - w).unflatten(0, lead), (m + w).unflatten(0, lead))
                for m, w in zip(
                    node.layer.transposed(middle.flatten(0, 1), shapes),
                    node.layer.absolute_transposed(width.flatten(0, 1), shapes),
                    strict=True,
                )
            ]
        else:
            raise ConfigError(
                f"layer {node.name!r} ({type(node.layer).__name__}) has no bounded gradient here; "
                "take the method crown"
            )
        for j, part in zip(node.inputs, parts, strict=True):
            if j in pending:
                part = Interval(pending[j].lower + part.lower, pending[j].upper + part.upper)
            pending[j] = part
    none = spec.new_zeros(*lead, *network.shape)
    return pending.get(0, Interval(none, none))


def _through_relu(found: Interval, given: Interval) -> Interval:
    """The product with a slope of 0, 1 or anything between."""
    lower, upper = (side[:, None] for side in given)
    # What is not a number, where bounds overflowed, may be anything.
    least, most = (lower > 0).to(found.lower), (~(upper < 0)).to(found.lower)
    low, high = found
    return Interval(
        torch.where(low < 0, low * most, low * least),
        torch.where(high > 0, high * most, high * least),
    )
