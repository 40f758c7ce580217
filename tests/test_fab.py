"""The plane's nearest point, and what makes FAB and DeepFool what they are.

That they work at all is in test_attack_contract.py, and that they find the nearest wrong inputs of
linear classifiers too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog
from torch import Tensor, nn

from robustcode.attacks import ATTACKS, FAB, Attack, DeepFool, TargetedFAB
from robustcode.attacks.hyperplane import Box, onto_plane
from robustcode.attacks.nearest import Nearest
from robustcode.defenses import Identity
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import Norm, ThreatModel

ORDER = {Norm.LINF: torch.inf, Norm.L2: 2.0, Norm.L1: 1.0}
BOX = Box()


def planes(rows: int, values: int, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points with some values on the walls, weights with some zeros, and gaps of either sign.

    ``reach`` is the gap as a share of all that the box allows.
    """
    dice = torch.Generator().manual_seed(rows * values)
    z = torch.rand(rows, values, generator=dice, dtype=torch.float64)
    z[z < 0.1], z[z > 0.9] = 0.0, 1.0
    weight = torch.randn(rows, values, generator=dice, dtype=torch.float64)
    weight[:, ::5] = 0
    sign = torch.tensor([1.0, -1.0]).repeat(rows)[:rows].double()
    room = torch.where(weight * sign[:, None] > 0, 1 - z, z)
    return z, weight, reach * sign * (weight.abs() * room).sum(1)


def smallest(norm: Norm, z: Tensor, weight: Tensor, gap: float) -> float:
    """The size of the smallest move by scipy: a linear program, or the root of l2's dual."""
    count = len(z)
    low, high, w = (-z).tolist(), (1 - z).tolist(), weight.numpy()
    if norm is Norm.L2:
        # Least squares with one equation: by its dual, the weight's multiplier, within the box.
        def gained(radius: float) -> float:
            steps = (radius * weight).clamp(torch.tensor(low), torch.tensor(high))
            return float(weight @ steps) - gap

        radius = brentq(gained, -1e4, 1e4, xtol=1e-14)
        return float((radius * weight).clamp(torch.tensor(low), torch.tensor(high)).norm())
    # The move is up - down; their sum is its size by value.
    up_down = [(0, value) for value in high] + [(0, -value) for value in low]
    if norm is Norm.L1:
        equation = [[*w.tolist(), *(-w).tolist()]]
        found = linprog([1.0] * 2 * count, A_eq=equation, b_eq=[gap], bounds=up_down)
        return float(np.asarray(found.x, dtype=np.float64).sum())
    below = torch.cat(
        [torch.eye(2 * count), -torch.ones(2 * count, 1)], dim=1
    ).tolist()  # each value within the radius
    equation = [[*w.tolist(), *(-w).tolist(), 0.0]]
    cost = [0.0] * 2 * count + [1.0]
    limits = [*up_down, (0, None)]
    zeros = [0.0] * 2 * count
    found = linprog(cost, A_ub=below, b_ub=zeros, A_eq=equation, b_eq=[gap], bounds=limits)
    return float(np.asarray(found.x, dtype=np.float64)[-1])


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("reach", [0.02, 0.4, 0.9])
def test_the_move_onto_a_plane_is_the_smallest_there_is(norm: Norm, reach: float) -> None:
    z, weight, gap = planes(6, 20, reach)
    found = onto_plane(norm, z, weight, gap, BOX)
    torch.testing.assert_close((weight * found.move).sum(1), gap)
    assert (((z + found.move) >= -1e-12) & ((z + found.move) <= 1 + 1e-12)).all()
    size = torch.linalg.vector_norm(found.move, ord=ORDER[norm], dim=1)
    torch.testing.assert_close(found.size, size)
    expected = [smallest(norm, *row) for row in zip(z, weight, gap.tolist(), strict=True)]
    # What scipy's solvers are good for.
    torch.testing.assert_close(size, torch.tensor(expected).double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("norm", list(Norm))
def test_a_plane_in_float32_is_met_to_six_digits(norm: Norm) -> None:
    for reach in (0.001, 0.3):
        z, weight, gap = planes(8, 3072, reach)
        exact = onto_plane(norm, z, weight, gap, BOX)
        found = onto_plane(norm, z.float(), weight.float(), gap.float(), BOX)
        torch.testing.assert_close(found.size.double(), exact.size, rtol=5e-6, atol=0)


@pytest.mark.parametrize("norm", list(Norm))
def test_a_plane_out_of_reach_is_approached_as_far_as_the_box_goes(norm: Norm) -> None:
    z, weight, gap = planes(4, 300, 1.5)
    found = onto_plane(norm, z, weight, gap, BOX)
    corner = torch.where(weight * gap[:, None] > 0, 1.0, 0.0).double()
    corner = torch.where(weight == 0, z, corner)
    torch.testing.assert_close(z + found.move, corner)


@pytest.mark.parametrize("norm", list(Norm))
def test_without_weights_or_a_gap_nothing_moves(norm: Norm) -> None:
    z, weight, gap = planes(4, 9, 0.5)
    for w, g in ((0 * weight, gap), (weight, 0 * gap), (0 * weight, 0 * gap)):
        found = onto_plane(norm, z, w, g, BOX)
        assert not found.move.any()
        assert not found.size.any()


class Ring(nn.Module):
    """Right within a radius of the middle; the boundary is a sphere, scores are squares."""

    def __init__(self, radius: float, classes: int = 4) -> None:
        super().__init__()
        self.radius, self.classes = radius, classes

    def forward(self, x: Tensor) -> Tensor:
        square = (x - 0.5).flatten(1).square().sum(1)
        zero = torch.zeros_like(square)
        away = [zero - 1 - number for number in range(self.classes - 2)]
        return torch.stack([zero + self.radius**2, square, *away], dim=1)


def searched(
    attack: Attack, model: nn.Module, x: Tensor, threat: ThreatModel, width: int = 128
) -> tuple[Tensor, Ledger]:
    samples = torch.arange(len(x))
    ledger = Ledger(samples)
    target = DefendedTarget(
        Identity(model=model), ledger, stochastic=False, differentiable=True, width=width
    )
    y = torch.zeros(len(x), dtype=torch.long)
    return attack.perturb(target, x, y, threat, Streams.of(0, "test", samples)), ledger


def scattered(count: int = 6) -> Tensor:
    way = torch.randn(count, 1, 2, 5, generator=torch.Generator().manual_seed(4))
    return 0.5 + 0.2 * way / way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@pytest.mark.parametrize("attack", [FAB, TargetedFAB, DeepFool], ids=lambda a: a.__name__)
def test_the_way_out_of_a_sphere_is_its_radius(attack: Any) -> None:
    x, threat = scattered(), ThreatModel(Norm.L2, 1.0)
    found, _ = searched(attack(until_broken=False), Ring(0.3), x, threat)
    assert (Ring(0.3)(found).argmax(1) != 0).all()
    distance = threat.distance(found, x)
    assert (distance >= 0.1 - 1e-6).all()
    assert (distance <= 0.1 * 1.05).all()


def test_a_right_point_takes_one_pass_and_a_wrong_one_two() -> None:
    """Nothing to find: every step is right, where the published code asks twice."""
    x, threat = scattered(), ThreatModel(Norm.LINF, 0.1)
    _, ledger = searched(TargetedFAB(steps=10, targets=1), Ring(3.0), x, threat)
    # The clean scores, ten steps, and a look at the last point.
    assert ledger.forwards.tolist() == [12] * len(x)
    assert ledger.backwards.tolist() == [10] * len(x)


def test_what_is_asked_for_first_changes_passes_and_no_iterate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, threat = scattered().double(), ThreatModel(Norm.L2, 0.12)
    attack = TargetedFAB(steps=20, restarts=2, until_broken=False)
    found = {}
    for share in (-1.0, 1.0):
        monkeypatch.setattr("robustcode.attacks.fab.WARY", share)
        found[share] = searched(attack, Ring(0.3), x, threat)
    (scores_first, one), (gradients_first, other) = found[-1.0], found[1.0]
    torch.testing.assert_close(scores_first, gradients_first, rtol=0, atol=1e-12)
    assert one.backwards.sum() < other.backwards.sum()


@pytest.mark.parametrize("classes", [1, 2, 3, 6])
@pytest.mark.parametrize("name", ["fab", "fab-t", "deepfool"])
def test_any_number_of_classes_will_do(name: str, classes: int) -> None:
    class Few(Ring):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :classes]

    x, threat = scattered(), ThreatModel(Norm.L2, 0.2)
    found, _ = searched(ATTACKS.get(name)(), Few(0.3, 6), x, threat)
    broken = (Few(0.3, 6)(found).argmax(1) != 0).all()
    assert bool(broken) is (classes > 1)
    empty, _ = searched(ATTACKS.get(name)(), Few(0.3, 6), x[:0], threat)
    assert empty.shape == x[:0].shape


