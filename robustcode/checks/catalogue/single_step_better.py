"""One step breaks what many steps leave."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.attacks.fgsm import FGSM
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.pilot import stands_out
from robustcode.findings import Finding, Severity
from robustcode.statistics import mcnemar

# Smallest change of a stochastic defence's accuracy worth a finding.
EFFECT = 0.05


@CHECKS.register("single-step-better")
class SingleStepBetter(Check):
    """One step breaks what many steps leave.

    Raised when the fast gradient sign method, one step of the whole budget from the sample itself,
    breaks more pilot samples than the iterative attack does, by more than paired noise allows:
    one-sided exact McNemar at 5 % (five samples gained and none lost), or for a stochastic defence
    three standard errors and five points.

    Why it matters: whatever one step finds is within reach of many, so the iterative attack is led
    astray, by gradients that lie or by steps of the wrong length.

    What to do: look for masked gradients; try other step lengths, restarts, the margin loss, square
    and transfer.

    False alarms: 5 % at most where either attack breaks what the other leaves equally often; for a
    stochastic defence 1 % on eight samples and .5 % on sixteen, by Student's law, and 4 % at most
    where the judge makes one draw.

    Source: Carlini et al. 2019, arXiv:1902.06705, section 4; Athalye et al. 2018, arXiv:1802.00420,
    section 3.1.
    """

    code = "single-step-better"
    group = Group.SEARCH
    says = "one step breaks no more than many"
    of_the_attack = True
    otherwise = (
        "gradients lead this attack astray and may mislead the attacks of the plan: look for "
        "masked gradients, and run square, which needs none, and the transfer attack"
    )

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        exam.need_samples()
        held, rows = exam.held, exam.right
        if len(exam.survivors) == 0:
            return
        after = exam.pilot.held(FGSM(loss=exam.once.loss), exam.allowed, rows)
        if exam.facts.stochastic:
            certain = stands_out(held - after) and float((held - after).mean()) >= EFFECT
        else:
            gained, lost = int((after < held).sum()), int((after > held).sum())
            certain = gained > lost and mcnemar(lost, gained) / 2 <= 0.05
        if not certain:
            return
        many, one = float(held.mean()), float(after.mean())
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"one step of the whole budget leaves {one:.1%} of {len(rows)} pilot samples "
            f"right and PGD with {exam.once.steps} steps {many:.1%}, though many steps can do all "
            "that one does",
            remedy="the gradients mislead, or the steps are of the wrong length: try other step "
            "lengths, restarts, loss=margin, square or the transfer attack",
            figures={
                "accuracy": many,
                "single_step_accuracy": one,
                "steps": float(exam.once.steps),
                "samples": float(len(rows)),
            },
            samples=tuple(exam.samples[rows[after < held]].tolist()),
        )
