"""FMN: steps along the gradient, projected onto a ball whose size follows the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Loss
from robustcode.attacks.climb import ROUNDING
from robustcode.attacks.losses import negative_margin
from robustcode.attacks.shrinking import Shrinking, State, Step, annealed, unstopped
from robustcode.errors import ConfigError
from robustcode.threat import DUAL, GEOMETRIES, Norm, ThreatModel

# What is left of the first step and of the first change of radius at the end: the authors' code.
LAST_STEP, LAST_GAMMA = 0.01, 0.001
# How far beyond the boundary the first radius aims, in units of the rounding of the margin.
BEYOND = 2.0


@ATTACKS.register("fmn")
@dataclass(frozen=True, kw_only=True)
class FMN(Shrinking):
    """The fast minimum-norm attack, in linf, l2 and l1.

    Each step adds the gradient of the margin, of length ``step`` in l2, to the perturbation and
    projects the sum onto a ball. Until the target is wrong for the first time its radius is the
    distance to the boundary that the gradient promises; then it shrinks by ``gamma`` where the
    target is wrong and grows by it where not. Step and change are annealed along a cosine.
    Values that the box stops take no part in a step.

    Source: Pintor et al. 2021, arXiv:2102.12827, algorithm 1.

    Attributes:
        step: length of the first step in l2, in units of the width of the box.
        gamma: share by which the radius changes at first.
    """

    loss: ClassVar[Loss] = staticmethod(negative_margin)

    step: float = 1.0
    gamma: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma < 1:
            raise ConfigError(f"gamma = {self.gamma:g}: a share between 0 and 1 is needed")
        if not 0 < self.step < torch.inf:
            raise ConfigError(f"step = {self.step:g}: a step is a positive length")

    def begin(self, x: Tensor, threat: ThreatModel) -> State:
        """See Shrinking.begin."""
        unknown = x.new_full((len(x),), torch.inf)
        return {
            "radius": unknown,
            "nearest": unknown,
            "reach": self.reach(x, threat),
            "scale": x.new_zeros(len(x)),
        }

    def move(self, step: Step, state: State, threat: ThreatModel) -> Tensor:
        """See Shrinking.move."""
        share = step.number / self.steps
        length = annealed(self.step, self.step * LAST_STEP, share) * (threat.high - threat.low)
        gamma = annealed(self.gamma, LAST_GAMMA, share)
        free = unstopped(step.here.gradient, step.x_adv, threat)
        state["radius"] = self._radius(step, free, gamma, state, threat)
        ascent = GEOMETRIES[Norm.L2].steepest(threat, free, step.x_adv)
        way = onto_ball(step.x_adv - step.x + length * ascent, state["radius"], threat.norm)
        return (step.x + way).clamp(threat.low, threat.high)

    def _radius(
        self, step: Step, free: Tensor, gamma: float, state: State, threat: ThreatModel
    ) -> Tensor:
        slope = torch.linalg.vector_norm(free.flatten(1), ord=DUAL[threat.norm], dim=1)
        # To the boundary alone it would stop there, where the answer is right but for rounding.
        # There both logits may be near zero, so the scale is the largest seen on the way.
        state["scale"] = state["scale"].maximum(step.here.scale.to(slope))
        gap = step.here.margin.abs() + BEYOND * ROUNDING * state["scale"]
        missing = gap.to(slope) / slope.clamp(min=torch.finfo(slope.dtype).tiny)
        distance = threat.distance(step.x_adv, step.x)
        seen = state["nearest"].isfinite()
        outside = torch.where(seen, state["radius"] * (1 + gamma), distance + missing)
        nearest = torch.where(step.wrong, distance, torch.inf).minimum(state["nearest"])
        state["nearest"] = nearest
        inside = torch.minimum(state["radius"] * (1 - gamma), nearest)
        return torch.where(step.wrong, inside, outside).minimum(state["reach"])


def onto_ball(way: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """The nearest perturbations within ``radius`` (batch,), a radius of its own for each."""
    bound, flat = radius[:, None], way.flatten(1)
    if norm is Norm.LINF:
        return flat.clamp(-bound, bound).view_as(way)
    if norm is Norm.L2:
        size = flat.norm(dim=1, keepdim=True).clamp(min=torch.finfo(way.dtype).tiny)
        return (flat * (bound / size).clamp(max=1)).view_as(way)
    # All values are shortened by the same amount: Duchi et al. 2008, ICML, figure 1.
    ordered = flat.abs().sort(dim=1, descending=True).values
    over = ordered.cumsum(1) - bound
    count = torch.arange(1, flat.shape[1] + 1, device=way.device)
    kept = (ordered * count > over).sum(1, keepdim=True).clamp(min=1)
    short = (over.gather(1, kept - 1) / kept).clamp(min=0)
    return (flat.sign() * (flat.abs() - short).clamp(min=0)).view_as(way)
