"""Models as graphs: what is known is the same function, what is not is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.bounds import Network, network_of
from robustcode.bounds.layers import Affine
from robustcode.errors import ConfigError
from robustcode.models import MODELS, as_classifier, inputs_of
from robustcode.seeds import Streams


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with weights, biases and kept statistics drawn anew, in evaluation mode."""
    streams = Streams.of(seed, "weights", torch.zeros(1, dtype=torch.int64))
    for name, values in model.state_dict().items():
        if values.dtype.is_floating_point:
            draw = streams.child(name).normal(*values.shape, dtype=values.dtype)[0]
            fan = values[0].numel() if values.ndim > 1 else 10
            values.copy_(draw.abs() + 0.5 if name.endswith("running_var") else draw / fan**0.5)
    return model.eval()


def images(count: int, *shape: int) -> Tensor:
    return Streams.of(5, "images", torch.arange(count)).uniform(*shape, dtype=torch.float64)


def registered(name: str) -> tuple[nn.Module, Tensor]:
    """A registered model behind its normalisation, and images as small as it takes them."""
    network = MODELS.get(name)()
    inputs = inputs_of(network)
    assert inputs is not None
    channels, *_ = inputs.shape
    model = filled(as_classifier(network))
    small = images(2, channels, 8, 8)
    try:
        model.double()(small)
    except RuntimeError:  # its linear layer wants the size it was made for
        small = images(2, *inputs.shape)
    return model, small


SLOW = {"wide_resnet28_10"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in MODELS],
)
def test_a_registered_model_is_the_same_function_as_its_graph(name: str) -> None:
    model, x = registered(name)
    network = network_of(model, x[:1])
    torch.testing.assert_close(network(x), model.double()(x))
    assert network.shape == x.shape[1:]
    assert network.classes == 10
    for node, value in zip(network.nodes, network.values(x), strict=True):
        assert value.shape[1:] == node.shape


