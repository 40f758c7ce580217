"""Findings answered: attacks that get further where the planned ones were led astray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from robustcode.attacks import ATTACKS
from robustcode.attacks.losses import LossName
from robustcode.attacks.pgd import PGD
from robustcode.checks import Examination
from robustcode.checks.catalogue.whole_box_holds import BOX_STEPS, EFFECT
from robustcode.checks.pilot import stands_out
from robustcode.components import Component, Scalar
from robustcode.findings import Finding, Severity
from robustcode.gradients import draws_for
from robustcode.mending import TOGETHER, WAYS, applicable, is_stochastic
from robustcode.summary import ANSWERED
from robustcode.threat import Norm

# Steps with which a change is tried on the pilot, and steps and starts of the attack that is added
# for it.
TRIED, ADDED, STARTS = 20, 100, 2
# Inputs on which ways of mending are tried, and draws of one that is random itself.
EXAMPLES, BLURRED = 8, 8
# Passes, forward and backward, that all trials may cost for each pilot sample.
COST = 6000
QUERIES = 500
# Accuracy that is as good as none: chance with ten classes.
HARDLY = 0.1

Prescription = Callable[[Examination], Iterator[Component]]


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A change of the evaluation that was tried on the pilot.

    Attributes:
        finding: codes of the findings that asked for it, with commas.
        change: the attack that was tried.
        before: accuracy on the pilot samples that are right without attack, by all before it.
        after: the same by it as well.
        samples: how many they are.
        kept: whether it is added to the attacks of the run, with more steps.
        frees: with the whole box as budget the gradient that it follows leads from every sample
            that stands to another class, or no sample stands.
    """

    finding: str
    change: str
    before: float
    after: float
    samples: int
    kept: bool
    frees: bool = False


def faces(exam: Examination) -> Iterator[Component]:
    """The gradient made anew in every way that works on this defence."""
    rows = exam.right[:EXAMPLES]
    streams, tried = exam.streams[rows], len(WAYS) + len(TOGETHER)
    # Each is asked for scores twice and for a gradient.
    forwards, backwards = exam.defense.forwards(streams), exam.defense.backwards(streams)
    exam.ledger.charge(streams.samples, 2 * tried * forwards, tried * backwards)
    for way in applicable(exam.defense, exam.x[rows]):
        draws = max(_draws(exam), BLURRED if is_stochastic(way) else 1)
        settings: dict[str, Scalar] = {
            "way": way,
            "attack": "apgd-margin",
            "steps": TRIED,
            "draws": draws,
        }
        yield Component("mended", settings)


def losses(exam: Examination) -> Iterator[Component]:
    """Other losses than the one that was followed."""
    for loss in ("margin", "dlr", "ce"):
        if loss == "dlr" and exam.facts.classes < 4:
            continue
        if loss != str(exam.attack.loss):
            draws = _draws(exam)
            yield Component("pgd", {"steps": 2 * TRIED, "step": 0.1, "loss": loss, "draws": draws})


def patience(exam: Examination) -> Iterator[Component]:
    """More steps, shorter ones, and more starts."""
    draws: dict[str, Scalar] = {"draws": _draws(exam)}
    yield Component("pgd", {"steps": 10 * TRIED, "step": 0.05, "loss": "margin", **draws})
    if not exam.stochastic:
        yield Component("apgd-margin", {"steps": 2 * TRIED, "restarts": 5})


def more_draws(exam: Examination) -> Iterator[Component]:
    """Four times the draws that the measured noise asks for."""
    if exam.stochastic:
        draws = 4 * _draws(exam)
        yield Component("pgd", {"steps": 2 * TRIED, "loss": "margin", "draws": draws})


def moved(exam: Examination) -> Iterator[Component]:
    """What the plain model inside is broken by, and a start from there."""
    if exam.no_plain_model is None:
        yield Component("transfer", {"steps": 2 * TRIED})
        yield Component("transfer-pgd", {"steps": 2 * TRIED, "draws": _draws(exam)})


def blind(exam: Examination) -> Iterator[Component]:
    """A search that needs no gradient."""
    settings: dict[str, Scalar] = {"queries": QUERIES, **({"draws": 4} if exam.stochastic else {})}
    yield Component("square", settings)


