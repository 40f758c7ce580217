"""The fast gradient sign method: one step of the whole budget."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target
from robustcode.attacks.expectation import slope
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@ATTACKS.register("fgsm")
@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One step of length ``threat.eps`` along the steepest ascent of the loss.

    A weak attack, kept as a sanity check: an iterative attack that does no better than this one
    has not worked.

    Source: Goodfellow et al. 2015, arXiv:1412.6572, section 4; other norms take the steepest
    direction of their own.

    Attributes:
        draws: draws of the defence over which the gradient is averaged (EOT).
        loss: what is raised: ce, margin, dlr or pm.
    """

    one_step = True

    draws: int = 1
    loss: LossName = LossName.CE

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ConfigError(f"draws = {self.draws}: at least 1 is needed")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        gradient = slope(target, x, y, LOSSES[self.loss], streams, self.draws).gradient
        return threat.project(x + threat.eps * threat.steepest(gradient, x), x)
