"""What a network must not be mistaken for, and bounds that do not lean on a rounding."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.bounds import Region, crown, interval_bounds, margins, network_of
from robustcode.bounds.lipschitz import gradients
from robustcode.bounds.region import Interval
from robustcode.bounds.relaxation import line
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import Norm


class Anything(nn.Module):
    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def images(count: int = 2) -> Tensor:
    return Streams.of(3, "images", torch.arange(count)).uniform(2, 4, 4, dtype=torch.float32)


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :5]


def changed_by_statement(x: Tensor) -> Tensor:
    y = x + 1  # above 0 for every image: nothing that is fed shows the difference
    F.relu_(y)
    return flat(y)


def changed_by_another_name(x: Tensor) -> Tensor:
    y = x + 1
    seen = y.view(-1, 2, 16)
    return flat(F.relu(y, inplace=True)) + flat(seen)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "statement": (Anything(changed_by_statement), "changes 'add' in place, which is read later"),
    "alias": (Anything(changed_by_another_name), "in place, which is read later"),
    "module": (
        Anything(lambda x, relu: flat((y := x + 1) + 0 * relu(y) + y), nn.ReLU(inplace=True)),
        "in place, which is read later",
    ),
    "data": (Anything(lambda x: flat(x + 1e-9 * x.data)), "attribute 'data'"),
    "planes": (Anything(lambda x: flat(F.max_pool2d(x[:, 0], 2))), "it reads planes"),
    "channels": (Anything(lambda x, c: flat(c(x[:, 0])), nn.Conv2d(2, 2, 1)), "it reads planes"),
    "padding": (
        Anything(lambda x: flat(F.max_pool2d(x[:, :, :1], 2, 1, 1, 2).relu())),
        "a window lies in its padding alone",
    ),
    "divisor": (Anything(lambda x: flat(F.avg_pool2d(x, 2, None, 0, False, True, -4))), "negative"),
    "divisor of a module": (
        nn.Sequential(nn.AvgPool2d(2, divisor_override=-4), nn.Flatten()),
        "its divisor is negative",
    ),
}


class Drifting(nn.Module):
    """A forward that leans on what it did before, by a millionth."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return flat(x * (1 + 1e-6 * self.calls))


REFUSED["drifting"] = (Drifting(), "gives other logits than the model")


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_trace_would_mistake_is_refused(name: str) -> None:
    model, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        network_of(model.eval(), images(1))


def clamped(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given[0].clamp(0, 1),)


def test_a_model_whose_call_is_not_its_class_is_refused() -> None:
    hooked = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    hooked.register_forward_pre_hook(clamped)
    patched = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    linear = patched[1]
    vars(linear)["forward"] = lambda x: 2 * x
    for model in (hooked, patched, Anything(lambda x, inner: inner(x), patched)):
        with pytest.raises(ConfigError, match="hooks"):
            network_of(model.eval(), images(1))


def test_constants_that_are_no_buffers_have_all_digits() -> None:
    mean, std = torch.tensor([0.4914, 0.1307]).view(2, 1, 1), torch.tensor(0.2471)
    model = Anything(lambda x: flat((x - mean) / std / torch.tensor(3)))
    network, x = network_of(model, images(1)), images().double()
    exact = [
        (Fraction(v) - Fraction(float(mean[0]))) / Fraction(float(std)) / 3
        for v in x[0, 0].flatten()[:5].tolist()
    ]
    found = [Fraction(v) for v in network(x)[0].tolist()]
    assert all(abs(a - b) < Fraction(1, 10**14) for a, b in zip(exact, found, strict=True))
    region = Region(x, x.new_zeros(2), Norm.LINF, 0.0, 1.0)
    spec = margins(torch.tensor([0, 1]), 5)
    assert (crown(network, region, spec).proved <= (spec @ network(x)[..., None])[..., 0]).all()


def test_one_norm_gains_are_not_less_than_the_truth() -> None:
    x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    radius = 1e-9 / 3
    # The value that gains most has room for all of the radius, and more.
    region = Region(x, x.new_full((1,), radius), Norm.L1, 0.0, 1.0)
    rows = -torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64).view(1, 1, 1, 2, 2)
    assert float(region.least(rows)) == -3 * radius


def test_bounds_that_overflowed_prove_nothing() -> None:
    nothing = torch.full((1, 2), torch.nan, dtype=torch.float64)
    assert line(Interval(nothing, nothing)).upper.isnan().all()
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 2), nn.ReLU(), nn.Linear(2, 2))
    network, x = network_of(model.eval(), images(1)), images(1).double()
    bounds = interval_bounds(network, Region(x, x.new_zeros(1), Norm.L2))
    relu = network.relus[0]
    bounds[network.nodes[relu].inputs[0]] = Interval(nothing, nothing)
    lower, upper = gradients(network, bounds, margins(torch.tensor([0]), 2))
    spread = (upper - lower).abs().sum()
    assert spread > 0  # as of a ReLU whose sign is not known
