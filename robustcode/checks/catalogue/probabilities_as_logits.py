"""The model ends in a softmax."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity

# The rounding of a half-precision softmax.
ROUNDING = 1e-3


@CHECKS.register("probabilities-as-logits")
class ProbabilitiesAsLogits(Check):
    """The model ends in a softmax.

    Raised when every row of scores lies in [0, 1] and sums to one.

    Why it matters: a second softmax inside the loss flattens its gradient, and saturated
    probabilities have none.

    What to do: return the layer before the softmax; the predictions stay the same.

    False alarms: none known; logits that lie in [0, 1] and sum to one on every pilot sample
    are probabilities for all that an attack sees of them.

    Source: flags of AutoAttack, Croce and Hein 2020, arXiv:2003.01690, in its published code.
    """

    code = "probabilities-as-logits"
    group = Group.SUBJECT
    says = "scores are logits, not probabilities"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        scores = exam.calls.first[exam.calls.finite]
        if len(scores) == 0:
            return
        error = float((scores.sum(1) - 1).abs().max())
        if scores.min() < 0 or scores.max() > 1 + ROUNDING or error > ROUNDING:
            return
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"all {len(scores)} rows of scores lie in [0, 1] and sum to one within "
            f"{error:.1g}: they are probabilities, not logits",
            remedy="return the layer before the softmax; predictions do not change, gradients do",
            figures={"samples": float(len(scores)), "error": error},
        )
