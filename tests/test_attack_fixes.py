"""What attacks once got wrong: masked classes, abstaining draws, little memory, far starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import (
    APGDT,
    DDN,
    FAB,
    FMN,
    NES,
    PGD,
    AggMo,
    APGDMargin,
    Attack,
    HopSkipJump,
    Square,
)
from robustcode.attacks.base import ATTACKS, Ascent, Loss
from robustcode.attacks.differences import Differences
from robustcode.attacks.expectation import mean_of_numbers, slope, standing
from robustcode.attacks.follow import Place
from robustcode.attacks.losses import LossName, dlr, margin_scale, negative_margin, targeted_dlr
from robustcode.attacks.steps import Halving, Sparse
from robustcode.attacks.targets import TargetOrder, targets_of
from robustcode.defenses.base import Defense
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.identity import Identity
from robustcode.facts import test_facts as facts_of
from robustcode.gradients import draws_for, gradient_noise
from robustcode.judge import judge
from robustcode.memory import BatchLimit
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import Norm, ThreatModel


class Net(nn.Module):
    """A small smooth network; some of its classes may be masked by a constant."""

    def __init__(self, classes: int = 5, masked: Sequence[int] = (), by: float = 0.0) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(36, 40, generator=noise) * 4 / 6)
        self.second = nn.Parameter(torch.randn(40, classes, generator=noise) * 2 / 40**0.5)
        self.masked, self.by = list(masked), by

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.tanh((x - 0.5).flatten(1) @ self.first) @ self.second
        if self.masked:
            scores = scores.clone()
            scores[:, self.masked] = self.by
        return scores


def inputs(model: nn.Module, count: int) -> tuple[Tensor, Tensor, Streams]:
    x = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, model(x).argmax(1), Streams.of(0, "fixes", torch.arange(count))


def target_of(
    defense: Defense | nn.Module, count: int, width: int | BatchLimit = 128
) -> DefendedTarget:
    if not isinstance(defense, Defense):
        defense = Identity(model=defense)
    return DefendedTarget(
        defense,
        Ledger(torch.arange(count)),
        stochastic=defense.stochastic,
        differentiable=True,
        width=width,
    )


# --- Classes that are masked


@pytest.mark.parametrize("masked", [(4,), (2, 3, 4)])
@pytest.mark.parametrize("by", [-1e4, -1e6, -1e9])
def test_a_masked_class_does_not_hide_randomness(masked: Sequence[int], by: float) -> None:
    model = Net(masked=masked, by=by)
    x, _, _ = inputs(model, 16)
    facts, report = facts_of(GaussianNoise(model=model, sigma=0.2), x, torch.arange(16), 0, ())
    assert facts.stochastic
    assert not [finding for finding in report.findings if finding.code == "declared-stochastic"]


@dataclass(frozen=True, kw_only=True)
class Rounds(Defense):
    """Adds what sums in another order would: a millionth of the largest logit."""

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        noise = streams.uniform(scores.shape[1], dtype=x.dtype) * 2 - 1
        return scores + 1e-6 * noise * scores.abs().amax(1, keepdim=True)


def test_rounding_of_logits_near_zero_is_not_taken_for_randomness() -> None:
    model = Net(masked=(3, 4), by=1e-9)
    x, _, _ = inputs(model, 32)
    facts, _ = facts_of(Rounds(model=model), x, torch.arange(32), 0, ())
    assert not facts.stochastic


@pytest.mark.parametrize(
    "attack",
    [
        PGD(loss=LossName.MARGIN),
        APGDMargin(steps=30),
        FAB(steps=10),
        DDN(steps=20),
        FMN(steps=20),
        NES(steps=5),
        Square(queries=100),
        HopSkipJump(steps=3, queries=20),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_a_masked_class_changes_no_verdict_and_costs_nothing(attack: Attack) -> None:
    threat, found, passes = ThreatModel(Norm.LINF, 0.1), [], []
    for by in (-50.0, -1e9):
        model = Net(masked=(4,), by=by)
        x, y, streams = inputs(model, 12)
        ledger = Ledger(torch.arange(12))
        target = DefendedTarget(
            Identity(model=model), ledger, stochastic=False, differentiable=True
        )
        found.append(model(attack.perturb(target, x, y, threat, streams)).argmax(1) != y)
        passes.append(ledger.forwards)
    assert found[0].any()
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(passes[1], passes[0])


def test_rounding_of_a_margin_is_that_of_its_two_logits() -> None:
    logits = torch.tensor([[2.0, -3.0, -1e9], [-torch.inf, 4.0, 1.0], [5.0, -torch.inf, torch.nan]])
    assert margin_scale(logits, torch.tensor([0, 0, 0])).tolist() == [3.0, 4.0, 5.0]


def test_a_loss_over_the_spread_lives_on_where_classes_are_masked() -> None:
    y, goal = torch.tensor([0, 0]), torch.tensor([1, 1])
    open_ = torch.tensor([[3.0, 1.0, 0.0, -1.0], [3.0, 1.0, -torch.inf, -torch.inf]])
    # Over 3 - (0 - 1) / 2, and where only two classes are left over nothing.
    torch.testing.assert_close(targeted_dlr(goal)(open_, y), torch.tensor([-2 / 3.5, -2.0]))
    torch.testing.assert_close(dlr(open_, y), torch.tensor([-2 / 3, -2.0]))
    masked = torch.tensor([[3.0, 1.0, 0.0, -torch.inf]], requires_grad=True)
    loss = targeted_dlr(goal[:1])(masked, y[:1])
    torch.testing.assert_close(loss.detach(), torch.tensor([-2 / 3]))
    (gradient,) = torch.autograd.grad(loss.sum(), masked)
    assert gradient.isfinite().all()
    assert gradient[0, 1] > 0


@pytest.mark.parametrize("by", [-torch.inf, torch.nan])
@pytest.mark.parametrize("order", list(TargetOrder))
def test_the_right_class_is_no_goal(by: float, order: TargetOrder) -> None:
    x, y, streams = inputs(Net(masked=(2, 3, 4), by=-9.0), 12)
    target = target_of(Net(masked=(2, 3, 4), by=by), 12)
    threat = ThreatModel(Norm.LINF, 0.1)
    goals = targets_of(target, x, y, threat, streams, count=9, order=order)
    assert goals.shape == (12, 4)
    assert (goals != y[:, None]).all()
    # The one class that is left comes first.
    assert (goals[:, 0] == 1 - y).all()


def test_with_one_class_there_is_nothing_to_be_taken_for() -> None:
    model = Net(classes=1)
    x, y, streams = inputs(model, 3)
    x_adv = APGDT(steps=2).perturb(target_of(model, 3), x, y, ThreatModel(Norm.L2, 1.0), streams)
    torch.testing.assert_close(x_adv, x)


# --- Draws that are not numbers


@dataclass(frozen=True, kw_only=True)
class Abstains(Defense):
    """Declines to answer, with a chance that grows with the mean of an image's upper third."""

    stochastic = True
    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        chance = 2 * (x.flatten(1)[:, :12].mean(1) - 0.45).clamp(0, 0.5)
        declined = streams.uniform(1, dtype=x.dtype) < chance[:, None]
        return scores.masked_fill(declined, torch.nan)