class Anything(nn.Module):
    """A function of the image as a model."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :5]


KNOWN: dict[str, Anything] = {
    "convolution": Anything(
        lambda x, c: flat(c(x)), nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)
    ),
    "same": Anything(lambda x, c: flat(c(x)), nn.Conv2d(4, 6, 3, padding="same")),
    "valid": Anything(lambda x, c: flat(c(x)), nn.Conv2d(4, 6, (2, 3), padding="valid")),
    "average": Anything(lambda x, p: flat(p(x)), nn.AvgPool2d(3, 2, 1)),
    "adaptive": Anything(lambda x, p: flat(p(x)), nn.AdaptiveAvgPool2d((2, 3))),
    "functional pooling": Anything(lambda x: flat(F.adaptive_avg_pool2d(F.avg_pool2d(x, 2), 2))),
    "maximum": Anything(lambda x, p: flat(p(x)), nn.MaxPool2d(3, 2, 1)),
    "functional maximum": Anything(lambda x: flat(F.max_pool2d(x, (2, 1), ceil_mode=True))),
    "mean": Anything(lambda x: x.mean((-1, 2))),
    "views": Anything(lambda x: x.view(x.size(0), -1).reshape(x.shape[0], 8, -1)[:, 1, ::4]),
    "pad": Anything(lambda x: flat(F.pad(x[:, ::2, 1:], (1, 0, 2, 1)))),
    "dropout": Anything(lambda x, d: flat(d(F.dropout(x, training=False))), nn.Dropout()),
    "arithmetic": Anything(lambda x: flat((1 - x * 2) / 3 - (-x) + x - 0.5)),
    "unflatten": Anything(
        lambda x, f, u: u(f(x))[:, 0, :, 0, 0], nn.Flatten(), nn.Unflatten(1, (2, 8, 2, 4))
    ),
    "batch norm": Anything(
        lambda x, b, c: c(flat(b(x))), nn.BatchNorm2d(4), nn.BatchNorm1d(5, affine=False)
    ),
    "residual": Anything(
        lambda x, c, i: flat(i(x) + c(x).relu()), nn.Conv2d(4, 4, 1), nn.Identity()
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_layer_is_the_same_function_as_its_node(name: str) -> None:
    model = filled(KNOWN[name])
    x = images(3, 4, 8, 4)
    network = network_of(model, x)
    torch.testing.assert_close(network(x), model.double()(x))


@pytest.mark.parametrize("name", KNOWN)
def test_a_transpose_is_one(name: str) -> None:
    """<a, W x> is <W^T a, x>, and |W| is no less than W either way."""
    network = network_of(filled(KNOWN[name]), images(1, 4, 8, 4))
    for node in network.nodes[1:]:
        if not isinstance(node.layer, Affine):
            continue
        shapes = tuple(network.nodes[j].shape for j in node.inputs)
        inputs = [images(3, *shape) - 0.5 for shape in shapes]
        rows = images(4, *node.shape)[1:] - 0.5
        found = node.layer.transposed(rows, shapes)
        straight = (rows * node.layer.linear(*inputs)).flatten(1).sum(1)
        back = sum((a * x).flatten(1).sum(1) for a, x in zip(found, inputs, strict=True))
        torch.testing.assert_close(straight, back)
        most = node.layer.absolute(*(x.abs() for x in inputs))
        assert (node.layer.linear(*inputs).abs() <= most + 1e-12).all()


def looped(x: Tensor) -> Tensor:
    return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "sigmoid": (
        nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.Sigmoid()),
        "layer '2' (Sigmoid) cannot be bounded; known are convolutions",
    ),
    "function": (Anything(lambda x: flat(torch.tanh(x))), "layer 'tanh' (tanh) cannot"),
    "product": (
        Anything(lambda x: flat(x * x)),
        "layer 'mul' (mul) cannot be bounded: both factors depend on the input",
    ),
    "circular": (
        Anything(lambda x, c: flat(c(x)), nn.Conv2d(4, 4, 3, padding_mode="circular")),
        "layer 'layers.0' (Conv2d) cannot be bounded: its padding is 'circular' and not zeros",
    ),
    "constant": (
        Anything(lambda x: flat(F.pad(x, (1, 1), value=2.0))),
        "layer 'pad' (pad) cannot be bounded: its padding is 'constant' of 2 and not of zeros",
    ),
    "rows": (Anything(lambda x: flat(x - x.mean(0, keepdim=True))), "it mixes the rows of a batch"),
    "merged": (
        Anything(lambda x: x.reshape(-1, 16)[:, :5]),
        "layer 'reshape' (reshape) cannot be bounded: it mixes the rows of a batch",
    ),
    "branch": (Anything(looped), "forward cannot be traced"),
    "broadcast": (
        Anything(lambda x: flat(x + x.mean((2, 3), keepdim=True))),
        "layer 'add' (add) cannot be bounded: its shapes (4, 8, 4) and (4, 1, 1) differ",
    ),
    "grouped": (
        nn.Sequential(nn.GroupNorm(2, 4), nn.Flatten()),
        "layer '0' (GroupNorm) cannot be bounded",
    ),
    "nothing": (Anything(lambda x: torch.zeros(3, 2)), "returns Tensor and not one tensor of"),
    "images": (Anything(lambda x: x * 2), "gives logits of shape (3, 4, 8, 4)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_bounded_is_refused_by_name(name: str) -> None:
    model, message = REFUSED[name]
    with pytest.raises(ConfigError, match=re.escape(message)):
        network_of(model.eval(), images(1, 4, 8, 4).float())


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Dropout()])
def test_a_layer_in_training_mode_is_refused(layer: nn.Module) -> None:
    model = nn.Sequential(layer, nn.Flatten())
    with pytest.raises(ConfigError, match=r"layer '0' .* training mode; call .eval\(\) first"):
        network_of(model.train(), images(1, 4, 8, 4).float())


def test_a_subclass_of_a_known_layer_is_refused() -> None:
    class Twice(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    Twice.__module__ = "torch.nn.twice"  # or the trace would look inside
    with pytest.raises(ConfigError, match=r"layer '1' \(Twice\)"):
        network_of(nn.Sequential(nn.Flatten(), Twice(128, 3)), images(1, 4, 8, 4).float())


def test_a_change_that_no_trace_shows_is_found() -> None:
    def forward(x: Tensor, relu: nn.Module) -> Tensor:
        first = x - 0.5
        relu(first)  # in place: what is read below is another value
        return flat(first)

    model = Anything(forward, nn.ReLU(inplace=True))
    with pytest.raises(ConfigError, match="changes 'sub' in place, which is read later"):
        network_of(model, images(1, 4, 8, 4).float())


def test_a_live_network_follows_the_model_and_has_its_gradients() -> None:
    model = filled(nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 2)))
    x = images(2, 4, 8, 4).float()
    live, frozen = network_of(model, x, dtype=None), network_of(model, x)
    linear = model.get_submodule("1")
    assert isinstance(linear, nn.Linear)
    before = live(x)
    (gradient,) = torch.autograd.grad(before.sum(), linear.weight)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        linear.weight.mul_(3)
    torch.testing.assert_close(live(x), model(x))
    torch.testing.assert_close(frozen(x.double()).float(), before)
    assert live.dtype == torch.float32


def kinds(network: Network) -> list[str]:
    return [type(node.layer).__name__ for node in network.nodes]


def test_nodes_have_the_names_of_the_model() -> None:
    model, x = registered("digits_cnn")
    network = network_of(model, x)
    assert [network.nodes[i].name for i in network.relus] == [
        "network.1",
        "network.3",
        "network.6",
    ]
    assert kinds(network)[:3] == ["Input", "Convolution", "ReLU"]
