"""What cuts a gradient off, or changes it on its way: mended, it is that of the network inside."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function

from robustcode.attacks.losses import LossName
from robustcode.attacks.pgd import PGD
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Defense, Identity
from robustcode.defenses.bit_depth import BitDepth
from robustcode.defenses.jpeg import JPEG
from robustcode.mending import NotMendableError, applicable, mend
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import ThreatModel

ROWS = 16
THREAT = ThreatModel.parse("linf:0.15")
Process = Callable[[Tensor], Tensor]


class Kept(Function):
    """A backward pass that sends nothing back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.zeros_like(upstream[0])


class Misled(Kept):
    """One that sends back something else."""

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -upstream[0]


BOUND = Kept.apply  # the method itself, which nobody can replace any more


def through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().cpu().numpy().round(1)).to(x)


def without_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 1.0


def hooked(x: Tensor) -> Tensor:
    x = x.clone()
    if x.requires_grad:
        x.register_hook(torch.zeros_like)
    return x


def written_into(x: Tensor) -> Tensor:
    x = x.detach()
    x = x.clone().add_(0.1)
    return x.mul_(0.9)


def in_place(x: Tensor) -> Tensor:
    return x.clone().mul_(15).round_().div_(15)


# Each is the identity, but for rounding, to a tenth of the box.
PROCESSES: dict[str, Process] = {
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "no_grad": without_grad,
    "round": lambda x: (x * 15).round() / 15,
    "round_": in_place,
    "floor": lambda x: torch.floor(x * 16) / 16,
    "floor_divide": lambda x: (x // 0.0625) * 0.0625,
    "uint8": lambda x: (x * 255).to(torch.uint8).float() / 255,
    "long": lambda x: (x * 255).long() / 255,
    "clamp": lambda x: x.clamp(0.05, 0.95),
    "zero backward": lambda x: Kept.apply(x),  # type: ignore[no-untyped-call]
    "wrong backward": lambda x: Misled.apply(x),  # type: ignore[no-untyped-call]
    "bound backward": BOUND,
    "hook": hooked,
    "numpy": through_numpy,
}
# Numpy is out of sight for 'through'; what no module is called with is for 'identity'.
THROUGH = [name for name in PROCESSES if name != "numpy"]
IDENTITY = list(PROCESSES)


class Flawed(nn.Module):
    """A network behind a process that its gradient does not come back from."""

    def __init__(self, net: nn.Module, process: Process) -> None:
        super().__init__()
        self.net = net
        self.process = process

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(self.process(x))
        return scores


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


def slope(scores: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the right class's score, as torch has it; zeros where it has none."""
    x = x.clone().requires_grad_()
    found = scores(x)
    if not found.requires_grad:
        return torch.zeros_like(x)
    total = found.gather(1, y[:, None]).sum()
    try:
        (gradient,) = torch.autograd.grad(total, x, allow_unused=True)
    except RuntimeError:  # floor_divide has no derivative
        gradient = None
    return torch.zeros_like(x) if gradient is None else gradient


def faces(defense: Defense, way: str) -> Callable[[Tensor], Tensor]:
    mended = mend(defense, way)
    return lambda x: mended.surrogate(x, streams()[: len(x)])


@pytest.mark.parametrize(
    ("way", "name"),
    [*(("through", name) for name in THROUGH), *(("identity", name) for name in IDENTITY)],
)
def test_the_gradient_is_that_of_the_network_where_its_input_ended(
    net: nn.Module, x: Tensor, y: Tensor, way: str, name: str
) -> None:
    flawed = Flawed(net, PROCESSES[name])
    scores = faces(Identity(model=flawed), way)
    with torch.no_grad():
        processed = PROCESSES[name](x).clone()
    assert torch.allclose(slope(scores, x, y), slope(net, processed, y), atol=1e-6)
    with torch.no_grad():
        # Convolutions with a graph and without round differently.
        assert torch.allclose(scores(x), flawed(x), rtol=1e-5, atol=1e-5)
    # Otherwise nothing has been mended.
    if name != "clamp":
        assert not torch.allclose(slope(flawed, x, y), slope(net, processed, y), atol=1e-3)


@pytest.mark.parametrize("name", ["round", "numpy", "no_grad", "wrong backward"])
def test_pgd_on_the_mended_face_reaches_what_it_reaches_on_the_network(
    net: nn.Module, x: Tensor, y: Tensor, name: str
) -> None:
    flawed = Identity(model=Flawed(net, PROCESSES[name]))
    own, mended = (
        DefendedTarget(d, Ledger(torch.arange(ROWS)), stochastic=False, differentiable=True)
        for d in (Identity(model=net), flawed)
    )
    attack = PGD(steps=20, loss=LossName.MARGIN)
    held = []
    for target in (own, mended, mended.mended("identity+through")):
        x_adv = attack.perturb(target, x, y, THREAT, streams())
        with torch.no_grad():
            judge = net if target is own else flawed.model
            held.append(int((judge(x_adv).argmax(1) == y).sum()))
    of_network, unmended, of_mended = held
    assert unmended >= of_network + 8
    assert of_mended <= of_network + 1


@pytest.mark.parametrize("make", [BitDepth, JPEG])
def test_preprocessing_by_the_defence_is_followed_as_its_own_surrogate_is(
    net: nn.Module, x: Tensor, y: Tensor, make: Any
) -> None:
    defense = make(model=net)
    declared = slope(lambda x: defense.surrogate(x, streams()), x, y)
    assert declared.any()
    assert torch.allclose(slope(faces(defense, "identity"), x, y), declared, atol=1e-6)


class Smaller(nn.Module):
    """A network of images of half the size, made of every second pixel outside of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(x, 2).detach()
        scores: Tensor = self.net(small)
        return scores


def test_an_input_of_another_size_is_followed_by_one_that_is_resized(x: Tensor) -> None:
    small = Smaller().requires_grad_(False)
    y = torch.zeros(ROWS, dtype=torch.int64)

    def resized(x: Tensor) -> Tensor:
        return small.net(nn.functional.interpolate(x, size=(4, 4), mode="bilinear"))

    found = slope(faces(Identity(model=small), "identity"), x, y)
    assert torch.allclose(found, slope(resized, x, y), atol=1e-6)


class Repeated(nn.Module):
    """The mean over several copies of each input in one batch, all of them cut off."""

    def __init__(self, net: nn.Module, inner: bool) -> None:
        super().__init__()
        self.net = net
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach()
        copies = x.repeat_interleave(3, 0) if self.inner else x.repeat(3, 1, 1, 1)
        scores: Tensor = self.net(copies)
        shape = (len(x), 3, -1) if self.inner else (3, len(x), -1)
        return scores.view(shape).mean(1 if self.inner else 0)


@pytest.mark.parametrize("inner", [True, False])
def test_copies_of_an_input_are_all_followed(
    net: nn.Module, x: Tensor, y: Tensor, inner: bool
) -> None:
    found = slope(faces(Identity(model=Repeated(net, inner)), "identity"), x, y)
    assert torch.allclose(found, slope(net, x, y), atol=1e-6)


class Purified(nn.Module):
    """One gradient step of its own before the network, which no gradient goes through."""

    def __init__(self, net: nn.Module, backward: bool) -> None:
        super().__init__()
        self.net = net
        self.backward = backward

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            loss = self.net(z).logsumexp(1).sum()
            if self.backward:
                loss.backward()
                gradient = z.grad
            else:
                (gradient,) = torch.autograd.grad(loss, z)
        assert gradient is not None
        scores: Tensor = self.net(z.detach() - 0.02 * gradient)
        return scores


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("way", ["identity", "through", "identity+through"])
def test_a_model_that_takes_gradients_itself_still_gets_them(
    net: nn.Module, x: Tensor, y: Tensor, way: str, backward: bool
) -> None:
    flawed = Purified(net, backward)
    own = x.clone().requires_grad_()
    (step,) = torch.autograd.grad(net(own).logsumexp(1).sum(), own)
    scores = faces(Identity(model=flawed), way)
    found = scores(x.clone().requires_grad_()).detach()
    assert torch.allclose(found, flawed(x).detach(), rtol=1e-5, atol=1e-5)
    expected = slope(net, x - 0.02 * step, y)
    assert torch.allclose(slope(scores, x, y), expected, atol=1e-6)


@pytest.mark.parametrize("way", ["inside", "inside+double"])
def test_the_network_inside_is_followed_at_the_input_itself(
    net: nn.Module, x: Tensor, y: Tensor, way: str
) -> None:
    defense = Identity(model=Purified(net, backward=False))
    scores = faces(defense, way)
    assert torch.allclose(scores(x), net(x), rtol=1e-5, atol=1e-4)
    assert torch.allclose(slope(scores, x, y), slope(net, x, y), atol=1e-4)
    assert "inside" in applicable(defense, x)


def test_a_model_with_no_classifier_inside_is_refused(net: nn.Module, x: Tensor) -> None:
    with pytest.raises(NotMendableError, match="'inside' finds no module"):
        faces(Identity(model=nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), "inside")(x)


def test_hooks_of_modules_on_gradients_are_left_out(net: nn.Module, x: Tensor, y: Tensor) -> None:
    flawed = Flawed(net, nn.Identity())

    def nothing(module: nn.Module, inputs: Any, outputs: Any) -> Any:
        return (torch.zeros_like(outputs[0]),)

    assert isinstance(flawed.process, nn.Module)
    flawed.process.register_full_backward_hook(nothing)
    assert not slope(flawed, x, y).any()
    found = slope(faces(Identity(model=flawed), "through"), x, y)
    assert torch.allclose(found, slope(net, x, y), atol=1e-6)
    assert len(flawed.process._backward_hooks) == 1


def test_what_a_model_remembers_holds_no_graph(net: nn.Module, x: Tensor) -> None:
    class Averaging(nn.Module):
        mean: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.register_buffer("mean", torch.zeros(()))
            self.last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * x.exp().mean())
                self.last = x.mean()
            return self.net(x) + self.mean

    model = Averaging()
    scores = faces(Identity(model=model), "through")
    leaf = x.clone().requires_grad_()
    assert torch.autograd.grad(scores(leaf).sum(), leaf)[0].any()
    held = weakref.ref(leaf)
    del leaf
    gc.collect()
    # A graph would hold the input that it leads back to.
    assert held() is None
    assert model.mean == 0
    assert model.last is None


def test_a_gradient_that_is_whole_stays_as_it_is(net: nn.Module, x: Tensor, y: Tensor) -> None:
    for way in ("identity", "through", "identity+through"):
        found = slope(faces(Identity(model=net), way), x, y)
        assert torch.allclose(found, slope(net, x, y), atol=1e-6), way


def test_ways_that_lead_nowhere_are_not_applicable(net: nn.Module, x: Tensor) -> None:
    found = {
        name: set(applicable(Identity(model=Flawed(net, PROCESSES[name])), x)) for name in PROCESSES
    }
    assert {name for name, ways in found.items() if "through" in ways} == set(THROUGH)
    assert {name for name, ways in found.items() if "identity" in ways} == set(IDENTITY)
    # A gradient that is there and zero is none.
    assert not {"blur", "log", "scale"} & (found["numpy"] | found["round"] | found["zero backward"])
    assert "presoftmax" not in found["round"]
