"""What a defence says of its refusals, put to the test."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding


@CHECKS.register("declared-detector")
class DeclaredDetector(Check):
    """It refuses and does not say so, or says so and does not.

    Raised when, on pilot inputs, on the same half hidden in noise and on noise alone, a defence
    that declares ``detector = True`` refuses nothing (a warning), one that declares no detector
    abstains by a rule of its own on scores that are finite and not tied (``declared-decisive``, a
    failure), or one decides otherwise than its ``rejection`` says (``declared-rejection``).

    Why it matters: an undeclared refusal counts as an error, on perturbed inputs too, and no attack
    looks for inputs that are wrong and accepted; attacks that go by a rejection which is not that
    of the decision take inputs for accepted that are refused.

    What to do: declare what it is, and let ``decide`` go by ``rejection``.

    False alarms: a rule of its own may draw otherwise than the common one, so that shares of four
    decisions are compared, one-sided at .1 %.
    """

    code = "declared-detector"
    group = Group.DECLARED
    says = "it refuses where it declares to, and nowhere else"
    also = ("declared-decisive", "declared-rejection")

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        yield exam.refusal[1]
