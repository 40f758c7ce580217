"""The copy that is searched is the same function as the model that is judged, only cheaper."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from robustcode.defenses import Identity
from robustcode.fast import copied, folded, for_search, rewritten
from robustcode.models import MODELS, Normalize, as_classifier, build_model, inputs_of

# Wide ResNet-28-10 runs the same code as the small ones and takes ten seconds.
NAMES = [name for name in MODELS if name != "wide_resnet28_10"]


def random_classifier(name: str) -> nn.Module:
    """A registered architecture with random weights and lively batch-norm statistics."""
    network = build_model(name)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                assert isinstance(values, Tensor)
                values.copy_(torch.rand(values.shape, generator=generator) - 0.5)
            for values in (module.running_var, module.weight.data):
                assert isinstance(values, Tensor)
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    channels = inputs_of(network).shape[0]
    mean, std = [0.3, 0.4, 0.5][:channels], [0.2, 0.25, 0.3][:channels]
    return as_classifier(network, mean, std).eval()


def images(model: nn.Module, count: int = 3) -> Tensor:
    network = model[1] if isinstance(model, nn.Sequential) else model
    shape = inputs_of(network).shape
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def behaviour(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and the gradient of a fixed mixture of them."""
    x = x.clone().requires_grad_()
    scores = model(x)
    weights = torch.linspace(-1, 1, scores.shape[1], dtype=scores.dtype)
    (gradient,) = torch.autograd.grad((scores * weights).sum(), x)
    return scores.detach(), gradient


@pytest.mark.parametrize("prepare", [rewritten, folded, copied], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_every_trick_is_exact_up_to_rounding(name: str, prepare: object) -> None:
    """In float64, where rounding cannot hide a wrong formula and no ReLU sits on its kink."""
    assert callable(prepare)
    model = random_classifier(name).double()
    x = images(model).double()
    expected = behaviour(model, x)
    found = behaviour(prepare(model), x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8 * float(other.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_the_model_itself_is_left_as_it_was(name: str) -> None:
    model = random_classifier(name)
    before = copy.deepcopy(model.state_dict())
    defense = Identity(model=model)
    faster = for_search(defense, images(model, 2))
    assert faster.model is not model
    assert defense.model is model
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    behaviour(faster.model, images(model, 2))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inputs_are_not_written_to() -> None:
    model = random_classifier("cifar_resnet20")
    faster = for_search(Identity(model=model), images(model, 2)).model
    x = images(model)
    kept = x.clone()
    faster(x)
    assert torch.equal(x, kept)


class Branching(nn.Module):
    """Takes another way for bright images: no trace can hold both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).mean((2, 3))
        if float(x.mean()) > 0.5:
            features = -features
        scores: Tensor = self.linear(features)
        return scores


class Uncopyable(Branching):
    def __deepcopy__(self, memo: object) -> Uncopyable:
        raise RuntimeError("holds a socket")


@pytest.mark.parametrize("kind", [Branching, Uncopyable])
def test_what_cannot_be_traced_still_works(kind: type[Branching]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    example = torch.rand(2, 3, 8, 8) * 0.3
    faster = for_search(Identity(model=model), example).model
    for x in (example, 1 - example):
        for one, other in zip(behaviour(faster, x), behaviour(model, x), strict=True):
            torch.testing.assert_close(one, other)


def test_a_model_without_convolutions_is_left_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    defense = Identity(model=model)
    assert for_search(defense, torch.rand(2, 1, 2, 2)).model is model


def test_a_copy_that_is_another_function_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trick gone wrong is caught by comparing with the original, logits and gradients."""
    model = random_classifier("cifar_cnn_a")
    from robustcode import fast

    def wrong(network: nn.Module) -> nn.Module:
        twin = copy.deepcopy(network)
        for parameter in twin.parameters():
            parameter.data.mul_(1.1)
        return twin

    monkeypatch.setattr(fast, "rewritten", wrong)
    x = images(model, 2)
    faster = fast.for_search(Identity(model=model), x).model
    torch.testing.assert_close(faster(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_first_convolutions_of_any_kind(stride: int, kernel: int, padding: int) -> None:
    """Normalisation is folded in and the padding stays that of the normalised image."""
    torch.manual_seed(0)
    model = nn.Sequential(
        Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
        nn.Sequential(
            nn.Conv2d(3, 6, kernel, stride=stride, padding=min(padding, kernel - 1)),
            nn.Tanh(),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
    )
    x = torch.rand(2, 3, 11, 10, dtype=torch.float64)
    model = model.double().eval()
    model(x)
    expected = behaviour(model, x)
    for one, other in zip(behaviour(rewritten(model), x), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
