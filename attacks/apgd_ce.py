"""Auto-PGD on cross-entropy: the first part of AutoAttack."""

from __future__ import annotations

from dataclasses import dataclass

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.losses import LossName
from robustcode.attacks.untargeted import UntargetedAPGD


@ATTACKS.register("apgd-ce")
@dataclass(frozen=True, kw_only=True)
class APGDCE(UntargetedAPGD):
    """Auto-PGD that raises the cross-entropy of the right class.

    Source: Croce and Hein 2020, arXiv:2003.01690, section 3; settings: see APGD.
    """

    raises = LossName.CE
