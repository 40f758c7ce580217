"""The defence takes gradients of its own while it answers."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity


@CHECKS.register("optimises-at-inference")
class OptimisesAtInference(Check):
    """The defence takes gradients of its own while it answers.

    Raised when one decision on two samples calls for a gradient inside: by ``backward``, by
    ``torch.autograd.grad`` or by what is built on them. Adaptation that needs no gradient, and
    forward-mode differentiation, are not seen.

    Why it matters: a defence that purifies its input, or adapts to it, makes the input that is
    classified depend on its own search. A gradient that is taken through that search is long,
    noisy or cut, so that attacks which follow it look weak; and attacks that ignore it attack
    another model. Published defences of this kind fell to attacks made for them.

    What to do: follow the plain model inside (transfer), differentiate through every inner step, or
    take the inner search as fixed (a surrogate that passes gradients straight through it); make
    sure that the randomness of inner starts is drawn from ``streams``.

    False alarms: none in that a gradient was taken. A classifier that is defined by a gradient, as
    one with an energy, takes one too, and attacks can follow it if it keeps its graph.

    Source: a flag of AutoAttack's code; adaptive test-time defences, Croce et al. 2022,
    arXiv:2202.13711.
    """

    code = "optimises-at-inference"
    group = Group.DECLARED
    says = "an answer takes no gradient of its own"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        inside = exam.inside
        if inside.gradients == 0:
            return
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"one decision on {inside.rows} samples takes {inside.gradients} gradients inside "
            "the defence: it optimises while it answers",
            remedy="attack it for what it is: run transfer on the plain model, and give a "
            "surrogate that passes gradients through the inner search",
            figures={"gradients": float(inside.gradients), "samples": float(inside.rows)},
        )
