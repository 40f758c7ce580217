"""With a budget as large as half the box, samples are still right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity
from robustcode.threat import ThreatModel

# What a stochastic defence may keep above chance.
EFFECT = 0.05
# One sample is more than chance where there are many classes, and may be an accident.
FEWEST = 2


@CHECKS.register("large-eps-above-chance")
class LargeEpsAboveChance(Check):
    """With a budget as large as half the box, samples are still right.

    Raised when the attack of the pilot, from its random start, leaves two samples or more, and more
    than chance, 1 / classes, right with half the box as budget, for a stochastic defence more than
    five points above chance; two of them or more of another class than the grey image. On the way
    eps is doubled, and each budget is tried on what still stands: that is the curve over eps. What
    is random is tried at half the box alone.

    Why it matters: half the box reaches the grey image from every sample. All samples can be made
    the same there, and so no classifier is right more often than it would be on one image: what
    stands beyond that was missed by the attack, which may miss as much at eps.

    What to do: look for masked gradients; use restarts, the margin loss, a surrogate, square and
    transfer.

    False alarms: none for the samples whose class is not that of the grey image, which are counted
    in the finding: an input that breaks them is known. Where there are no two of them nothing is
    said, as of a model that has one answer for most images. That the attack misses as much at eps
    is inferred.

    Source: Carlini et al. 2019, arXiv:1902.06705, section 4: with a large budget accuracy must fall
    to that of guessing.
    """

    code = "large-eps-above-chance"
    group = Group.SEARCH
    says = "with half the box as budget no more than chance is left"
    of_the_attack = True
    otherwise = (
        "gradients lead this attack astray and may mislead the attacks of the plan: look for "
        "masked gradients, and run the transfer attack and square, which needs none"
    )

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.adversary_name == "mates":
            return "who controls no sample need not break every one"
        return exam.no_search

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        random = exam.facts.stochastic
        chance = 1 / exam.facts.classes + (EFFECT if random else 0.0)
        half = exam.allowed.with_eps(exam.whole_box.eps / 2)
        few = exam.no_fixed_answer is not None
        least = exam.held
        for threat in budgets(exam.allowed, half, few):
            standing = least > 0
            if few or threat == exam.wider:
                least = least.minimum(exam.held_under(threat))
            elif standing.any():  # what fell within less falls within more
                once = replace(exam.once, restarts=1)
                least = least.clone()
                least[standing] = exam.pilot.held(once, threat, exam.right[standing])
            exam.note_eps(threat, float(least.mean()))
        stuck = exam.right[least > 0.5]
        if float(least.mean()) <= chance or len(stuck) < FEWEST:
            return
        largest = half if half.eps > exam.allowed.eps else exam.allowed
        missed = int((_grey(exam, stuck) != exam.y[stuck]).sum())
        if missed < FEWEST:  # all are of the class of one image: there may be nothing to find
            return
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"{float(least.mean()):.1%} of {len(exam.right)} pilot samples stay right under "
            f"{largest}, more than chance, {1 / exam.facts.classes:.1%}; for {missed} of those "
            f"{len(stuck)} the grey image, which is allowed, is taken for another class",
            remedy="the attack misses what is there, and may miss as much at eps: look for masked "
            "gradients, use restarts, loss=margin, a surrogate, square or the transfer attack",
            figures={
                "eps": largest.eps,
                "accuracy": float(least.mean()),
                "chance": 1 / exam.facts.classes,
                "missed": float(missed),
                "samples": float(len(exam.right)),
            },
            samples=tuple(exam.samples[stuck].tolist()),
        )


def budgets(threat: ThreatModel, largest: ThreatModel, few: bool = False) -> list[ThreatModel]:
    """Twice the budget, four times and so on, below ``largest``, and that; ``few``: that alone.

    >>> [one.eps for one in budgets(ThreatModel.parse("linf:.1"), ThreatModel.parse("linf:.5"))]
    [0.2, 0.4, 0.5]
    """
    if threat.eps >= largest.eps:
        return []
    found = []
    eps = 2 * threat.eps
    while not few and eps < largest.eps:
        found.append(threat.with_eps(eps))
        eps *= 2
    return [*found, largest]


def _grey(exam: Examination, rows: Tensor) -> Tensor:
    """What the middle of the box is taken for, int64 of shape (rows,)."""
    threat = exam.allowed
    grey = torch.full_like(exam.x[rows], (threat.low + threat.high) / 2)
    return exam.call(grey, exam.pilot.streams("grey", rows)).argmax(1)
