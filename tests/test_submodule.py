"""One module of a model is done otherwise for a call, and the model is itself again after it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustcode.errors import ConfigError, ContractError
from robustcode.models.submodule import Layer, changed, entering, find
from robustcode.seeds import Streams


def images(count: int) -> Tensor:
    return Streams.of(0, "x", torch.arange(count)).uniform(3, 6, 6, dtype=torch.float64)


class Network(nn.Module):
    """Parts with and without a name of their own, in a fixed order."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv2d(3, 4, 3)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh())
        self.twice = nn.Tanh()
        self.never = nn.Tanh()
        self.two = nn.Bilinear(4, 4, 4)
        self.head = nn.Linear(4, 5)
        for number, parameter in enumerate(self.parameters()):
            numbers = Streams.of(number, "weights", torch.arange(1)).normal(*parameter.shape)
            parameter.data = numbers[0]
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.twice(self.front(x))).mean((2, 3))
        scores: Tensor = self.head(self.two(self.twice(x), x))
        return scores


def as_it_is(given: Tensor, layer: Layer) -> Tensor:
    return layer(given)


def twofold(given: Tensor, layer: Layer) -> Tensor:
    return 2 * layer(given)


def test_the_module_of_a_dotted_name_is_found() -> None:
    model = Network()
    assert find(model, "") is model
    assert find(model, "body") is model.body
    assert find(model, "body.1") is model.body[1]


def test_a_name_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(
        ConfigError, match=r"no module 'bdy'\. Did you mean 'body' or .*: front, body"
    ):
        find(Network(), "bdy")


@pytest.mark.parametrize("name", ["", "front", "body", "body.0", "body.1", "head"])
def test_a_module_done_as_it_is_changes_nothing(name: str) -> None:
    model, x = Network(), images(4)
    assert torch.equal(changed(model, name, x, as_it_is), model(x))


def test_a_module_is_done_otherwise_for_one_call() -> None:
    model, x = Network(), images(4)
    before = model(x)
    scores = changed(model, "head", x, twofold)
    torch.testing.assert_close(scores, 2 * before, atol=1e-12, rtol=0)
    assert torch.equal(model(x), before)
    torch.testing.assert_close(changed(model, "", x, twofold), 2 * before, atol=1e-12, rtol=0)


def test_what_a_module_is_given_is_what_enters_it() -> None:
    model, x = Network(), images(4)
    seen: list[Tensor] = []

    def spy(given: Tensor, layer: Layer) -> Tensor:
        seen.append(given)
        return layer(given)

    changed(model, "body.1", x, spy)
    entered = entering(model, "body.1", x)
    assert torch.equal(entered, seen[0])
    assert torch.equal(entered, model.body[0](model.twice(model.front(x))))
    assert entering(model, "", x) is x


def test_what_follows_a_module_is_not_run_to_see_what_enters_it() -> None:
    model = Network()
    model.head.register_forward_hook(lambda *_: pytest.fail("the head was run"))
    entering(model, "body", images(2))


def test_gradients_pass_through_what_is_done_instead() -> None:
    model, x = Network(), images(4).requires_grad_()
    (plain,) = torch.autograd.grad(model(x).sum(), x)
    (found,) = torch.autograd.grad(changed(model, "body", x, as_it_is).sum(), x)
    assert torch.equal(found, plain)


def test_hooks_of_the_module_stay() -> None:
    """Spectral norm, for one, makes a module's weights in a hook before it is called."""
    model, calls = Network(), []
    model.body.register_forward_pre_hook(lambda module, given: calls.append(given[0]))
    changed(model, "body", images(4), as_it_is)
    assert len(calls) == 1


def unchanged(model: nn.Module, before: dict[str, object]) -> bool:
    return {name: vars(module).get("forward") for name, module in model.named_modules()} == before


def forwards_of(model: nn.Module) -> dict[str, object]:
    return {name: vars(module).get("forward") for name, module in model.named_modules()}


def test_the_model_is_itself_again_whatever_happens() -> None:
    model, x = Network(), images(4)
    before = forwards_of(model)

    def fail(given: Tensor, layer: Layer) -> Tensor:
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        changed(model, "body", x, fail)
    with pytest.raises(ContractError):
        changed(model, "twice", x, as_it_is)
    entering(model, "body", x)
    assert unchanged(model, before)


def test_a_forward_that_was_put_there_by_somebody_else_stays() -> None:
    """Libraries that offload or profile set a module's ``forward`` as we do."""
    model, x = Network(), images(4)
    own: Layer = model.body.forward

    def threefold(given: Tensor) -> Tensor:
        return 3 * own(given)

    model.body.forward = threefold  # type: ignore[method-assign]
    before, scores = forwards_of(model), model(x)
    assert torch.equal(changed(model, "body", x, as_it_is), scores)
    assert unchanged(model, before)
    assert torch.equal(model(x), scores)


def test_a_module_that_is_called_more_than_once_is_refused() -> None:
    with pytest.raises(ContractError, match="'twice' is called 2 times"):
        changed(Network(), "twice", images(2), as_it_is)


def test_a_module_that_is_not_called_is_refused() -> None:
    with pytest.raises(ContractError, match="'never' is called 0 times"):
        changed(Network(), "never", images(2), as_it_is)
    with pytest.raises(ContractError, match="'never' is not called"):
        entering(Network(), "never", images(2))


def test_a_module_of_two_inputs_is_refused() -> None:
    with pytest.raises(ContractError, match="'two' takes more than one tensor"):
        changed(Network(), "two", images(2), as_it_is)
