"""More passes of the model than the defence declares."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity


@CHECKS.register("passes-undeclared")
class PassesUndeclared(Check):
    """More passes of the model than the defence declares.

    Raised when more rows go through ``model`` in one draw on two samples than ``passes`` says; what
    a defence calls by the names of its model's parts, or does inside a model of its own, is not
    seen.

    Why it matters: queries and costs are counted by what is declared, so that budgets give attacks
    more than they say, and what is compared by passes is not. Many passes for one answer are the
    mark of a search inside; see ``optimises-at-inference``.

    What to do: declare ``passes``, or ``forwards`` where rows differ.

    False alarms: none; rows are counted. A defence that keeps answers, or looks at its input first,
    may take fewer passes than it says, which is none.
    """

    code = "passes-undeclared"
    group = Group.DECLARED
    says = "an answer costs no more passes than are declared"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        inside = exam.inside
        if inside.passes <= inside.declared:
            return
        yield Finding(
            code=self.code,
            severity=Severity.INFO,
            what=f"{inside.passes} rows go through the model where {inside.declared} are declared, "
            f"for one draw on {inside.rows} samples",
            remedy=f"declare passes = {inside.passes / inside.rows:g} in the defence: budgets and "
            "costs are counted by it",
            figures={
                "passes": float(inside.passes),
                "declared": float(inside.declared),
                "samples": float(inside.rows),
            },
        )
