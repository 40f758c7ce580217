"""Auto-PGD away from the right class, whichever wrong one comes up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.attacks.apgd import APGD
from robustcode.attacks.base import Loss, Target
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class UntargetedAPGD(APGD):
    """Auto-PGD on one of the losses that know no target.

    Attributes:
        raises: the loss.
    """

    raises: ClassVar[LossName]

    def _goals(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        return torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)

    def _loss(self, goal: Tensor) -> Loss:
        return LOSSES[self.raises]
