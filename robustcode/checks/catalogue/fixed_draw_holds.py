"""With its randomness fixed and known, a defence holds more than the plain model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustcode.attacks.losses import LossName, margin
from robustcode.attacks.pgd import PGD
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.one_draw import OneDraw
from robustcode.checks.pilot import Pilot
from robustcode.findings import Finding, Severity
from robustcode.statistics import mcnemar
from robustcode.target import DefendedTarget
from robustcode.threat import ThreatModel

# Steps of the attacks on one known draw and on the plain model.
STEPS = 20
# The smallest difference in accuracy worth a finding.
EFFECT = 0.1


@CHECKS.register("fixed-draw-holds")
class FixedDrawHolds(Check):
    """With its randomness fixed and known it holds more than the plain model.

    Raised when, of pilot samples that both get right, PGD leaves more right of one draw that it
    knows than of the model without defence, by ten points and by more than paired noise allows
    (one-sided exact McNemar at 5 %).

    Why it matters: a known draw is a plain network, so if it holds either its gradient misleads,
    and with it every attack on the defence, or the defence helps without being random.

    What to do: try ``transfer``, a surrogate, the margin loss, more steps; evaluate the defence
    with its randomness fixed, as a defence of its own.

    False alarms: 5 % at most where a draw and the plain model break samples independently and
    alike.

    Source: Lucas et al. 2023, Randomness in ML Defenses Helps Persistent Attackers and Hinders
    Evaluators, who ask for a deterministic version beside the random one; Carlini et al. 2019,
    arXiv:1902.06705, section 4.
    """

    code = "fixed-draw-holds"
    group = Group.RANDOMNESS
    says = "with its randomness known it holds no more than the plain model"
    of_the_attack = True

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.stochastic and exam.calls.unsteady.any():
            return "its randomness does not come from the streams, so that no draw is known"
        return exam.no_search or exam.no_randomness or exam.no_plain_model

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        yield fixed_draw_holds(exam.pilot, exam.allowed, exam.right)


def fixed_draw_holds(pilot: Pilot, threat: ThreatModel, rows: Tensor) -> Finding | None:
    """The finding of FixedDrawHolds on some rows of a pilot."""
    one = OneDraw(inner=pilot.search, seed=pilot.seed)
    # From a target that is said to be random no broken sample leaves: it is still a batch mate.
    known = DefendedTarget(
        one, pilot.ledger, stochastic=pilot.together, differentiable=pilot.facts.differentiable
    )
    plain = known.undefended
    x, y = pilot.x[rows], pilot.y[rows]
    streams = pilot.streams("fixed draw", rows)
    standing = torch.ones(len(rows), dtype=torch.bool, device=x.device)
    right = []
    for target in (known, plain):
        attack = PGD(steps=STEPS, step=0.1, loss=LossName.MARGIN, held_out=1)
        x_adv = attack.perturb(target, x, y, threat, streams)
        standing &= margin(target.logits(x, streams), y) > 0
        right.append(margin(target.logits(x_adv, streams), y) > 0)
    held, fell = right[0] & standing, right[1] & standing
    count = int(standing.sum())
    if count == 0:
        return None
    if not holds_more(held, fell, count):
        return None
    return Finding(
        code="fixed-draw-holds",
        severity=Severity.WARNING,
        what=f"with one known draw {int(held.sum())} of {count} pilot samples stay right under "
        f"PGD, and of the model without defence {int(fell.sum())}: a known draw is a plain network",
        remedy="its gradient may mislead: try the transfer attack, loss=margin, more steps or "
        "square; if it truly holds, evaluate it with its randomness fixed",
        figures={
            "held": float(held.sum()),
            "plain": float(fell.sum()),
            "samples": float(count),
        },
        samples=tuple(pilot.samples[rows[held & ~fell]].tolist()),
    )


def holds_more(held: Tensor, fell: Tensor, count: int) -> bool:
    """Whether more of ``count`` samples are right of a known draw than of the plain model.

    ``held`` and ``fell``, bool of shape (samples,), say which are right of either.
    """
    more, fewer = int((held & ~fell).sum()), int((fell & ~held).sum())
    return more - fewer >= EFFECT * count and more > fewer and mcnemar(fewer, more) / 2 <= 0.05
