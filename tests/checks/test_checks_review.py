"""A check says nothing where nothing is wrong, and an attack answers only what attacks can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import robustcode
from robustcode.attacks import ATTACKS
from robustcode.checkpoint import load_classifier
from robustcode.checks import Examination, Looked, Results, Status, examine
from robustcode.checks.base import Group
from robustcode.checks.catalogue import every
from robustcode.checks.catalogue.low_precision import grid_of
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import DEFENSES, Defense
from robustcode.defenses.identity import Identity
from robustcode.findings import Finding, Severity
from robustcode.plan import PlannedAttack
from robustcode.repair import LEFT, PRESCRIBED, Repair, _Trial, answered
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel

DATA = load_data("digits")


class Then(nn.Module):
    """The shipped classifier, and a function of its scores."""

    def __init__(self, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = load_classifier("digits_cnn", classes=10)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.model(x))


class MeanPixel(nn.Module):
    """One answer for every image, by scores that the mean pixel moves: all weigh the same."""

    def forward(self, x: Tensor) -> Tensor:
        same = x.sum((1, 2, 3))[:, None] / 64
        return 9 * nn.functional.one_hot(torch.zeros(len(x)).long(), 10) + same


class Detached(nn.Module):
    """The shipped classifier, whose input is cut from the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.model = load_classifier("digits_cnn", classes=10)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.detach())


def exam_of(defense: nn.Module | Defense, samples: Tensor, **fields: Any) -> Examination:
    if not isinstance(defense, Defense):
        defense = Identity(model=defense)
    defense.model.eval().requires_grad_(False)
    given: dict[str, Any] = {
        "y": DATA.targets(samples),
        "threat": ThreatModel.parse("linf:0.1"),
        "data": DATA,
    }
    return Examination(
        defense=defense,
        x=DATA.images(samples),
        samples=samples,
        chosen=samples,
        **(given | fields),
    )


def lines(exam: Examination, *codes: str) -> dict[str, Looked]:
    looked = examine(exam, [check for check in every() if check.code in codes]).looked
    return {line.code: line for line in looked}


def finding(code: str) -> Finding:
    return Finding(code=code, severity=Severity.FAILURE, what="It is so.", remedy="Do so.")


# ---- nothing is wrong


def test_small_scores_and_sure_probabilities_are_not_rounded() -> None:
    scores = Streams.of(0, "scores", torch.arange(32)).normal(10)
    assert grid_of(0.001 * scores) == ""
    assert grid_of((30 * scores).double().softmax(1)) == ""
    assert grid_of((10 * scores).round()) != ""


def test_a_gradient_that_is_the_same_number_in_every_pixel_is_followed() -> None:
    exam = exam_of(MeanPixel(), torch.arange(8))
    first = exam.target.ascent(exam.x, exam.y, lambda scores, y: scores.sum(1), exam.streams)
    assert first.gradient.allclose(torch.tensor(10 / 64))


def test_one_answer_for_every_image_is_no_attack_that_missed_something() -> None:
    zeros = (DATA.targets(torch.arange(300)) == 0).nonzero().squeeze(1)
    exam = exam_of(MeanPixel(), zeros)
    found = lines(exam, "large-eps-above-chance", "whole-box-holds")
    assert found["large-eps-above-chance"].status == Status.PASSED
    # It does hold, and nobody knows an image that would break it.
    assert found["whole-box-holds"].status == Status.WARNING


def test_the_rarer_of_two_classes_may_be_hard_to_reach() -> None:
    def two(scores: Tensor) -> Tensor:
        others = torch.cat([scores[:, :3], scores[:, 4:]], 1).logsumexp(1) + 40
        return torch.stack([others, scores[:, 3]], 1)

    samples = torch.arange(24)
    exam = exam_of(Then(two), samples, y=(DATA.targets(samples) == 3).long())
    assert float(exam.held.mean()) == 1
    assert lines(exam, "large-eps-above-chance")["large-eps-above-chance"].status == Status.PASSED


def test_five_samples_of_a_random_defence_are_too_few_to_pass() -> None:
    noisy: Any = DEFENSES.get("gaussian-noise")
    exam = exam_of(noisy(model=load_classifier("digits_cnn", classes=10)), torch.arange(5))
    codes = ("larger-eps-more-robust", "single-step-better", "noise-as-strong", "not-converged")
    found = lines(exam, *codes, "behind-transfer")
    assert len(found) == 5
    assert {line.status for line in found.values()} == {Status.UNTESTED}
    assert "8 are needed" in found["noise-as-strong"].said


