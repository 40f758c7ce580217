"""Gradients that are NaN or infinite where the scores are not."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, severity_of, shares
from robustcode.findings import Finding


@CHECKS.register("non-finite-gradient")
class NonFiniteGradient(Check):
    """Gradients that are NaN or infinite where the scores are not.

    Raised when a pilot sample has one; a failure from a tenth of them on.

    Why it matters: attacks take NaN for zero and search in fewer dimensions.

    What to do: find the root or the division at zero.

    False alarms: none; an entry is a number or it is not.
    """

    code = "non-finite-gradient"
    group = Group.GRADIENTS
    says = "gradients are finite"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return None if len(exam.finite) and exam.slopes.reached else "there is no gradient"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        faulty = ~exam.slopes.finite
        if not faulty.any():
            return
        yield Finding(
            code=self.code,
            severity=severity_of(faulty),
            what=f"on {int(faulty.sum())} of {len(faulty)} samples the gradient of {exam.followed} "
            "has entries that are NaN or infinite",
            remedy="look for a square root, a norm or a division at zero, and give it a small "
            "offset",
            figures=shares(faulty),
            samples=chosen(exam.samples[exam.finite], faulty),
        )
