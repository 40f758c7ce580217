"""More steps still help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.pilot import FEWEST_NOISY, stands_out
from robustcode.findings import Finding, Severity

# How many times the steps the check takes.
LONGER = 5
# Steps it may cost on all samples together, times draws and restarts: 12 samples of PGD-40. A
# stochastic defence pays them in full, since nothing leaves the batch there.
LONGER_COST = 2400
# With fewer samples than this, even half of them changing would be two.
FEWEST = 4
# Smallest change of accuracy worth a finding.
EFFECT = 0.05


@CHECKS.register("not-converged")
class NotConverged(Check):
    """More steps still help.

    Raised when five times the steps break two or more of the samples tried, and five points or
    more of the accuracy on what is right without attack. For a deterministic defence only samples
    still right are tried, and the longer run goes on from the shorter: what it adds is no noise.
    If it truly adds 1 % of them, two of twelve show it in one run of 150. For a stochastic one
    both runs are judged on the same draws and must differ by three standard errors. An info,
    ``convergence-untested``, says that the check was too dear: steps times restarts above 120, or
    for a stochastic defence steps times restarts times draws above 60.

    Why it matters: the accuracy reported is one of the attack's patience.

    What to do: raise ``steps`` until nothing changes.

    False alarms: an attack that truly gains 1 % of what stands is said to gain more in one run of
    150; one that gains nothing never is. On a stochastic defence chance shows a gain in 1 % of runs
    on eight samples and in .5 % on sixteen, by Student's law, and in 4 % at most where the judge
    makes one draw.

    Source: Carlini et al. 2019, arXiv:1902.06705, section 4; incomplete optimisation, Pintor et
    al. 2022, arXiv:2106.09947.
    """

    code = "not-converged"
    group = Group.SEARCH
    says = "five times the steps break no more"
    also = ("convergence-untested",)
    of_the_attack = True
    otherwise = (
        "attacks with few steps may stop too early here: give those of the plan more steps or "
        "restarts, until more change nothing"
    )

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        exam.need_samples()
        attack, once, held, rows = exam.attack, exam.once, exam.held, exam.right
        stochastic = exam.facts.stochastic
        draws = attack.draws if stochastic else 1
        affordable = LONGER_COST // (LONGER * attack.steps * draws * attack.restarts)
        if affordable < (FEWEST_NOISY if stochastic else FEWEST):
            yield _untested(attack.steps, draws * attack.restarts, exam.planned)
            return
        standing = torch.ones_like(held, dtype=torch.bool) if stochastic else held > 0
        tried = rows[standing][:affordable]
        if len(tried) == 0:
            return
        before = held[standing][:affordable]
        if stochastic:
            attack = replace(attack, held_out=once.held_out)
            before = before if attack == once else exam.pilot.held(attack, exam.allowed, tried)
        else:
            attack = once
        longer = replace(attack, steps=LONGER * attack.steps)
        after = exam.pilot.held(longer, exam.allowed, tried)
        gain = before - after
        exam.note_steps(longer.steps, standing, held, gain)
        # What was not tried because it was broken already cannot be gained.
        points = float(gain.mean() * standing.double().mean())
        if not breaks_more(gain, points, stochastic):
            return
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"{longer.steps} steps instead of {attack.steps} take a further "
            f"{float(gain.sum()):g} of {len(tried)} pilot samples, or {points:.1%} of those right "
            "without attack",
            remedy=f"use steps={longer.steps} or more, until more steps change nothing",
            figures={
                "steps": float(attack.steps),
                "longer_steps": float(longer.steps),
                "tried": float(len(tried)),
                "broken": float(gain.sum()),
                "accuracy": points,
            },
            samples=tuple(exam.samples[tried[gain > 0]].tolist()),
        )


def breaks_more(gain: Tensor, points: float, stochastic: bool) -> bool:
    """Whether longer runs break more, by what each sample tried lost, (samples,).

    ``points`` is the loss of accuracy on all that is right without attack.
    """
    certain = stands_out(gain) if stochastic else float(gain.sum()) >= 2
    return certain and points >= EFFECT


def _untested(steps: int, times: int, planned: bool) -> Finding:
    remedy = f"run the attack once with steps={LONGER * steps} beside this one"
    return Finding(
        code="convergence-untested",
        severity=Severity.INFO,
        what=f"whether more steps would break more was not tested: one sample costs "
        f"{steps * times} steps already, and {LONGER} times that is too dear for a pilot",
        remedy=remedy
        if planned
        else "run the attacks of the plan once with more steps beside them",
        figures={"steps": float(steps), "cost": float(steps * times)},
    )
