"""Training against linear bounds that are made of interval bounds: tighter, at twice the cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from robustcode.bounds import (
    Network,
    Region,
    interval_bounds,
    interval_margins,
    linear_bounds,
    relaxed,
)
from robustcode.training.base import RECIPES
from robustcode.training.ibp import IBP
from robustcode.training.ramp import check_share, climbed


@RECIPES.register("crown-ibp")
@dataclass(frozen=True, kw_only=True)
class CrownIBP(IBP):
    """Interval training that begins with linear bounds of the margins and may end with them.

    Margins are bounded by one backward pass of linear bounds, whose relaxations of ReLU rest on
    interval bounds, and by intervals alone; ``beta`` is the share of the former. Both hold, so
    their blend does.

    Source: Zhang et al. 2020, arXiv:1906.06316; ``kappa`` and ``beta`` are the defaults of its
    code, huanzhang12/CROWN-IBP, and the other defaults are ours.

    Attributes:
        beta: share of the linear bound at the end of the ramp; before it is 1. 0 ends with
            interval bounds alone.
    """

    beta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("beta", self.beta, "the bound")

    def at(self, done: float) -> Self:
        """See Recipe.at."""
        height = climbed(done, self.warm_up, self.ramp)
        return dataclasses.replace(super().at(done), beta=1 - height + height * self.beta)

    def least_margins(self, graph: Network, region: Region, spec: Tensor) -> Tensor:
        """See IBP.least_margins."""
        bounds = interval_bounds(graph, region)
        by_intervals = interval_margins(graph, bounds, spec)
        if self.beta == 0:
            return by_intervals
        by_lines = linear_bounds(graph, region, relaxed(graph, bounds), spec).lower
        return self.beta * by_lines + (1 - self.beta) * by_intervals
