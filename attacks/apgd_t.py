"""Auto-PGD towards each of the most promising wrong classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcode.attacks.apgd import APGD
from robustcode.attacks.base import ATTACKS, Loss, Target
from robustcode.attacks.losses import TARGETED, TargetedLossName
from robustcode.attacks.targets import TargetOrder, targets_of
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@ATTACKS.register("apgd-t")
@dataclass(frozen=True, kw_only=True)
class APGDT(APGD):
    """Auto-PGD on the targeted DLR loss, for several wrong classes side by side.

    Source: Croce and Hein 2020, arXiv:2003.01690, sections 3 and 4.2; settings: see APGD.

    Attributes:
        targets: wrong classes, at most classes - 1; the paper has 9.
        order: by what they are ranked: logits, or malt (Melamed et al. 2024, arXiv:2407.02240).
        loss: what is raised for each: dlr, or margin, the plain lead of the target.
        keep: after a tenth of the steps, in l1 of those in the last ball, go on with so many of
            them only, those with the lowest margins; 0 for all, as in the paper.
    """

    targets: int = 9
    order: TargetOrder = TargetOrder.LOGITS
    loss: TargetedLossName = TargetedLossName.DLR
    keep: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets < 1:
            raise ConfigError(f"targets = {self.targets}: at least 1 is needed")
        if self.keep < 0:
            raise ConfigError(f"keep = {self.keep}: a number of targets, or 0 for all")

    @property
    def _kept(self) -> int:
        return self.keep

    def _goals(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        return targets_of(
            target, x, y, threat, streams, count=self.targets, order=self.order, draws=self.draws
        )

    def _loss(self, goal: Tensor) -> Loss:
        return TARGETED[self.loss](goal)
