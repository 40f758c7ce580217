"""DDN: the direction of a perturbation follows the gradient, its length what the target answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.shrinking import Shrinking, State, Step, annealed, unstopped
from robustcode.errors import ConfigError
from robustcode.threat import GEOMETRIES, Norm, ThreatModel, column

# The length of a step at the start and at the end, in l2: the paper's section 4.
FIRST_STEP, LAST_STEP = 1.0, 0.01


@ATTACKS.register("ddn")
@dataclass(frozen=True, kw_only=True)
class DDN(Shrinking):
    """Decoupled direction and norm, in l2.

    Each step adds the unit gradient of the cross-entropy to the perturbation and brings the sum
    within a given norm, which is then shortened by ``gamma`` if the target was wrong and lengthened
    by it if not. In two points it is not the paper's: a shorter perturbation is left so, since
    wrong inputs may lie within the norm and not on it, and inputs are not rounded to 256 levels.
    Values that the box stops take no part in a step.

    Source: Rony et al. 2019, arXiv:1811.09600, algorithm 1.

    Attributes:
        gamma: share by which the norm changes at every step.
        init_norm: of the first perturbation, in units of the width of the box.
    """

    norms = frozenset({Norm.L2})

    gamma: float = 0.05
    init_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma < 1:
            raise ConfigError(f"gamma = {self.gamma:g}: a share between 0 and 1 is needed")
        if not 0 < self.init_norm < torch.inf:
            raise ConfigError(f"init_norm = {self.init_norm:g}: a norm is a positive number")

    def begin(self, x: Tensor, threat: ThreatModel) -> State:
        """See Shrinking.begin."""
        reach = self.reach(x, threat)
        return {
            "norm": reach.clamp(max=self.init_norm * (threat.high - threat.low)),
            "reach": reach,
        }

    def move(self, step: Step, state: State, threat: ThreatModel) -> Tensor:
        """See Shrinking.move."""
        free = unstopped(step.here.gradient, step.x_adv, threat)
        ascent = GEOMETRIES[Norm.L2].steepest(threat, free, step.x_adv)
        # Where the gradient is zero any direction is as good: see the authors' code.
        flat = column(ascent.flatten(1).abs().amax(1) == 0, ascent)
        noise = step.streams.child("flat", step.number).normal(
            *ascent.shape[1:], dtype=ascent.dtype
        )
        ascent = torch.where(flat, GEOMETRIES[Norm.L2].steepest(threat, noise, step.x_adv), ascent)
        length = annealed(FIRST_STEP, LAST_STEP, step.number / self.steps)
        length *= threat.high - threat.low
        way = step.x_adv - step.x + length * ascent
        factor = torch.where(step.wrong, 1 - self.gamma, 1 + self.gamma).to(way)
        state["norm"] = torch.minimum(state["norm"] * factor, state["reach"])
        size = way.flatten(1).norm(dim=1).clamp(min=torch.finfo(way.dtype).tiny)
        return (step.x + way * column((state["norm"] / size).clamp(max=1), way)).clamp(
            threat.low, threat.high
        )
