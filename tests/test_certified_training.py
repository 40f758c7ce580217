"""Recipes that train what can be certified: against closed forms, and against what they bound."""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.bounds import Region, interval_bounds, interval_margins, margins, network_of
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel
from robustcode.training import (
    IBP,
    CrownIBP,
    Gaussian,
    Recipe,
    SmoothAdv,
    Standard,
    TrainSpec,
    train,
)
from robustcode.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flat(classes: int = 3) -> nn.Sequential:
    """A linear classifier, for which worst cases are known."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes)).double()


def weight_of(network: nn.Sequential) -> Tensor:
    """The matrix of ``flat``, (classes, values)."""
    weight = network[1].weight
    assert isinstance(weight, Tensor)
    return weight


def batch(rows: int = 6, classes: int = 3) -> tuple[Tensor, Tensor, Streams]:
    """Points far enough from the walls of the box that a ball of 0.1 is whole."""
    torch.manual_seed(1)
    x = 0.2 + 0.6 * torch.rand(rows, 3, 2, 2, dtype=torch.float64)
    return x, torch.arange(rows) % classes, Streams.of(0, "test", torch.arange(rows))


def digits(rows: int, start: int = 0) -> tuple[Tensor, Tensor, Streams]:
    """Test images, in double precision."""
    test, samples = load_data("digits", "test"), torch.arange(start, start + rows)
    x, y = test.images(samples).double(), test.targets(samples)
    return x, y, Streams.of(0, "test", samples)


def uneasy() -> nn.Sequential:
    """A network with all that depends on its mode, in training mode."""
    torch.manual_seed(3)
    layers = (nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 8), nn.ReLU(), nn.Dropout())
    return nn.Sequential(*layers, nn.Linear(8, 3)).double().train()


# Noise ---------------------------------------------------------------------------------------


def test_noise_of_no_size_is_standard_training() -> None:
    network, (x, y, streams) = flat(), batch()
    expected = Standard().loss(network, x, y, streams)
    assert Gaussian(sigma=0).loss(network, x, y, streams) == expected
    torch.testing.assert_close(Gaussian(sigma=0, draws=3).loss(network, x, y, streams), expected)


def test_noise_on_a_linear_model_moves_its_margin_by_a_gaussian() -> None:
    """With two classes the margin is normal of scale sigma |w|; its mean loss is an integral."""
    network, (x, y, streams) = flat(classes=2), batch(classes=2)
    weight = weight_of(network)[0] - weight_of(network)[1]
    scores = network(x)
    margin = (scores[:, 0] - scores[:, 1]) * (1 - 2 * y)
    # Gauss-Hermite quadrature of E softplus(-(margin + sigma |w| z)).
    nodes, weights = map(torch.as_tensor, np.polynomial.hermite_e.hermegauss(60))
    losses = F.softplus(-(margin[:, None] + 4 * weight.norm() * nodes))
    weights = weights / weights.sum() / len(x)
    expected = (losses * weights).sum()
    spread = ((losses - expected).square() * weights).sum().sqrt() / math.sqrt(4000 * len(x))
    recipe = Gaussian(sigma=4, draws=4000)
    assert abs(recipe.loss(network, x, y, streams) - expected) < 4 * spread


def test_each_copy_and_each_sample_has_its_own_noise() -> None:
    x, _, streams = batch()
    noise = Gaussian(sigma=0.25, draws=3).noise(x, streams)
    assert noise.shape == (3, *x.shape)
    assert len(noise.unique()) == noise.numel()
    # What a sample is given depends neither on its batch nor on how many copies are asked for.
    assert torch.equal(Gaussian(sigma=0.25, draws=2).noise(x[2:4], streams[2:4]), noise[:2, 2:4])


def test_an_adversary_without_a_budget_leaves_the_noise_alone() -> None:
    network, (x, y, streams) = flat(), batch()
    noisy = Gaussian(sigma=0.3, draws=4).loss(network, x, y, streams)
    assert SmoothAdv(threat="l2:0", sigma=0.3, draws=4).loss(network, x, y, streams) == noisy


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_the_adversary_of_a_smoothed_linear_model_goes_straight_down(steps: int) -> None:
    network, (x, y, streams) = flat(classes=2), batch(classes=2)
    downhill = (weight_of(network)[1] - weight_of(network)[0]).detach()
    worst = x + 0.1 * (1 - 2 * y).view(-1, 1, 1, 1) * (downhill / downhill.norm()).view(3, 2, 2)
    recipe = SmoothAdv(threat="l2:0.1", sigma=0.3, draws=4, steps=steps)
    expected = recipe.noisy_loss(network, worst, y, recipe.noise(x, streams))
    torch.testing.assert_close(recipe.loss(network, x, y, streams), expected)


def test_the_adversary_follows_the_mean_softmax_and_not_the_mean_loss() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    x, y, streams = batch()
    recipe = SmoothAdv(threat="l2:0.1", sigma=1.0, draws=3, steps=1, step=1)
    noise = recipe.noise(x, streams)
    start = x.clone().requires_grad_()
    mean = torch.stack([network(start + one).softmax(1) for one in noise]).mean(0)
    (gradient,) = torch.autograd.grad(-mean.gather(1, y[:, None]).log().sum(), start)
    size = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    recipe.loss(network, x, y, streams)
    expected = (x + 0.1 * gradient / size + noise).flatten(0, 1)
    torch.testing.assert_close(seen[-1], expected)


def test_the_adversary_leaves_the_network_alone() -> None:
    """Modes, gradients and batch-norm statistics are those of the outer loss alone."""
    network, (x, y, streams) = uneasy(), batch()
    before = torch.get_rng_state()
    network[4].eval()  # dropout draws from the global generator, and is its owner's
    SmoothAdv(threat="l2:0.1").loss(network, x, y, streams)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in network] == [True] * 4 + [False, True]
    assert all(weight.grad is None for weight in network.parameters())
    assert network.state_dict()["1.num_batches_tracked"] == 1


# Bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [0, 0.3, 1])
@pytest.mark.parametrize("beta", [0, 0.5, 1])
def test_a_ball_without_a_radius_leaves_cross_entropy(kappa: float, beta: float) -> None:
    network = load_classifier("digits_cnn").double()
    x, y, streams = digits(20)
    expected = Standard().loss(network, x, y, streams)
    for recipe in (
        IBP(threat="linf:0", kappa=kappa),
        CrownIBP(threat="linf:0", kappa=kappa, beta=beta),
    ):
        torch.testing.assert_close(recipe.loss(network, x, y, streams), expected)


@pytest.mark.parametrize("eps", [0.01, 0.1])
@pytest.mark.parametrize("kappa", [0, 0.5])
@pytest.mark.parametrize("kind", [IBP, CrownIBP])
def test_on_a_linear_model_the_bound_is_that_of_each_margin(
    kind: type[IBP], kappa: float, eps: float
) -> None:
    """Each margin is at its least exactly, which it is not with scores that are bounded singly."""
    network, (x, y, streams) = flat(), batch()
    scores, weight = network(x), weight_of(network)
    gap = scores - scores.gather(1, y[:, None])
    worst = gap + eps * (weight[None] - weight[y][:, None]).abs().sum(2)
    expected = kappa * gap.logsumexp(1).mean() + (1 - kappa) * worst.logsumexp(1).mean()
    loss = kind(threat=f"linf:{eps}", kappa=kappa).loss(network, x, y, streams)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("kind", [IBP, CrownIBP])
def test_the_bound_stays_in_the_box(kind: type[IBP]) -> None:
    """From a black image values only rise: half of the ball is no input."""
    network, (x, y, streams) = flat(), batch()
    black = torch.zeros_like(x)
    scores, weight = network(black), weight_of(network)
    rise = (weight[None] - weight[y][:, None]).clamp(min=0).sum(2)
    worst = scores - scores.gather(1, y[:, None]) + 0.1 * rise
    loss = kind(threat="linf:0.1", kappa=0).loss(network, black, y, streams)
    torch.testing.assert_close(loss, worst.logsumexp(1).mean())


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2.0), ("l1", math.inf)])
def test_linear_bounds_of_a_linear_model_are_exact_in_other_norms(norm: str, dual: float) -> None:
    network, (x, y, streams) = flat(), batch()
    scores, weight = network(x), weight_of(network)
    reach = torch.linalg.vector_norm(weight[None] - weight[y][:, None], ord=dual, dim=2)
    worst = scores - scores.gather(1, y[:, None]) + 0.1 * reach
    recipe = CrownIBP(threat=f"{norm}:0.1", kappa=0, beta=1)
    torch.testing.assert_close(recipe.loss(network, x, y, streams), worst.logsumexp(1).mean())


def worst_found(network: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel) -> Tensor:
    """The largest loss of each row on 100 random points and on the way of 20 steps uphill."""
    streams = Streams.of(5, "test", torch.arange(len(x)))
    wrong = partial(F.cross_entropy, target=y, reduction="none")
    point, found = x, torch.zeros_like(x[:, 0, 0, 0])
    for draw in range(100):
        point = threat.random(x, streams.child(draw))
        found = found.maximum(wrong(network(point)).detach())
    for _ in range(20):
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(wrong(network(point)).sum(), point)
        uphill = threat.steepest(gradient, point.detach())
        point = threat.project(point.detach() + threat.eps / 4 * uphill, x)
        found = found.maximum(wrong(network(point)).detach())
    return found


@pytest.mark.parametrize("model", ["digits_cnn", "digits_cnn:adversarial"])
@pytest.mark.parametrize("threat", ["linf:0.02", "linf:0.1", "l2:0.2", "l1:0.5"])
def test_no_point_of_the_ball_has_a_larger_loss(model: str, threat: str) -> None:
    network = load_classifier(model).double()
    x, y, streams = digits(8, start=30)
    found = worst_found(network, x, y, ThreatModel.parse(threat))
    recipes: list[IBP] = [CrownIBP(threat=threat, kappa=0, beta=beta) for beta in (0, 0.5, 1)]
    for recipe in [IBP(threat=threat, kappa=0), *recipes]:
        for row in range(len(x)):  # a mean could hide a row that is above its bound
            bound = recipe.loss(network, x[row : row + 1], y[row : row + 1], streams[:1])
            # Rounding in double precision: the linear bound of a ball is hardly above the worst.
            assert bound > found[row] * (1 - 1e-9)
    blend = IBP(threat=threat, kappa=0.25).loss(network, x, y, streams)
    assert blend > 0.25 * F.cross_entropy(network(x), y) + 0.75 * found.mean()


@pytest.mark.parametrize(
    "recipe",
    [
        IBP(threat="linf:0.05", kappa=0.2),
        CrownIBP(threat="linf:0.05", kappa=0.2, beta=0.6),
        CrownIBP(threat="l2:0.2", kappa=0.2, beta=0.6),
    ],
)
def test_the_bound_follows_the_parameters(recipe: IBP) -> None:
    """Its gradient is the slope of the bound, through every layer and both of its terms."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 10))
    network = nn.Sequential(*layers).double()
    x, y, streams = digits(5)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(recipe.loss(network, x, y, streams), parameters)
    directions = [torch.randn_like(value) for value in parameters]

    def moved(by: float) -> Tensor:
        for value, direction in zip(parameters, directions, strict=True):
            value.data.add_(by * direction)
        return recipe.loss(network, x, y, streams).detach()

    rise = (moved(1e-6) - moved(-2e-6)) / 2e-6
    slopes = [(a * b).sum() for a, b in zip(gradients, directions, strict=True)]
    torch.testing.assert_close(rise, torch.stack(slopes).sum(), rtol=1e-5, atol=1e-8)


