"""Auto-PGD on the margin of the logits."""

from __future__ import annotations

from dataclasses import dataclass

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.losses import LossName
from robustcode.attacks.untargeted import UntargetedAPGD


@ATTACKS.register("apgd-margin")
@dataclass(frozen=True, kw_only=True)
class APGDMargin(UntargetedAPGD):
    """Auto-PGD that lowers the lead of the right class.

    Source: the loss, Carlini and Wagner 2017, arXiv:1608.04644, section V (f6); settings: see APGD.
    """

    raises = LossName.MARGIN