@pytest.mark.parametrize(
    "attack",
    [
        APGDMargin(steps=20, draws=8),
        APGDT(steps=20, draws=8, targets=2),
        FMN(steps=20, draws=8),
        PGD(steps=20, draws=8, loss=LossName.MARGIN),
        AggMo(steps=20, draws=8),
        NES(steps=20),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_draws_without_an_answer_do_not_stop_an_attack(attack: Attack) -> None:
    defense = Abstains(model=Net())
    x, y, streams = inputs(defense.model, 40)
    found = attack.perturb(target_of(defense, 40), x, y, ThreatModel(Norm.LINF, 0.1), streams)
    verdict = judge(defense, found, Streams.of(9, "judge", torch.arange(40)), 30, 5)
    assert verdict.share_right(y).mean() < 0.1


def test_means_are_over_the_draws_that_are_numbers() -> None:
    nan = torch.nan
    draws = [torch.tensor([1.0, nan, nan]), torch.tensor([3.0, 5.0, nan])]
    expected = torch.tensor([2.0, 5.0, nan])
    torch.testing.assert_close(mean_of_numbers(draws), expected, equal_nan=True)


def test_a_row_is_lost_when_no_draw_answers() -> None:
    defense = Abstains(model=Net())
    x, y, streams = inputs(defense.model, 3)
    x[:, 0, :2] = torch.tensor([0.0, 0.9, 1.0])[:, None, None]  # it declines never, often, always
    target = target_of(defense, 3)
    y = defense.model(x).argmax(1)
    seen = slope(target, x, y, negative_margin, streams, draws=16)
    assert seen.lost.tolist() == [False, False, True]
    assert seen.lead[2] == seen.loss[2] == -torch.inf
    assert seen.gradient[:2].flatten(1).abs().amax(1).gt(0).all()
    # All draws of an input that answer give the same margin and gradient.
    clear = slope(target_of(defense.model, 3), x, y, negative_margin, streams)
    torch.testing.assert_close(seen.margin[:2], clear.margin[:2])
    torch.testing.assert_close(seen.gradient[:2], clear.gradient[:2])
    table = standing(target, x, y, streams, draws=16)
    assert table[0, 0] == 1
    assert 0 < table[1, 0] < 1
    assert table[2].tolist() == [0, -torch.inf]


def test_what_differences_see_is_of_the_draws_that_answer() -> None:
    defense = Abstains(model=Net())
    x, _, streams = inputs(defense.model, 1)
    x[:, 0, :2] = 0.9  # it often declines
    y, threat = defense.model(x).argmax(1), ThreatModel(Norm.LINF, 0.1)
    look = Differences(
        target=target_of(defense, 1),
        threat=threat,
        loss=negative_margin,
        ways=lambda own, at: own.normal(*at.shape[1:], dtype=at.dtype),
        reach=1e-3,
        pairs=20,
    )
    seen = look(Place(x, x, y, streams))
    clear = slope(target_of(defense.model, 1), x, y, negative_margin, streams)
    torch.testing.assert_close(seen.here, clear.margin, rtol=0.05, atol=0.02)


# --- Little memory


class Tight(nn.Module):
    """Has memory for some rows only."""

    def __init__(self, model: nn.Module, rows: int) -> None:
        super().__init__()
        self.model, self.rows = model, rows

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.rows:
            raise MemoryError
        scores: Tensor = self.model(x)
        return scores


@pytest.mark.parametrize(
    ("attack", "left"),
    [
        (APGDT(steps=3), 16),
        (HopSkipJump(steps=2, queries=40), 16),
        (NES(steps=3), 8),  # both ends of a pair are asked about together
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Attack) else str(given),
)
def test_queries_shrink_with_the_batch(attack: Attack, left: int) -> None:
    x, y, streams = inputs(Net(classes=10), 64)
    limit = BatchLimit(64)
    target = target_of(Tight(Net(classes=10), 16), 64, limit)

    def work(rows: slice) -> Tensor:
        return attack.perturb(target, x[rows], y[rows], ThreatModel(Norm.LINF, 0.02), streams[rows])

    assert sum(len(part) for part in limit.map(work, 64)) == 64
    assert limit.size == target.width == target.undefended.width == left
    # Memory that was enough for wider slices is not held against the narrow ones.
    slices = limit.map(lambda rows: rows.stop - rows.start, 11, most=5)
    assert (slices, limit.size) == ([5, 5, 1], left)


class Counted(DefendedTarget):
    """Remembers how many gradients it has held at a time."""

    held = 0

    def ascents(
        self, x: Tensor, y: Tensor, losses: Sequence[Loss], streams: Streams
    ) -> list[Ascent]:
        self.held = max(self.held, len(x) * len(losses))
        return super().ascents(x, y, losses, streams)


def test_fab_holds_no_more_gradients_than_ten_to_a_row_of_a_query() -> None:
    model = Net(classes=41)
    x, y, streams = inputs(model, 8)
    target = Counted(
        Identity(model=model),
        Ledger(torch.arange(8)),
        stochastic=False,
        differentiable=True,
        width=8,
    )
    FAB(steps=2).perturb(target, x, y, ThreatModel(Norm.LINF, 0.01), streams)
    assert 0 < target.held <= 80


# --- Auto-PGD's steps


def test_the_first_step_has_no_last_move_to_weigh() -> None:
    """Algorithm 1 of arXiv:2003.01690: x1 is the projection of x0 + eta g."""
    threat = ThreatModel(Norm.LINF, 0.25)
    x = torch.full((1, 4), 0.5)
    region, up = threat.region(x), torch.ones(1, 4)
    pace = Halving.start(threat, torch.zeros(1), 100, 0.75)
    first = pace.moved(x, x, up.clone(), region)
    torch.testing.assert_close(first, torch.full((1, 4), 0.75))
    # Back by the width of the ball: .75 (.25 - .75) + .25 (.75 - .5) from .75.
    second = pace.moved(first, x, -up, region)
    torch.testing.assert_close(second, torch.full((1, 4), 0.4375))


def test_in_l1_a_stage_begins_as_sparse_as_its_start() -> None:
    threat = ThreatModel(Norm.L1, 2.0)
    x = torch.full((2, 30), 0.5)
    start = x.clone()
    start[0, :6] += 0.1
    start[1, :15] += 0.1
    start[:, 20:] += torch.finfo(x.dtype).eps / 2  # what a projection leaves
    assert (start != x)[:, 20:].all()
    given = Sparse.start(threat, x, 100, start)
    torch.testing.assert_close(given.share, torch.tensor([6 / 30 / 1.5, 15 / 30 / 1.5]))
    assert given.moved_by_top.tolist() == [6, 15]
    fresh = Sparse.start(threat, x, 100, None)
    assert fresh.share.tolist() == pytest.approx([0.2, 0.2])
    assert fresh.checked(4, start, torch.zeros(2)) is not None
    assert fresh.moved_by_top.tolist() == [6, 15]


# --- The rest


def test_restarts_of_square_are_compared_on_the_same_draws() -> None:
    asked: list[int] = []

    class Remembers(DefendedTarget):
        def logits(self, x: Tensor, streams: Streams) -> Tensor:
            asked.extend(streams.keys.tolist())
            return super().logits(x, streams)

    defense = GaussianNoise(model=Net(), sigma=0.1)
    x, y, streams = inputs(defense.model, 1)
    held_out = int(streams.child("held out").child("draw", 0).keys[0])
    counts = []
    for restarts in (1, 3):
        asked.clear()
        target = Remembers(defense, Ledger(torch.arange(1)), stochastic=True, differentiable=True)
        attack = Square(queries=20, restarts=restarts, held_out=2)
        attack.perturb(target, x, y, ThreatModel(Norm.LINF, 0.02), streams)
        counts.append(asked.count(held_out))
    assert counts[0] > 0
    assert counts[1] == 3 * counts[0]


def test_the_official_suite_takes_fewer_than_ten_classes() -> None:
    pytest.importorskip("autoattack", reason="the official package is not installed")
    x, y, streams = inputs(Net(), 6)
    kind: Any = ATTACKS.get("autoattack:standard")
    # So near that some samples are left for the attacks that go for one class after the other.
    threat = ThreatModel(Norm.LINF, 0.02)
    found = kind().perturb(target_of(Net(), 6), x, y, threat, streams)
    threat.check(found, x, "autoattack")


def test_what_could_not_be_measured_gets_the_draws_of_autoattack() -> None:
    defense = GaussianNoise(model=Net(), sigma=0.1)
    nothing = torch.zeros(0, dtype=torch.int64)
    noise = gradient_noise(defense.logits, torch.zeros(0, 1, 6, 6), Streams.of(0, "noise", nothing))
    assert draws_for(noise) == 20


class Mean(nn.Module):
    """Told by a weighted mean of many values, which uniform noise hardly moves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(784, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        lead = (x - 0.5).flatten(1) @ self.weight + 0.05 * self.weight.abs().sum()
        return torch.stack([lead / 2, -lead / 2], dim=1)


def test_hopskipjump_finds_a_start_where_noise_is_too_near() -> None:
    x, y = torch.full((8, 1, 28, 28), 0.5), torch.zeros(8, dtype=torch.int64)
    streams = Streams.of(0, "s", torch.arange(8))
    attack = HopSkipJump(steps=10)
    found = attack.perturb(target_of(Mean(), 8), x, y, ThreatModel(Norm.LINF, 0.15), streams)
    # A corner is wrong on one try in eighty; 160 of them miss it on one sample in eight.
    assert int((Mean()(found).argmax(1) != y).sum()) >= 6
