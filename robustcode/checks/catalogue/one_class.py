"""All samples are of one class."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity

# Of two equally frequent classes so many samples are of one in one run of 500.
FEWEST = 10


@CHECKS.register("one-class")
class OneClass(Check):
    """All samples are of one class.

    Raised when ten samples or more are evaluated, all of one class.

    Why it matters: robustness differs between classes, so that the accuracy is that class's; and a
    model that always answers with it is right on every sample, whatever is done to them. The first
    samples of a data set that is sorted by class are of this kind.

    What to do: choose samples of all classes, with ``indices``.

    False alarms: one run in 500 on ten samples that are drawn at random from two classes, fewer
    with more of either; a data set of one class is worth it.
    """

    code = "one-class"
    group = Group.SUBJECT
    says = "samples are of more classes than one"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.no_data:
            return exam.no_data
        return None if len(exam.chosen) >= FEWEST else "there are too few samples to say so"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        assert exam.data is not None
        labels = exam.data.targets(exam.chosen.cpu()).unique().tolist()
        if len(labels) > 1:
            return
        name = exam.data.class_names[labels[0]]
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"all {len(exam.chosen)} samples are of class {labels[0]} ({name})",
            remedy="choose samples of all classes with indices: the accuracy is that of one class, "
            "and a constant answer would have it too",
            figures={"label": float(labels[0]), "samples": float(len(exam.chosen))},
        )
