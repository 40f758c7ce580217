"""What an evaluation would report whose attack does not see the detector."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity
from robustcode.statistics import mcnemar
from robustcode.target import DefendedTarget

# The smallest difference in accuracy worth a finding.
EFFECT = 0.1


@CHECKS.register("detector-unseen")
class DetectorUnseen(Check):
    """An attack that does not see the detector is refused where one that sees it is not.

    Raised when the pilot's attack on the scores alone leaves ten points more right or refused than
    the same attack on what is wrong and accepted, and more than chance allows (one-sided exact
    McNemar at 5 %). An info: the attacks here see the detector.

    Why it matters: numbers of other evaluations of such a defence may be too high by as much.

    What to do: distrust an evaluation whose attack does not take the rejection into its loss.

    False alarms: 5 % at most where both attacks break samples independently and alike.

    Source: Tramer et al. 2020, arXiv:2002.08347.
    """

    code = "detector-unseen"
    group = Group.SEARCH
    says = "the attack gains little by seeing the detector"
    of_the_attack = True

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or (None if exam.facts.detector else "the defence refuses nothing")

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        rows, y = exam.right, exam.y[exam.right]
        unaware = DefendedTarget(
            exam.search or exam.defense,
            exam.ledger,
            stochastic=exam.target.stochastic,
            differentiable=exam.facts.differentiable,
        )
        streams = exam.pilot.streams("probe", rows)
        x_adv = exam.once.perturb(unaware, exam.x[rows], y, exam.allowed, streams)
        held = exam.pilot.verdict(x_adv, rows, "probe judge").share_right(y)
        # Of a random detector each is what most of its decisions are.
        more = int(((held > 0.5) & (exam.held <= 0.5)).sum())
        fewer = int(((held <= 0.5) & (exam.held > 0.5)).sum())
        if more - fewer < EFFECT * len(rows) or mcnemar(fewer, more) / 2 > 0.05:
            return
        yield Finding(
            code=self.code,
            severity=Severity.INFO,
            what=f"an attack that does not see the detector leaves {float(held.mean()):.1%} of "
            f"{len(rows)} pilot samples right or refused, and one that sees it "
            f"{float(exam.held.mean()):.1%}",
            remedy="distrust evaluations of this defence whose attack ignores its rejection; the "
            "attacks here see it",
            figures={
                "unseen": float(held.mean()),
                "seen": float(exam.held.mean()),
                "samples": float(len(rows)),
            },
        )
