"""Cross-entropy has no gradient where the margin has one."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.attacks.losses import LossName
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.checks.slopes import alive
from robustcode.findings import Finding


@CHECKS.register("vanishing-loss")
class VanishingLoss(Check):
    """Cross-entropy has no gradient where the margin has one.

    Raised when on some samples the gradient of cross-entropy alone is zero or underflows. A failure
    where that is a tenth of the pilot and no other attack of the plan searches.

    Why it matters: logits that are scaled up, or very confident, saturate the softmax, and an
    attack on cross-entropy stands still where there is a way down.

    What to do: attack with loss=margin or loss=dlr.

    False alarms: none; a network that is as confident as that by itself has the fault too.

    Source: Carlini and Wagner 2017, arXiv:1608.04644, section IV; Croce and Hein 2020,
    arXiv:2003.01690, section 4.
    """

    code = "vanishing-loss"
    group = Group.GRADIENTS
    says = "cross-entropy has a gradient wherever the margin has one"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return None if len(exam.finite) and exam.slopes.reached else "there is no gradient"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        slopes = exam.slopes
        follows = exam.threat is not None and exam.attack.loss is LossName.CE
        vanished = ~alive(slopes.cross_entropy) & alive(slopes.margin) & slopes.finite
        if not vanished.any():
            return
        yield Finding(
            code=self.code,
            severity=exam.gravity(int(vanished.sum()) if follows else 0),
            what=f"on {int(vanished.sum())} of {len(vanished)} samples the gradient of "
            "cross-entropy is zero and that of the margin is not",
            remedy="attack with loss=margin or loss=dlr: the logits are too large for "
            "cross-entropy",
            figures=shares(vanished),
            samples=chosen(exam.samples[exam.finite], vanished),
        )
