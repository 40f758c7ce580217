"""Attacks that look for the nearest wrong input find it: in closed form, and beside each other."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import pytest
import torch
from torch import Tensor

from robustcode.attacks import ATTACKS, CW, DDN, FMN, Attack
from robustcode.attacks.fmn import onto_ball
from robustcode.attacks.shrinking import Shrinking
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.errors import ConfigError
from robustcode.testing.attack_contract import to_the_end
from robustcode.testing.problems import (
    LinearProblem,
    Problem,
    open_problems,
    two_cells,
    walled_problem,
)
from robustcode.testing.watched import attempt
from robustcode.threat import Norm, ThreatModel

# The best that any finds is looked for once, by one worker.
pytestmark = pytest.mark.xdist_group("minimal")

MINIMAL = [name for name in sorted(ATTACKS) if ATTACKS.get(name).minimal]
PAIRS = [(name, norm) for name in MINIMAL for norm in Norm if norm in ATTACKS.get(name).norms]
# What the issue asks for.
LINEAR, DIGITS = 1.05, 1.25
SAMPLES = 40


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_the_nearest_wrong_input_of_a_linear_classifier_is_found(name: str, norm: Norm) -> None:
    for problem in (*open_problems(norm), walled_problem(norm)):
        ratio = distances(ATTACKS.get(name)(), problem, norm) / problem.critical
        assert ratio.max() <= LINEAR, problem.name


DEAR = {("deepfool", Norm.LINF), ("cw", Norm.L2)}


@pytest.mark.parametrize(
    ("name", "norm"),
    [pytest.param(*pair, marks=pytest.mark.long if pair in DEAR else ()) for pair in PAIRS],
)
def test_what_is_found_on_digits_is_near_the_best_that_any_finds(name: str, norm: Norm) -> None:
    """On median, and with gradients in three of four; single samples end in another's cell."""
    best = torch.stack([on_digits(other, norm) for other, n in PAIRS if n is norm]).amin(0)
    ratio = on_digits(name, norm) / best
    share = 0.75 if ATTACKS.get(name).needs_gradient else 0.5
    assert ratio.quantile(share) <= DIGITS


def distances(attack: Attack, problem: Problem, norm: Norm) -> Tensor:
    """Of what it proposes with the whole box to go to, shape (batch,); infinite if not wrong."""
    box = ThreatModel(norm, 0.0)
    threat = box.with_eps(box.whole_box(problem.x[0].numel()))
    x_adv = attempt(to_the_end(attack), problem, threat).x_adv
    with torch.no_grad():
        wrong = problem.model(x_adv).argmax(1) != problem.y
    return threat.distance(x_adv, problem.x).masked_fill(~wrong, torch.inf)


@cache
def on_digits(name: str, norm: Norm) -> Tensor:
    return distances(ATTACKS.get(name)(), digits(), norm)


@cache
def digits() -> Problem:
    """Digits that the CNN gets right."""
    data = load_data("digits")
    model = load_classifier("digits_cnn", classes=10)
    rows = torch.arange(2 * SAMPLES)
    x, y = data.images(rows), data.targets(rows)
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return Problem("digits", model, x[right][:SAMPLES], y[right][:SAMPLES])


@pytest.mark.parametrize("attack", [DDN(), FMN(), CW()], ids=["ddn", "fmn", "cw"])
def test_more_steps_than_the_default_gain_little(attack: Shrinking) -> None:
    """With five times as many the median distance falls by less than 2 %."""
    longer = dataclasses.replace(attack, steps=5 * attack.steps)
    few, many = (distances(a, digits(), Norm.L2).median() for a in (attack, longer))
    assert few <= 1.02 * many


@pytest.mark.parametrize("attack", [DDN(), FMN(), CW()], ids=["ddn", "fmn", "cw"])
def test_broken_samples_leave(attack: Attack) -> None:
    """With eps beyond what most need, few passes are spent; to the end, all of them."""
    problem, threat = digits(), ThreatModel(Norm.L2, 1.0)
    early, late = (attempt(a, problem, threat).queries for a in (attack, to_the_end(attack)))
    assert 4 * sum(len(q.x) for q in early) < sum(len(q.x) for q in late)


@pytest.mark.parametrize("norm", list(Norm))
def test_the_projection_of_fmn_is_that_of_the_threat_model(norm: Norm) -> None:
    """Away from the box, sample by sample, each with a radius of its own."""
    way = two_cells("plane", norm, (12,), scale=1.0).x - 0.5
    radius = torch.tensor([0.01, 0.05, 0.1, 10.0])
    middle = torch.full_like(way, 0.5)
    found = onto_ball(way, radius, norm)
    for row, eps in enumerate(radius.tolist()):
        threat = ThreatModel(norm, min(eps, 1.0))
        whole = threat.project(middle + way, middle)[row] - 0.5
        torch.testing.assert_close(found[row], whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("attack", "settings", "reason"),
    [
        (DDN, {"steps": 0}, "steps = 0: at least 1 is needed"),
        (DDN, {"gamma": 1.0}, "gamma = 1: a share between 0 and 1"),
        (DDN, {"init_norm": 0.0}, "init_norm = 0: a norm is a positive number"),
        (FMN, {"gamma": math.nan}, "gamma = nan"),
        (FMN, {"step": -1.0}, "step = -1: a step is a positive length"),
        (CW, {"steps": 1}, "steps = 1: at least 2 are needed"),
        (CW, {"searches": 0}, "searches = 0: at least 1 is needed"),
        (CW, {"step": math.inf}, "step = inf"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    attack: type[Attack], settings: dict[str, float], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        attack(**settings)


@pytest.mark.parametrize("name", ["ddn", "fmn", "cw"])
def test_an_empty_batch_and_a_lone_sample_are_no_trouble(name: str) -> None:
    problem: LinearProblem = open_problems(Norm.L2)[3]
    threat = ThreatModel(Norm.L2, 0.2)
    attack = ATTACKS.get(name)()
    for rows in (torch.arange(0), torch.tensor([2])):
        assert attempt(attack, problem, threat, rows=rows).x_adv.shape == problem.x[rows].shape
