"""The model came in training mode."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity


@CHECKS.register("train-mode")
class TrainMode(Check):
    """The model came in training mode.

    Raised when any of its modules was in training mode as it came.

    Why it matters: dropout and batch statistics make it another model; what is evaluated here is
    not what the caller's code evaluates.

    What to do: call ``model.eval()``.

    False alarms: none; the mode is read, not measured.
    """

    code = "train-mode"
    group = Group.SUBJECT
    says = "the model came in eval mode"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        training = exam.training
        if not training:
            return
        named = ", ".join(training[:3]) + (", .." if len(training) > 3 else "")
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"{len(training)} modules came in training mode ({named}); they were evaluated in "
            "eval mode and given back as they came",
            remedy="call model.eval() before the evaluation, and wherever the model is used",
            figures={"modules": float(len(training))},
        )
