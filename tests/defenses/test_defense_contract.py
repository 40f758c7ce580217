"""What every registered defence promises, on a small network."""

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcode.checkpoint import save_checkpoint
from robustcode.components import Component, Scalar
from robustcode.defenses import ABSTAIN, DEFENSES, Defense
from robustcode.errors import ConfigError
from robustcode.seeds import Streams

# Settings where the defaults do not suit 8x8 images, or show nothing; else these are tested.
SETTINGS: Mapping[str, Mapping[str, Scalar]] = {
    "coded-smoothing": {"k": 8},
    "mixup-inference": {"executions": 1},
    "random-ensemble": {"checkpoints": "other.safetensors"},
}
SHAPE = (3, 8, 8)
CLASSES = 5
ROWS = 7
# Enough for several predictions to occur in it.
POOL = 64
# float32 sums of a few hundred terms in another order.
ROUNDING = 1e-5


class Network(nn.Module):
    """Smooth, of fixed weights, with scores of size one."""

    def __init__(self) -> None:
        super().__init__()
        channels, height, width = SHAPE
        self.filters = nn.Parameter(numbers(6, channels, 3, 3) / 3)
        self.head = nn.Parameter(numbers(CLASSES, 6 * height * width) / 10)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        maps = torch.tanh(torch.conv2d(x, self.filters, padding=1))
        return maps.flatten(1) @ self.head.T


def numbers(*shape: int) -> Tensor:
    return streams_of(1, 0).normal(*shape)[0]


def images(count: int, purpose: str = "images") -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*SHAPE)


def streams_of(count: int, seed: int) -> Streams:
    return Streams.of(seed, "draw", torch.arange(count))


