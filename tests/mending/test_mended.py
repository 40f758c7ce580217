"""What a mended defence is, what it leaves alone, and the attack that searches it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import _get_current_function_mode_stack

from robustcode.adversary import Solo
from robustcode.attacks import ATTACKS, Attack, Mended
from robustcode.attacks.apgd_margin import APGDMargin
from robustcode.attacks.losses import negative_margin
from robustcode.attacks.pgd import PGD
from robustcode.checkpoint import load_classifier
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import Defense, Identity
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.jpeg import JPEG
from robustcode.errors import ConfigError, UnknownNameError
from robustcode.mending import TOGETHER, WAYS, Keeps, NotMendableError, applicable, keeps, mend
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import ThreatModel

ROWS = 12
# Those that need something to be there: a softmax at the end is not.
WITHOUT_AN_END = [way for way in (*WAYS, *TOGETHER) if "presoftmax" not in way]
THREAT = ThreatModel.parse("linf:0.15")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return load_classifier("digits_cnn", classes=10).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return load_data("digits").images(torch.arange(ROWS))


@pytest.fixture(scope="module")
def y() -> Tensor:
    return load_data("digits").targets(torch.arange(ROWS))


def streams() -> Streams:
    return Streams.of(0, "test", torch.arange(ROWS))


class Rounded(nn.Module):
    """A network behind rounding, that counts how often it is asked."""

    asked: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("asked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        scores: Tensor = self.net((x * 15).round() / 15)
        return scores


def target(defense: Defense) -> tuple[DefendedTarget, Ledger]:
    ledger = Ledger(torch.arange(ROWS))
    face = DefendedTarget(
        defense, ledger, stochastic=defense.stochastic, differentiable=defense.differentiable
    )
    return face, ledger


# ---- the defence


@pytest.mark.parametrize("way", [*WAYS, *TOGETHER])
def test_scores_decisions_and_costs_stay_the_original_s(
    net: nn.Module, x: Tensor, way: str
) -> None:
    original = GaussianNoise(model=net, sigma=0.1, votes=5)
    mended, own = mend(original, way), streams()
    assert torch.equal(mended.logits(x, own), original.logits(x, own))
    assert torch.equal(mended.decide(x, own), original.decide(x, own))
    assert mended.undefended is original.undefended
    assert (mended.votes, mended.mean, mended.stochastic) == (5, False, True)
    assert (mended.forwards(own), mended.backwards(own), mended.passes) == (1, 1, 1)
    assert (mended.batch, mended.files, mended.batch_coupled) == (1, (), False)
    assert mended.inputs(x, own) is x
    assert isinstance(mended.facing(Solo(), own.samples, x), type(mended))
    assert not mended.differentiable


@pytest.mark.parametrize("way", WITHOUT_AN_END)
def test_surrogates_keep_what_they_say(net: nn.Module, x: Tensor, way: str) -> None:
    scores = mend(JPEG(model=net), way).surrogate(x, streams()).detach()
    with torch.no_grad():
        own = JPEG(model=net).logits(x, streams())
    if keeps(way) is Keeps.VALUES:
        assert torch.allclose(scores, own, rtol=1e-5, atol=1e-4)
    elif keeps(way) is Keeps.ORDER:
        assert torch.equal(scores.argsort(1), own.argsort(1))
    assert scores.dtype is x.dtype


@pytest.mark.parametrize("way", WITHOUT_AN_END)
def test_nothing_outside_is_changed(net: nn.Module, x: Tensor, way: str) -> None:
    model = Rounded(net).eval()
    model.net.register_forward_hook(lambda module, args, out: None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [
        (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks))
        for m in model.modules()
    ]
    apply, state = Function.__dict__["apply"], torch.get_rng_state()
    given, leaf = x.clone(), x.clone().requires_grad_()
    mended = mend(Identity(model=model), way)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            scores = mended.surrogate(leaf, streams())
            assert torch.is_grad_enabled() == grad
        assert torch.autograd.grad(scores.sum(), leaf, allow_unused=True) is not None
    assert torch.equal(leaf, given)
    assert leaf.grad is None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert hooks == [
        (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks))
        for m in model.modules()
    ]
    assert all(p.dtype is torch.float32 for p in model.parameters())
    assert Function.__dict__["apply"] is apply
    assert _get_current_function_mode_stack() == []
    assert torch.equal(torch.get_rng_state(), state)
    model.net._forward_hooks.clear()


class Failing(nn.Module):
    """One that cannot be run at all."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such thing")


def test_what_cannot_be_mended_says_so_and_leaves_no_trace(x: Tensor) -> None:
    apply = Function.__dict__["apply"]
    for way in WAYS:
        with pytest.raises(NotMendableError, match=f"Identity cannot be mended by '{way}'"):
            mend(Identity(model=Failing()), way).surrogate(x, streams())
        assert torch.is_grad_enabled()
        assert Function.__dict__["apply"] is apply
        assert _get_current_function_mode_stack() == []
    locked = Failing()
    locked.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(NotMendableError, match="cannot be copied"):
        mend(Identity(model=locked), "through")