EVERYTHING: tuple[Prescription, ...] = (losses, faces, moved, more_draws, patience, blind)
# What is tried first for a finding; a check that is not here gets everything, in this order.
PRESCRIBED: dict[str, tuple[Prescription, ...]] = {
    "declared-differentiable": (faces, moved, blind, patience),
    "missing-gradient": (faces, moved, blind, patience),
    "zero-gradient": (faces, moved, blind, patience),
    "vanishing-loss": (losses, faces, patience, blind),
    "weak-loss": (losses, faces),
    "not-converged": (patience, losses),
    "loss-still-rising": (patience, losses),
    "behind-transfer": (moved, faces, more_draws, patience),
    "draws-too-few": (more_draws,),
    "noisy-gradient": (more_draws, moved, blind),
    "gradient-free-better": (faces, moved, patience, blind),
}
# Findings that no attack answers: about the numbers' meaning, or about what is declared.
LEFT = frozenset(
    {
        # model and data
        "train-mode",
        "inputs-outside-box",
        "non-finite-logits",
        "one-class",
        "duplicated-samples",
        "mislabelled-samples",
        # declared against tested
        "declared-stochastic",
        "declared-deterministic",
        "declared-uncoupled",
        "declared-detector",
        "declared-decisive",
        "declared-rejection",
        "passes-undeclared",
        "state-changed",
        "adapts-at-test-time",
        # what a verdict is
        "not-reproducible",
        "null-test",
        "one-draw-luck",
        "silent-success",
        "batch-size-matters",
        "order-matters",
        "mates-matter",
        "label-leakage",
        "cross-gradient",
    }
)


# Findings after which no gradient is to be relied on alone.
MISLED = frozenset(
    {
        "declared-differentiable",
        "missing-gradient",
        "zero-gradient",
        "non-finite-gradient",
        "unstable-loss",
        "whole-box-holds",
        "large-eps-above-chance",
        "gradient-free-better",
    }
)


def repair(exam: Examination, findings: Sequence[Finding]) -> list[Repair]:
    """Try what the findings of a pilot ask for, until nothing stands or the budget is spent.

    A change is kept where it breaks a sample that all before it left standing; of a stochastic
    defence, where it gains three standard errors. Trials cost ``COST`` passes a sample at most.
    """
    asked = {found.code: found for found in findings if _asks(found)}
    if not asked or exam.no_search is not None or exam.adversary_name != "solo":
        return []
    candidates: dict[str, list[str]] = {}
    prescribed = cache(lambda prescription: [str(component) for component in prescription(exam)])
    for code in asked:
        for prescription in PRESCRIBED.get(code, EVERYTHING):
            for change in prescribed(prescription):
                candidates.setdefault(change, []).append(code)
    trial = _Trial(exam)
    tried = []
    for change, codes in candidates.items():
        if trial.over:
            break
        found = trial.attempt(Component.parse(change), ", ".join(codes))
        if found is not None:
            tried.append(found)
    return [trial.freed(one) if one.kept else one for one in tried]


def remedies(repairs: Sequence[Repair], norm: Norm) -> tuple[str, ...]:
    """The attacks that are added for the repairs that were kept, as they are named.

    Where gradients were found to mislead and a pilot sample stands after all that was tried, two
    searches without gradients go with them, one of which asks for decisions alone: what was mended
    may mislead yet.
    """
    kept = [_stronger(Component.parse(one.change)) for one in repairs if one.kept]
    misled = any(MISLED & set(one.finding.split(", ")) for one in repairs)
    if kept and misled and repairs[-1].after > 0:
        blind = Component("square", {"queries": 10 * QUERIES}), Component("hopskipjump")
        taken = [one.name for one in kept]
        known = (one for one in blind if norm in ATTACKS.get(one.name).norms)
        kept += [one for one in known if one.name not in taken]
    return tuple(map(str, kept))


