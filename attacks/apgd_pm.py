"""Auto-PGD on the margin of the probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.losses import LossName
from robustcode.attacks.untargeted import UntargetedAPGD


@ATTACKS.register("apgd-pm")
@dataclass(frozen=True, kw_only=True)
class APGDPM(UntargetedAPGD):
    """Auto-PGD that lowers the lead of the right class in probability.

    Source: Xie et al. 2024, arXiv:2411.15210 (PMA); settings: see APGD.
    """

    raises = LossName.PM
