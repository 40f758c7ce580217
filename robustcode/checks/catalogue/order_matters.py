"""The same inputs in another order get other scores."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.calls import COUPLING, differ
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity

# Rows on which scores move by this share of a logit are not rounded otherwise, however few.
LARGE = 0.1
# Turning a batch round moves at least two rows to another place.
FEWEST = 2


@CHECKS.register("order-matters")
class OrderMatters(Check):
    """The same inputs in another order get other scores.

    Raised when the batch is turned round, each input with its own random stream, and the scores of
    half of the samples change by more than rounding, or those of two by a tenth of a logit; as a
    warning where the defence declares that a batch acts together.

    Why it matters: attacks and judge see a sample at other places of other batches, so its verdict
    would not be its own. Noise that a fixed seed makes anew in each call is of this kind: it looks
    deterministic, and an attack that asks about one sample alone meets other noise than the judge.

    What to do: let each row depend on its own input and stream alone; draw nothing by position.

    False alarms: none where a row's place moves its rounding by less than 1e-3 of a logit on half
    of the samples, and by less than a tenth on all but one; the batch size is the same.
    """

    code = "order-matters"
    group = Group.BATCH
    says = "a sample's scores do not depend on its place in the batch"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return None if len(exam.x) > 1 else "there is one sample only"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        first, steady = exam.calls.first, ~exam.calls.unsteady
        turned = exam.call(exam.x.flip(0), exam.first_draw[exam.places.flip(0)]).flip(0)
        changed = differ(first, turned, COUPLING) & steady
        if 2 * int(changed.sum()) < len(changed):
            changed = differ(first, turned, LARGE) & steady
            if int(changed.sum()) < FEWEST:
                return
        declared = exam.defense.batch_coupled
        yield Finding(
            code=self.code,
            severity=Severity.WARNING if declared else Severity.FAILURE,
            what=f"on {int(changed.sum())} of {len(changed)} samples the scores change when the "
            "same inputs, each with its own random numbers, come in the opposite order"
            + (": they depend on the place in the batch" if declared else ""),
            remedy="let each row depend on its own input and its own stream: no noise that is "
            "drawn for the whole batch, no generator that is seeded within the call",
            figures=shares(changed),
            samples=chosen(exam.samples, changed),
        )
