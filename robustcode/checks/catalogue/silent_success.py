"""An attack meets an adversarial input on its way and returns another."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from robustcode.attacks.base import Attack
from robustcode.attacks.peers import Peer
from robustcode.budget import Budget, BudgetSpent, Witness
from robustcode.checks.base import CHECKS, Check, Group, Untested
from robustcode.checks.examination import Examination
from robustcode.errors import RobustcodeError
from robustcode.findings import Finding, Severity
from robustcode.plan import PlannedAttack
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger, answerable

# Pilot samples on which an attack is watched, and passes that it may spend on each.
ROWS = 8
PASSES = 200


@CHECKS.register("silent-success")
class SilentSuccess(Check):
    """An attack meets an adversarial input on its way and returns another.

    Raised when an attack of the plan that is not of this package asks about an allowed input which
    the defence gets wrong, and proposes one for the same sample which it gets right. Each is
    watched on eight pilot samples for 200 passes a sample at most, and not judged if it needs more.
    Made on deterministic defences. PGD of torchattacks and of foolbox return the last point of
    their path, whatever was on it.

    Why it matters: such a sample counts as robust, though the attack has broken it.

    What to do: return the best point of the path and not the last, or use the attack of the same
    name here, which does.

    False alarms: none; both inputs are known, and both are allowed.

    Source: silent success, Pintor et al. 2022, arXiv:2106.09947.
    """

    code = "silent-success"
    group = Group.SEARCH
    says = "attacks return what they find"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.threat is None:
            return exam.no_search
        if not any(is_foreign(planned.attack) for planned in exam.plan):
            return "every attack of the plan is one of this package, which returns the best it saw"
        if not exam.facts.differentiable:
            return "attacks follow a surrogate, whose answers are not the defence's"
        return exam.no_search or exam.no_fixed_answer

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        unfinished = []
        for planned in exam.plan:
            if not is_foreign(planned.attack):
                continue
            try:
                yield _watched(exam, planned)
            except (BudgetSpent, RobustcodeError) as cause:
                # What breaks its promises is named when it is run on all samples.
                spent = isinstance(cause, BudgetSpent)
                why = f"needs more than {PASSES} passes a sample" if spent else str(cause)
                unfinished.append(f"{planned.name} {why}")
        if unfinished:
            raise Untested("; ".join(unfinished))


def is_foreign(attack: Attack) -> bool:
    """Whether another library's, a plug-in's or the user's own."""
    return isinstance(attack, Peer) or not type(attack).__module__.startswith("robustcode.attacks.")


def _watched(exam: Examination, planned: PlannedAttack) -> Finding | None:
    """What one attack did on the first rows that are right without attack."""
    rows = exam.right[:ROWS]
    x, y, samples = exam.x[rows], exam.y[rows], exam.samples[rows]
    witness = Witness(x, y, samples, exam.allowed)
    ledger = Ledger(samples, budget=Budget(passes=PASSES * len(rows)))
    target = DefendedTarget(
        exam.search or exam.defense,
        ledger,
        stochastic=False,
        differentiable=exam.facts.differentiable,
        witness=witness,
    )
    streams = Streams.of(exam.seed, "silent success", samples).child(planned.name)
    try:
        with answerable(planned.name):
            x_adv = planned.attack.perturb(target, x.clone(), y.clone(), exam.allowed, streams)
        exam.allowed.check(x_adv, x, planned.name)
    finally:
        exam.ledger.charge(samples, ledger.forwards, ledger.backwards)
    # The judge has the last word on both.
    proposed = exam.pilot.verdict(x_adv, rows, "silent success").share_right(y)
    met = exam.pilot.verdict(witness.x_adv, rows, "silent success").share_right(y)
    silent = witness.found & (met <= 0) & (proposed > 0)
    if not silent.any():
        return None
    return Finding(
        code="silent-success",
        severity=Severity.WARNING,
        what=f"{planned.name} met inputs that break {int(silent.sum())} of {len(rows)} pilot "
        "samples on its way and proposed others, which do not",
        remedy="have it return the best point of its path and not the last; here pgd and apgd do",
        figures={
            "silent": float(silent.sum()),
            "found": float(witness.found.sum()),
            "samples": float(len(rows)),
        },
        samples=tuple(torch.sort(samples[silent]).values.tolist()),
    )
