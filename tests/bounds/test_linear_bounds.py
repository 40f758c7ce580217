"""Bounds hold over the region, are exact where they can be, and do not depend on the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.bounds import (
    Interval,
    Network,
    Region,
    crown,
    crown_bounds,
    forward_error,
    interval_bounds,
    interval_margins,
    linear_bounds,
    margins,
    network_of,
    relaxed,
    sizes_of,
)
from robustcode.bounds.backward import carry
from robustcode.bounds.linear import over
from robustcode.bounds.rounding import gamma
from robustcode.bounds.windows import Window, along_a_curve
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.models import MODELS, as_classifier, inputs_of
from robustcode.seeds import Streams
from robustcode.threat import DUAL, Norm, ThreatModel

FLOAT = torch.float64


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with weights, biases and kept statistics drawn anew, in evaluation mode."""
    streams = Streams.of(seed, "weights", torch.zeros(1, dtype=torch.int64))
    for name, values in model.state_dict().items():
        if values.dtype.is_floating_point:
            draw = streams.child(name).normal(*values.shape, dtype=values.dtype)[0]
            fan = values[0].numel() if values.ndim > 1 else 10
            values.copy_(draw.abs() + 0.5 if name.endswith("running_var") else draw / fan**0.5)
    return model.eval()


def images(count: int, *shape: int, seed: int = 5) -> Tensor:
    return Streams.of(seed, "images", torch.arange(count)).uniform(*shape, dtype=FLOAT)


class Patterned(nn.Module):
    """Planes scaled and shifted pixel by pixel, column by column, and channel by channel."""

    pattern0: Tensor
    pattern1: Tensor
    pattern2: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, (2, 3), stride=(2, 1))
        self.conv3 = nn.Conv2d(4, 4, 2, padding=(1, 0))
        self.linear = nn.Linear(4 * 4 * 3, 3)
        for number, shape in enumerate([(6, 6), (4,), (1, 4, 1, 1)]):
            self.register_buffer(f"pattern{number}", torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x) * self.pattern0 + self.pattern0)
        x = F.relu(self.conv2(x) * (1 + self.pattern1) - self.pattern1)
        out: Tensor = self.linear(F.relu(self.conv3(x) * self.pattern2).flatten(1))
        return out


