"""NES: ascent on gradients estimated from scores, by antithetic Gaussian directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.differences import Differences
from robustcode.attacks.follow import Search
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel


@ATTACKS.register("nes")
@dataclass(frozen=True, kw_only=True)
class NES(Attack):
    """Projected ascent with momentum on estimated gradients; steps shorten to nothing.

    It asks for scores only: for defences whose gradient is missing or misleads. Against a
    stochastic defence every pair of queries is on a draw of its own, so an estimate averages over
    ``pairs`` draws.

    Source: Ilyas et al. 2018, arXiv:1804.08598, sections 2.1 and 2.2; momentum as in the
    authors' code, steps that shorten linearly in place of its plateaus.

    Attributes:
        steps: number of steps.
        pairs: pairs of queries per step; a step costs ``2 pairs + 1`` forward passes.
        step: length of the first step as a fraction of ``threat.eps``.
        reach: standard deviation of the directions per value, in the units of the input. The
            authors' .001 stays within a level of an 8-bit image; .01 sees across it.
        momentum: weight of the past in the direction.
        loss: what is raised. Differences of the cross-entropy of a sure float32 network are zero.
        held_out: draws on which iterates are compared; used for stochastic targets only.
    """

    # In l1 a step along the few values that gain most needs more than a noisy estimate of them.
    norms = frozenset({Norm.LINF, Norm.L2})
    needs_gradient = False

    steps: int = 100
    pairs: int = 25
    step: float = 0.1
    reach: float = 0.01
    momentum: float = 0.9
    loss: LossName = LossName.MARGIN
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "pairs", "held_out")
        if not 0 < self.step < torch.inf:
            raise ConfigError(f"step = {self.step:g}: a step is a positive fraction of eps")
        if not 0 < self.reach < torch.inf:
            raise ConfigError(f"reach = {self.reach:g}: a distance of inputs is positive")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum = {self.momentum:g}: a weight of the past is in [0, 1)")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        look = Differences(
            target=target,
            threat=threat,
            loss=LOSSES[self.loss],
            ways=_gaussian,
            reach=self.reach,
            pairs=self.pairs,
        )
        memory = Momentum(threat, x, self.momentum)
        sizes = tuple(self.step * (1 - past / self.steps) for past in range(self.steps))
        return Search(target, threat, look, memory, sizes, self.held_out).run(x, y, x, streams)


class Momentum:
    """A decaying sum of gradients; see follow.Memory."""

    def __init__(self, threat: ThreatModel, x: Tensor, kept: float) -> None:
        self._threat = threat
        self._kept = kept
        self._sum = torch.zeros_like(x)

    def direction(self, rows: Tensor, gradient: Tensor, x_adv: Tensor, number: int) -> Tensor:
        """See Memory.direction."""
        total = self._kept * self._sum[rows] + gradient
        self._sum[rows] = total
        return self._threat.steepest(total, x_adv)


def _gaussian(streams: Streams, x: Tensor) -> Tensor:
    return streams.normal(*x.shape[1:], dtype=x.dtype)
