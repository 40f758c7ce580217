"""A defence that declares a gradient and has none."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import shares
from robustcode.findings import Finding, Severity


@CHECKS.register("declared-differentiable")
class DeclaredDifferentiable(Check):
    """It declares a gradient and has none on any sample.

    Raised when the gradients of cross-entropy and of the margin through ``logits`` are zero, or
    not there, on every pilot sample.

    Why it matters: every gradient attack then stands still, and the accuracy under it is clean
    accuracy by another name.

    What to do: declare ``differentiable = False`` and give a ``surrogate``, which attacks follow in
    its place (BPDA).

    False alarms: none; a gradient of exactly zero, or below the smallest that keeps its
    direction, on all samples is none.

    Source: unavailable gradients, Pintor et al. 2022, arXiv:2106.09947; backward pass
    differentiable approximation, Athalye et al. 2018, arXiv:1802.00420, section 4.1.
    """

    code = "declared-differentiable"
    group = Group.DECLARED
    says = "what is declared differentiable has a gradient"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if not exam.defense.differentiable:
            return "declared without a gradient"
        return None if len(exam.finite) else "no sample has finite logits"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        if exam.differentiable:
            return
        useful = exam.declared_slopes.useful
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"declared differentiable, but on all {len(useful)} samples its logits have no "
            "gradient in the input; attacks follow its surrogate",
            remedy="run --suite adaptive, which makes surrogates; or give one, in a defence that "
            "declares differentiable = False (BPDA)",
            figures=shares(~useful),
            samples=tuple(exam.samples[exam.finite].tolist()),
        )
