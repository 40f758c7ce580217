"""Transfer: attack the plain model, offer what is found to the defence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target
from robustcode.attacks.losses import LossName
from robustcode.attacks.pgd import PGD
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@ATTACKS.register("transfer")
@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """PGD on the undefended model inside the defence, carried on after it is broken.

    Cheap and mandatory: a defence whose own gradients mislead often falls to the gradients of
    the model it wraps. Against a plain model it is PGD once more.

    Source: Papernot et al. 2016, arXiv:1605.07277; as a check of adaptive attacks, Athalye et
    al. 2018, arXiv:1802.00420, section 3.

    Attributes:
        steps: number of ascent steps.
        step: length of one step as a fraction of ``threat.eps``.
        loss: what is raised on the undefended model.
    """

    steps: int = 40
    step: float = 0.2
    loss: LossName = LossName.MARGIN

    def __post_init__(self) -> None:
        self._ascent()

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        return self._ascent().perturb(target.undefended, x, y, threat, streams)

    def _ascent(self) -> PGD:
        return PGD(steps=self.steps, step=self.step, loss=self.loss, until_broken=False)
