"""Scores that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity


@CHECKS.register("non-finite-logits")
class NonFiniteLogits(Check):
    """Scores that are NaN or infinite.

    Raised when a pilot sample has one in any draw.

    Why it matters: such a sample has no decision and no gradient, and would pass for a robust or a
    broken one by accident.

    What to do: find the division, logarithm or overflow; the other samples are tested as usual.

    False alarms: none; a score is a number or it is not.
    """

    code = "non-finite-logits"
    group = Group.SUBJECT
    says = "all logits are finite numbers"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        faulty = ~exam.calls.finite
        if not faulty.any():
            return
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"on {int(faulty.sum())} of {len(faulty)} samples a logit is NaN or infinite",
            remedy="look for a division by zero, a logarithm of zero or half precision in the "
            "model",
            figures=shares(faulty),
            samples=chosen(exam.samples, faulty),
        )
