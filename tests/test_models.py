"""Every registered architecture is what its name says, and a spec leads to the right network."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from robustcode.checkpoint import read_state_dict, save_checkpoint
from robustcode.errors import ConfigError, UnknownNameError
from robustcode.models import (
    MODELS,
    Classifier,
    Normalize,
    as_classifier,
    build_model,
    inputs_of,
)

torch.set_num_threads(1)

# Parameters, without the buffers of batch norm.
# ResNet-n: 0.27, 0.46, 0.66, 0.85 million in He et al. 2015, arXiv:1512.03385, table 6.
# WRN-28-10: 36.5 million in Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 5; exact in
# osmr/imgclsmob. PreActResNet-18: 11,171,146 in kuangliu/pytorch-cifar, which omits the last
# norm, and 2 x 512 for that. The others: by hand from the table of shared/data/README.md.
PARAMETERS = {
    "digits_cnn": 160 + 4640 + 32_832 + 650,
    "cifar_resnet20": 269_722,
    "cifar_resnet32": 464_154,
    "cifar_resnet44": 658_586,
    "cifar_resnet56": 853_018,
    "preact_resnet18": 11_171_146 + 2 * 512,
    "wide_resnet28_10": 36_479_194,
    "cifar_cnn_a": 784 + 8224 + 204_900 + 1010,
    "mnist_cnn_a": 272 + 8224 + 156_900 + 1010,
    "cifar_resnet2b": 224 + (1168 + 2320 + 144) + 2 * 2320 + 102_500 + 1010,
    "cifar_resnet4b": 448 + (4640 + 9248 + 544) + 2 * (2 * 9248) + 19_552 + 51_300 + 1010,
    "mnist_trades_cnn": 320 + 9248 + 18_496 + 36_928 + 205_000 + 40_200 + 2010,
}

# One key of every kind in the files that are widely published for the architecture.
PUBLISHED_KEYS = {
    "preact_resnet18": (
        "conv1.weight layer1.0.bn1.weight layer1.0.conv1.weight layer4.1.bn2.running_var "
        "layer2.0.shortcut.0.weight layer2.0.conv2.weight bn.weight linear.bias"
    ),
    "wide_resnet28_10": (
        "conv1.weight block1.layer.0.bn1.weight block1.layer.0.convShortcut.weight "
        "block3.layer.3.conv2.weight block2.layer.1.bn2.running_mean bn1.weight fc.bias"
    ),
    "cifar_resnet4b": "layer2.0.shortcut.0.bias layer2.1.conv2.bias linear1.weight linear2.bias",
}


def a_batch(network: nn.Module) -> Tensor:
    inputs = inputs_of(network)
    assert inputs is not None
    return torch.rand(2, *inputs.shape, generator=torch.Generator().manual_seed(0))


def test_the_registered_names_are_the_kept_ones() -> None:
    assert set(MODELS) == set(PARAMETERS)


@pytest.mark.parametrize("name", list(MODELS))
def test_an_architecture_is_complete(name: str, tmp_path: Path) -> None:
    network = build_model(name, classes=7).eval()
    x = a_batch(network).requires_grad_()
    logits = network(x)
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    gradient, *others = torch.autograd.grad(
        logits[:, 0].sum(), [x, *network.parameters()], allow_unused=True
    )
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    assert all(other is not None for other in others)  # no layer is left out
    with torch.no_grad():
        assert torch.equal(network(x), logits)
        # Search folds batch norm on a trace: a network that cannot be traced is attacked slower.
        traced = fx.symbolic_trace(as_classifier(network))
        assert torch.equal(traced(x), as_classifier(network)(x))

    save_checkpoint(network, tmp_path / "weights.safetensors", {"model": name})
    state = read_state_dict(tmp_path / "weights.safetensors")
    own = network.state_dict()
    assert state.keys() == own.keys()
    assert all(torch.equal(state[key], own[key]) for key in own)


@pytest.mark.parametrize("name", list(MODELS))
def test_an_architecture_has_as_many_parameters_as_published(name: str) -> None:
    with torch.device("meta"):
        network = build_model(name)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", list(PUBLISHED_KEYS))
def test_keys_are_those_of_published_checkpoints(name: str) -> None:
    with torch.device("meta"):
        keys = build_model(name).state_dict().keys()
    assert set(PUBLISHED_KEYS[name].split()) <= keys


@pytest.mark.parametrize("name", list(MODELS))
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    network = build_model(name).eval()
    x = a_batch(network)
    with torch.no_grad():
        alone, together = network(x[:1]), network(x)[:1]
    # Another batch size may sum in another order: rounding, of logits of size one.
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_the_cifar_resnet_shortcut_pads_with_zero_channels_on_either_side() -> None:
    block: Any = build_model("cifar_resnet20").get_submodule("layer2.0")
    x = torch.rand(1, 16, 4, 4)
    shortcut = block._shortcut(x)
    assert shortcut.shape == (1, 32, 2, 2)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


@pytest.mark.parametrize("name", ["preact_resnet18", "wide_resnet28_10"])
def test_pre_activation_comes_before_the_shortcut_that_changes_shape(name: str) -> None:
    """He et al. 2016 and Zagoruyko 2016: norm and ReLU first, then both ways."""
    path = "layer2.0" if name == "preact_resnet18" else "block2.layer.0"
    block = build_model(name).eval().get_submodule(path)
    nn.init.zeros_(block.get_parameter("conv2.weight"))
    channels = block.get_parameter("bn1.weight").numel()
    with torch.no_grad():
        # With the residual way closed, what ReLU stops must not come through the shortcut.
        assert not block(-torch.rand(1, channels, 4, 4)).any()
        assert block(torch.rand(1, channels, 4, 4)).any()


def test_normalisation_is_per_channel_and_outside_the_state_dict() -> None:
    normalize = Normalize((0.5, 0.25), (0.5, 2.0))
    x = torch.ones(1, 2, 3, 3)
    expected = torch.tensor([1.0, 0.375]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert torch.equal(normalize(x), expected)
    assert not normalize.state_dict()


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((0.5,) * 3, (0.5,) * 2, "3 values and a std of 2"),
        ((0.5,) * 3, (), "3 values and a std of 0"),
        ((0.5,), (0.5,), "1 channel, but the network takes 3"),
        ((0.5,) * 3, (0.5, 0.0, 0.5), "std = 0.5,0,0.5"),
        ((0.5,) * 3, (0.5, -1.0, 0.5), "not positive"),
        ((0.5, float("nan"), 0.5), (0.5,) * 3, "not a finite number"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        as_classifier(build_model("cifar_cnn_a"), mean, std)
    with pytest.raises(ConfigError, match=says):  # without a declaration: by the convolution
        as_classifier(nn.Sequential(nn.Conv2d(3, 2, 32), nn.Flatten()), mean, std)


def test_normalisation_is_the_given_one_else_the_architectures_else_none() -> None:
    assert as_classifier(build_model("cifar_resnet20")).normalization[0] == (0.485, 0.456, 0.406)
    given = as_classifier(build_model("cifar_resnet20"), (0.1, 0.2, 0.3), (1, 1, 1))
    assert given.normalization == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert as_classifier(build_model("cifar_resnet20"), (), ()).normalization == ((), ())
    assert as_classifier(build_model("mnist_cnn_a")).normalization == ((), ())


@pytest.mark.parametrize("training", [True, False])
def test_wrapping_keeps_the_mode(training: bool) -> None:
    network = build_model("mnist_cnn_a").train(training)
    classifier = as_classifier(network, (0.5,), (0.5,))
    assert {module.training for module in classifier.modules()} == {training}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cifar_resnet21", "Did you mean .*'cifar_resnet20'"),
        ("digits_cnn:adverserial", "Did you mean 'digits_cnn:adversarial'"),
        ("cifar_resnet20:best", "no variant 'best'"),
        ("nothing.py", "no model is called 'nothing.py'"),
    ],
)
def test_an_unknown_model_gets_a_suggestion(spec: str, says: str) -> None:
    with pytest.raises(UnknownNameError, match=says):
        build_model(spec)


def test_one_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="classes = 1"):
        build_model("digits_cnn", classes=1)


def test_a_variant_is_the_same_network() -> None:
    plain, variant = build_model("digits_cnn"), build_model("digits_cnn:adversarial")
    assert plain.state_dict().keys() == variant.state_dict().keys()


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    file = tmp_path / "nets.py"
    file.write_text(
        textwrap.dedent(
            """
            from torch import nn

            class Net(nn.Sequential):
                def __init__(self, classes=3):
                    super().__init__(nn.Flatten(), nn.Linear(4, classes))

            def make(): return Net()
            def sized(classes): return Net(classes)
            def frozen(): return Net().eval()
            def number(): return 7
            def fails(): raise OSError("no such weights")
            def needs(path, size=2): return Net()
            ready = Net(5)
            """
        )
    )
    return file


def test_a_callable_of_the_user_is_called(nets: Path) -> None:
    assert build_model(f"{nets}:make")(torch.rand(2, 1, 2, 2)).shape == (2, 3)
    assert build_model(f"{nets}:sized", classes=6)(torch.rand(2, 1, 2, 2)).shape == (2, 6)
    assert build_model(f"{nets}:make", classes=6)(torch.rand(2, 1, 2, 2)).shape == (2, 3)
    assert build_model(f"{nets}:Net")(torch.rand(2, 1, 2, 2)).shape == (2, 3)
    assert build_model(f"{nets}:ready")(torch.rand(2, 1, 2, 2)).shape == (2, 5)


def test_a_callable_of_a_package_is_called() -> None:
    assert isinstance(build_model("torch.nn:Identity"), nn.Identity)


def test_a_users_network_stays_in_the_mode_it_came_in(nets: Path) -> None:
    assert build_model(f"{nets}:make").training
    assert not build_model(f"{nets}:frozen").training


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("number", "returned int; a model is a torch.nn.Module"),
        ("fails", "could not make a model: OSError: no such weights"),
        ("needs", r"needs arguments \(path\)"),
        ("sized", r"needs arguments \(classes\)"),
    ],
)
def test_a_callable_that_makes_no_network_is_refused(nets: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_model(f"{nets}:{name}")


def test_timm_is_asked_for_untrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def create_model(name: str, **options: Any) -> nn.Module:
        asked.append((name, options))
        return Classifier(nn.Identity(), nn.Flatten())

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    build_model("timm:resnet18", classes=10)
    build_model("timm:resnet18")
    assert asked == [
        ("resnet18", {"pretrained": False, "num_classes": 10}),
        ("resnet18", {"pretrained": False}),
    ]


def test_without_timm_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install robustcode\[timm\]"):
        build_model("timm:resnet18")


def test_an_unknown_timm_model_gets_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, **_: Any) -> nn.Module:
        raise RuntimeError(f"Unknown model ({name})")

    fake = SimpleNamespace(create_model=create_model, list_models=lambda: ["resnet18"])
    monkeypatch.setitem(sys.modules, "timm", fake)
    with pytest.raises(ConfigError, match="Did you mean 'resnet18'"):
        build_model("timm:resnet81")