class Residual(nn.Module):
    """Convolutions of several kinds, batch norm, a shortcut without parameters and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)
        self.conv3 = nn.Conv2d(6, 6, 2)
        self.pool = nn.AvgPool2d(2, 1)
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1((x - 0.4) / 0.3)))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        x = F.relu(self.conv2(x) + short)
        x = F.relu(self.pool(F.relu(self.conv3(x))) - 0.1)
        out: Tensor = self.linear(x.mean((2, 3)))
        return out


NETWORKS: dict[str, nn.Module] = {
    "dense": nn.Sequential(
        nn.Flatten(), nn.Linear(72, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3)
    ),
    "convolutional": nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    ),
    "patterned": Patterned(),
    "residual": Residual(),
    "maxima": nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 2),
        nn.MaxPool2d(2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 3),
    ),
}
SHAPE = (2, 6, 6)
# Radii at which some ReLUs are decided and some are not.
RADII = {Norm.LINF: 0.08, Norm.L2: 0.4, Norm.L1: 1.5}


def graph(name: str) -> Network:
    return network_of(filled(NETWORKS[name]), images(1, *SHAPE))


def region_of(x: Tensor, norm: Norm, boxed: bool = True, share: float = 1.0) -> Region:
    radius = torch.linspace(0.3, 1, len(x), dtype=x.dtype) * RADII[norm] * share
    box = (0.0, 1.0) if boxed else (None, None)
    return Region(x, radius, norm, *box)


def points_in(region: Region, network: Network, spec: Tensor) -> list[Tensor]:
    """Points of the region: drawn ones, those of a long projected descent, and far corners."""
    x = region.x.double()
    found = []
    streams = Streams.of(3, "points", torch.arange(len(x)))
    for i, radius in enumerate(region.radius.tolist()):
        threat = ThreatModel(
            region.norm,
            radius,
            *((0.0, 1.0) if region.low is not None else (-9.0, 9.0)),
        )
        here = x[i : i + 1]
        mine = [threat.random(here, streams[i : i + 1].child(k)) for k in range(10)]
        for row in spec[i]:
            point = here
            for _ in range(12):
                point = point.detach().requires_grad_()
                (slope,) = torch.autograd.grad((network(point) @ row).sum(), point)
                step = threat.steepest(slope, point)
                point = threat.project(point - 0.4 * radius * step, here)
            mine.append(point.detach())
        found.append(torch.cat(mine))
    return found


@pytest.mark.parametrize("boxed", [True, False], ids=["box", "ball"])
@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_in_the_region_is_outside_the_bounds(name: str, norm: Norm, boxed: bool) -> None:
    network, x = graph(name), images(3, *SHAPE)
    spec = margins(torch.tensor([0, 1, 2]), 3)
    region = region_of(x, norm, boxed)
    intervals = interval_bounds(network, region)
    lines = crown_bounds(network, region)
    by_intervals = interval_margins(network, intervals, spec)
    found = crown(network, region, spec)
    for i, points in enumerate(points_in(region, network, spec)):
        values = network.values(points)
        for bounds in (intervals, lines):
            for (lower, upper), value in zip(bounds, values, strict=True):
                assert (value >= lower[i]).all()
                assert (value <= upper[i]).all()
        true = values[-1] @ spec[i].T
        linear = torch.einsum("pchw,schw->ps", points, found.coefficients[i]) + found.bias[i]
        assert (true >= by_intervals[i]).all()
        assert (true >= found.proved[i]).all()
        assert (true >= linear - found.slack[i]).all()
        assert (linear >= found.proved[i]).all()
    if name != "maxima":  # a flat line above a maximum may be worse than an interval
        assert (found.proved - by_intervals).mean() > 0.01


@pytest.mark.parametrize("name", ["cifar_cnn_a", "cifar_resnet20", "mnist_trades_cnn"])
def test_bounds_of_a_registered_model_hold(name: str) -> None:
    model = MODELS.get(name)()
    inputs = inputs_of(model)
    assert inputs is not None
    model = filled(as_classifier(model)).double()
    x = images(2, *inputs.shape)
    network = network_of(model, x[:1])
    threat = ThreatModel(Norm.LINF, 0.002)
    region = Region(x, torch.full((2,), threat.eps, dtype=FLOAT), threat.norm, 0.0, 1.0)
    spec = margins(torch.tensor([3, 7]), 10)
    bounds = interval_bounds(network, region)
    sizes = sizes_of(network, bounds)
    found = linear_bounds(network, region, relaxed(network, bounds), spec, sizes=sizes)
    streams = Streams.of(1, "points", torch.arange(2))
    for draw in range(5):
        scores = network(threat.random(x, streams.child(draw)))
        true = (spec @ scores[..., None]).squeeze(2)
        assert (true >= found.proved).all()
        assert (true >= interval_margins(network, bounds, spec)).all()


@pytest.mark.parametrize("norm", Norm)
def test_a_linear_network_is_bounded_exactly(norm: Norm) -> None:
    """|w| in the dual norm times the radius, whatever the layers are that it is made of."""
    model = filled(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)
        )
    )
    x = images(4, *SHAPE)
    network, region = network_of(model, x[:1]), region_of(x, norm, boxed=False)
    spec = margins(torch.tensor([0, 1, 2, 0]), 3)
    point = x.clone().requires_grad_()
    scores = network(point)
    expected = torch.empty(4, 2, dtype=FLOAT)
    for j in range(2):
        value = (scores * spec[:, j]).sum(1)
        (slope,) = torch.autograd.grad(value.sum(), point, retain_graph=True)
        dual = torch.linalg.vector_norm(slope.flatten(1), ord=DUAL[norm], dim=1)
        expected[:, j] = value.detach() - region.radius * dual
    found = crown(network, region, spec)
    torch.testing.assert_close(found.lower, expected)
    assert found.slack.max() < 1e-9


def test_interval_margins_of_one_layer_are_exact_in_linf() -> None:
    """Below the margin by the radius times the l1 norm of the difference of two rows."""
    model = filled(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)))
    x = images(3, *SHAPE)
    network, region = network_of(model, x[:1]), region_of(x, Norm.LINF, boxed=False)
    spec = margins(torch.tensor([0, 1, 2]), 3)
    weight = model.state_dict()["1.weight"].double()
    expected = (spec @ network(x)[..., None]).squeeze(2)
    expected = expected - region.radius[:, None] * (spec @ weight).abs().sum(2)
    found = interval_margins(network, interval_bounds(network, region), spec)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert (found < expected).all()


@pytest.mark.parametrize("norm", Norm)
def test_intervals_of_the_first_layer_are_attained(norm: Norm) -> None:
    """Of each value of the first layer separately, behind a normalisation, without a box."""
    layers: list[nn.Module] = [
        nn.Conv2d(2, 3, 3, stride=2, padding=1),
        nn.Sequential(nn.Flatten(), nn.Linear(72, 7)),
    ]
    for layer in layers:
        model = filled(as_classifier(nn.Sequential(layer), (0.4, 0.5), (0.3, 0.2)))
        x = images(2, *SHAPE)
        region = region_of(x, norm, boxed=False)
        network = network_of_any(model, x)
        jacobian = torch.autograd.functional.jacobian(network, x[:1])
        rows = jacobian.flatten(3)[0, :, 0] if jacobian.ndim > 3 else jacobian
        rows = rows.reshape(-1, 72)
        dual = torch.linalg.vector_norm(rows, ord=DUAL[norm], dim=1)
        lower, upper = interval_bounds(network, region)[-1]
        centre = network(x)
        reach = region.radius[:, None] * dual
        torch.testing.assert_close(upper, centre + reach)
        torch.testing.assert_close(lower, centre - reach)


def network_of_any(model: nn.Module, x: Tensor) -> Network:
    """Of a model whose output may have planes: they are laid side by side."""
    return network_of(nn.Sequential(model, nn.Flatten()).eval(), x[:1])


def test_one_layer_of_relus_is_the_linear_program_of_its_triangles() -> None:
    """With its own best lower slopes; with any others it is not above it."""
    network = network_of(
        filled(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), seed=2),
        images(1, 4),
    )
    x = images(1, 4) - 0.5
    region = Region(x, torch.tensor([0.8], dtype=FLOAT), Norm.LINF)
    spec = margins(torch.tensor([0]), 2)
    bounds = interval_bounds(network, region)
    expected = triangles(network, bounds, spec[0, 0])
    (relu,) = network.relus
    slopes = torch.full((1, 6), 0.5, dtype=FLOAT, requires_grad=True)
    ascent = torch.optim.Adam([slopes], lr=0.02)
    best = -math.inf
    for _ in range(300):
        lines = relaxed(network, bounds, {relu: slopes})
        found = linear_bounds(network, region, lines, spec).lower
        ascent.zero_grad()
        (-found).sum().backward()
        ascent.step()
        with torch.no_grad():
            slopes.clamp_(0, 1)
        best = max(best, found.item())
    assert best == pytest.approx(expected, abs=1e-3)
    assert best <= expected + 1e-9
    default = linear_bounds(network, region, relaxed(network, bounds), spec).lower
    assert default.item() <= expected + 1e-9


def triangles(network: Network, bounds: list[Interval], spec: Tensor) -> float:
    """The least of ``spec`` when each ReLU is free in its triangle, by a linear program.

    Variables: the input, what the ReLUs are given, and what they give.
    """
    first, last = (network.nodes[i].layer for i in (1, 3))
    w1, b1 = first.module.weight.numpy(), first.module.bias.numpy()  # type: ignore[attr-defined]
    w2, b2 = last.module.weight.numpy(), last.module.bias.numpy()  # type: ignore[attr-defined]
    low, high = (side[0].numpy() for side in bounds[1])
    lower, upper = (side[0].numpy() for side in bounds[0])
    eye, none = np.eye(6), np.zeros((6, 4))
    rising = np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, high / (high - low)))
    shift = np.where((low < 0) & (high > 0), -rising * low, 0.0)
    c = np.concatenate([np.zeros(10), spec.numpy() @ w2])
    above = np.block([[none, eye, -eye], [none, -np.diag(rising), eye]])
    limits = np.concatenate([np.zeros(6), shift])
    equal = np.block([[-w1, eye, 0 * eye]])
    sides = [*zip(lower, upper, strict=True), *zip(low, high, strict=True), *[(0, None)] * 6]
    return float(linprog(c, above, limits, equal, b1, sides).fun + spec.numpy() @ b2)


def test_one_neuron_is_what_a_hand_finds() -> None:
    """max(z, 0) for z in [-1, 3]: below 3/4 (z + 1), above z; for z in [-3, 1] above 0."""
    network = network_of(nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), images(1, 1))
    first, last = network.nodes[1].layer.module, network.nodes[3].layer.module  # type: ignore[attr-defined]
    for layer, weight, bias in ((first, 1.0, 0.0), (last, 1.0, 0.5)):
        layer.weight.fill_(weight)
        layer.bias.fill_(bias)
    spec = torch.tensor([[[1.0], [-1.0]]], dtype=FLOAT)
    for centre, slopes, constants in (
        (1.0, (1.0, -0.75), (0.5, -1.25)),
        (-1.0, (0.0, -0.25), (0.5, -1.25)),
    ):
        x = torch.full((1, 1), centre, dtype=FLOAT)
        found = crown(network, Region(x, torch.full((1,), 2.0, dtype=FLOAT), Norm.L2), spec)
        assert found.coefficients.flatten().tolist() == pytest.approx(slopes)
        assert found.bias.flatten().tolist() == pytest.approx(constants)
    # At its ends -relu(z) - 1/2 is -3 - 1/2 for z in [-1, 3], and -1 - 1/2 for z in [-3, 1].
    assert found.lower.flatten().tolist() == pytest.approx([0.5, -1.5])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    network, x = graph(name), images(5, *SHAPE)
    spec = margins(torch.tensor([0, 1, 2, 0, 1]), 3)
    for norm in Norm:
        region = region_of(x, norm)
        together = crown(network, region, spec)
        for i in (0, 3):
            only = torch.tensor([i])
            alone = crown(network, region.rows(only), spec[only], rows=6)
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[only], b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["patterned", "residual", "maxima"])
def test_coefficients_on_a_window_are_those_on_the_plane(name: str) -> None:
    """Of any few values of each layer of planes."""
    network, x = graph(name), images(2, *SHAPE)
    region = region_of(x, Norm.L2)
    lines = relaxed(network, crown_bounds(network, region))
    sizes = sizes_of(network, interval_bounds(network, region))
    for i, node in enumerate(network.nodes):
        if len(node.shape) != 3 or i == 0:
            continue
        few = images(5, seed=i).mul(math.prod(node.shape)).long()
        window = Window.around(few, node.shape)
        spec = torch.zeros(2, 5, math.prod(node.shape), dtype=FLOAT)
        spec[:, torch.arange(5), few] = 1
        spec = spec.unflatten(2, node.shape)
        narrow = carry(network, lines, window.of(spec), window=window, node=i, sizes=sizes)
        found, whole = (
            over(region, carried, rounded=True)
            for carried in (narrow, carry(network, lines, spec, node=i, sizes=sizes))
        )
        coefficients = found.coefficients
        if narrow.window is not None:
            coefficients = narrow.window.filled(coefficients, SHAPE[1:])
        torch.testing.assert_close(coefficients, whole.coefficients)
        torch.testing.assert_close(found.lower, whole.lower)
        torch.testing.assert_close(found.slack, whole.slack, rtol=1, atol=1e-15)


def test_pixels_along_a_curve_stay_close() -> None:
    """Every 16 that follow each other, from the start, are a square of 4 by 4."""
    places = torch.randperm(3 * 64, generator=torch.Generator().manual_seed(0))
    curved = places[along_a_curve(places, (3, 8, 8))]
    for block in curved.split(3 * 16):
        assert Window.around(block, (3, 8, 8)).shape == (4, 4)
    assert set(curved.tolist()) == set(range(3 * 64))


def test_what_each_sample_costs_is_counted() -> None:
    network, x = graph("convolutional"), images(4, *SHAPE)
    region = region_of(x, Norm.LINF)
    counted = torch.zeros(4, dtype=torch.int64)
    crown_bounds(network, region, carried=counted)
    lower, upper = interval_bounds(network, region)[network.nodes[network.relus[1]].inputs[0]]
    undecided = ((lower < 0) & (upper > 0)).flatten(1).sum(1)
    # The first layer's intervals are exact, so that only the second one's values are carried.
    assert (undecided > 0).any()
    assert counted.tolist() == (2 * undecided).tolist()


def test_bounds_that_are_given_are_only_tightened() -> None:
    network, x = graph("dense"), images(3, *SHAPE)
    region = region_of(x, Norm.LINF)
    plain = crown_bounds(network, region)
    half = crown_bounds(network, region_of(x, Norm.LINF, share=0.5))
    given = crown_bounds(network, region, bounds=half)
    for a, b, c in zip(plain, half, given, strict=True):
        assert (c.lower >= torch.maximum(a.lower, b.lower) - 1e-12).all()
        assert (c.upper <= torch.minimum(a.upper, b.upper) + 1e-12).all()
    useless = interval_bounds(network, region_of(x, Norm.LINF, share=2))
    for a, c in zip(plain, crown_bounds(network, region, bounds=useless), strict=True):
        torch.testing.assert_close(a, c)


def test_extra_terms_are_bounded_along() -> None:
    """<spec, f> + <extra, z> for the values z that a layer of ReLUs is given."""
    network, x = graph("residual"), images(2, *SHAPE)
    region = region_of(x, Norm.L2)
    spec = margins(torch.tensor([0, 1]), 3)
    bounds = crown_bounds(network, region)
    extra = {
        relu: images(2, 2, *network.nodes[relu].shape, seed=relu) - 0.5 for relu in network.relus
    }
    lines, sizes = relaxed(network, bounds), sizes_of(network, bounds)
    found = linear_bounds(network, region, lines, spec, extra=extra, sizes=sizes)
    plain = linear_bounds(network, region, lines, spec, sizes=sizes)
    for i, points in enumerate(points_in(region, network, spec)):
        values = network.values(points)
        true = values[-1] @ spec[i].T
        for relu, terms in extra.items():
            given = values[network.nodes[relu].inputs[0]]
            true = true + given.flatten(1) @ terms[i].flatten(1).T
        assert (true >= found.proved[i]).all()
    assert (found.lower - plain.lower).abs().min() > 1e-3


def test_coefficients_of_a_relu_are_kept() -> None:
    """Of the last one they are the specification times the last layer's weight."""
    network, x = graph("dense"), images(2, *SHAPE)
    region, spec = region_of(x, Norm.L2), margins(torch.tensor([0, 1]), 3)
    kept: dict[int, Tensor] = {}
    lines = relaxed(network, interval_bounds(network, region))
    linear_bounds(network, region, lines, spec, keep=kept)
    assert set(kept) == set(network.relus)
    weight = network.nodes[-1].layer.module.weight  # type: ignore[attr-defined]
    torch.testing.assert_close(kept[network.relus[-1]], spec @ weight)
    assert kept[network.relus[0]].shape == (2, 2, 12)


