"""What makes PGD PGD. That it works at all is in test_attack_contract.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import PGD, LossName
from robustcode.defenses import GaussianNoise, Identity
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import Norm, ThreatModel


class Recorded(nn.Module):
    """A model that keeps every batch it was asked about."""

    def __init__(self, scores: nn.Module) -> None:
        super().__init__()
        self.scores = scores
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach().clone())
        scores: Tensor = self.scores(x)
        return scores


class Waves(nn.Module):
    """A curved two-class model: right where the sum of sines is positive."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        score = torch.sin(7 * x).flatten(1).sum(1) + self.offset
        return torch.stack([score, -score], dim=1)


class Mean(nn.Module):
    """Two classes told apart by the mean; broken by moving down more than x - 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).mean(1) - 0.5
        return torch.stack([score, -score], dim=1)


def attacked(
    attack: PGD, model: nn.Module, x: Tensor, threat: ThreatModel, seed: int = 0
) -> tuple[Tensor, Ledger]:
    samples = torch.arange(len(x))
    ledger = Ledger(samples)
    target = DefendedTarget(Identity(model=model), ledger, stochastic=False, differentiable=True)
    y = torch.zeros(len(x), dtype=torch.long)
    return attack.perturb(target, x, y, threat, Streams.of(seed, "test", samples)), ledger


def grey(count: int = 4) -> Tensor:
    return torch.full((count, 1, 2, 3), 0.5)


@pytest.mark.parametrize("norm", list(Norm))
def test_one_step_is_as_long_as_it_says(norm: Norm) -> None:
    model, threat = Recorded(Waves(offset=9)), ThreatModel(norm, 0.2)
    attacked(PGD(steps=10, step=0.25), model, grey(), threat)
    # The projection brings points no further apart in l2; in l1 it may, so l1 is measured in l2.
    ruler = ThreatModel(Norm.L2 if norm is Norm.L1 else norm, 0.2)
    moves = [
        ruler.distance(after, before)
        for before, after in zip(model.asked, model.asked[1:], strict=False)
        if len(after) == len(before)
    ]
    assert moves
    assert all((move <= 0.25 * 0.2 + 1e-6).all() for move in moves)
    # The first step starts well inside the ball in linf, so nothing shortens it there.
    if norm is Norm.LINF:
        assert float(moves[0].max()) == pytest.approx(0.25 * 0.2, rel=1e-4)


def test_it_starts_at_the_sample_when_told_to() -> None:
    model = Recorded(Waves(offset=9))
    attacked(PGD(steps=2, random_start=False), model, grey(), ThreatModel(Norm.LINF, 0.1))
    assert torch.equal(model.asked[0], grey())


def test_the_best_iterate_is_kept_and_not_the_last() -> None:
    """With steps of the whole ball it swings over the trough of a sine and back."""
    x = torch.full((1, 1, 1, 1), 3 * math.pi / 14 - 0.03)
    model = Recorded(Waves(offset=3))
    attack = PGD(steps=7, step=1.5, random_start=False, loss=LossName.MARGIN)
    found, _ = attacked(attack, model, x, ThreatModel(Norm.LINF, 0.1))
    seen = torch.cat([m.flatten() for m in model.asked])
    margins = torch.sin(7 * seen)
    assert float(torch.sin(7 * found)) == pytest.approx(float(margins.min()), abs=1e-6)
    assert float(margins[-1]) > float(margins.min()) + 1e-3, "the last was the best by chance"


def test_broken_samples_leave_and_settled_ones_too() -> None:
    x = torch.stack([torch.full((1, 2, 3), 0.501), torch.full((1, 2, 3), 0.9)])
    threat = ThreatModel(Norm.LINF, 0.1)
    attack = PGD(steps=400, step=0.1)
    found, ledger = attacked(attack, Mean(), x, threat)
    assert (Mean()(found).argmax(1) == torch.tensor([1, 0])).all()
    broken, settled = ledger.backwards.tolist()
    assert broken < 10
    # It reaches the edge of the ball after 20 steps at most and is found out soon after.
    assert settled < 60


def test_samples_leave_together_and_not_one_by_one() -> None:
    """A batch of a new size costs a pass; one broken of many waits, and is not moved on."""
    x = torch.cat([torch.full((1, 1, 2, 3), 0.501), torch.full((15, 1, 2, 3), 0.9)])
    threat = ThreatModel(Norm.LINF, 0.1)
    model = Recorded(Mean())
    found, _ = attacked(PGD(steps=9, step=0.1), model, x, threat)
    assert {len(batch) for batch in model.asked} == {16}
    alone, _ = attacked(PGD(steps=9, step=0.1), Mean(), x[:1], threat)
    assert torch.equal(found[:1], alone)


def test_scores_that_are_no_numbers_count_as_broken() -> None:
    class NotANumber(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * torch.nan

    _, ledger = attacked(PGD(steps=9), NotANumber(), grey(), ThreatModel(Norm.LINF, 0.01))
    assert ledger.backwards.tolist() == [1] * 4


class Laid(torch.autograd.Function):
    """The identity, whose gradient comes in one memory layout or another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: torch.memory_format) -> Tensor:
        ctx.layout = layout
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradients[0].contiguous(memory_format=ctx.layout), None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_a_gradient_changes_nothing(layout: torch.memory_format) -> None:
    weights = torch.linspace(-1, 1, 24).view(3, 2, 4)

    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = (Laid.apply(x, layout) * weights).flatten(1).sum(1)  # type: ignore[no-untyped-call]
            return torch.stack([score, -score], dim=1)

    x = torch.rand(9, 3, 2, 4, generator=torch.Generator().manual_seed(2))
    attack, threat = PGD(steps=12, until_broken=False), ThreatModel(Norm.LINF, 0.1)
    found, _ = attacked(attack, Linear(), x, threat)
    # The score is linear: the answer is the corner that the weights point away from.
    torch.testing.assert_close(found, (x - 0.1 * weights.sign()).clamp(0, 1))


