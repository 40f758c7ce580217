"""The contract suites: what they know in closed form, what they catch, and how they say it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, minimize
from torch import Tensor

from robustcode.attacks import ATTACKS, Attack, Target
from robustcode.errors import ConfigError, ContractError
from robustcode.seeds import Streams
from robustcode.testing import attack_checks, check_attack, check_component, defense_checks
from robustcode.testing.problems import LinearProblem, bowl, open_problems, walled_problem
from robustcode.threat import Norm, ThreatModel

Vector = NDArray[np.float64]

PROBLEMS = [p for norm in Norm for p in (*open_problems(norm), walled_problem(norm))]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: f"{p.name} in {p.norm}")
def test_critical_eps_are_those_of_a_solver(problem: LinearProblem) -> None:
    """The least perturbation within the box, by linear or sequential quadratic programming."""
    for x, y, critical in zip(problem.x, problem.y.tolist(), problem.critical, strict=True):
        least = min(
            solved(problem, x.flatten().double().numpy(), y, other)
            for other in range(3)
            if other != y
        )
        # Solvers stop at 1e-9 of their constraints; weights and scores are float32.
        assert critical.item() == pytest.approx(least, rel=1e-4)


def solved(problem: LinearProblem, x: Vector, y: int, other: int) -> float:
    weight = problem.model.weight.detach().double().numpy()
    bias = problem.model.bias.detach().double().numpy()
    uphill = weight[:, other] - weight[:, y]
    lead = (x - 0.5) @ -uphill + bias[y] - bias[other]
    values = len(x)
    if problem.norm is Norm.L2:
        found = minimize(
            size,
            np.zeros(values),
            jac=doubled,
            bounds=Bounds(-x, 1 - x),
            constraints=LinearConstraint(uphill / lead, 1, np.inf),
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        return float(np.sqrt(found.fun)) if found.success else np.inf
    # d = up - down; minimise their sum (l1) or a bound on each (linf).
    bounded = problem.norm is Norm.LINF
    cost = np.r_[np.zeros(2 * values), 1] if bounded else np.r_[np.ones(2 * values), 0]
    bound = np.c_[np.eye(2 * values), -np.ones(2 * values) if bounded else np.zeros(2 * values)]
    answer = linprog(
        cost,
        A_ub=np.r_[np.r_[-uphill, uphill, 0][None] / lead, bound if bounded else bound[:0]],
        b_ub=np.r_[-1, np.zeros(2 * values if bounded else 0)],
        bounds=[*[(0, v) for v in 1 - x], *[(0, v) for v in x], (0, None)],
    )
    return np.inf if answer.fun is None else float(answer.fun)


def size(d: Vector) -> float:
    return float(d @ d)


def doubled(d: Vector) -> Vector:
    return 2 * d


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("reachable", [True, False])
def test_the_bowl_is_lost_where_it_says(norm: Norm, reachable: bool) -> None:
    """By trying a grid of points over the whole box."""
    threat = ThreatModel(norm, 0.2)
    problem = bowl(threat.eps, reachable)
    side = torch.linspace(0, 1, 201)
    grid = torch.cartesian_prod(side, side).view(-1, 1, 1, 2)
    lost = problem.model(grid).argmax(1) != 0
    assert lost.any() == reachable
    assert (problem.model(problem.x).argmax(1) == problem.y).all()
    for x in problem.x:
        allowed = threat.distance(grid, x[None]) <= threat.eps
        assert (lost & allowed).any() == reachable


class Still(Attack):
    """Gives its input back: allowed, reproducible, and no attack."""

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        return x.clone()


class StillControl(Still):
    control = True


class Untrue(Still):
    needs_gradient = False
    control = True

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        target.ascent(x, y, lambda logits, y: logits.sum(1), streams)
        return x.clone()


def test_an_attack_that_does_nothing_is_caught_unless_it_is_a_control() -> None:
    with pytest.raises(ContractError, match=r"samples that can be broken by eps = .* stand"):
        check_attack(Still())
    assert "it breaks nothing 5 % below the critical eps" in check_attack(StillControl())


def test_an_attack_that_hides_its_gradients_is_caught() -> None:
    with pytest.raises(ContractError, match="it asked for 1 gradients"):
        check_attack(Untrue())


def test_each_kept_promise_is_a_line() -> None:
    lines = list(check_component("attack", "fgsm"))
    asked = [check for check in attack_checks() if check.applies(ATTACKS.get("fgsm")())]
    assert lines[:-1] == [f"kept: {check}" for check in asked]
    assert lines[-1] == f"fgsm keeps all {len(asked)} promises of an attack"
    assert list(check_component("defense", "gaussian-noise:sigma=0.1"))[-1] == (
        f"gaussian-noise:sigma=0.1 keeps all {len(defense_checks())} promises of a defense"
    )


@pytest.mark.parametrize(
    ("kind", "spec", "reason"),
    [
        ("atack", "fgsm", "no kind of component is called 'atack'. Did you mean 'attack'?"),
        ("attack", "fgms", "no attack is called 'fgms'. Did you mean 'fgsm'?"),
        ("attack", "pgd:step=0", "step = 0"),
        ("attack", "pgd:setps=3", "unknown key 'setps'. Did you mean 'steps'"),
        ("defense", "gaussian-noise:sigma=-1", "sigma = -1"),
        ("defense", "jpg", "no defence is called 'jpg'. Did you mean 'jpeg'?"),
    ],
)
def test_what_cannot_be_checked_is_the_callers_fault(kind: str, spec: str, reason: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        list(check_component(kind, spec))
    assert reason in str(wrong.value)


def test_a_broken_promise_is_exit_code_3() -> None:
    """Two short steps do not cross the ball, and the command says so."""
    answer = subprocess.run(
        [sys.executable, "-m", "robustcode", "check", "attack", "pgd:steps=2,step=0.1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 3, answer.stderr
    assert "it breaks every sample 5 % above its critical eps" in answer.stderr
    assert answer.stdout.startswith("kept: ")
