"""One input alone gets other scores than in a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.calls import COUPLING, differ
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity

# Samples that are asked about one at a time.
ALONE = 8


@CHECKS.register("batch-size-matters")
class BatchSizeMatters(Check):
    """One input alone gets other scores than in a batch.

    Raised when the scores of half of eight samples change once each is asked about alone, though
    half a batch changes nothing, or, for a defence that declares that batches act together, though
    nobody said who is in the batch. A batch that changes its rows without saying so is
    ``declared-uncoupled``, and is not said twice.

    Why it matters: attacks drop broken samples and memory limits the rest, so that the last of them
    are asked about alone, while the judge sees whole batches: two defences under one name.

    What to do: let a row depend on its own input and stream alone, whatever ``len(x)`` is.

    False alarms: another batch size chooses other kernels; their rounding would have to reach 1e-3
    of a logit on half of the samples.
    """

    code = "batch-size-matters"
    group = Group.BATCH
    says = "scores are the same alone, in half a batch and in a whole one"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.coupled and not exam.defense.batch_coupled:
            return "that a batch changes its rows is said already, see declared-uncoupled"
        return None if len(exam.x) > 1 else "there is one sample only"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        few = exam.places[:ALONE]
        alone = [exam.call(exam.x[row], exam.first_draw[row]) for row in few.split(1)]
        steady = ~exam.calls.unsteady[few]
        changed = differ(exam.calls.first[few], torch.cat(alone), COUPLING) & steady
        where = "asked about alone"
        if 2 * int(changed.sum()) < len(changed):
            # Of who declares nothing, the half batch is the business of declared-uncoupled.
            changed, where = exam.calls.coupled, "in half a batch"
            if not exam.defense.batch_coupled or 2 * int(changed.sum()) < len(changed):
                return
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"on {int(changed.sum())} of {len(changed)} samples the scores {where} are others "
            f"than in a batch of {len(exam.x)}",
            remedy="let a row depend on its own input and stream, and on mates that the stream "
            "names, whatever the number of rows in the call",
            figures=shares(changed),
            samples=chosen(exam.samples[: len(changed)], changed),
        )
