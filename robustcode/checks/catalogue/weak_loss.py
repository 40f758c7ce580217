"""Another loss breaks much of what the attack's own left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from robustcode.attacks.losses import LossName
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding
from robustcode.statistics import mcnemar

# Samples that the other loss must break and the own must not, for the test to reach 5 %.
FEWEST = 5
# Losses differ by a few points on honest networks: what is worth a finding is more.
EFFECT = 0.1


@CHECKS.register("weak-loss")
class WeakLoss(Check):
    """Another loss breaks much of what the attack's own left.

    Raised when PGD breaks more pilot samples by the margin than by cross-entropy, or whichever the
    plan raises, from the same starts with the same steps: by ten points of what is right without
    attack, and by more than paired noise allows (one-sided exact McNemar at 5 %: five gained and
    none lost). A plan that raises the margin, or a ratio of it, is held against cross-entropy. Made
    on deterministic defences. A failure where no other attack of the plan searches.

    Why it matters: the loss is no part of the defence. What another one breaks is broken, and the
    accuracy under this one is that of the loss.

    What to do: attack with both losses, and with targets.

    False alarms: 5 % at most where either loss breaks what the other leaves equally often.

    Source: vanishing gradients, Carlini and Wagner 2017, arXiv:1608.04644; Croce and Hein 2020,
    arXiv:2003.01690, section 4; other losses, Carlini et al. 2019, arXiv:1902.06705.
    """

    code = "weak-loss"
    group = Group.SEARCH
    says = "another loss adds little"
    of_the_attack = True
    otherwise = "mind which losses the attacks of the plan raise: one of both kinds should be there"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or exam.no_fixed_answer

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        own, rows = exam.once, exam.survivors
        if len(rows) < max(FEWEST, EFFECT * len(exam.right)):
            return
        other = LossName.MARGIN if own.loss is LossName.CE else LossName.CE
        attack = replace(own, loss=other)
        fell = exam.pilot.held(attack, exam.allowed, rows) <= 0
        gained = int(fell.sum())
        if gained < max(FEWEST, EFFECT * len(exam.right)):
            return
        # Only now is it worth asking what the other one leaves of what was broken.
        broken = exam.right[exam.held <= 0.5]
        lost = int((exam.pilot.held(attack, exam.allowed, broken) > 0).sum()) if len(broken) else 0
        if gained - lost < EFFECT * len(exam.right) or mcnemar(lost, gained) / 2 > 0.05:
            return
        samples = exam.samples[rows[fell]]
        yield Finding(
            code=self.code,
            severity=exam.gravity(gained - lost),
            what=f"PGD with loss={other} breaks {gained} of {len(exam.right)} pilot samples that "
            f"it leaves right with loss={own.loss}, and the other way round {lost}",
            remedy=f"attack with loss={other}, and with targeted attacks",
            figures={
                "gained": float(gained),
                "lost": float(lost),
                "survivors": float(len(rows)),
                "samples": float(len(exam.right)),
            },
            samples=tuple(torch.sort(samples).values.tolist()),
        )
