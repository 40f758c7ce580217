"""Auto-PGD on the difference of logits ratio, which no scaling of the logits masks."""

from __future__ import annotations

from dataclasses import dataclass

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.losses import LossName
from robustcode.attacks.untargeted import UntargetedAPGD


@ATTACKS.register("apgd-dlr")
@dataclass(frozen=True, kw_only=True)
class APGDDLR(UntargetedAPGD):
    """Auto-PGD that raises the DLR loss.

    Source: Croce and Hein 2020, arXiv:2003.01690, section 4; settings: see APGD.
    """

    raises = LossName.DLR
