"""What makes Square Attack the Square Attack, and that its short cuts change nothing."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import Square
from robustcode.attacks.windows import Frame
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import GaussianNoise, Identity
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import Norm, ThreatModel

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"


class Steps(nn.Module):
    """Scores that are sums of whole numbers: the same to the last bit whatever the batch."""

    def __init__(self, values: int, lead: float) -> None:
        super().__init__()
        weights = Streams.of(0, "steps", torch.arange(2)).integers(9, values) - 4
        self.weights = weights.double()
        self.lead = lead
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach().clone())
        steps = (x * 64).round().flatten(1)
        one, two = ((steps * row).sum(1) for row in self.weights)
        score = one + (two % 17) + self.lead
        return torch.stack([score, -score, torch.full_like(score, -1e6)], dim=1)


def images(count: int, *shape: int) -> Tensor:
    return Streams.of(0, "images", torch.arange(count)).uniform(*shape, dtype=torch.float64)


def attacked(
    attack: Square, model: nn.Module, x: Tensor, threat: ThreatModel, width: int = 128
) -> tuple[Tensor, Ledger]:
    samples = torch.arange(len(x))
    ledger = Ledger(samples)
    target = DefendedTarget(
        Identity(model=model), ledger, stochastic=False, differentiable=True, width=width
    )
    y = torch.zeros(len(x), dtype=torch.long)
    return attack.perturb(target, x, y, threat, Streams.of(0, "test", samples)), ledger


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 7), (12,)], ids=str)
@pytest.mark.parametrize(("norm", "eps"), [(Norm.LINF, 0.1), (Norm.L2, 0.7), (Norm.L1, 3.0)])
def test_short_cuts_change_no_byte(norm: Norm, eps: float, shape: tuple[int, ...]) -> None:
    x, threat = images(5, *shape), ThreatModel(norm, eps)
    values = x[0].numel()
    # Some samples fall soon, some late and some not at all.
    model = Steps(values, lead=40.0 * math.sqrt(values))
    plain = Square(queries=700, memo=False, ahead=False)
    found, spent = attacked(plain, model, x, threat)
    for memo, ahead in ((True, False), (False, True), (True, True)):
        fast = dataclasses.replace(plain, memo=memo, ahead=ahead)
        again, passes = attacked(fast, model, x, threat)
        assert torch.equal(found, again), f"memo={memo}, ahead={ahead}"
        if not ahead:
            assert (passes.forwards <= spent.forwards).all()


def test_a_sample_gets_the_same_whatever_its_batch() -> None:
    x, threat = images(64, 1, 8, 8), ThreatModel(Norm.LINF, 0.1)
    model, attack = Steps(64, lead=300.0), Square(queries=300)
    whole, _ = attacked(attack, model, x, threat)
    y, streams = torch.zeros(64, dtype=torch.long), Streams.of(0, "test", torch.arange(64))
    for size in (32, 12, 1):
        for rows in torch.arange(64).split(size)[:3]:
            target = DefendedTarget(
                Identity(model=model),
                Ledger(torch.arange(64)),
                stochastic=False,
                differentiable=True,
            )
            part = attack.perturb(target, x[rows], y[rows], threat, streams[rows])
            assert torch.equal(part, whole[rows])


def test_no_query_is_spent_on_an_answer_that_is_known() -> None:
    """A proposal is never where the sample is, and one that was refused is not made again."""
    x, threat = images(1, 1, 6, 6), ThreatModel(Norm.LINF, 0.1)
    model = Steps(36, lead=1e6)
    _, ledger = attacked(Square(queries=2000, ahead=False), model, x, threat)
    asked = torch.cat(model.asked).flatten(1)
    changed = (asked[1:] != asked[:-1]).any(1)
    assert changed.all()
    # 36 places and two signs are all there is, for most of the iterations, with windows of a pixel.
    assert int(ledger.forwards) < 1400
    _, plain = attacked(Square(queries=500, ahead=False, memo=False), model, x, threat)
    assert int(plain.forwards) == 501


def test_linf_stays_on_the_bounds_and_reaches_the_last_row_and_column() -> None:
    x, threat = images(3, 2, 5, 5), ThreatModel(Norm.LINF, 0.1)
    weight = Streams.of(0, "plane", torch.arange(1)).normal(50, dtype=torch.float64)[0]

    class Plane(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1) @ weight + 1e3
            return torch.stack([score, -score], dim=1)

    found, _ = attacked(Square(queries=5000), Plane(), x, threat)
    low, high = (x - 0.1).clamp(min=0), (x + 0.1).clamp(max=1)
    best = torch.where(weight.view(2, 5, 5) > 0, low, high)
    assert torch.equal(found, best)


def test_the_first_answer_is_right_for_one_query_and_broken_samples_leave() -> None:
    """Half of the samples are broken by any perturbation: one pass each."""
    x = torch.cat([torch.full((2, 1, 5, 5), 0.9), torch.full((2, 1, 5, 5), 0.1)]).double()

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).mean(1) - 0.5
            return torch.stack([score, -score], dim=1)

    _, ledger = attacked(Square(queries=50), Mean(), x, ThreatModel(Norm.LINF, 0.1))
    assert ledger.forwards[2:].tolist() == [1, 1]
    assert (ledger.forwards[:2] > 5).all()


@pytest.mark.parametrize(("norm", "eps"), [(Norm.L2, 0.5), (Norm.L1, 2.0)])
def test_the_whole_budget_is_used_where_the_box_is_far(norm: Norm, eps: float) -> None:
    """The two windows give away what they had and take what was left: nothing is lost."""
    x, threat = torch.full((4, 3, 10, 10), 0.5).double(), ThreatModel(norm, eps)
    found, _ = attacked(Square(queries=400), Steps(300, lead=1e6), x, threat)
    assert threat.distance(found, x).tolist() == pytest.approx([eps] * 4, rel=1e-6)


def test_windows_shrink_as_published() -> None:
    """Sides on 28 x 28 and 32 x 32 images, worked out by hand from the authors' schedule."""
    attack, frame = Square(), Frame(1, 28, 28)
    sides = [(w.height, n) for w, n in attack.blocks(frame, Norm.LINF, 10_000)]
    assert sides == [
        (25, 11),
        (18, 40),
        (13, 150),
        (9, 300),
        (6, 500),
        (4, 1000),
        (3, 2000),
        (2, 999),
    ]
    rescaled = Square(queries=100, rescale=True).blocks(frame, Norm.LINF, 10_000)
    assert rescaled[-1][0].height == 1
    assert sum(count for _, count in rescaled) == 100
    odd = [w.height for w, _ in attack.blocks(Frame(3, 32, 32), Norm.L2, 10_000)]
    assert odd == [29, 21, 15, 11, 7, 5, 3]


