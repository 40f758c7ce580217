"""What makes AggMo AggMo. That it works at all is in test_attack_contract.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import PGD, AggMo, Attack, LossName
from robustcode.attacks.aggmo import Aggregated
from robustcode.defenses import Defense, GaussianNoise, Identity
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.testing.problems import two_cells
from robustcode.testing.situations import NoisySlope
from robustcode.threat import Norm, ThreatModel

ROWS = torch.arange(2)


def gradients(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(2, 1, 2, 3, generator=generator) for _ in range(count)]


def attacked(
    attack: Attack, defense: Defense, x: Tensor, y: Tensor, threat: ThreatModel
) -> tuple[Tensor, Ledger]:
    samples = torch.arange(len(x))
    ledger = Ledger(samples)
    target = DefendedTarget(defense, ledger, stochastic=defense.stochastic, differentiable=True)
    return attack.perturb(target, x, y, threat, Streams.of(0, "test", samples)), ledger


def test_momenta_forget_as_fast_as_the_paper_says() -> None:
    """After three gradients each buffer is their sum weighted by 1, 1 - 10^-j and its square."""
    x, threat = torch.full((2, 1, 2, 3), 0.5), ThreatModel(Norm.L2, 0.1)
    memory = Aggregated(threat, x, 3)
    seen, way = gradients(3), x
    for number, gradient in enumerate(seen, 1):
        way = memory.direction(ROWS, gradient, x, number)
    sums = [seen[2] + kept * seen[1] + kept**2 * seen[0] for kept in (0.0, 0.9, 0.99)]
    units = [threat.steepest(total, x) for total in sums]
    torch.testing.assert_close(way, torch.stack(units).mean(0))


@pytest.mark.parametrize("norm", list(Norm))
def test_gradients_that_agree_make_a_whole_step(norm: Norm) -> None:
    x = torch.full((2, 1, 2, 3), 0.5)
    threat = ThreatModel(norm, 0.1)
    memory, gradient, way = Aggregated(threat, x, 3), gradients(1)[0], x
    for number in range(1, 5):
        way = memory.direction(ROWS, gradient, x, number)
    torch.testing.assert_close(way, threat.steepest(gradient, x))


def test_a_sample_remembers_its_own_gradients() -> None:
    x = torch.full((2, 1, 2, 3), 0.5)
    threat = ThreatModel(Norm.L2, 0.1)
    whole, alone = Aggregated(threat, x, 3), Aggregated(threat, x, 3)
    second, both, one = torch.tensor([1]), x, x
    for number, gradient in enumerate(gradients(4), 1):
        both = whole.direction(ROWS, gradient, x, number)
        one = alone.direction(second, gradient[1:], x[1:], number)
    torch.testing.assert_close(both[1:], one)


def test_one_momentum_is_pgd_on_the_margin() -> None:
    class Bent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = torch.sin(3 * x).flatten(1).sum(1)
            return torch.stack([score, -score], dim=1)

    x = torch.rand(5, 1, 2, 3, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    y, threat = torch.zeros(5, dtype=torch.int64), ThreatModel(Norm.L2, 0.1)
    own = AggMo(steps=7, step=0.2, momenta=1, random_start=False)
    plain = PGD(steps=7, step=0.2, loss=LossName.MARGIN, random_start=False)
    found = [attacked(a, Identity(model=Bent()), x, y, threat)[0] for a in (own, plain)]
    torch.testing.assert_close(found[0], found[1])


def test_a_plane_that_leans_at_random_is_seen_better_than_by_pgd() -> None:
    """At the same number of passes: what the momenta average, PGD looks at and forgets."""
    problem = two_cells("a plane that leans at random", Norm.LINF, (3, 8, 8), scale=1.0)
    weight = problem.model.weight[:, 0] - problem.model.weight[:, 1]
    # The noise of one draw is ten times the gradient.
    defense = NoisySlope(model=problem.model, sigma=10 * weight.square().mean().sqrt().item())
    threat = ThreatModel(Norm.LINF, 0.02)
    shares, spent = [], []
    for attack in (
        AggMo(steps=80, draws=4),
        PGD(steps=80, draws=4, loss=LossName.MARGIN, step=0.1),
    ):
        x_adv, ledger = attacked(attack, defense, problem.x, problem.y, threat)
        move = (x_adv - problem.x).flatten(1) * (2 * problem.y[:, None] - 1)
        shares.append(((move @ weight) / (threat.eps * weight.abs().sum())).mean().item())
        spent.append(int(ledger.backwards.sum()))
    assert spent[0] == spent[1]
    assert shares[0] >= shares[1] + 0.2, shares


def test_what_is_broken_is_not_asked_about_again() -> None:
    x = torch.stack([torch.full((1, 2, 3), 0.501), torch.full((1, 2, 3), 0.9)])

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).mean(1) - 0.5
            return torch.stack([score, -score], dim=1)

    y, threat = torch.zeros(2, dtype=torch.int64), ThreatModel(Norm.LINF, 0.1)
    attack = AggMo(steps=20, random_start=False)
    found, ledger = attacked(attack, Identity(model=Mean()), x, y, threat)
    assert Mean()(found).argmax(1).tolist() == [1, 0]
    # 20 steps and a last look; the other at .501, once at .491.
    assert ledger.backwards.tolist() == [2, 21]


def test_nothing_leaves_on_a_lucky_draw() -> None:
    problem = two_cells("two classes", Norm.L2, (12,), scale=1.0)
    defense = GaussianNoise(model=problem.model, sigma=0.2)
    attack = AggMo(steps=6, draws=2, held_out=3)
    _, ledger = attacked(attack, defense, problem.x, problem.y, ThreatModel(Norm.L2, 0.3))
    assert ledger.backwards.tolist() == [12] * 4
    assert ledger.forwards.tolist() == [12 + 2 * 3] * 4


@pytest.mark.parametrize("setting", ["steps", "draws", "momenta", "held_out", "step"])
def test_settings_that_mean_nothing_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} = 0"):
        AggMo(**{setting: 0})  # type: ignore[arg-type]  # of another field
