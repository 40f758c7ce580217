"""A defence that says it is stochastic and is not."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity


@CHECKS.register("declared-stochastic")
class DeclaredStochastic(Check):
    """It says that it is stochastic and is not.

    Raised when several draws give the same scores on every pilot sample.

    Why it matters: the randomness is switched off or lost (a sigma of 0, a seed set inside), so
    this is not the defence that was meant.

    What to do: check its settings; this run treats it as deterministic.

    False alarms: a defence that is random on one (sample, draw) pair in twenty shows none in 64
    pairs with probability .04; one that is random on all of them is never mistaken.
    """

    code = "declared-stochastic"
    group = Group.DECLARED
    says = "what is declared stochastic is so"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return None if exam.defense.stochastic else "declared deterministic"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        if exam.stochastic:
            return
        draws = exam.calls.draws
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"declared stochastic, but {draws} draws give equal scores on every sample; it is "
            "evaluated as deterministic",
            remedy="check its settings, and that it draws from the streams it is given",
            figures={"draws": float(draws)},
        )