def test_targets_that_do_not_fit_one_query_change_nothing() -> None:
    x, threat = scattered(), ThreatModel(Norm.L2, 0.12)
    attack = TargetedFAB(restarts=2, until_broken=False)
    wide, _ = searched(attack, Ring(0.3), x, threat)
    narrow, _ = searched(attack, Ring(0.3), x, threat, width=1)
    torch.testing.assert_close(wide, narrow, rtol=0, atol=1e-6)


def test_of_several_inputs_the_nearest_wrong_one_within_eps_is_kept() -> None:
    x, y = torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    nearest = Nearest.of(x, y, ThreatModel(Norm.LINF, 0.3), until_broken=False)
    for size, logits in ((0.1, right), (0.4, wrong)):
        nearest.offer(x + size, logits)
    assert nearest.proposals().tolist() == (x + 0.1).tolist()
    for size, logits in ((0.3, wrong), (0.2, wrong), (0.25, wrong), (0.05, right)):
        nearest.offer(x + size, logits)
    assert nearest.proposals().tolist() == (x + 0.2).tolist()


@pytest.mark.parametrize(
    ("attack", "settings"),
    [
        (FAB, {"steps": 0}),
        (FAB, {"beta": 1.5}),
        (FAB, {"alpha_max": -0.1}),
        (FAB, {"eta": 0.5}),
        (TargetedFAB, {"targets": 0}),
        (DeepFool, {"overshoot": -0.1}),
        (DeepFool, {"bisections": -1}),
        (DeepFool, {"classes": 0}),
    ],
)
def test_settings_that_cannot_search_are_refused(attack: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        attack(**settings)
