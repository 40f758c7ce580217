"""PGD on the defence, from where an attack on the model without it ended."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.expectation import more_broken, standing
from robustcode.attacks.losses import LossName
from robustcode.attacks.started import StartedPGD
from robustcode.attacks.transfer import Transfer
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel, column


@ATTACKS.register("transfer-pgd")
@dataclass(frozen=True, kw_only=True)
class TransferPGD(Attack):
    """PGD on the model inside, then on the defence from there; the better of both ends is kept.

    The plain model's gradient costs one pass and has no noise; the defence's own then mends what
    the first could not know. So it is at least as strong as ``transfer``, up to the luck of the
    ``held_out`` draws on which the two ends are compared.

    Source: transfer from the static model as a part of evaluating adaptive defences, Croce et al.
    2022, arXiv:2202.13711; to go on from there is ours.

    Attributes:
        before: steps on the plain model.
        steps: steps on the defence.
        step: length of one step as a fraction of ``threat.eps``, of both.
        draws: draws of the defence averaged per step.
        loss: what is raised on the defence: ce, margin, dlr or pm.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    before: int = 40
    steps: int = 20
    step: float = 0.1
    draws: int = 1
    loss: LossName = LossName.MARGIN
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "before", "steps", "draws", "held_out")
        if not 0 < self.step < torch.inf:
            raise ConfigError(f"step = {self.step:g}: a step is a positive fraction of eps")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        first = Transfer(steps=self.before, step=self.step)
        moved = first.perturb(target, x, y, threat, streams.child("transfer"))
        second = StartedPGD(
            steps=self.steps,
            step=self.step,
            draws=self.draws,
            loss=self.loss,
            held_out=self.held_out,
            samples=streams.samples,
            starts=moved,
        )
        ended = second.perturb(target, x, y, threat, streams.child("own"))
        judged = streams.child("ends")
        one, other = (standing(target, at, y, judged, self.held_out) for at in (moved, ended))
        return ended.where(column(more_broken(other, one), x), moved)
