"""Twice the budget breaks fewer samples."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.pilot import stands_out
from robustcode.findings import Finding, Severity
from robustcode.statistics import mcnemar

# Smallest change of accuracy worth a finding.
EFFECT = 0.05


@CHECKS.register("larger-eps-more-robust")
class LargerEpsMoreRobust(Check):
    """Twice the budget breaks fewer samples.

    Raised when more samples are right at 2 eps than at eps, by more than paired noise allows:
    one-sided exact McNemar at 5 % (five samples gained and none lost), or for a stochastic
    defence three standard errors and five points.

    Why it matters: whatever is allowed at eps is allowed at 2 eps, so the attack fails, and
    probably at eps as well.

    What to do: smaller steps, another loss, more restarts; look for masked gradients.

    False alarms: 5 % at most where the two budgets break samples independently and alike; for a
    stochastic defence 1 % on eight samples and .5 % on sixteen, by Student's law, and 4 % at
    most where the judge makes one draw.

    Source: Carlini et al. 2019, arXiv:1902.06705, section 4.
    """

    code = "larger-eps-more-robust"
    group = Group.SEARCH
    says = "twice the eps breaks no fewer samples"
    of_the_attack = True
    otherwise = (
        "gradients lead this attack astray and may mislead the attacks of the plan: look for "
        "masked gradients, and run the transfer attack and square, which needs none"
    )

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or (None if exam.wider else "no larger budget is left in the box")

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        exam.need_samples()
        threat, wider, rows = exam.allowed, exam.wider, exam.right
        assert wider is not None
        held, after = exam.held, exam.held_under(wider)
        if not more_hold(held, after, exam.facts.stochastic):
            return
        narrow, wide = float(held.mean()), float(after.mean())
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"of {len(rows)} pilot samples {wide:.1%} are right under {wider} and only "
            f"{narrow:.1%} under {threat}, though the larger budget allows all that the smaller "
            "does",
            remedy="the attack fails: try smaller steps, loss=margin, restarts or the transfer "
            "attack, and look for masked gradients",
            figures={
                "eps": threat.eps,
                "accuracy": narrow,
                "larger_eps": wider.eps,
                "larger_eps_accuracy": wide,
                "samples": float(len(rows)),
            },
            samples=tuple(exam.samples[rows[after > held]].tolist()),
        )


def more_hold(held: Tensor, after: Tensor, stochastic: bool) -> bool:
    """Whether more hold ``after`` than before, (samples,) each, by more than paired noise."""
    gain = after - held
    if stochastic:
        return stands_out(gain) and float(gain.mean()) >= EFFECT
    gained, lost = int((gain > 0).sum()), int((gain < 0).sum())
    return gained > lost and mcnemar(lost, gained) / 2 <= 0.05
