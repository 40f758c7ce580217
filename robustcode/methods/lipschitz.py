"""Local Lipschitz constants: the margin, and how fast it can fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.bounds import (
    Region,
    crown_bounds,
    interval_bounds,
    interval_margins,
    local_lipschitz,
    margins,
)
from robustcode.methods.base import METHODS, Claim, Method, Prover
from robustcode.methods.deterministic import Deterministic, Proved
from robustcode.methods.ibp import PASSES
from robustcode.threat import Norm


@METHODS.register("lipschitz")
@dataclass(frozen=True, kw_only=True)
class Lipschitz(Method):
    """The margin at the input, less the radius times the margin's Lipschitz constant in the ball.

    The constant is that of the ball itself, by which ReLUs can change sign in it; see
    ``robustcode.bounds.lipschitz``. Where the margin does not last for the radius that was looked
    at, it lasts for what it is divided by the constant, so that any radius may be proved and not
    only those that were asked for. Proofs are about the network in exact arithmetic: see
    ``Deterministic``.

    Source: Hein and Andriushchenko 2017, arXiv:1705.08475, theorem 2.1; Weng et al. 2018,
    arXiv:1804.09699.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        prover = LipschitzProver(claim, "lipschitz")
        # A layer whose gradient has no bounds is refused before anything runs.
        x = claim.example.double()
        point = Region(x, x.new_zeros(1), claim.threat.norm)
        label = torch.zeros(1, dtype=torch.int64, device=x.device)
        prover.margins(point, margins(label, prover.network.classes))
        return prover


class LipschitzProver(Deterministic):
    """Lipschitz constants made ready for one network."""

    @torch.no_grad()
    def margins(self, region: Region, spec: Tensor) -> Proved:
        """See Deterministic.margins."""
        network = self.network
        carried = torch.full((len(spec),), 2 * spec.shape[1], dtype=torch.int64, device=spec.device)
        bounds = crown_bounds(network, region, rows=self.claim.rows, carried=carried)
        constant = local_lipschitz(network, region, bounds, spec)
        # The margins at the centre, less their rounding: those of a ball without extent.
        centre = Region(region.x, torch.zeros_like(region.radius), region.norm)
        margin = interval_margins(network, interval_bounds(network, centre), spec)
        tiny = torch.finfo(margin.dtype).tiny
        reach = (margin / constant.clamp(min=tiny)).amin(1) * (1 - torch.finfo(margin.dtype).eps)
        cost = torch.full_like(carried, 2 * PASSES)
        lost = region.radius[:, None] * constant * (1 + 4 * torch.finfo(margin.dtype).eps)
        return Proved(
            (margin - lost).amin(1), cost, carried, reach.clamp(min=0).minimum(region.radius)
        )
