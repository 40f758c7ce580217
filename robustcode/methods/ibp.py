"""Interval bound propagation: a box around every layer's values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.bounds import Region, interval_bounds, interval_margins
from robustcode.methods.base import METHODS, Claim, Method, Prover
from robustcode.methods.deterministic import Deterministic, Proved
from robustcode.threat import Norm

# Passes that a pass of intervals costs: one for the middles, one for the widths.
PASSES = 2


@METHODS.register("ibp")
@dataclass(frozen=True, kw_only=True)
class IBP(Method):
    """The least margin when every value of a layer is free within its own interval.

    It costs two forward passes, and proves next to nothing of a network that was not trained for
    it. It is about the network in exact arithmetic: see ``Deterministic``.

    Source: Gowal et al. 2018, arXiv:1810.12715, section 3.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        return IBPProver(claim, "ibp")


class IBPProver(Deterministic):
    """Interval bounds made ready for one network."""

    @torch.no_grad()
    def margins(self, region: Region, spec: Tensor) -> Proved:
        """See Deterministic.margins."""
        bounds = interval_bounds(self.network, region)
        least = interval_margins(self.network, bounds, spec).amin(1)
        cost = torch.full_like(least, PASSES, dtype=torch.int64)
        return Proved(least, cost, torch.zeros_like(cost))