@pytest.mark.parametrize("name", NETWORKS)
def test_slopes_of_each_row_are_those_of_a_call_with_that_row_alone(name: str) -> None:
    network, x = graph(name), images(2, *SHAPE)
    region, spec = region_of(x, Norm.LINF), margins(torch.tensor([0, 1]), 3)
    bounds = crown_bounds(network, region)
    slopes = {relu: images(2, 2, *network.nodes[relu].shape, seed=relu) for relu in network.relus}
    together = linear_bounds(network, region, relaxed(network, bounds, slopes), spec).lower
    for j in range(2):
        own = {relu: slope[:, j] for relu, slope in slopes.items()}
        lines = relaxed(network, bounds, own)
        alone = linear_bounds(network, region, lines, spec[:, j : j + 1]).lower
        torch.testing.assert_close(together[:, j : j + 1], alone)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_bounds_are_differentiable(name: str, norm: Norm) -> None:
    """By the slopes and, through all bounds, by the model's own parameters."""
    model = filled(NETWORKS[name]).double()
    x = images(2, *SHAPE)
    network = network_of(model, x[:1], dtype=None)
    region, spec = region_of(x, norm), margins(torch.tensor([0, 1]), 3)
    weight = next(p for p in model.parameters() if p.ndim > 1)
    slopes = {
        relu: images(2, *network.nodes[relu].shape, seed=relu).mul(0.8).add(0.1)
        for relu in network.relus
    }

    def least(added: Tensor, steeper: Tensor) -> Tensor:
        with torch.no_grad():
            kept = weight.clone()
        # The layers read the parameter itself: a plain tensor in its place is read likewise.
        owner = next(m for m in model.modules() if getattr(m, "weight", None) is weight)
        del owner._parameters["weight"]
        owner.weight = kept + added
        try:
            bounds = interval_bounds(network, region)
            lines = relaxed(network, bounds, {i: slope * steeper for i, slope in slopes.items()})
            lower = linear_bounds(network, region, lines, spec).lower
            return torch.cat([lower, interval_margins(network, bounds, spec)])
        finally:
            del owner.weight
            owner._parameters["weight"] = weight

    added = torch.zeros_like(weight[:1, :1]).requires_grad_()
    steeper = torch.ones(1, dtype=FLOAT, requires_grad=True)
    assert torch.autograd.gradcheck(least, (added, steeper), eps=1e-7, atol=1e-4)
    least(added, steeper).sum().backward()
    for free in (added, steeper):
        assert free.grad is not None
        assert free.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_slack_covers_the_rounding_of_single_precision(name: str) -> None:
    """The same relaxation in float64 is the true bound, as near as anyone would ask."""
    x = images(4, *SHAPE).float()
    spec = margins(torch.tensor([0, 1, 2, 0]), 3)
    single = network_of(filled(NETWORKS[name]), x[:1], torch.float32)
    double = network_of(filled(NETWORKS[name]), x[:1], torch.float64)
    for norm in Norm:
        region = region_of(x, norm)
        bounds = crown_bounds(single, region)
        lines, sizes = relaxed(single, bounds), sizes_of(single, bounds)
        found = linear_bounds(single, region, lines, spec.float(), sizes=sizes)
        exact = Region(x.double(), region.radius.double(), norm, 0.0, 1.0)
        wide = [Interval(*(side.double() for side in one)) for one in bounds]
        true = linear_bounds(double, exact, relaxed(double, wide), spec)
        assert (found.lower - true.lower).abs().max() > 0
        assert (found.proved <= true.lower).all()
        assert found.slack.max() < 1e-2
        # Intervals of single precision hold all that those of double precision do.
        for one, other in zip(bounds, crown_bounds(double, exact), strict=True):
            assert (one.lower.double() <= other.lower + 1e-6).all()
        for one, other in zip(
            interval_bounds(single, region), interval_bounds(double, exact), strict=True
        ):
            # Those of double precision are themselves wider than the exact ones, by nothing.
            assert (one.lower.double() <= other.lower).all()
            assert (one.upper.double() >= other.upper).all()


