"""The attack ends while its loss still rises."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity

# The last steps that are looked at, and how far a loss on a scale of 0 to 1 may rise in them. On
# sound networks PGD with 20 steps and its default step rises by .01 to .15 in the median.
LAST = 10
RISE = 0.25
# Fewer survivors are no majority of anything.
FEWEST = 3


@CHECKS.register("loss-still-rising")
class LossStillRising(Check):
    """The attack ends while its loss still rises.

    Raised when, on most of three or more samples that the attack leaves right, the lowest margin so
    far still falls in the last ten steps, by more than a quarter of all that it fell. Made on
    deterministic defences, and on the first restart; free of cost.

    Why it matters: an attack that is stopped on its way up reports where it was, not how far it
    goes. Whether more steps would break samples, ``not-converged`` tells.

    What to do: raise ``steps``, or the step length.

    False alarms: a margin that creeps down and will break nothing is said to fall all the same, as
    it does. With 20 steps of a fifth of eps it fell by 15 % at most, in the median of the samples,
    on 16 pairs of a network and an eps, of the package and published, and by 1 to 5 % on most.

    Source: incomplete optimisation, Pintor et al. 2022, arXiv:2106.09947: the attack's own loss in
    its last ten steps, made monotone and rescaled, must move by less than .05. That it is the
    margin here, and a quarter, is ours: cross-entropy of confident samples grows
    by powers while the margin hardly moves.
    """

    code = "loss-still-rising"
    group = Group.SEARCH
    says = "the attack's loss has stopped rising at its end"
    of_the_attack = True
    otherwise = "attacks with few steps may stop too early here: give those of the plan enough"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or exam.no_fixed_answer

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        standing = exam.held > 0.5
        if int(standing.sum()) < FEWEST:
            return
        rise = last_rise(-exam.course.margin[: exam.once.steps, standing.cpu()])
        rising = rise > RISE
        if 2 * int(rising.sum()) <= len(rising):
            return
        usual = float(rise.median())
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"on {int(rising.sum())} of {len(rising)} pilot samples that stand the margin "
            f"under PGD still falls in the last {min(LAST, exam.once.steps)} of {exam.once.steps} "
            f"steps, by {usual:.0%} of all that it fell in the median",
            remedy=f"use steps={5 * exam.once.steps} or longer steps, until the margin stays "
            "where it is",
            figures={
                "rising": float(rising.sum()),
                "survivors": float(len(rising)),
                "rise": usual,
                "steps": float(exam.once.steps),
            },
            samples=tuple(exam.samples[exam.survivors[rising.to(exam.right.device)]].tolist()),
        )


def last_rise(course: Tensor) -> Tensor:
    """How far the highest loss so far rose in the last steps, as a share of its whole rise.

    ``course`` is of shape (steps, samples), NaN once a sample moved no longer; the shares have
    shape (samples,), and 0 stands for a loss that never rose.

    >>> last_rise(torch.tensor([[0.0], [8.0], *[[8.0]] * 9, [10.0]])).tolist()
    [0.2...]
    """
    highest = course.nan_to_num(nan=-torch.inf).cummax(0).values
    # A sample that had left is where it was.
    before = highest[max(0, len(highest) - 1 - LAST)]
    whole = highest[-1] - highest[0]
    return torch.where(whole > 0, (highest[-1] - before) / whole, 0.0)