def answered(findings: Sequence[Finding], repairs: Sequence[Repair]) -> list[Finding]:
    """The findings, those as infos that an added attack has made harmless.

    A finding is answered where a repair was kept for it whose gradient leads to another class from
    every sample once the whole box is its budget. All are where those that were kept leave hardly a
    pilot sample standing, whichever finding they were tried for.
    """
    kept = [one for one in repairs if one.kept]
    hardly = min((one.after for one in kept), default=1.0) <= HARDLY
    found = []
    for finding in findings:
        asked = [one for one in kept if hardly or finding.code in one.finding.split(", ")]
        if _asks(finding) and asked and (hardly or any(one.frees for one in asked)):
            most = max(asked, key=lambda one: one.before - one.after)
            finding = replace(
                finding,
                severity=Severity.INFO,
                what=f"{finding.what}{ANSWERED}{most.change} takes the pilot from "
                f"{most.before:.1%} to {most.after:.1%}, and is added",
            )
        found.append(finding)
    return found


class _Trial:
    """The pilot, and what stands of it by now."""

    def __init__(self, exam: Examination) -> None:
        self.exam = exam
        self.held = exam.held.clone()
        self.left = COST * len(exam.samples)

    @property
    def over(self) -> bool:
        """Whether nothing stands or nothing more may be spent."""
        return self.left <= 0 or not bool((self.held > 0).any())

    def attempt(self, component: Component, codes: str) -> Repair | None:
        """Try an attack on what stands; None if it does not know the norm."""
        exam, threat = self.exam, self.exam.allowed
        attack = component.build(ATTACKS, "repair")
        if threat.norm not in attack.norms:
            return None
        standing = self.held > 0
        spent = _spent(exam)
        held = exam.pilot.held(attack, threat, exam.right[standing])
        self.left -= _spent(exam) - spent
        before = self.held.clone()
        gain = before[standing] - held
        certain = stands_out(gain) if exam.facts.stochastic else bool((gain > 0).any())
        if certain:
            self.held[standing] = torch.minimum(before[standing], held)
        return Repair(
            finding=codes,
            change=str(component),
            before=round(float(before.mean()), 6),
            after=round(float(self.held.mean()), 6),
            samples=len(before),
            kept=certain,
        )

    def freed(self, one: Repair) -> Repair:
        """The repair, and whether its gradient leads away from what stands, the whole box allowed.

        From the sample itself: a random image would be of another class most times, and tests no
        gradient. What the plain model leads to, or a search without gradients, is no sign of one.
        """
        exam = self.exam
        rows = exam.right[self.held > 0]
        if len(rows) == 0:
            return replace(one, frees=True)
        change = Component.parse(one.change)
        if change.name in ("transfer", "square"):
            return one
        way = change.settings.get("way")
        probe = PGD(
            steps=BOX_STEPS,
            step=0.1,
            loss=LossName(str(change.settings.get("loss", LossName.MARGIN))),
            draws=int(change.settings.get("draws", 1)),
            random_start=False,
        )
        x_adv = probe.perturb(
            exam.target if way is None else exam.target.mended(str(way)),
            exam.x[rows],
            exam.y[rows],
            exam.whole_box,
            exam.pilot.streams("freed", rows),
        )
        held = exam.pilot.verdict(x_adv, rows, "probe judge").share_right(exam.y[rows])
        allowed = 1 / exam.facts.classes + EFFECT if exam.facts.stochastic else 0.0
        return replace(one, frees=bool(float(held.mean()) <= allowed))


def _spent(exam: Examination) -> int:
    return int((exam.ledger.forwards + exam.ledger.backwards).sum())


def _asks(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO and finding.code not in LEFT


def _draws(exam: Examination) -> int:
    return draws_for(exam.facts.noise) if exam.stochastic else 1


def _stronger(component: Component) -> Component:
    """The same attack with the steps and starts of a run, not of a trial."""
    more: dict[str, dict[str, Scalar]] = {
        # It worked on the pilot; on other samples it may not.
        "mended": {"steps": ADDED, "restarts": STARTS, "optional": True},
        "pgd": {"steps": max(ADDED, int(component.settings.get("steps", 0))), "restarts": STARTS},
        "square": {"queries": 10 * QUERIES},
    }
    if int(component.settings.get("draws", 1)) > 1:  # over draws a restart gains less than it costs
        more = {name: {**settings, "restarts": 1} for name, settings in more.items()}
        more["square"].pop("restarts")
    settings = {**component.settings, **more.get(component.name, {})}
    return Component(component.name, settings)
