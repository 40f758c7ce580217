"""Samples survive an adversary who may use any image at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from robustcode.attacks.losses import LossName
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.defenses.base import ABSTAIN
from robustcode.findings import Finding, Severity

# Steps with the whole box as budget: each is a tenth of it, so 40 cross it four times over.
BOX_STEPS = 40
# What a stochastic defence may keep above chance.
EFFECT = 0.05


@CHECKS.register("whole-box-holds")
class WholeBoxHolds(Check):
    """Samples survive an adversary who may use any image at all.

    Raised when, with eps the whole box, neither cross-entropy nor the margin breaks every sample
    from a start at the sample itself (a random image would break most by itself and test no
    gradient); for a stochastic defence, when accuracy stays more than five points above chance,
    1 / classes. As a warning where every sample holds and no image of the pilot is taken for
    another class: nothing is known then that could break one.

    Why it matters: black, grey and every image of another class are within reach, so a sample
    that holds shows that the gradient around it leads astray, here and at any eps. Not always does
    that fool a random start: on a network known to mask its gradients (mnist_fgsm, l2) 40 steps
    from the sample left 5 of 32 right with the whole box, and none from a random start.

    What to do: look for masked gradients; use restarts; give a surrogate; try transfer.

    False alarms: none in the sense that what is said is true of the samples named; that gradients
    mislead at eps as well is inferred. A model that gives one answer whatever it sees has nothing
    that an attack could have found.

    Source: unconstrained attack failure, Pintor et al. 2022, arXiv:2106.09947.
    """

    code = "whole-box-holds"
    group = Group.SEARCH
    says = "with the whole box as budget every sample breaks"
    of_the_attack = True

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.threat is None:
            return exam.no_search
        if exam.adversary_name == "mates":
            return "who controls no sample need not break every one"
        return None if len(exam.right) else "no sample is right without attack"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        rows, pilot = exam.right, exam.pilot
        whole = exam.whole_box
        allowed = 1 / exam.facts.classes + EFFECT if exam.facts.stochastic else 0.0
        best = torch.ones(len(rows), dtype=torch.float64, device=rows.device)
        steps = max(exam.once.steps, BOX_STEPS)
        for loss in (LossName.CE, LossName.MARGIN):
            left = best > 0
            free = replace(
                exam.once, steps=steps, step=0.1, loss=loss, random_start=False, restarts=1
            )
            best[left] = best[left].minimum(pilot.held(free, whole, rows[left]))
            exam.note_eps(whole, float(best.mean()))
            if float(best.mean()) <= allowed:
                return
        stuck = rows[best > allowed]
        # Each clean image is in the box, so one that is taken for another class is a way out.
        clean = exam.clean.majority()
        others = (clean != ABSTAIN) & (clean != exam.y[stuck][:, None])
        reachable = int(others.any(1).sum())
        # A model that has one answer for all that was tried may have it for everything.
        known = reachable > 0 or len(stuck) < len(rows)
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE if known else Severity.WARNING,
            what=f"with the whole box as budget ({whole}) {float(best.mean()):.1%} of {len(rows)} "
            f"pilot samples stay right; for {reachable} of those {len(stuck)} an image of the "
            "pilot itself, which is allowed, is taken for another class",
            remedy="gradients at the samples mislead, so accuracies under gradient attacks may be "
            "too high at any eps: use restarts from random starts, a surrogate, the transfer "
            "attack or square, which needs no gradient",
            figures={
                "accuracy": float(best.mean()),
                "allowed": allowed,
                "held": float(len(stuck)),
                "reachable": float(reachable),
                "samples": float(len(rows)),
            },
            samples=tuple(exam.samples[stuck].tolist()),
        )
