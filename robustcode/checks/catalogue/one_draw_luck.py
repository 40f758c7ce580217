"""What an evaluation by one lucky draw would report of the same defence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity
from robustcode.statistics import any_of
from robustcode.wording import counted

# Draws of which one wrong decision is enough for an evaluation that stops at the first; at most
# half of those that the judge makes, so that the estimate has some of them to choose from.
TRIES = 10
# The smallest difference in accuracy worth a finding.
EFFECT = 0.05


@CHECKS.register("one-draw-luck")
class OneDrawLuck(Check):
    """What an evaluation by one lucky draw would report of the same defence.

    Raised when the share of samples that ten draws all get right is five points below the mean
    share of right decisions, without attack or on what the pilot's attack proposes: as an info on
    numbers that others report, as a warning where the judge here makes one draw only.

    Why it matters: a tool that counts a sample as broken once any iterate was wrong in one draw
    reports the minimum over draws, which is low without any attack. Numbers of that kind are not to
    be compared with expected accuracies.

    What to do: compare expected accuracies, or any-of-k with the same k; say which one it is.

    False alarms: none; where decisions do not vary both are the same, and where they do each is
    estimated without bias from the judge's draws.

    Source: the research notes on attacks, section 4.1: 9 to 19 points too low without any attack;
    the estimate is Halmos', see statistics.any_of.
    """

    code = "one-draw-luck"
    group = Group.RANDOMNESS
    says = "whether one draw or the mean of many is reported makes no difference"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or exam.no_randomness

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        draws = exam.pilot.draws
        if draws == 1:
            yield Finding(
                code=self.code,
                severity=Severity.WARNING,
                what="the judge makes 1 draw for each proposal of a stochastic defence, so that "
                "every verdict is one of luck",
                remedy="judge by 20 draws or more",
                figures={"draws": 1.0, "samples": float(len(exam.right))},
            )
            return
        tries = min(TRIES, draws // 2)
        clean = exam.clean.share_right(exam.y)
        figures = {"tries": float(tries), "draws": float(draws), "samples": float(len(clean))}
        parts, gaps = [], []
        for name, share in (("without attack", clean), ("under the pilot's attack", exam.held)):
            mean, unlucky = float(share.mean()), lucky_break(share, draws, tries)
            gaps.append(mean - unlucky)
            error = one_draw_error(share)
            parts.append(
                f"{name}, on {counted(len(share), 'pilot sample')}, {mean:.1%} of decisions are "
                f"right (by one draw ± {error:.1%}), and "
                f"{unlucky:.1%} of samples in {tries} draws out of {tries}"
            )
            short = "clean" if share is clean else "attacked"
            figures |= {
                f"{short}_expected": mean,
                f"{short}_any": unlucky,
                f"{short}_one_draw_error": error,
            }
        # By the attack's own draws, along its way.
        figures["attacked_path"] = float(exam.course.right[-1])
        if max(gaps) < EFFECT:
            return
        yield Finding(
            code=self.code,
            severity=Severity.INFO,
            what="; ".join(parts) + "; numbers that count the worst draw are lower by up to "
            f"{100 * max(gaps):.1f} points",
            remedy="compare expected accuracies with expected accuracies; of a number from "
            "elsewhere ask how many draws and iterates could break a sample",
            figures=figures,
        )


def lucky_break(share: Tensor, draws: int, tries: int) -> float:
    """Share of samples that ``tries`` draws all get right, given shares of right ``draws``."""
    counts = (share * draws).round().long().tolist()
    return sum(any_of(count, draws, tries) for count in counts) / len(counts)


def one_draw_error(share: Tensor) -> float:
    """The standard deviation of an accuracy by one draw of each sample, the samples given."""
    return math.sqrt(float((share * (1 - share)).sum())) / len(share)
