"""Scores that have saturated, underflowed or been blown up; and the gradient of a mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.attacks.losses import LossName, negative_margin
from robustcode.attacks.pgd import PGD
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Defense, Identity
from robustcode.mending import NotMendableError, applicable, mend
from robustcode.mending.blur import SIGMA
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import ThreatModel

ROWS = 16


class Ends(nn.Module):
    """A network with something done to its logits."""

    def __init__(self, net: nn.Module, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.net(x))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return load_classifier("digits_cnn", classes=10).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return load_data("digits").images(torch.arange(ROWS))


@pytest.fixture(scope="module")
def y() -> Tensor:
    return load_data("digits").targets(torch.arange(ROWS))


def streams(purpose: str = "test") -> Streams:
    return Streams.of(0, purpose, torch.arange(ROWS))


def slope(scores: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Of the cross-entropy, which is what saturates."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(scores(x), y, reduction="sum"), x)
    return gradient


def steepest(scores: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Of the margin, which does not vanish with its size."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(negative_margin(scores(x), y).sum(), x)[0]


def face(defense: Defense, way: str) -> Callable[[Tensor], Tensor]:
    mended = mend(defense, way)
    return lambda x: mended.surrogate(x, streams())


def kernel(z: Tensor) -> Tensor:
    return torch.exp(-50 * (30 - z))


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "cold softmax": lambda z: (1e3 * z).softmax(1),
    "module": nn.Sequential(nn.LayerNorm(10, elementwise_affine=False), nn.Softmax(dim=-1)),
    "by hand": lambda z: (3 * z).exp() / (3 * z).exp().sum(1, keepdim=True),
    "kernel": kernel,
    "sigmoid": lambda z: torch.sigmoid(80 * z),
    "rounded": lambda z: (z.softmax(1) * 10).round() / 10,
    "scaled": lambda z: z * 1000,
}


@pytest.mark.parametrize("name", ["cold softmax", "kernel", "sigmoid", "rounded", "scaled"])
def test_what_goes_into_the_last_rising_function_is_followed(
    net: nn.Module, x: Tensor, name: str
) -> None:
    """Of these it is the logits themselves, or their multiple by a step that is no function."""
    found = face(Identity(model=Ends(net, ENDS[name])), "presoftmax")(x)
    with torch.no_grad():
        logits = net(x)
    factor = found / logits
    if name == "kernel":  # 30 - z is no function that keeps the order: minus is where it ends
        factor = found / (-50 * (30 - logits))
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), rtol=1e-3)
    assert bool((factor > 0).all())


def test_a_softmax_that_is_a_module_is_seen(net: nn.Module, x: Tensor) -> None:
    model = Ends(net, ENDS["module"])
    found = face(Identity(model=model), "presoftmax")(x)
    with torch.no_grad():
        assert torch.allclose(found, F.layer_norm(net(x), (10,)), atol=1e-5)


def test_a_model_that_ends_in_none_is_refused(net: nn.Module, x: Tensor) -> None:
    with pytest.raises(NotMendableError, match="'presoftmax' finds no softmax"):
        face(Identity(model=net), "presoftmax")(x)


def test_probabilities_that_have_underflowed_are_followed(
    net: nn.Module, x: Tensor, y: Tensor
) -> None:
    """In closed form: the lead of a log-probability is that of its logit."""
    model = Ends(net, lambda z: (12 * z).softmax(1))
    own = steepest(model, x, y)
    zero = (own == 0).flatten(1).all(1)
    assert zero.sum() >= ROWS // 4
    found = steepest(face(Identity(model=model), "double"), x, y)
    assert torch.allclose(found, steepest(lambda x: 12 * net(x), x, y), rtol=1e-3, atol=1e-2)
    # The cross-entropy has the same lead in an exponent.
    together = slope(face(Identity(model=model), "double+scale"), x, y)
    assert not (together == 0).flatten(1).all(1).any()


def test_the_logarithm_of_probabilities_is_the_log_softmax(
    net: nn.Module, x: Tensor, y: Tensor
) -> None:
    model = Ends(net, lambda z: z.softmax(1))
    found = slope(face(Identity(model=model), "log"), x, y)
    assert torch.allclose(found, slope(net, x, y), rtol=1e-3, atol=1e-5)


def test_logits_blown_up_are_brought_together(net: nn.Module, x: Tensor, y: Tensor) -> None:
    model = Ends(net, lambda z: 1000 * z)
    # All but those that are next to a boundary.
    assert (slope(model, x, y) == 0).flatten(1).all(1).sum() >= ROWS - 2
    scores = face(Identity(model=model), "scale")

    def by_hand(x: Tensor) -> Tensor:
        z = 1000 * net(x)
        return -torch.log(1 + z.max(1, keepdim=True).values - z)

    assert torch.allclose(slope(scores, x, y), slope(by_hand, x, y), rtol=1e-3, atol=1e-6)
    assert not (slope(scores, x, y) == 0).flatten(1).all(1).any()
    with torch.no_grad():
        assert torch.equal(scores(x).argsort(1), net(x).argsort(1))


def test_scores_that_are_nothing_of_the_kind_stay(net: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        plain = net(x)
        assert torch.equal(face(Identity(model=net), "log")(x), plain)
        assert torch.allclose(face(Identity(model=net), "double")(x), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "way"), [("cold softmax", "presoftmax"), ("scaled", "scale")])
def test_pgd_on_the_cross_entropy_reaches_what_it_reaches_on_the_logits(
    net: nn.Module, x: Tensor, y: Tensor, name: str, way: str
) -> None:
    defense = Identity(model=Ends(net, ENDS[name]))
    of_network, unmended = (
        DefendedTarget(d, Ledger(torch.arange(ROWS)), stochastic=False, differentiable=True)
        for d in (Identity(model=net), defense)
    )
    attack = PGD(steps=20, loss=LossName.CE, random_start=False)
    threat = ThreatModel.parse("linf:0.15")
    held = []
    for target in (of_network, unmended, unmended.mended(way)):
        x_adv = attack.perturb(target, x, y, threat, streams())
        with torch.no_grad():
            held.append(int((net(x_adv).argmax(1) == y).sum()))
    assert held[1] >= held[0] + 8
    assert held[2] <= held[0] + 1


class Wave(nn.Module):
    """sin(k x) summed over the values, and a class that is always 0."""

    rate = 20.0

    def forward(self, x: Tensor) -> Tensor:
        total = (self.rate * x).sin().flatten(1).sum(1)
        return torch.stack([total, torch.zeros_like(total)], dim=1)


def test_blur_is_the_gradient_of_the_mean_over_noise(x: Tensor) -> None:
    """In closed form: of sin(k x) it is k cos(k x) exp(-(k sigma)^2 / 2)."""
    mended = mend(Identity(model=Wave()), "blur")
    assert mended.stochastic
    draws = 400
    total = torch.zeros_like(x)
    for draw in range(draws):
        z = x.clone().requires_grad_()
        scores = mended.surrogate(z, streams().child("draw", draw))
        total += torch.autograd.grad(scores[:, 0].sum(), z)[0]
    rate = Wave.rate
    expected = rate * (rate * x).cos() * math.exp(-((rate * SIGMA) ** 2) / 2)
    # A draw's is at most k in size; five standard errors.
    assert float((total / draws - expected).abs().max()) <= 5 * rate / math.sqrt(draws)
    assert float((total / draws - expected).mean().abs()) <= 5 * rate / math.sqrt(draws * x.numel())


def test_noise_belongs_to_the_sample(x: Tensor) -> None:
    mended = mend(Identity(model=Wave()), "blur")
    own = streams()
    together = mended.surrogate(x, own)
    assert torch.allclose(mended.surrogate(x[3:5], own[3:5]), together[3:5], atol=1e-5)
    assert not torch.allclose(mended.surrogate(x, streams("other")), together)


@pytest.mark.parametrize(
    ("name", "ways"),
    [("cold softmax", {"presoftmax"}), ("kernel", {"presoftmax"}), ("by hand", {"double"})],
)
def test_the_ways_that_lead_through_are_found(
    net: nn.Module, x: Tensor, name: str, ways: set[str]
) -> None:
    found = set(applicable(Identity(model=Ends(net, ENDS[name])), x))
    assert ways <= found
