"""CROWN: linear bounds of each margin in terms of the input."""

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
    linear_bounds,
    relaxed,
    sizes_of,
)
from robustcode.methods.base import METHODS, Claim, Method, Prover
from robustcode.methods.deterministic import Deterministic, Proved
from robustcode.methods.ibp import PASSES
from robustcode.threat import Norm


@METHODS.register("crown")
@dataclass(frozen=True, kw_only=True)
class CROWN(Method):
    """The least margin when every ReLU is free between two lines.

    Intervals come first; only samples that they do not decide are bounded by lines, and only those
    values inside the network whose sign they leave open are bounded one by one. Proofs are about
    the network in exact arithmetic: see ``Deterministic``.

    Source: Zhang et al. 2018, arXiv:1811.00866, section 3.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        return CROWNProver(claim, "crown")


class CROWNProver(Deterministic):
    """Linear bounds made ready for one network."""

    @torch.no_grad()
    def margins(self, region: Region, spec: Tensor) -> Proved:
        """See Deterministic.margins."""
        network = self.network
        bounds = interval_bounds(network, region)
        least = interval_margins(network, bounds, spec).amin(1)
        forwards = torch.full_like(least, PASSES, dtype=torch.int64)
        backwards = torch.zeros_like(forwards)
        left = (least <= 0).nonzero().squeeze(1)
        if len(left):
            region, spec = region.rows(left), spec[left]
            carried = torch.full_like(left, spec.shape[1])
            bounds = crown_bounds(network, region, rows=self.claim.rows, carried=carried)
            found = linear_bounds(
                network, region, relaxed(network, bounds), spec, sizes=sizes_of(network, bounds)
            )
            least[left] = torch.maximum(least[left], found.proved.amin(1))
            forwards[left] += PASSES
            backwards[left] = carried
        return Proved(least, forwards, backwards)
