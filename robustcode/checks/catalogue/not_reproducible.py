"""Randomness that no seed of the run controls."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity


@CHECKS.register("not-reproducible")
class NotReproducible(Check):
    """Randomness that no seed of the run controls.

    Raised when two calls with equal streams differ by more than rounding.

    Why it matters: a repeated or resumed run can give other records, and an attack that holds a
    draw fixed does not.

    What to do: take all randomness from ``streams``.

    False alarms: none where equal calls round alike to 1e-5 of a logit.
    """

    code = "not-reproducible"
    group = Group.RANDOMNESS
    says = "equal random streams give equal scores"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        unsteady = exam.calls.unsteady
        if not unsteady.any():
            return
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"on {int(unsteady.sum())} of {len(unsteady)} samples two calls with equal random "
            "streams give different scores",
            remedy="draw all randomness from the streams passed to logits, not from torch's global "
            "generator; otherwise records differ between runs",
            figures=shares(unsteady),
            samples=chosen(exam.samples, unsteady),
        )
