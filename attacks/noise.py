"""Uniform noise of the attack's own size: the control every attack must beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.expectation import more_broken, standing
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel, column


@ATTACKS.register("noise")
@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """The most broken of ``tries`` points drawn uniformly from the ball.

    Source: the check "random noise of the same size" of Carlini et al. 2019, arXiv:1902.06705,
    section 4.

    Attributes:
        tries: points drawn per sample.
        draws: draws of the defence on which points are compared.
    """

    needs_gradient = False
    control = True

    tries: int = 10
    draws: int = 1

    def __post_init__(self) -> None:
        require_counts(self, "tries", "draws")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        judged = streams.child("held out")
        best = threat.random(x, streams.child("try", 0))
        if self.tries == 1:
            return best
        record = standing(target, best, y, judged, self.draws)
        for number in range(1, self.tries):
            x_adv = threat.random(x, streams.child("try", number))
            table = standing(target, x_adv, y, judged, self.draws)
            better = more_broken(table, record)
            best = best.where(column(~better, x), x_adv)
            record = record.where(~better[:, None], table)
        return best
