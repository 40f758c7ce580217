"""Clean inputs of others change what a sample is taken for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.calls import COUPLING, differ
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.defenses.as_found import Fresh, copied
from robustcode.defenses.base import Defense
from robustcode.findings import Finding, Severity

# Times that the other half of the pilot is shown; running statistics with the usual momentum of .1
# are by then a third on their way.
SHOWN = 4


@CHECKS.register("adapts-at-test-time")
class AdaptsAtTestTime(Check):
    """Clean inputs of others change what a sample is taken for.

    Raised when a copy of a defence that remembers its calls is shown the clean second half of the
    pilot four times, and then scores the first half otherwise than a copy that has seen nothing:
    half of the samples by more than rounding, or one so that its class is another. A cache of
    answers does not do that to samples that it has not met; learning from requests does.

    Why it matters: the evaluation is that of a defence that nobody has asked yet. In use it is
    another one, which clean traffic shapes, and an adversary's traffic too.

    What to do: freeze it after a stated number of clean inputs and evaluate what it is then; or
    evaluate adaptation as part of the threat, with an adversary whose requests it learns from.

    False alarms: none; both copies have all random numbers in common, and samples whose scores
    differ between equal calls are left out.

    Source: distribution invading attacks on test-time adaptation, Wu et al. 2023, arXiv:2301.12576.
    """

    code = "adapts-at-test-time"
    group = Group.DECLARED
    says = "clean inputs of others teach it nothing"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if not exam.memory.stateful:
            return "calls do not see each other"
        if not isinstance(exam.defense, Fresh):
            return "it cannot be copied, so there is no defence that has seen nothing"
        return None if len(exam.x) > 1 else "there is one sample only"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        assert isinstance(exam.defense, Fresh)
        pristine = exam.defense.inner
        asked, shown = exam.places.tensor_split(2)
        before = self._scores(exam, pristine, asked, shown[:0])
        after = self._scores(exam, pristine, asked, shown)
        steady = ~exam.calls.unsteady[asked]
        moved = differ(before, after, COUPLING) & steady
        flipped = (before.argmax(1) != after.argmax(1)) & moved
        if not flipped.any() and 2 * int(moved.sum()) < len(moved):
            return
        figures = {**shares(moved), "flipped": float(flipped.sum())}
        if len(exam.y):
            y = exam.y[asked]
            for name, scores in (("before", before), ("after", after)):
                figures[name] = float((scores.argmax(1) == y).double().mean())
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"after {SHOWN * len(shown)} clean inputs of others the scores of "
            f"{int(moved.sum())} of {len(moved)} samples are others, and {int(flipped.sum())} of "
            "them are taken for another class",
            remedy="freeze it after a stated number of clean inputs and evaluate what it is then: "
            "here every sample meets a defence that has seen nothing",
            figures=figures,
            samples=chosen(exam.samples[asked], moved),
        )

    @torch.no_grad()
    def _scores(self, exam: Examination, pristine: Defense, rows: Tensor, shown: Tensor) -> Tensor:
        """Scores of ``rows`` by a copy that has been shown other rows, or none."""
        one = copied(pristine)
        for time in range(SHOWN if len(shown) else 0):
            own = exam.streams[shown].child("shown", time)
            exam.pay(own)
            one.logits(exam.x[shown], own)
        exam.pay(exam.first_draw[rows])
        return one.logits(exam.x[rows], exam.first_draw[rows]).clone()
