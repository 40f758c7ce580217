"""Local Lipschitz constants hold, and are the slope itself where there is but one."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from robustcode.bounds import (
    Network,
    Region,
    crown_bounds,
    interval_bounds,
    local_lipschitz,
    margins,
    network_of,
)
from robustcode.bounds.lipschitz import gradients
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.errors import ConfigError
from robustcode.models import MODELS, inputs_of
from robustcode.seeds import Streams
from robustcode.threat import DUAL, Norm, ThreatModel

FLOAT = torch.float64


def digits() -> tuple[Network, Tensor, Tensor]:
    """The shipped network, four images and the margins of their labels."""
    data = load_data("digits")
    x = data.images(range(4)).double()
    spec = margins(torch.as_tensor(data.labels[:4]), 10)
    return network_of(load_classifier("digits_cnn", classes=10), x[:1]), x, spec


def slopes_at(network: Network, x: Tensor, spec: Tensor) -> Tensor:
    """Gradients of each row of ``spec``, (batch, rows, ...)."""
    x = x.clone().requires_grad_()
    scores = network(x)
    return torch.stack(
        [
            torch.autograd.grad((scores * spec[:, j]).sum(), x, retain_graph=True)[0]
            for j in range(spec.shape[1])
        ],
        dim=1,
    )


@pytest.mark.parametrize("norm", Norm)
def test_nothing_in_the_region_is_steeper(norm: Norm) -> None:
    network, x, spec = digits()
    eps = {Norm.LINF: 0.05, Norm.L2: 0.3, Norm.L1: 1.0}[norm]
    region = Region(x, torch.full((4,), eps, dtype=FLOAT), norm, 0.0, 1.0)
    bounds = crown_bounds(network, region)
    constant = local_lipschitz(network, region, bounds, spec)
    lower, upper = gradients(network, bounds, spec)
    threat = ThreatModel(norm, eps)
    before = network(x)
    for draw in range(30):
        point = threat.random(x, Streams.of(draw, "points", torch.arange(4)))
        slope = slopes_at(network, point, spec)
        assert (slope >= lower).all()
        assert (slope <= upper).all()
        size = torch.linalg.vector_norm(slope.flatten(2), ord=DUAL[norm], dim=2)
        assert (size <= constant).all()
        change = (spec @ (network(point) - before)[..., None]).squeeze(2).abs()
        assert (change <= constant * threat.distance(point, x)[:, None] + 1e-12).all()
    # It is of use: far below what it is where no sign is known.
    everywhere = interval_bounds(network, Region(x, torch.full((4,), 9.0, dtype=FLOAT), norm))
    assert (constant < 0.9 * local_lipschitz(network, region, everywhere, spec)).all()


@pytest.mark.parametrize("norm", Norm)
def test_a_point_is_as_steep_as_its_gradient(norm: Norm) -> None:
    network, x, spec = digits()
    region = Region(x, torch.zeros(4, dtype=FLOAT), norm)
    found = local_lipschitz(network, region, interval_bounds(network, region), spec)
    size = torch.linalg.vector_norm(slopes_at(network, x, spec).flatten(2), ord=DUAL[norm], dim=2)
    torch.testing.assert_close(found, size, rtol=1e-6, atol=1e-9)


def test_a_neuron_that_can_switch_counts_in_full() -> None:
    """f(z) = 2 relu(z) - relu(-z) has slope 2 above zero and 1 below."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1)).eval()
    model.state_dict()["0.weight"].copy_(torch.tensor([[1.0], [-1.0]]))
    model.state_dict()["2.weight"].copy_(torch.tensor([[2.0, -1.0]]))
    network = network_of(model, torch.zeros(1, 1))
    x = torch.tensor([[1.0], [-1.0], [0.25]], dtype=FLOAT)
    region = Region(x, torch.full((3,), 0.5, dtype=FLOAT), Norm.L2)
    found = gradients(network, interval_bounds(network, region), torch.ones(3, 1, 1, dtype=FLOAT))
    # Where both can switch, each of them is free: the sum is 0 at least and 3 at most.
    assert found.lower.flatten().tolist() == pytest.approx([2, 1, 0], abs=1e-9)
    assert found.upper.flatten().tolist() == pytest.approx([2, 1, 3], abs=1e-9)


def test_branches_of_a_residual_network_add_up() -> None:
    """At a point the bounds are the gradient; around it they hold it."""
    model = MODELS.get("cifar_resnet2b")().eval()
    streams = Streams.of(0, "weights", torch.zeros(1, dtype=torch.int64))
    for key, values in model.named_parameters():
        if values.ndim > 1:
            fan = values[0].numel()
            values.data = streams.child(key).normal(*values.shape)[0] / fan**0.5
    inputs = inputs_of(model)
    assert inputs is not None
    x = Streams.of(0, "images", torch.arange(1)).uniform(*inputs.shape, dtype=FLOAT)
    network, spec = network_of(model, x), margins(torch.tensor([3]), 10)[:, :2]
    for eps in (0.0, 0.0003):
        region = Region(x, torch.full((1,), eps, dtype=FLOAT), Norm.LINF)
        lower, upper = gradients(network, interval_bounds(network, region), spec)
        for draw in range(3):
            noise = Streams.of(draw, "points", torch.arange(1)).uniform(*inputs.shape, dtype=FLOAT)
            slope = slopes_at(network, x + eps * (2 * noise - 1), spec)
            assert (slope >= lower).all()
            assert (slope <= upper).all()
        if eps == 0:
            torch.testing.assert_close(upper - lower, torch.zeros_like(lower), rtol=0, atol=1e-9)
            assert lower.abs().max() > 0.01


def test_a_pooling_of_maxima_is_refused_by_name() -> None:
    model = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)).eval()
    x = torch.zeros(1, 1, 4, 4, dtype=FLOAT)
    network, region = network_of(model, x), Region(x, torch.ones(1, dtype=FLOAT), Norm.L2)
    with pytest.raises(ConfigError, match=re.escape("layer '0' (MaxPool) has no bounded")):
        local_lipschitz(
            network, region, interval_bounds(network, region), margins(torch.tensor([0]), 2)
        )