@pytest.fixture(autouse=True)
def in_a_folder_with_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an ensemble: the same network, with its classes in another order."""
    other = Network()
    other.head.data = other.head.data.flip(0)
    save_checkpoint(other, tmp_path / "other.safetensors", {})
    monkeypatch.chdir(tmp_path)


def build(name: str, pool: str = "pool") -> Defense:
    component = Component(name, SETTINGS.get(name, {}))
    defense = component.build(DEFENSES, "test", model=Network().eval(), mates=images(POOL, pool))
    assert isinstance(defense, Defense)
    return defense


@pytest.fixture(params=list(DEFENSES))
def name(request: pytest.FixtureRequest) -> str:
    value = request.param
    assert isinstance(value, str)
    return value


@pytest.fixture
def defense(name: str) -> Defense:
    return build(name)


def gradient(scores: Tensor, x: Tensor) -> Tensor:
    """Of the sum of the scores, zero where there is none."""
    if not scores.requires_grad:
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(scores.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if found is None else found


@torch.no_grad()
def test_same_streams_give_the_same_scores(defense: Defense) -> None:
    x = images(ROWS)
    scores = defense.logits(x, streams_of(ROWS, 0))
    assert scores.shape == (ROWS, CLASSES)
    assert torch.equal(scores, defense.logits(x, streams_of(ROWS, 0)))


@torch.no_grad()
def test_a_row_does_not_depend_on_the_others(defense: Defense) -> None:
    x, streams = images(ROWS), streams_of(ROWS, 0)
    scores = defense.logits(x, streams)
    for rows in ([4], [6, 1, 3], [5, 5], list(range(ROWS))[::-1]):
        chosen = torch.tensor(rows)
        alone = defense.logits(x[chosen], streams[chosen])
        torch.testing.assert_close(alone, scores[chosen], atol=ROUNDING, rtol=0)


@torch.no_grad()
def test_two_draws_differ_exactly_if_it_is_declared_stochastic(defense: Defense) -> None:
    x = images(ROWS)
    one, other = (defense.logits(x, streams_of(ROWS, seed)) for seed in (0, 1))
    assert torch.equal(one, other) is not defense.stochastic


@torch.no_grad()
def test_mates_matter_exactly_if_it_is_declared_to_need_them(name: str) -> None:
    x, streams = images(ROWS), streams_of(ROWS, 0)
    one, other = (build(name, pool).logits(x, streams) for pool in ("pool", "other pool"))
    defense = build(name)
    assert torch.equal(one, other) is not (defense.batch_coupled or defense.needs_mates)


def test_scores_have_a_gradient_exactly_if_it_is_declared_differentiable(defense: Defense) -> None:
    x = images(ROWS).requires_grad_()
    found = gradient(defense.logits(x, streams_of(ROWS, 0)), x)
    assert found.isfinite().all()
    assert (found != 0).flatten(1).any(1).tolist() == [defense.differentiable] * ROWS


def test_gradient_of_differentiable_scores_is_their_derivative(defense: Defense) -> None:
    if not defense.differentiable:
        return
    defense.model.double()
    x, streams = images(2).double().requires_grad_(), streams_of(2, 0)
    assert torch.autograd.gradcheck(lambda x: defense.logits(x, streams), x, fast_mode=True)


def test_surrogate_has_the_same_scores_and_a_gradient(defense: Defense) -> None:
    x, streams = images(ROWS).requires_grad_(), streams_of(ROWS, 0)
    scores = defense.surrogate(x, streams)
    assert torch.equal(scores, defense.logits(x, streams))
    found = gradient(scores, x)
    assert found.isfinite().all()
    assert (found != 0).flatten(1).any(1).all()


def test_nothing_outside_is_touched(defense: Defense) -> None:
    x, streams = images(ROWS), streams_of(ROWS, 0)
    before = x.clone(), streams.keys.clone()
    weights = [p.clone() for p in defense.model.parameters()]
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    for scores in (defense.logits, defense.surrogate, defense.decide):
        scores(x, streams)
    assert torch.equal(x, before[0])
    assert torch.equal(streams.keys, before[1])
    assert all(map(torch.equal, weights, defense.model.parameters()))
    assert all(p.grad is None for p in defense.model.parameters())
    assert not defense.model.training
    assert torch.equal(torch.get_rng_state(), state[0])
    assert str(np.random.get_state()) == str(state[1])
    assert random.getstate() == state[2]


@torch.no_grad()
def test_passes_are_what_a_row_costs(defense: Defense) -> None:
    model = defense.model
    assert isinstance(model, Network)
    model.seen = 0  # making the defence may cost something once
    defense.logits(images(ROWS), streams_of(ROWS, 0))
    if defense.detector:
        defense.rejection(images(ROWS), streams_of(ROWS, 0))
    assert model.seen == ROWS * defense.passes


@torch.no_grad()
def test_precision_and_an_empty_batch_pass_through(defense: Defense) -> None:
    assert defense.logits(images(0), streams_of(0, 0)).shape == (0, CLASSES)
    defense.model.double()
    assert defense.logits(images(2).double(), streams_of(2, 0)).dtype == torch.float64


def test_decision_is_the_class_of_most_draws(name: str) -> None:
    if not DEFENSES.get(name).stochastic:
        return
    settings = {**SETTINGS.get(name, {}), "votes": 9}
    defense: Defense = Component(name, settings).build(
        DEFENSES, "test", model=Network(), mates=images(POOL, "pool")
    )
    x, streams = images(40), streams_of(40, 0)
    counts = torch.zeros(40, CLASSES)
    for vote in range(9):
        scores = defense.logits(x, streams.child("vote", vote))
        counts[torch.arange(40), scores.argmax(1)] += 1
    top = counts.topk(2).values
    expected = torch.where(top[:, 0] > top[:, 1], counts.argmax(1), ABSTAIN)
    assert torch.equal(defense.decide(x, streams), expected)
    # A setting in which every draw agrees would not test the count.
    assert (top[:, 0] < 9).any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gaussian-noise:sigma=-0.1", r"sigma = -0\.1"),
        ("gaussian-noise:sigma=inf", "sigma = inf"),
        ("gaussian-noise:votes=0", "votes = 0: a decision is made of 1 draw or more"),
        ("random-resize-pad:shrink=0", r"shrink = 0\.0"),
        ("random-resize-pad:shrink=1.01", r"shrink = 1\.01"),
        ("random-resize-pad:votes=-3", "votes = -3"),
        ("jpeg:quality=0", "quality = 0"),
        ("jpeg:quality=101", "quality = 101"),
        ("bit-depth:bits=0", "bits = 0"),
        ("bit-depth:bits=9", "bits = 9"),
        ("coded-smoothing:k=2", "3 of each or more"),
        ("coded-smoothing:k=8,ratio=0", r"ratio = 0\.0"),
        ("coded-smoothing:k=8,ratio=nan", "ratio = nan"),
        ("coded-smoothing:k=8,ratio=0.2", "n = 2"),
        ("coded-smoothing:k=5,ratio=2.2", "codes nothing"),
        ("coded-smoothing:k=8,c=-1", r"c = -1\.0"),
        ("coded-smoothing:k=8,votes=0", "votes = 0"),
        ("coded-smoothing:k=12", "needs 11 mates; the pool has 10"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Component.parse(text).build(DEFENSES, "test", model=Network(), mates=images(10))