def certified(weights: Path, eps: float) -> float:
    """Fraction of 300 test images of which interval bounds prove the label at ``eps``."""
    network = load_classifier("digits_cnn", weights).double()
    x, y, _ = digits(300)
    graph = network_of(network, x[:1], dtype=None)
    region = Region(x, torch.full((300,), eps).double(), Norm.LINF, 0.0, 1.0)
    lower = interval_margins(graph, interval_bounds(graph, region), margins(y, 10).double())
    return float((lower > 0).all(1).double().mean())


def test_training_on_bounds_is_what_makes_them_hold(tmp_path: Path) -> None:
    share = {}
    for recipe in ("standard", "ibp:threat=linf:0.03"):
        out = tmp_path / f"{recipe.partition(':')[0]}.safetensors"
        train(spec(recipe, epochs=5, batch_size=32, lr=2e-3), out, progress=False)
        share[recipe.partition(":")[0]] = certified(out, 0.03)
    assert share["standard"] == 0
    assert share["ibp"] > 0.4, share


# The ramp ------------------------------------------------------------------------------------


def test_a_ramp_begins_plain_and_ends_as_it_says() -> None:
    recipe = CrownIBP(threat="linf:0.2", kappa=0.4, beta=0.3, warm_up=0.1, ramp=0.5)
    flat_out = dataclasses.replace(recipe, threat="linf:0.2", warm_up=0, ramp=0)
    for done in (0, 0.1):
        assert recipe.at(done) == dataclasses.replace(flat_out, threat="linf:0.0", kappa=1, beta=1)
    middle = recipe.at(0.35)
    assert ThreatModel.parse(middle.threat).eps == pytest.approx(0.1)
    assert (middle.kappa, middle.beta) == pytest.approx((0.7, 0.65))
    for done in (0.6, 0.99):
        assert recipe.at(done) == flat_out
    # Without a ramp the whole run is its end.
    assert flat_out.at(0) == flat_out
    adversary = SmoothAdv(threat="l2:0.5", ramp=0.2)
    assert adversary.at(0.1) == SmoothAdv(threat="l2:0.25", ramp=0)
    assert adversary.at(0.2) == SmoothAdv(threat="l2:0.5", ramp=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched(Recipe):
    """Cross-entropy that remembers when it was asked for."""

    asked: list[float] = dataclasses.field(default_factory=list)

    def at(self, done: float) -> Self:
        self.asked.append(done)
        return self

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        return F.cross_entropy(network(x), y)


def test_the_loop_tells_a_recipe_where_it_stands() -> None:
    recipe = Watched()
    trainer = Trainer(
        spec=spec("standard", epochs=2, batch_size=50),
        recipe=recipe,
        network=load_classifier("digits_cnn"),
        data=load_data("digits", "train"),
        samples=torch.arange(100),
        device=torch.device("cpu"),
    )
    for _ in range(2):
        trainer.run_epoch(lambda number, loss: None)
    assert recipe.asked == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    "recipe",
    ["smoothadv:threat=l2:0.3,steps=2,ramp=0.8", "crown-ibp:threat=linf:0.1,warm_up=0.1,ramp=0.8"],
)
def test_an_interrupted_ramp_goes_on_where_it_was(recipe: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"

    def interrupt(epoch: int, loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    described = spec(recipe, epochs=3, samples=128)
    train(described, whole, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(described, broken, progress=False, watch=interrupt)
    train(described, broken, progress=False)
    assert broken.read_bytes() == whole.read_bytes()


# Refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("gaussian:sigma=-1", r"sigma = -1.*finite and >= 0"),
        ("gaussian:sigma=nan", "sigma = nan"),
        ("gaussian:draws=0", "draws = 0"),
        ("smoothadv", "needs threat"),
        ("smoothadv:threat=l2:0.5,sigma=inf", "sigma = inf"),
        ("smoothadv:threat=l2:0.5,steps=0", "steps = 0"),
        ("smoothadv:threat=l2:0.5,step=0", "step = 0"),
        ("smoothadv:threat=l2:0.5,ramp=2", r"ramp = 2.*\[0, 1\]"),
        ("smoothadv:threat=l3:0.5", "l3"),
        ("ibp", "needs threat"),
        ("ibp:threat=linf:8", "8/255"),
        ("ibp:threat=linf:0.1,kappa=1.5", r"kappa = 1.5.*\[0, 1\]"),
        ("ibp:threat=linf:0.1,warm_up=-1", r"warm_up = -1.*\[0, 1\]"),
        ("ibp:threat=linf:0.1,ramp=nan", r"ramp = nan.*\[0, 1\]"),
        ("ibp:threat=linf:0.1,warm_up=0.6,ramp=0.6", "warm_up = 0.6 and ramp = 0.6"),
        ("ibp:threat=l2:100", "whole box"),
        ("crown-ibp:threat=linf:0.1,beta=-1", r"beta = -1.*\[0, 1\]"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(
    recipe: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        train(spec(recipe), tmp_path / "w.safetensors", progress=False)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", ["ibp", "crown-ibp"])
def test_a_layer_without_bounds_is_named_before_the_warm_up_is_spent(
    recipe: str, tmp_path: Path
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Softplus(), nn.Linear(16, 10))
    described = spec(f"{recipe}:threat=linf:0.1,warm_up=1,ramp=0", model=network)
    with pytest.raises(ConfigError, match="Softplus"):
        train(described, tmp_path / "w.safetensors", progress=False)
    assert not list(tmp_path.iterdir())


def test_batch_norm_is_refused_where_it_moves() -> None:
    network, (x, y, streams) = uneasy(), batch()
    recipe = IBP(threat="linf:0.1")
    with pytest.raises(ConfigError, match=r"'1' \(BatchNorm1d\).*without batch norm"):
        recipe.loss(network, x, y, streams)
    network[1].eval()  # frozen by its owner, it is an affine layer like others
    assert recipe.loss(network, x, y, streams).isfinite()
    assert [module.training for module in network] == [True, False, True, True, True, True]


def spec(recipe: str, **changed: Any) -> TrainSpec:
    """A short run on the digits."""
    settings: dict[str, Any] = {"model": "digits_cnn", "data": "digits", "epochs": 1}
    return TrainSpec(recipe=recipe, **{**settings, **changed})
