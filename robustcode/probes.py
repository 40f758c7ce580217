"""Attacks on a few samples that test the evaluation itself, before it is run on all of them.

Source of the checks: Carlini et al. 2019, arXiv:1902.06705, section 4, and the indicators of
Pintor et al. 2022, arXiv:2106.09947.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.losses import LossName
from robustcode.attacks.pgd import PGD
from robustcode.defenses.base import ABSTAIN, Defense
from robustcode.findings import Facts, Finding, Severity
from robustcode.gates import draws_too_few, fixed_draw_holds, pilot_behind_transfer
from robustcode.pilot import FEWEST_NOISY, Pilot, stands_out
from robustcode.statistics import mcnemar
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import ThreatModel

# How many times the steps the convergence check takes.
LONGER = 5
# Steps it may cost on all samples together, times draws and restarts: 12 samples of PGD-40. A
# stochastic defence pays them in full, since nothing leaves the batch there.
LONGER_COST = 2400
# With fewer samples than this, even half of them changing would be two.
FEWEST = 4
# Smallest change of accuracy worth a finding.
EFFECT = 0.05
# Steps with the whole box as budget: each is a tenth of it, so 40 cross it four times over.
BOX_STEPS = 40
# Samples and held-out draws of a stochastic pilot, where nothing leaves the batch.
STOCHASTIC_SAMPLES = 16
HELD_OUT = 8


class ProbeResult(NamedTuple):
    """What the pilot found, and the passes it spent on all samples together."""

    findings: tuple[Finding, ...]
    forwards: int
    backwards: int


def probe(
    defense: Defense,
    search: Defense,
    facts: Facts,
    x: Tensor,
    y: Tensor,
    samples: Tensor,
    threat: ThreatModel,
    seed: int,
    attack: PGD,
    draws: int,
    planned: bool = True,
    together: bool = False,
) -> ProbeResult:
    """Run ``attack`` on pilot samples as it is, longer, with twice the budget, and without limit.

    ``x``, ``y`` and ``samples`` are the pilot's inputs, labels and indices in the split; only
    those the defence gets right are attacked. ``search`` is a faster copy of ``defense`` that is
    searched; ``defense`` itself is judged, on ``draws`` fresh draws if it is stochastic.
    ``planned`` is whether ``attack`` is one of those that are run afterwards, ``together`` whether
    the pilot is one batch that is attacked as a whole.

    For PGD with S steps and a deterministic defence a sample costs at most S steps as it is, S
    with twice the budget, and the longer runs 12/32 of 5 S on average over 32 samples: for S = 40
    up to 155 forward and as many backward passes, and half of that or less where samples break;
    a defence that holds with the whole box adds 80. Restarts multiply this. For a stochastic one
    and 20 judge's draws it is 340 and 195 on average over 32 samples, the judge's part times
    ``votes``.
    """
    ledger = Ledger(samples.sort().values)
    target = DefendedTarget(
        search,
        ledger,
        # Nobody leaves a shared batch when broken: the others' scores would be of another one.
        stochastic=facts.stochastic or together,
        differentiable=facts.differentiable,
    )
    pilot = Pilot(defense, search, target, ledger, facts, x, y, samples, seed, draws, together)
    clean = pilot.verdict(x, torch.arange(len(x), device=x.device), "probe clean")
    right = (clean.share_right(y) > 0.5).nonzero().squeeze(1)
    if facts.stochastic:
        right = right[:STOCHASTIC_SAMPLES]
        # The plan's draws matter to whether it converges, which is tested with them.
        once = replace(attack, draws=1, restarts=1, held_out=min(attack.held_out, HELD_OUT))
    else:
        once = replace(attack, until_broken=True)
    findings: list[Finding | None] = []
    if len(right):
        if threat.eps > 0:
            held = pilot.held(once, threat, right)
            findings.append(_larger_eps_more_robust(pilot, once, threat, right, held))
            findings.append(_not_converged(pilot, attack, once, threat, right, held))
            if facts.stochastic:
                findings.append(draws_too_few(pilot, attack, threat, right))
                if facts.adversary != "mates":  # there is no plain model of other users' images
                    findings.append(fixed_draw_holds(pilot, threat, right))
                    findings.append(pilot_behind_transfer(pilot, threat, right, held))
        if facts.adversary != "mates":  # who controls no sample need not break every one
            findings.append(_whole_box_holds(pilot, once, threat, right, clean.majority()))
    raised = [finding for finding in findings if finding is not None]
    if not planned:
        raised = [_of_the_pilot(finding, attack) for finding in raised]
    return ProbeResult(
        tuple(raised),
        int(ledger.forwards.sum()),
        int(ledger.backwards.sum()),
    )


# What to do about a finding where the attack that was tried is not one of those that are run.
OTHERWISE = {
    "larger-eps-more-robust": "gradients lead this attack astray and may mislead the attacks of "
    "the plan: look for masked gradients, and run the transfer attack and square, which needs none",
    "not-converged": "attacks with few steps may stop too early here: give those of the plan more "
    "steps or restarts, until more change nothing",
    "convergence-untested": "run the attacks of the plan once with more steps beside them",
}


def _of_the_pilot(finding: Finding, attack: PGD) -> Finding:
    """The finding, said of a pilot that the plan does not contain."""
    return replace(
        finding,
        what=f"in a pilot of PGD with {attack.steps} steps, which is not among the attacks of this "
        f"run, {finding.what}",
        remedy=OTHERWISE.get(finding.code, finding.remedy),
    )


def _larger_eps_more_robust(
    pilot: Pilot, attack: PGD, threat: ThreatModel, rows: Tensor, held: Tensor
) -> Finding | None:
    """``larger-eps-more-robust``: twice the budget breaks fewer samples.

    Raised when more samples are right at 2 eps than at eps, by more than paired noise allows:
    one-sided exact McNemar at 5 % (five samples gained and none lost), or for a stochastic
    defence three standard errors and five points. Why it matters: whatever is allowed at eps is
    allowed at 2 eps, so the attack fails, and probably at eps as well. What to do: smaller steps,
    another loss, more restarts; look for masked gradients.
    """
    wider = threat.with_eps(min(2 * threat.eps, threat.whole_box(pilot.x[0].numel())))
    if wider.eps <= threat.eps:
        return None
    after = pilot.held(attack, wider, rows)
    if pilot.facts.stochastic:
        certain = stands_out(after - held) and float((after - held).mean()) >= EFFECT
    else:
        gained, lost = int((after > held).sum()), int((after < held).sum())
        certain = gained > lost and mcnemar(lost, gained) / 2 <= 0.05
    if not certain:
        return None
    gained_rows = rows[after > held]
    narrow, wide = float(held.mean()), float(after.mean())
    return Finding(
        code="larger-eps-more-robust",
        severity=Severity.WARNING,
        what=f"of {len(rows)} pilot samples {wide:.1%} are right under {wider} and only "
        f"{narrow:.1%} under {threat}, though the larger budget allows all that the smaller does",
        remedy="the attack fails: try smaller steps, loss=margin, restarts or the transfer "
        "attack, and look for masked gradients",
        figures={
            "eps": threat.eps,
            "accuracy": narrow,
            "larger_eps": wider.eps,
            "larger_eps_accuracy": wide,
            "samples": float(len(rows)),
        },
        samples=tuple(pilot.samples[gained_rows].tolist()),
    )


def _not_converged(
    pilot: Pilot, attack: PGD, once: PGD, threat: ThreatModel, rows: Tensor, held: Tensor
) -> Finding | None:
    """``not-converged``: more steps still help.

    Raised when five times the steps break two or more of the samples tried, and five points or
    more of the accuracy on what is right without attack. For a deterministic defence only samples
    still right are tried, and the longer run goes on from the shorter: what it adds is no noise.
    If it truly adds 1 % of them, two of twelve show it in one run of 150. For a stochastic one
    both runs are judged on the same draws and must differ by three standard errors.

    Why it matters: the accuracy reported is one of the attack's patience. What to do: raise
    ``steps`` until nothing changes.

    ``convergence-untested`` (info) says that the check was too dear: steps times restarts above
    120, or for a stochastic defence steps times restarts times draws above 60.
    """
    draws = attack.draws if pilot.facts.stochastic else 1
    affordable = LONGER_COST // (LONGER * attack.steps * draws * attack.restarts)
    if affordable < (FEWEST_NOISY if pilot.facts.stochastic else FEWEST):
        return _convergence_untested(attack, draws)
    standing = torch.ones_like(held, dtype=torch.bool) if pilot.facts.stochastic else held > 0
    tried = rows[standing][:affordable]
    if len(tried) == 0:
        return None
    before = held[standing][:affordable]
    if pilot.facts.stochastic:
        attack = replace(attack, held_out=once.held_out)
        before = before if attack == once else pilot.held(attack, threat, tried)
    else:
        attack = once
    longer = replace(attack, steps=LONGER * attack.steps)
    after = pilot.held(longer, threat, tried)
    gain = before - after
    # What was not tried because it was broken already cannot be gained.
    points = float(gain.mean() * standing.double().mean())
    certain = stands_out(gain) if pilot.facts.stochastic else float(gain.sum()) >= 2
    if not certain or points < EFFECT:
        return None
    newly = tried[gain > 0]
    return Finding(
        code="not-converged",
        severity=Severity.WARNING,
        what=f"{longer.steps} steps instead of {attack.steps} take a further {float(gain.sum()):g} "
        f"of {len(tried)} pilot samples, or {points:.1%} of those right without attack",
        remedy=f"use steps={longer.steps} or more, until more steps change nothing",
        figures={
            "steps": float(attack.steps),
            "longer_steps": float(longer.steps),
            "tried": float(len(tried)),
            "broken": float(gain.sum()),
            "accuracy": points,
        },
        samples=tuple(pilot.samples[newly].tolist()),
    )


def _convergence_untested(attack: PGD, draws: int) -> Finding:
    cost = attack.steps * draws * attack.restarts
    return Finding(
        code="convergence-untested",
        severity=Severity.INFO,
        what=f"whether more steps would break more was not tested: one sample costs {cost} steps "
        f"already, and {LONGER} times that is too dear for a pilot",
        remedy=f"run the attack once with steps={LONGER * attack.steps} beside this one",
        figures={"steps": float(attack.steps), "cost": float(cost)},
    )


def _whole_box_holds(
    pilot: Pilot, attack: PGD, threat: ThreatModel, rows: Tensor, clean: Tensor
) -> Finding | None:
    """``whole-box-holds``: samples survive an adversary who may use any image at all.

    Raised when, with eps the whole box, neither cross-entropy nor the margin breaks every sample
    from a start at the sample itself (a random image would break most by itself and test no
    gradient); for a stochastic defence, when accuracy stays more than five points above chance,
    1 / classes.

    Why it matters: black, grey and every image of another class are within reach, so a sample
    that holds shows that the gradient around it leads astray, here and at any eps. Not always does
    that fool a random start: on a network known to mask its gradients (mnist_fgsm, l2) 40 steps
    from the sample left 5 of 32 right with the whole box, and none from a random start. What to
    do: look for masked gradients; use restarts; give a surrogate; try transfer.

    Source: "unconstrained attack failure", Pintor et al. 2022, arXiv:2106.09947.
    """
    whole = threat.with_eps(threat.whole_box(pilot.x[0].numel()))
    allowed = 1 / pilot.facts.classes + EFFECT if pilot.facts.stochastic else 0.0
    best = torch.ones(len(rows), dtype=torch.float64, device=rows.device)
    steps = max(attack.steps, BOX_STEPS)
    for loss in (LossName.CE, LossName.MARGIN):
        left = best > 0
        free = replace(attack, steps=steps, step=0.1, loss=loss, random_start=False, restarts=1)
        best[left] = best[left].minimum(pilot.held(free, whole, rows[left]))
        if float(best.mean()) <= allowed:
            return None
    stuck = rows[best > allowed]
    # Each clean image is in the box, so one that is taken for another class is a way out.
    others = (clean != ABSTAIN) & (clean != pilot.y[stuck][:, None])
    reachable = int(others.any(1).sum())
    return Finding(
        code="whole-box-holds",
        severity=Severity.FAILURE,
        what=f"with the whole box as budget ({whole}) {float(best.mean()):.1%} of {len(rows)} "
        f"pilot samples stay right; for {reachable} of those {len(stuck)} an image of the pilot "
        "itself, which is allowed, is taken for another class",
        remedy="gradients at the samples mislead, so accuracies under gradient attacks may be too "
        "high at any eps: use restarts from random starts, a surrogate, the transfer attack or "
        "square, which needs no gradient",
        figures={
            "accuracy": float(best.mean()),
            "allowed": allowed,
            "held": float(len(stuck)),
            "reachable": float(reachable),
            "samples": float(len(rows)),
        },
        samples=tuple(pilot.samples[stuck].tolist()),
    )