def test_it_averages_draws_and_judges_on_held_out_ones() -> None:
    x = torch.full((2, 1, 4, 4), 0.55)

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).mean(1) - 0.5
            return torch.stack([score, -score], dim=1)

    samples = torch.arange(2)
    ledger = Ledger(samples)
    target = DefendedTarget(
        GaussianNoise(model=Mean(), sigma=0.4), ledger, stochastic=True, differentiable=True
    )
    attack = Square(queries=250, draws=3, held_out=5, memo=False, ahead=False)
    threat = ThreatModel(Norm.LINF, 0.04)
    y = torch.zeros(2, dtype=torch.long)
    found = attack.perturb(target, x, y, threat, Streams.of(0, "test", samples))
    # A start, then blocks of 11, 40, 100 + 50 and 49, each of which asks again where it stands.
    assert ledger.forwards.tolist() == [3 * (250 + 5) + 5 * (5 + 1)] * 2
    # Lucky draws end nothing: it goes down to the corner of the ball, or nearly.
    assert (found.flatten(1).mean(1) < 0.53).all()


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="queries = 0"):
        Square(queries=0)
    with pytest.raises(ConfigError, match=r"p = 1\.5"):
        Square(p=1.5)


def test_it_is_as_strong_as_published_on_real_images() -> None:
    """Of the first 64 images AutoAttack's code leaves 52 right after 300 queries, seed 0."""
    checkpoint = SHARED / "checkpoints" / "verification" / "mnist_cnn_a_adv.model"
    if not checkpoint.exists():
        pytest.skip("needs the published checkpoint mnist_cnn_a_adv.model in ../shared/data")
    model = load_classifier("mnist_cnn_a", checkpoint=checkpoint, classes=10).eval()
    data = load_data(f"mnist:{SHARED / 'mnist'}")
    samples = torch.arange(64)
    x, y = data.images(samples), data.targets(samples)
    target = DefendedTarget(
        Identity(model=model), Ledger(samples), stochastic=False, differentiable=True
    )
    threat = ThreatModel(Norm.LINF, 0.3)
    found = Square(queries=300).perturb(target, x, y, threat, Streams.of(0, "test", samples))
    threat.check(found, x, by="square")
    with torch.no_grad():
        right = int((model(found).argmax(1) == y).sum())
    assert abs(right - 52) <= 2
