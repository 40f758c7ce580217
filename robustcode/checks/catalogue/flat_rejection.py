"""Nothing leads back from where a detector refuses."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding


@CHECKS.register("flat-rejection")
class FlatRejection(Check):
    """Nothing leads back from where a detector refuses.

    Raised when the gradient of its rejection is zero, or not a number, on a tenth or more of pilot
    inputs, of the same half hidden in noise and of noise alone.

    Why it matters: attacks that follow gradients find inputs that are wrong, and stay where those
    are refused; the accuracy under them is too high.

    What to do: give a ``rejection_surrogate`` with a gradient (BPDA), and run attacks that need
    none.

    False alarms: none; a gradient of exactly zero leads nowhere.

    Source: Tramer et al. 2020, arXiv:2002.08347; backward pass differentiable approximation,
    Athalye et al. 2018, arXiv:1802.00420.
    """

    code = "flat-rejection"
    group = Group.GRADIENTS
    says = "what is refused has a gradient that leads back"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        found = exam.refusal[1]
        if not exam.defense.detector or (found and found.code == "declared-detector"):
            return "the defence refuses nothing"
        return None

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        yield exam.flat_rejection
