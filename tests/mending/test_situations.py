"""Mended where the engine has put a defence into a situation, and where a model is awkward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function

from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Defense, Identity
from robustcode.defenses.as_found import Among, Fresh
from robustcode.mending import NotMendableError, applies, mend
from robustcode.seeds import Streams

ROWS = 8
SAMPLES = torch.arange(ROWS)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return load_classifier("digits_cnn", classes=10).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return load_data("digits").images(SAMPLES)


class Sealed(nn.Module):
    """A network behind numpy, that counts its calls."""

    calls: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        scores: Tensor = self.net(torch.from_numpy((x.detach().numpy() * 15).round() / 15))
        return scores


def slope(defense: Defense, way: str, x: Tensor, samples: Tensor) -> Tensor:
    """The gradient of a weighted sum of the mended scores."""
    leaf = x.clone().requires_grad_()
    scores = mend(defense, way).surrogate(leaf, Streams.of(0, "test", samples))
    (gradient,) = torch.autograd.grad((scores * torch.arange(10.0)).sum(), leaf)
    return gradient


def among(defense: Defense) -> Among:
    mates = load_data("digits").images(torch.arange(100, 116))
    return Among(inner=defense, mates=mates, numbers=torch.full((16,), -1))


@pytest.mark.parametrize("way", ["identity", "inside", "identity+through"])
def test_whoever_is_asked_anew_or_among_others_is_mended_as_he_is_alone(
    net: nn.Module, x: Tensor, way: str
) -> None:
    alone = Identity(model=Sealed(net))
    expected = slope(alone, way, x, SAMPLES)
    for situated in (Fresh(inner=alone), among(alone), among(Fresh(inner=alone))):
        assert torch.allclose(slope(situated, way, x, SAMPLES), expected, atol=1e-3)
        # Eight rows fit twice into a batch of sixteen, three do not: nobody minds.
        few = slope(situated, way, x[:3], SAMPLES[:3])
        assert torch.allclose(few, expected[:3], atol=1e-3)


def test_each_mended_call_of_a_fresh_defence_is_its_first(net: nn.Module, x: Tensor) -> None:
    class Tires(Sealed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / self.calls

    mended = mend(Fresh(inner=Identity(model=Tires(net))), "identity")
    streams = Streams.of(0, "test", SAMPLES)
    first, second = (mended.surrogate(x.clone().requires_grad_(), streams) for _ in range(2))
    assert torch.equal(first, second)


@dataclass(frozen=True, kw_only=True)
class Remembers(Defense):
    """A defence that keeps what it is asked beside its model, and not in it."""

    model: nn.Module
    kept: dict[int, Tensor] = field(default_factory=dict)

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        self.kept[len(self.kept)] = x.detach().clone()
        scores: Tensor = self.model(x)
        return scores


def test_what_a_mended_defence_remembers_is_nothing_to_the_original(
    net: nn.Module, x: Tensor
) -> None:
    defense = Remembers(model=net)
    fresh = Fresh(inner=defense)
    for one in (defense, fresh):
        slope(one, "through", x, SAMPLES)
    assert not defense.kept
    assert isinstance(fresh.inner, Remembers)
    assert not fresh.inner.kept


def test_the_network_inside_is_found_though_one_row_is_far_from_its_image(
    net: nn.Module, x: Tensor
) -> None:
    class Blanks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            blank = torch.arange(len(x)) == 0
            scores: Tensor = self.net(x.detach() * ~blank[:, None, None, None])
            return scores

    gradient = slope(Identity(model=Blanks()), "inside", x, SAMPLES)
    assert gradient.flatten(1).any(1).all()


class Rounding(Function):
    """Looks at what needs a gradient, as PyTorch's own pages on extending autograd do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(x)
        return (x * 15).round() / 15

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0] * 0


def test_a_function_that_looks_at_what_needs_a_gradient_is_led_through(
    net: nn.Module, x: Tensor
) -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            apply: Any = Rounding.apply
            scores: Tensor = self.net(apply(x))
            return scores

    assert applies(Identity(model=Rounded()), "through", x)


def test_a_model_that_will_not_be_changed_is_not_mendable_and_no_crash(x: Tensor) -> None:
    class Stays(nn.Sequential):
        def double(self) -> Any:
            raise RuntimeError("weights are packed")

    model = Stays(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(NotMendableError, match="weights are packed"):
        mend(Identity(model=model), "double")
    assert not applies(Identity(model=model), "double", x)
