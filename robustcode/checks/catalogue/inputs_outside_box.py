"""Clean inputs that no adversary may use."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity

# The contract of every model here: images in [0, 1].
LOW, HIGH = 0.0, 1.0


@CHECKS.register("inputs-outside-box")
class InputsOutsideBox(Check):
    """Clean inputs that no adversary may use.

    Raised when a pilot input has a value outside [0, 1], or NaN.

    Why it matters: attacks clip to the box, so the first step changes such an input by more than
    eps allows.

    What to do: scale the images to [0, 1] and normalise inside the model.

    False alarms: none; values are compared exactly.
    """

    code = "inputs-outside-box"
    group = Group.SUBJECT
    says = "inputs lie in [0, 1]"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        x = exam.x
        outside = ~((x >= LOW) & (x <= HIGH)).flatten(1).all(1)
        if not outside.any():
            return
        lowest, highest = (float(value) for value in x.nan_to_num().aminmax())
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"{int(outside.sum())} of {len(x)} inputs have values outside "
            f"[{LOW:g}, {HIGH:g}]: they span [{lowest:.4g}, {highest:.4g}]",
            remedy="scale images to [0, 1] and put the normalisation inside the model (mean, std)",
            figures={"lowest": lowest, "highest": highest, **shares(outside)},
            samples=chosen(exam.samples, outside),
        )
