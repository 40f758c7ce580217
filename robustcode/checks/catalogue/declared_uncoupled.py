"""A prediction that depends on its batch and does not say so."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import shares
from robustcode.findings import Finding, Severity


@CHECKS.register("declared-uncoupled")
class DeclaredUncoupled(Check):
    """A prediction depends on its batch and it does not say so.

    Raised when the scores of half the samples or more change once the rest of their batch is
    gone; fewer may be rounding that a quantiser made visible.

    Why it matters: attacks drop broken samples from the batch, which would change the verdicts on
    the others.

    What to do: declare ``batch_coupled = True`` and fill batches up with mates, or normalise by
    stored statistics.

    False alarms: another batch size chooses other kernels; their rounding would have to reach
    1e-3 of a logit on half of the samples.
    """

    code = "declared-uncoupled"
    group = Group.DECLARED
    says = "what is declared independent of its batch is so"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return "declared batch-coupled" if exam.defense.batch_coupled else None

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        if not exam.coupled:
            return
        changed = exam.calls.coupled
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"on {int(changed.sum())} of {len(changed)} samples the scores depend on the "
            "other inputs in the batch, which is not declared; each is evaluated in a batch with "
            "the same clean images",
            remedy="use stored statistics in batch norm, or declare batch_coupled = True",
            figures=shares(changed),
        )