def test_inputs_are_not_written_to() -> None:
    for random_start in (True, False):
        x = grey() + 0.01
        kept = x.clone()
        attacked(PGD(steps=5, random_start=random_start), Mean(), x, ThreatModel(Norm.LINF, 0.1))
        assert torch.equal(x, kept)


def test_until_broken_false_goes_on_to_the_lowest_margin() -> None:
    x = torch.full((1, 1, 2, 3), 0.51)
    threat = ThreatModel(Norm.LINF, 0.1)
    barely, _ = attacked(PGD(steps=60), Mean(), x, threat)
    deep, _ = attacked(PGD(steps=60, until_broken=False), Mean(), x, threat)
    assert float(deep.mean()) == pytest.approx(0.41, abs=1e-6)
    assert float(barely.mean()) > 0.42


def test_only_standing_samples_are_started_again() -> None:
    x = torch.stack([torch.full((1, 2, 3), 0.501), torch.full((1, 2, 3), 0.9)])
    _, once = attacked(PGD(steps=5), Mean(), x, ThreatModel(Norm.LINF, 0.1))
    _, thrice = attacked(PGD(steps=5, restarts=3), Mean(), x, ThreatModel(Norm.LINF, 0.1))
    assert int(thrice.backwards[0]) == int(once.backwards[0])
    assert int(thrice.backwards[1]) == 3 * int(once.backwards[1])


def test_more_restarts_leave_no_more_standing() -> None:
    x = torch.rand(40, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    threat, model = ThreatModel(Norm.LINF, 0.05), Waves(offset=0.5)
    left = []
    for restarts in (1, 4):
        found, _ = attacked(PGD(steps=5, step=0.5, restarts=restarts), model, x, threat)
        left.append(int((model(found).argmax(1) == 0).sum()))
    assert left[1] <= left[0]


@pytest.mark.parametrize("draws", [1, 3])
def test_draws_are_paid_for_at_every_step_of_a_stochastic_target(draws: int) -> None:
    x, samples = grey(), torch.arange(4)
    ledger = Ledger(samples)
    defense = GaussianNoise(model=Waves(), sigma=0.3)
    target = DefendedTarget(defense, ledger, stochastic=True, differentiable=True)
    attack = PGD(steps=5, draws=draws, held_out=6)
    y = torch.zeros(4, dtype=torch.long)
    attack.perturb(target, x, y, ThreatModel(Norm.LINF, 0.1), Streams.of(0, "test", samples))
    # Nobody leaves on a lucky draw: the same passes for all.
    assert ledger.backwards.tolist() == [5 * draws] * 4
    assert ledger.forwards.tolist() == [5 * draws + 2 * 6] * 4


@pytest.mark.parametrize("norm", list(Norm))
def test_a_sample_gets_the_same_proposal_in_any_batch(norm: Norm) -> None:
    x = torch.rand(12, 1, 2, 3, generator=torch.Generator().manual_seed(3))
    threat, model, attack = ThreatModel(norm, 0.1), Waves(offset=0.3), PGD(steps=12, restarts=2)
    together, _ = attacked(attack, model, x, threat)
    samples = torch.arange(12)
    for chosen in (torch.tensor([3]), torch.tensor([7, 2, 11]), torch.arange(11, -1, -1)):
        target = DefendedTarget(
            Identity(model=model), Ledger(samples), stochastic=False, differentiable=True
        )
        streams = Streams.of(0, "test", samples)[chosen]
        y = torch.zeros(len(chosen), dtype=torch.long)
        apart = attack.perturb(target, x[chosen], y, threat, streams)
        torch.testing.assert_close(apart, together[chosen], rtol=0, atol=1e-6)


def test_parameters_get_no_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    attacked(PGD(steps=3), model, grey(), ThreatModel(Norm.L2, 0.3))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("settings", [{"steps": 0}, {"draws": 0}, {"restarts": 0}, {"step": 0.0}])
def test_settings_that_cannot_attack_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        PGD(**settings)  # type: ignore[arg-type]
