"""The graph is cut."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity


@CHECKS.register("missing-gradient")
class MissingGradient(Check):
    """The graph is cut.

    Raised when no gradient reaches the input from the scores an attack follows: a detach, a
    no_grad, a conversion to numpy.

    Why it matters: gradient attacks return their start.

    What to do: remove the cut, or give a surrogate for the backward pass.

    False alarms: none; a graph leads to the input or it does not.

    Source: unavailable gradients, Pintor et al. 2022, arXiv:2106.09947.
    """

    code = "missing-gradient"
    group = Group.GRADIENTS
    says = "a gradient reaches the input"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return None if len(exam.finite) else "no sample has finite logits"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        if exam.slopes.reached:
            return
        samples = exam.samples[exam.finite]
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"no gradient reaches the input through {exam.followed} on any of {len(samples)} "
            "samples: the graph is cut, so gradient attacks stand still",
            remedy="remove detach, no_grad or numpy from the forward pass, or give a surrogate "
            "(BPDA)",
            figures={"samples": float(len(samples)), "share": 1.0},
            samples=tuple(samples.tolist()),
        )