def test_two_copies_have_nothing_in_common(net: nn.Module, x: Tensor) -> None:
    model = Rounded(net).eval()
    one, other = (mend(Identity(model=model), "through") for _ in range(2))
    first = one.surrogate(x, streams()).detach()
    with torch.no_grad():
        model.net.get_parameter("network.7.weight").add_(1.0)
    try:
        assert torch.equal(one.surrogate(x, streams()).detach(), first)
        assert torch.equal(other.surrogate(x, streams()).detach(), first)
        assert not torch.equal(one.logits(x, streams()), first)
    finally:
        with torch.no_grad():
            model.net.get_parameter("network.7.weight").sub_(1.0)


@pytest.mark.parametrize("way", ["identity", "through", "double", "scale", "identity+through"])
def test_a_sample_is_followed_alike_whatever_its_batch(net: nn.Module, x: Tensor, way: str) -> None:
    mended, own = mend(Identity(model=Rounded(net)), way), streams()

    def slope(x: Tensor, own: Streams) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(mended.surrogate(x, own)[:, 0].sum(), x)[0]

    together, alone = slope(x, own), slope(x[4:7], own[4:7])
    assert torch.allclose(alone, together[4:7], rtol=1e-4, atol=1e-5)


def test_names_that_nobody_knows_are_refused_with_the_nearest(net: nn.Module) -> None:
    with pytest.raises(UnknownNameError, match=r"called 'trough'. Did you mean 'through'\?"):
        mend(Identity(model=net), "identity+trough")


def test_the_order_of_names_does_not_matter(net: nn.Module, x: Tensor) -> None:
    one, other = (
        mend(Identity(model=Rounded(net)), way).surrogate(x, streams())
        for way in ("scale+through+double", "double+through+scale")
    )
    assert torch.equal(one, other)


def test_a_plain_network_needs_none_and_most_lead_through(net: nn.Module, x: Tensor) -> None:
    assert set(WITHOUT_AN_END) - set(applicable(Identity(model=net), x)) <= {"inside"}


# ---- the target


def test_a_mended_target_charges_the_same_samples(net: nn.Module, x: Tensor, y: Tensor) -> None:
    face, ledger = target(Identity(model=Rounded(net)))
    mended = face.mended("through")
    assert not mended.stochastic
    assert mended.width == face.width
    assert face.mended("blur").stochastic
    here = mended.ascent(x, y, negative_margin, streams())
    assert not face.ascent(x, y, negative_margin, streams()).gradient.any()
    assert here.gradient.any()
    assert torch.allclose(here.logits, mended.logits(x, streams()), atol=1e-4)
    assert ledger.forwards.tolist() == [3] * ROWS
    assert ledger.backwards.tolist() == [2] * ROWS


# ---- the attack


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def test_it_is_the_attack_that_it_names_on_the_mended_face(
    net: nn.Module, x: Tensor, y: Tensor
) -> None:
    model = Rounded(net)
    face, _ = target(Identity(model=model))
    inner = APGDMargin(steps=10)
    found = Mended(way="through", steps=10).perturb(face, x, y, THREAT, streams())
    assert torch.equal(found, inner.perturb(face.mended("through"), x, y, THREAT, streams()))
    plain = inner.perturb(face, x, y, THREAT, streams())
    assert accuracy(model, found, y) <= accuracy(model, plain, y) - 0.5
    by_pgd = Mended(way="through", attack="pgd", steps=10, restarts=2)
    expected = PGD(steps=10, restarts=2).perturb(face.mended("through"), x, y, THREAT, streams())
    assert torch.equal(by_pgd.perturb(face, x, y, THREAT, streams()), expected)


def test_settings_reach_the_attack_where_it_has_them() -> None:
    assert Mended(steps=7, restarts=3, draws=2)._attack() == APGDMargin(
        steps=7, restarts=3, draws=2
    )
    fgsm: Any = ATTACKS.get("fgsm")
    assert Mended(attack="fgsm", draws=2)._attack() == fgsm(draws=2)
    assert Mended(attack="fgsm").one_step
    assert Mended(attack="ddn").norms == ATTACKS.get("ddn").norms
    assert Mended(attack="ddn").minimal


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("steps=0", "steps = 0: at least 1"),
        ("draws=0", "draws = 0: at least 1"),
        ("restarts=-1", "restarts = -1: at least 1"),
        ("attack=square", "attack = 'square': a mended gradient is of use"),
        ("attack=mended", "attack = 'mended': a mended gradient is of use"),
        ("attack=pdg", "Did you mean 'pgd'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(settings: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Component.parse(f"mended:{settings}").build(ATTACKS, "attack")


def test_a_way_that_nobody_knows_is_refused_when_it_is_asked_for(
    net: nn.Module, x: Tensor, y: Tensor
) -> None:
    built: Attack = Component.parse("mended:way=thruogh").build(ATTACKS, "attack")
    with pytest.raises(ConfigError, match="Did you mean 'through'"):
        built.perturb(target(Identity(model=net))[0], x, y, THREAT, streams())
