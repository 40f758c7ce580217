"""Fewer than four classes, for which some losses are not defined as published."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity

# The targeted ratio of logits takes the four largest.
FEWEST = 4


@CHECKS.register("too-few-classes")
class TooFewClasses(Check):
    """Fewer than four classes, for which some losses are not defined as published.

    Raised when the scores have two or three classes.

    Why it matters: the difference of logits ratio divides by the spread of the top three logits,
    its targeted form by that of four. Here two classes get the plain margin in place of both, and
    three the whole spread in the targeted one; and there are only one or two targets. So apgd-dlr
    with two classes is apgd-margin, and apgd-t tries one or two classes: what AutoAttack means by
    variety is less.

    What to do: nothing is wrong with the numbers; let the margin and cross-entropy both be raised,
    give restarts in place of targets, and compare with other work only if it says what it did.

    False alarms: none; classes are counted.

    Source: Croce and Hein 2020, arXiv:2003.01690, equations 6 and 7.
    """

    code = "too-few-classes"
    group = Group.SUBJECT
    says = "there are classes enough for every loss"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        classes = exam.calls.classes
        if classes >= FEWEST:
            return
        instead = (
            "both forms of the DLR loss are the plain margin here, and there is one target"
            if classes == 2
            else "the targeted DLR loss divides by the spread of all three here, and there are two "
            "targets"
        )
        yield Finding(
            code=self.code,
            severity=Severity.INFO,
            what=f"there are {classes} classes; the targeted DLR loss is defined for {FEWEST} or "
            f"more: {instead}",
            remedy="raise the margin and cross-entropy both, with restarts in place of targets",
            figures={"classes": float(classes)},
        )
