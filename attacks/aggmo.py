"""PGD with aggregated momentum and linear loss, made for random defences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.expectation import slope
from robustcode.attacks.follow import Place, Search, View
from robustcode.attacks.losses import negative_margin
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@ATTACKS.register("aggmo")
@dataclass(frozen=True, kw_only=True)
class AggMo(Attack):
    """Steps along the mean direction of several momenta, up the linear loss.

    The momenta forget at different speeds: ``1 - 10^-j`` for j = 0, 1, .. The slow ones average
    the gradient over many steps, and so over many draws of the defence, the fast one still
    follows the newest. The loss is the lead of the best other class, which does not flatten where
    the defence is sure, as the cross-entropy does. With ``draws`` > 1 each gradient is the mean
    over that many draws.

    Source: Sitawarin et al. 2022, arXiv:2207.03574, attack on random transformations; the
    momentum, Lucas et al. 2019, arXiv:1804.00325. The authors clamp each gradient and take the
    loss of the mean logits; here gradients are as they come and the mean is of losses.

    Attributes:
        steps: number of steps.
        step: length of one step as a fraction of ``threat.eps``.
        draws: draws of the defence averaged per step.
        momenta: how many are aggregated; 1 has no memory.
        random_start: start at a random allowed input rather than at the sample itself.
        held_out: draws on which iterates are compared; used for stochastic targets only.
    """

    steps: int = 100
    step: float = 0.1
    draws: int = 4
    momenta: int = 3
    random_start: bool = True
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "draws", "momenta", "held_out")
        if not 0 < self.step < torch.inf:
            raise ConfigError(f"step = {self.step:g}: a step is a positive fraction of eps")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""

        def look(at: Place) -> View:
            seen = slope(target, at.x_adv, at.y, negative_margin, at.streams, self.draws)
            return View(seen.gradient, seen.margin, at.x_adv, seen.margin, seen.scale)

        memory = Aggregated(threat, x, self.momenta)
        search = Search(target, threat, look, memory, (self.step,) * self.steps, self.held_out)
        start = threat.random(x, streams.child("start")) if self.random_start else x
        return search.run(x, y, start, streams)


class Aggregated:
    """Momenta that forget at different speeds; see follow.Memory.

    Source: Lucas et al. 2019, arXiv:1804.00325, section 3; each momentum is made a unit step of
    its own before the mean, as Sitawarin et al. take the sign of each.
    """

    def __init__(self, threat: ThreatModel, x: Tensor, count: int) -> None:
        self._threat = threat
        self._kept = [1 - 10.0**-j for j in range(count)]
        self._sums = [torch.zeros_like(x) for _ in range(count)]

    def direction(self, rows: Tensor, gradient: Tensor, x_adv: Tensor, number: int) -> Tensor:
        """See Memory.direction."""
        way = torch.zeros_like(gradient)
        for kept, total in zip(self._kept, self._sums, strict=True):
            total[rows] = kept * total[rows] + gradient
            way += self._threat.steepest(total[rows], x_adv)
        return way / len(self._sums)