@dataclass(frozen=True, kw_only=True)
class BatchMean(Defense):
    """Less than the mean of its batch, which it does not say, and followed by a surrogate."""

    differentiable: ClassVar[bool] = False

    model: nn.Module
    votes: int = 1
    mean: bool = False

    @torch.no_grad()
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        return self.model(x - x.mean(0) / 2)

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        return self.model(x)


def test_a_batch_without_a_gradient_has_no_joint_one() -> None:
    exam = exam_of(BatchMean(model=load_classifier("digits_cnn", classes=10)), torch.arange(8))
    line = lines(exam, "cross-gradient")["cross-gradient"]
    assert line.status == Status.UNTESTED
    assert "no gradient" in line.said


def test_a_run_that_is_judged_by_one_draw_is_told_so(tmp_path: Path) -> None:
    run = robustcode.doctor(
        *("digits_cnn", "digits", "linf:0.1"),
        out=tmp_path / "run",
        defense="gaussian-noise",
        attacks=["noise"],
        samples=8,
        draws=1,
        progress=False,
    )
    (line,) = (line for line in run.summary["checks"] if line["code"] == "one-draw-luck")
    assert line["status"] == "warning"


# ---- what is answered


NO_ATTACK = (
    "one-class",
    "order-matters",
    "batch-size-matters",
    "adapts-at-test-time",
    "passes-undeclared",
    "declared-decisive",
    "declared-rejection",
    "non-finite-logits",
    "one-draw-luck",
)


@pytest.mark.parametrize("code", NO_ATTACK)
def test_no_attack_answers_what_is_not_about_attacks(code: str) -> None:
    kept = Repair(
        finding=code, change="square", before=1, after=0, samples=9, kept=True, frees=True
    )
    assert answered([finding(code)], [kept]) == [finding(code)]
    assert answered([finding("weak-loss")], [kept])[0].severity is Severity.INFO


def test_what_is_declared_or_about_batches_and_data_is_left() -> None:
    groups = {Group.SUBJECT, Group.DECLARED, Group.BATCH}
    codes = {c for check in every() if check.group in groups for c in (check.code, *check.also)}
    # Their gradients can be made anew, and that there are two classes is only said.
    about_attacks = {
        "declared-differentiable",
        "low-precision",
        "optimises-at-inference",
        "probabilities-as-logits",
        "too-few-classes",
    }
    assert codes - LEFT == about_attacks
    known = {c for check in every() for c in (check.code, *check.also)}
    assert LEFT | set(PRESCRIBED) <= known


def test_what_breaks_everything_answers_whoever_asked_for_it() -> None:
    kept = Repair(finding="weak-loss", change="pgd", before=0.9, after=0.0, samples=9, kept=True)
    (found,) = answered([finding("gradient-free-better")], [kept])
    assert found.severity is Severity.INFO


@pytest.mark.parametrize("change", ["apgd-margin:steps=40,restarts=5", "transfer:steps=40"])
def test_a_random_image_or_the_plain_model_tests_no_gradient(change: str) -> None:
    trial = _Trial(exam_of(Detached(), torch.arange(24)))
    # Of samples that fall to a random start or to the plain model, once the whole box is allowed.
    attack = Component.parse(change).build(ATTACKS, "test")
    fell = trial.exam.pilot.held(attack, trial.exam.whole_box, trial.exam.right) == 0
    assert int(fell.sum()) >= 10
    trial.held *= fell
    one = Repair(finding="weak-loss", change=change, before=1, after=0.9, samples=24, kept=True)
    assert not trial.freed(one).frees
    sound = exam_of(load_classifier("digits_cnn", classes=10), torch.arange(24))
    sound.held.fill_(1)
    assert _Trial(sound).freed(one).frees == change.startswith("apgd")


def test_noise_as_strong_is_answered_only_by_what_beats_noise() -> None:
    check = next(check for check in every() if check.code == "noise-as-strong")

    def review(**correct: int) -> set[str]:
        rows = [
            {
                "attack": name,
                "sample": sample,
                "correct": float(sample < count),
                "clean_correct": 1.0,
                "votes": None,
                "clean_votes": None,
                "finished": True,
                "proved": False,
                "carried": None,
            }
            for name, count in correct.items()
            for sample in range(10)
        ]
        plan = [
            PlannedAttack(name, ATTACKS.get("noise" if name == "noise" else "pgd")())
            for name in correct
        ]
        found = check.review(
            Results(
                records=pd.DataFrame(rows),
                attacks=plan,
                threat=ThreatModel.parse("linf:0.1"),
                asked=10,
                repaired=True,
            )
        )
        return {str(one.severity) for one in found if one is not None}

    assert review(noise=5, planned=6, added=2) == {"info"}
    assert review(noise=5, planned=6, added=5) == {"warning"}