def test_slack_covers_sums_that_cancel() -> None:
    """1e8 / 10 - 99999992 / 10 = .8: single precision is off by tenths, and the slack says so."""
    model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)).eval()
    state = model.state_dict()
    for values in state.values():
        values.zero_()
    state["0.weight"].fill_(0.1)
    state["1.weight"].copy_(torch.tensor([[1e8, -99999992.0]]))
    x = torch.ones(1, 1)
    region, one = Region(x, torch.zeros(1), Norm.LINF), torch.ones(1, 1, 1)
    found = crown(network_of(model, x, torch.float32), region, one)
    true = 8 * float(torch.tensor(0.1, dtype=torch.float32))
    off = abs(found.lower.item() - true)
    assert 0.1 < off < found.slack.item() < 100


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_single_precision_are_within_their_error(name: str) -> None:
    model, x = filled(NETWORKS[name]).float(), images(30, *SHAPE).float()
    network = network_of(model, x[:1])
    bounds = interval_bounds(network, Region(x.double(), torch.zeros(30, dtype=FLOAT), Norm.L2))
    error = forward_error(network, bounds)
    off = (model(x).double() - network(x.double())).abs()
    assert off.max() > 0
    assert (off <= error).all()
    assert error.max() < 1e-3


def test_the_error_of_a_sum_is_at_most_gamma() -> None:
    streams = Streams.of(0, "sums", torch.arange(50))
    a, b = (streams.child(k).normal(1000, dtype=torch.float32) for k in "ab")
    found = (a @ b.T).diagonal().double()
    exact = [math.fsum(p) for p in (a.double() * b.double()).tolist()]
    off = (found - torch.tensor(exact, dtype=FLOAT)).abs()
    most = gamma(1000, torch.float32) * (a.abs().double() * b.abs().double()).sum(1)
    assert (off <= most).all()
    assert gamma(0, torch.float32) == 0
    with pytest.raises(ValueError, match="no useful bound"):
        gamma(10**8, torch.float32)


def test_shipped_weights_are_proved_something_of() -> None:
    model = load_classifier("digits_cnn", classes=10)
    data = load_data("digits")
    x, y = data.images(range(64)).double(), torch.as_tensor(data.labels[:64])
    network = network_of(model, x[:1])
    region = Region(x, torch.full((64,), 0.02, dtype=FLOAT), Norm.LINF, 0.0, 1.0)
    spec = margins(y, 10)
    intervals = interval_margins(network, interval_bounds(network, region), spec).amin(1) > 0
    lines = crown(network, region, spec).proved.amin(1) > 0
    right = network(x).argmax(1) == y
    assert (lines | ~intervals).all()
    assert (right | ~lines).all()
    assert lines.sum() > intervals.sum()
    streams = Streams.of(0, "points", torch.arange(64))
    threat = ThreatModel(Norm.LINF, 0.02)
    for draw in range(5):
        scores = network(threat.random(x, streams.child(draw)))
        assert (scores.argmax(1) == y)[lines].all()
