"""A defence that says it is deterministic and is not."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity


@CHECKS.register("declared-deterministic")
class DeclaredDeterministic(Check):
    """It says that it is deterministic and is not.

    Raised when scores of one input differ between calls by more than rounding.

    Why it matters: judged by one draw, a lucky draw passes for a broken sample, or the reverse.

    What to do: declare ``stochastic = True``; this run treats it so.

    False alarms: none on kernels whose rounding stays below 1e-5 of a logit between equal calls;
    what a deterministic network gives on a CPU is equal to the last bit.

    Source: flags of AutoAttack, Croce and Hein 2020, arXiv:2003.01690, in its published code.
    """

    code = "declared-deterministic"
    group = Group.DECLARED
    says = "what is declared deterministic is so"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return "declared stochastic" if exam.defense.stochastic else None

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        varied = exam.calls.varied
        if not varied.any():
            return
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"declared deterministic, but on {int(varied.sum())} of {len(varied)} samples the "
            f"scores of {exam.calls.draws + 1} calls differ; it is evaluated as stochastic",
            remedy="remove the randomness (dropout, noise) from inference; or make it a defence "
            "that declares stochastic = True and draws from the streams given (CONTRIBUTING)",
            figures=shares(varied),
            samples=chosen(exam.samples, varied),
        )
