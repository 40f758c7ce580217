"""The copy that is searched is the same function as the model that is judged, only cheaper."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.chain import Chain
from robustcode.convolution import BlockConvolution
from robustcode.defenses import Identity
from robustcode.fast import copied, folded, for_search, rewritten
from robustcode.models import MODELS, Normalize, as_classifier, build_model, inputs_of

# Wide ResNet-28-10 runs the same code as the small ones and takes ten seconds.
NAMES = [name for name in MODELS if name != "wide_resnet28_10"]


def shape_of(network: nn.Module) -> tuple[int, int, int]:
    inputs = inputs_of(network)
    assert inputs is not None
    return inputs.shape


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
    channels = shape_of(network)[0]
    mean, std = [0.3, 0.4, 0.5][:channels], [0.2, 0.25, 0.3][:channels]
    return as_classifier(network, mean, std).eval()


def images(model: nn.Module, count: int = 3) -> Tensor:
    network = model[1] if isinstance(model, nn.Sequential) else model
    return torch.rand(count, *shape_of(network), generator=torch.Generator().manual_seed(1))


def behaviour(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and the gradient of a fixed mixture of them."""
    x = x.clone().requires_grad_()
    scores = model(x)
    weights = torch.linspace(-1, 1, scores.shape[1], dtype=scores.dtype)
    (gradient,) = torch.autograd.grad((scores * weights).sum(), x)
    return scores.detach(), gradient


@pytest.mark.parametrize("prepare", [rewritten, folded, copied], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_every_trick_is_exact_up_to_rounding(
    name: str, prepare: Callable[[nn.Module], nn.Module]
) -> None:
    """In float64, where rounding cannot hide a wrong formula and no ReLU sits on its kink."""
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


@pytest.mark.parametrize("name", ["cifar_cnn_a", "mnist_cnn_a"])
@pytest.mark.parametrize("count", [33, 40, 47])
def test_queries_that_are_filled_up_answer_for_their_own_rows(name: str, count: int) -> None:
    model = random_classifier(name).double()
    x = images(model, count).double()
    found = behaviour(rewritten(model), x)
    for one, other in zip(found, behaviour(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8 * float(other.abs().max()))
    with torch.no_grad():
        torch.testing.assert_close(rewritten(model)(x), model(x), rtol=1e-8, atol=1e-8)


class Branching(nn.Module):
    """Takes another way for bright images: no trace can hold both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).mean((2, 3))
        if float(x.detach().mean()) > 0.5:
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


@pytest.mark.parametrize("name", ["cifar_cnn_a", "cifar_resnet20", "mnist_trades_cnn"])
def test_the_copy_that_is_chosen_knows_every_trick(name: str) -> None:
    """Not one that a silent refusal has left: nothing to fold or to scatter remains in it."""
    model = random_classifier(name)
    faster = for_search(Identity(model=model), images(model, 2)).model
    kinds = {type(module) for module in faster.modules()}
    assert BlockConvolution in kinds
    assert not kinds & {nn.BatchNorm2d, Normalize, nn.Flatten}
    assert (Chain in kinds) == (name == "cifar_cnn_a")


@pytest.mark.parametrize("name", ["cifar_cnn_a", "cifar_resnet20"])
def test_the_graph_of_a_copy_can_be_gone_through_twice(name: str) -> None:
    """Attacks that need a gradient for each class keep the graph."""
    model = random_classifier(name)
    faster = for_search(Identity(model=model), images(model, 2)).model
    x = images(model).requires_grad_()
    scores = faster(x)
    first, again = (
        torch.autograd.grad(scores[:, 3].sum(), x, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, again)
    torch.testing.assert_close(
        first, torch.autograd.grad(model(x)[:, 3].sum(), x)[0], rtol=1e-3, atol=1e-4
    )


def test_images_of_another_size_are_as_good() -> None:
    """What is kept of the normalisation is kept for each size."""
    model = random_classifier("cifar_resnet20").double()
    faster = rewritten(model)
    for side in (32, 24, 32):
        x = torch.rand(2, 3, side, side, dtype=torch.float64)
        for one, other in zip(behaviour(faster, x), behaviour(model, x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


class Hooked(nn.Module):
    """A module's hook doubles what its convolution gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.conv.register_forward_hook(self._double)
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(F.relu(self.norm(self.conv(x))).mean((2, 3)))
        return scores

    @staticmethod
    def _double(module: nn.Module, given: object, found: Tensor) -> Tensor:
        return 2 * found


class Twice(nn.Module):
    """One convolution, used under two norms and read for its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.one, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        found = self.other(self.conv(F.relu(self.one(self.conv(x)))))
        scores: Tensor = (found * self.conv.weight.mean()).mean((2, 3))
        return scores


class SharedRelu(nn.Module):
    """What goes into a ReLU is needed afterwards too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv(x)
        scores: Tensor = (self.relu(found) - 0.5 * found).mean((2, 3))
        return scores


@pytest.mark.parametrize("kind", [Hooked, Twice, SharedRelu])
def test_what_looks_like_a_pattern_and_is_none(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    for one, other in zip(behaviour(rewritten(model), x), behaviour(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_model_in_training_mode_is_left_alone() -> None:
    model = random_classifier("cifar_cnn_a").train()
    assert for_search(Identity(model=model), torch.rand(2, 3, 32, 32)).model is model


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
