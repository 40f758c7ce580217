"""NES, SPSA and HopSkipJump need no gradient. That they work is in test_attack_contract.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import NES, PGD, SPSA, Attack, HopSkipJump
from robustcode.attacks.differences import Differences
from robustcode.attacks.follow import Place
from robustcode.attacks.losses import negative_margin
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import JPEG, BitDepth, Defense, Identity
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.testing.problems import open_problems
from robustcode.threat import Norm, ThreatModel

SMALL: tuple[Attack, ...] = (
    NES(steps=3, pairs=4),
    SPSA(steps=3, pairs=4),
    HopSkipJump(steps=2, queries=10, tries=20),
)


class Decided(nn.Module):
    """The decisions of a model and nothing else: its best class has score 1, the others 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(x)
        return nn.functional.one_hot(scores.argmax(1), scores.shape[1]).to(x.dtype)


def target_of(defense: Defense, count: int, differentiable: bool = True) -> DefendedTarget:
    ledger = Ledger(torch.arange(count))
    return DefendedTarget(
        defense, ledger, stochastic=defense.stochastic, differentiable=differentiable
    )


def streams(count: int) -> Streams:
    return Streams.of(0, "test", torch.arange(count))


def digits(count: int) -> tuple[Tensor, Tensor]:
    data = load_data("digits")
    return data.images(torch.arange(count)), data.targets(torch.arange(count))


@pytest.mark.parametrize("attack", [NES(), SPSA()], ids=["nes", "spsa"])
def test_differences_of_a_plane_show_its_slope(attack: Attack) -> None:
    """On a linear score one estimate of n pairs has the cosine sqrt(n / (n + d)) with it."""
    problem, pairs = open_problems(Norm.L2)[1], 2000
    ways = {
        "NES": lambda s, x: s.normal(*x.shape[1:]),
        "SPSA": lambda s, x: (s.integers(2, *x.shape[1:]) * 2 - 1).to(x.dtype),
    }[type(attack).__name__]
    count = len(problem.x)
    look = Differences(
        target=target_of(Identity(model=problem.model), count),
        threat=ThreatModel(Norm.L2, 0.1),
        loss=negative_margin,
        ways=ways,
        reach=0.01,
        pairs=pairs,
    )
    view = look(Place(problem.x, problem.x, problem.y, streams(count)))
    weight = problem.model.weight[:, 1] - problem.model.weight[:, 0]
    slope = weight * (1 - 2 * problem.y[:, None])
    cosine = torch.cosine_similarity(view.gradient.flatten(1), slope, dim=1)
    assert (cosine >= 0.98).all()  # sqrt(2000 / 2048) = .988
    size = view.gradient.flatten(1).norm(dim=1) / slope.norm(dim=1)
    # The length of the mean of n is sqrt(1 + d / n) of the slope's, give or take
    # sqrt(2 / n) = .03 for what each pair makes of it, of which four are allowed.
    assert ((size - 1.012).abs() < 0.13).all()


@pytest.mark.parametrize("attack", [NES(steps=4, pairs=7), SPSA(steps=4, pairs=7)])
def test_a_step_costs_what_it_says(attack: NES | SPSA) -> None:
    """Of a sample that stands to the end: 2 pairs + 1 for every step, and a last look."""
    x = torch.full((1, 1, 2, 3), 0.5)

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = 9 + x.flatten(1).sum(1)
            return torch.stack([score, -score], dim=1)

    ledger = Ledger(torch.arange(1))
    target = DefendedTarget(Identity(model=Sure()), ledger, stochastic=False, differentiable=True)
    y = torch.zeros(1, dtype=torch.int64)
    attack.perturb(target, x, y, ThreatModel(Norm.LINF, 0.1), streams(1))
    assert ledger.forwards.tolist() == [5 * 15]
    assert ledger.backwards.tolist() == [0]


def test_decisions_alone_lead_hopskipjump_to_the_boundary() -> None:
    """With every score hidden it comes within 5 % of the distance in closed form."""
    for norm in (Norm.LINF, Norm.L2):
        problem = open_problems(norm)[0]
        count = len(problem.x)
        target = target_of(Identity(model=Decided(problem.model)), count)
        threat = ThreatModel(norm, 0.5)
        attack = HopSkipJump(until_broken=False)
        found = attack.perturb(target, problem.x, problem.y, threat, streams(count))
        assert (problem.model(found).argmax(1) != problem.y).all()
        ratio = threat.distance(found, problem.x) / problem.critical
        assert (ratio <= 1.05).all(), ratio
        assert (ratio >= 0.999).all(), ratio


@pytest.mark.parametrize("kind", [JPEG, BitDepth])
def test_pgd_goes_through_the_surrogate_of_what_has_no_gradient(
    kind: type[JPEG] | type[BitDepth],
) -> None:
    """BPDA: with the surrogate it breaks digits that it cannot move without."""
    x, y = digits(32)
    model = load_classifier("digits_cnn", classes=10).requires_grad_(False)
    defense = kind(model=model)
    threat, attack = ThreatModel(Norm.LINF, 0.25), PGD(steps=20)
    right = []
    for differentiable in (True, False):
        found = attack.perturb(target_of(defense, 32, differentiable), x, y, threat, streams(32))
        with torch.no_grad():
            decided = defense.logits(found, streams(32)).argmax(1)
        right.append((decided == y).float().mean().item())
    assert right[1] <= 0.3, right
    assert right[1] <= right[0] - 0.3, right


def test_nes_sees_across_the_levels_of_a_quantised_input() -> None:
    x, y = digits(16)
    model = load_classifier("digits_cnn", classes=10).requires_grad_(False)
    defense = BitDepth(model=model)
    attack = NES(steps=30, pairs=15, reach=0.1)
    found = attack.perturb(target_of(defense, 16), x, y, ThreatModel(Norm.LINF, 0.25), streams(16))
    with torch.no_grad():
        assert (defense.logits(found, streams(16)).argmax(1) != y).float().mean() >= 0.5


@pytest.mark.parametrize("attack", SMALL, ids=lambda attack: type(attack).__name__)
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("classes", [2, 3])
def test_few_samples_and_classes_are_no_matter(attack: Attack, count: int, classes: int) -> None:
    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :classes]

    x = torch.full((count, 12), 0.5)  # all classes tie
    y = torch.zeros(count, dtype=torch.int64)
    threat = ThreatModel(Norm.LINF, 0.1)
    found = attack.perturb(target_of(Identity(model=First()), count), x, y, threat, streams(count))
    assert found.shape == x.shape


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        *((NES, name) for name in ("steps", "pairs", "step", "reach", "held_out")),
        *((SPSA, name) for name in ("steps", "pairs", "step", "reach", "held_out")),
        *((HopSkipJump, name) for name in ("steps", "queries", "tries", "draws", "held_out")),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind: type[Attack], setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} = 0"):
        kind(**{setting: 0})
