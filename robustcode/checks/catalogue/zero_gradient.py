"""Nothing to follow, whatever the loss."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, severity_of, shares
from robustcode.findings import Finding


@CHECKS.register("zero-gradient")
class ZeroGradient(Check):
    """Nothing to follow, whatever the loss.

    Raised when on some samples the gradients of cross-entropy and of the margin are both zero or
    underflow; a failure from a tenth of them on.

    Why it matters: such a sample counts as robust because the attack stood still.

    What to do: give rounding or saturation a surrogate, and run attacks that need no gradient.

    False alarms: none on networks whose ReLUs are not all dead on a sample; there the gradient is
    truly zero.

    Source: gradient masking, Athalye et al. 2018, arXiv:1802.00420, section 3.
    """

    code = "zero-gradient"
    group = Group.GRADIENTS
    says = "some loss has a gradient on every sample"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return None if len(exam.finite) and exam.slopes.reached else "there is no gradient"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        zero = ~exam.slopes.useful & exam.slopes.finite
        if not zero.any():
            return
        yield Finding(
            code=self.code,
            severity=severity_of(zero),
            what=f"on {int(zero.sum())} of {len(zero)} samples the gradient of every loss through "
            f"{exam.followed} is zero",
            remedy="give rounding, clipping or saturation a surrogate (BPDA), or run --suite "
            "adaptive, which makes one, and square, which needs no gradient",
            figures=shares(zero),
            samples=chosen(exam.samples[exam.finite], zero),
        )
