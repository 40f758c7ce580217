"""Weights load into the network they belong to, and a file of them never runs anything."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from robustcode.checkpoint import (
    load_classifier,
    read_metadata,
    read_state_dict,
    save_checkpoint,
    sha256_of,
)
from robustcode.data import load_data
from robustcode.errors import CheckpointError, ConfigError
from robustcode.models import SHIPPED, Normalize, as_classifier, build_model
from robustcode.models.fit import nearest
from robustcode.models.shipped import shipped_weights

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Published(NamedTuple):
    """One row of the table in shared/data/README.md."""

    model: str
    file: str
    data: str
    accuracy: float


PUBLISHED = [
    Published("cifar_resnet20", "resnet_cifar10/resnet20-12fca82f.th", "cifar10", 0.9173),
    Published("cifar_cnn_a", "verification/cifar_cnn_a_adv.model", "cifar10", 0.6565),
    Published("cifar_cnn_a", "verification/cifar_cnn_a_adv4.model", "cifar10", 0.5651),
    Published("cifar_cnn_a", "verification/cifar_cnn_a_mix.model", "cifar10", 0.7417),
    Published("mnist_cnn_a", "verification/mnist_cnn_a_adv.model", "mnist", 0.9633),
    Published("cifar_resnet2b", "verification/resnet2b.pth", "cifar10", 0.6925),
    Published("mnist_cnn_a", "convex_adversarial/mnist_0_1.pth", "mnist", 0.9820),
    Published("mnist_cnn_a", "fast_adversarial/mnist_fgsm.pth", "mnist", 0.9850),
    Published("mnist_cnn_a", "mipverify/WK17a_linf0.1.pth", "mnist", 0.9811),
    Published("mnist_trades_cnn", "trades/mnist_smallcnn.pt", "mnist", 0.9948),
]


# As long as all others together; attacks on them are held to published numbers elsewhere.
DEAR = ("resnet20", "smallcnn")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            id=Path(row.file).stem,
            marks=pytest.mark.long if any(part in row.file for part in DEAR) else (),
        )
        for row in PUBLISHED
    ],
)
def test_published_checkpoints_have_their_published_accuracy(row: Published) -> None:
    """On the whole test split; ResNet-20 takes about 12 CPU seconds, the others under 4."""
    file = SHARED / "checkpoints" / row.file
    if not (file.exists() and (SHARED / row.data).exists()):
        pytest.skip(f"real data are missing: {file} or {SHARED / row.data}")
    data = load_data(f"{row.data}:{SHARED / row.data}")
    classifier = load_classifier(row.model, file)
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(data), 500):
            samples = range(start, min(start + 500, len(data)))
            x = data.images(samples).contiguous(memory_format=torch.channels_last)
            correct += int((classifier(x).argmax(1) == data.targets(samples)).sum())
    assert len(data) == 10_000
    assert correct / len(data) == pytest.approx(row.accuracy, abs=0.0005)


@pytest.fixture
def network() -> nn.Module:
    return build_model("digits_cnn")


@pytest.fixture
def state(network: nn.Module) -> dict[str, Tensor]:
    return network.state_dict()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best_prec1": 91.7},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state},
    "net": lambda state: {"net": state, "acc": 93.0, "epoch": torch.tensor(4)},
    "ema": lambda state: {"ema": state},
    "list": lambda state: [state, {"epoch": 1}],
    "a name of its own": lambda state: {"best": state, "epoch": 3},
    "with a counter beside": lambda state: {**state, "epoch": 3},
    "module.": lambda state: prefixed(state, "module."),
    "model.": lambda state: prefixed(state, "model."),
    "_orig_mod.": lambda state: prefixed(state, "_orig_mod."),
    "all at once": lambda state: {
        "state_dict": [{"model": prefixed(state, "_orig_mod.module.model.")}],
        "epoch": 3,
    },
    "averaged": lambda state: {
        **prefixed(state, "module."),
        "n_averaged": torch.tensor(4),
    },
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_wrapped_state_dict_is_found(
    wrapped: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    torch.save(WRAPPED[wrapped](state), file)
    loaded = load_classifier("digits_cnn", file).network.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_plain_weights_go_before_their_average(state: dict[str, Tensor], tmp_path: Path) -> None:
    average = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"ema": average, "state_dict": state}, tmp_path / "both.pt")
    assert read_state_dict(tmp_path / "both.pt")["0.weight"].any()


def test_weights_of_a_network_that_has_a_prefix_of_its_own_load(tmp_path: Path) -> None:
    code = tmp_path / "wrapping.py"
    code.write_text(
        "from torch import nn\n"
        "class Wrapping(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = nn.Linear(4, 2)\n"
        "    def forward(self, x):\n"
        "        return self.model(x.flatten(1))\n"
    )
    weights = {"weight": torch.ones(2, 4), "bias": torch.zeros(2)}
    for prefix in ("", "model.", "module.model."):
        torch.save(prefixed(weights, prefix), tmp_path / "w.pt")
        classifier = load_classifier(f"{code}:Wrapping", tmp_path / "w.pt")
        assert classifier(torch.ones(1, 1, 2, 2)).tolist() == [[4, 4]]
        assert classifier.training  # as the callable left it: the engine reports it


def test_a_stage_that_trades_saved_but_never_ran_is_ignored(tmp_path: Path) -> None:
    network = build_model("wide_resnet28_10")
    state = dict(network.state_dict())
    state["sub_block1.layer.0.bn1.weight"] = torch.ones(16)
    torch.save(state, tmp_path / "trades.pt")
    loaded = load_classifier("wide_resnet28_10", tmp_path / "trades.pt").network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


class Evil:
    """Unpickled by Python itself, it makes the file it was told."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def write_pickle(content: Any, file: Path, protocol: int) -> None:
    file.write_bytes(pickle.dumps(content, protocol=protocol))


def write_torch(content: Any, file: Path, modern: bool) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=modern)


EVIL: dict[str, Callable[[Any, Path], None]] = {
    "torch": lambda content, file: write_torch(content, file, True),
    "torch before 1.6": lambda content, file: write_torch(content, file, False),
    "pickle 2": lambda content, file: write_pickle(content, file, 2),
    "pickle 5": lambda content, file: write_pickle(content, file, 5),
}


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("form", EVIL)
def test_a_file_that_would_run_code_is_refused_and_does_not_run(
    form: str, name: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    mark, file = tmp_path / "it_ran", tmp_path / name
    EVIL[form]({"state_dict": state, "extra": Evil(mark)}, file)
    with pytest.raises(CheckpointError) as refused:
        load_classifier("digits_cnn", file)
    assert not mark.exists()
    if name.endswith(".pth"):
        assert "could run code" in str(refused.value)
        assert "save the weights alone" in str(refused.value)
    # The threat is real: Python's own unpickler does run it.
    write_pickle(Evil(mark), file, 2)
    pickle.loads(file.read_bytes())
    assert mark.exists()


def test_a_whole_module_and_a_program_are_refused(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"asks for robustcode\.models\.plain_cnn\.PlainCNN"):
        read_state_dict(tmp_path / "module.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates tracing; its files are still around
        program = torch.jit.trace(network, torch.rand(1, 1, 8, 8))
        torch.jit.save(program, str(tmp_path / "jit.pt"))
    with pytest.raises(CheckpointError, match="TorchScript file is a program"):
        read_state_dict(tmp_path / "jit.pt")


def test_a_file_that_holds_itself_ends(tmp_path: Path) -> None:
    knot: dict[str, Any] = {}
    knot.update({f"x{i}": knot for i in range(100)})
    torch.save(knot, tmp_path / "knot.pt")
    with pytest.raises(CheckpointError, match="no state dict can be told"):
        read_state_dict(tmp_path / "knot.pt")


def saved_bytes(state: dict[str, Tensor], file: Path, form: str) -> bytes:
    if form == "safetensors":
        return safetensors.torch.save(state)
    torch.save(state, file, _use_new_zipfile_serialization=form == "torch")
    return file.read_bytes()


@pytest.mark.parametrize("form", ["safetensors", "torch", "torch before 1.6"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_cut_file_is_refused(
    form: str, share: float, state: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / ("cut.safetensors" if form == "safetensors" else "cut.pt")
    whole = saved_bytes(state, file, form)
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="damaged, cut short or no checkpoint"):
        read_state_dict(file)


@pytest.mark.parametrize("content", [b"hello world", b"<!DOCTYPE html>", bytes(5000), b"\x80"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_checkpoint_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"file{suffix}"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged, cut short or no checkpoint"):
        read_state_dict(file)


def test_a_missing_an_empty_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_state_dict(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_classifier("digits_cnn", tmp_path / "missing.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match="is empty"):
        read_state_dict(tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    value: float, state: dict[str, Tensor], tmp_path: Path
) -> None:
    state["5.bias"][3] = value
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError, match=r"1 of 8 tensors, first in 5\.bias"):
        read_state_dict(tmp_path / "nan.pt")


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "accuracy": 0.9}, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="a dict with the keys epoch, accuracy"):
        read_state_dict(tmp_path / "none.pt")


def test_a_mismatch_names_the_keys_and_the_nearest_architecture(tmp_path: Path) -> None:
    torch.save(build_model("cifar_resnet32").state_dict(), tmp_path / "r32.pt")
    with pytest.raises(CheckpointError) as wrong:
        load_classifier("preact_resnet18", tmp_path / "r32.pt")
    text = str(wrong.value)
    assert "does not fit 'preact_resnet18'" in text
    assert "27 keys missing (layer2.0.shortcut.0.weight" in text
    assert "keys unexpected (bn1.weight" in text
    assert "keys of another shape (conv1.weight is (16, 3, 3, 3) there and (64, 3, 3, 3)" in text
    assert "nearest registered architecture is 'cifar_resnet32', with 100%" in text
    assert "\n" not in text


def test_data_with_more_classes_than_the_weights_are_a_mismatch_of_shape_alone(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "ten.pt")
    with pytest.raises(CheckpointError) as wrong:
        load_classifier("digits_cnn", tmp_path / "ten.pt", classes=12)
    assert "2 keys of another shape (7.weight is (10, 64) there and (12, 64)" in str(wrong.value)
    assert "missing" not in str(wrong.value)
    assert "nearest registered architecture is 'digits_cnn', with 60%" in str(wrong.value)


@pytest.mark.parametrize("classes", [None, 7, 10, 100])
def test_the_weights_tell_how_many_classes_there_are(classes: int | None, tmp_path: Path) -> None:
    """Data with labels 0 to 6 may still be of 100 classes."""
    torch.save(build_model("cifar_resnet20", 100).state_dict(), tmp_path / "hundred.pt")
    classifier = load_classifier("cifar_resnet20", tmp_path / "hundred.pt", classes=classes)
    assert classifier(torch.rand(1, 3, 32, 32)).shape == (1, 100)


def test_weights_of_nothing_registered_are_near_to_nothing() -> None:
    assert nearest({"encoder.weight": torch.zeros(3)}) is None


@pytest.mark.parametrize("name", ["cifar_resnet20", "mnist_cnn_a", "cifar_resnet4b"])
def test_an_architecture_is_nearest_to_its_own_weights(name: str) -> None:
    found = nearest(build_model(name).state_dict())
    assert found is not None
    assert found == (name, 1)


def test_without_weights_the_remedy_is_told() -> None:
    with pytest.raises(ConfigError) as wrong:
        load_classifier("cifar_resnet20")
    assert str(wrong.value) == (
        "model 'cifar_resnet20' has no weights of its own; give --checkpoint FILE"
    )


def test_missing_shipped_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustcode.models.shipped.SHIPPED", {"digits_cnn": "gone.safetensors"})
    with pytest.raises(CheckpointError, match=r"shipped weights of 'digits_cnn' are missing"):
        load_classifier("digits_cnn")


def test_a_checkpoint_goes_before_the_shipped_weights(network: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(network, tmp_path / "own.safetensors", {})
    for spec in ("digits_cnn", "digits_cnn:adversarial"):
        loaded = load_classifier(spec, tmp_path / "own.safetensors")
        assert torch.equal(loaded.get_parameter("network.0.weight"), network[0].weight)  # type: ignore[index]


def test_a_classifier_is_float32_in_eval_mode(network: nn.Module, tmp_path: Path) -> None:
    half = {key: value.half() for key, value in network.state_dict().items()}
    torch.save(half, tmp_path / "half.pt")
    classifier = load_classifier("digits_cnn", tmp_path / "half.pt")
    assert {value.dtype for value in classifier.state_dict().values()} == {torch.float32}
    assert not any(module.training for module in classifier.modules())
    assert classifier(torch.rand(2, 1, 8, 8)).dtype == torch.float32


def test_given_normalisation_goes_before_the_files_and_that_before_the_architectures(
    tmp_path: Path,
) -> None:
    bare, told, plain = (tmp_path / f"{name}.safetensors" for name in ("bare", "told", "plain"))
    network = build_model("cifar_resnet20")
    save_checkpoint(network, bare, {})
    save_checkpoint(as_classifier(network, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), told, {})
    save_checkpoint(as_classifier(network, (), ()), plain, {})
    given = ((0.5,) * 3, (0.5,) * 3)

    assert load_classifier("cifar_resnet20", bare).normalization == IMAGENET
    assert load_classifier("cifar_resnet20", told).normalization == (
        (0.1, 0.2, 0.3),
        (0.4, 0.5, 0.6),
    )
    assert load_classifier("cifar_resnet20", plain).normalization == ((), ())
    for file in (bare, told, plain):
        assert load_classifier("cifar_resnet20", file, *given).normalization == given


def test_normalisation_that_cannot_be_read_is_refused(network: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(network, tmp_path / "odd.safetensors", {"mean": "grey", "std": "1"})
    with pytest.raises(CheckpointError, match="mean = 'grey'"):
        load_classifier("digits_cnn", tmp_path / "odd.safetensors")


def test_a_saved_classifier_gives_the_same_logits_again(tmp_path: Path) -> None:
    classifier = as_classifier(build_model("digits_cnn"), (0.3,), (1 / 3,)).eval()
    save_checkpoint(classifier, tmp_path / "new" / "c.safetensors", {"recipe": "standard"})
    x = torch.rand(4, 1, 8, 8)
    again = load_classifier("digits_cnn", tmp_path / "new" / "c.safetensors")
    assert torch.equal(again(x), classifier(x))
    assert isinstance(again.normalize, Normalize)


def test_equal_weights_and_metadata_give_equal_bytes(network: nn.Module, tmp_path: Path) -> None:
    said = {name: name.upper() for name in ("recipe", "epochs", "seed", "data", "model", "ä")}
    for turn in range(10):  # safetensors alone would write 720 different orders
        save_checkpoint(network, tmp_path / f"{turn}.safetensors", said)
    assert len({sha256_of(tmp_path / f"{turn}.safetensors") for turn in range(10)}) == 1
    assert read_metadata(tmp_path / "0.safetensors") == said
    with safe_open(tmp_path / "0.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("0.weight"), network.state_dict()["0.weight"])


def test_a_write_that_fails_leaves_the_old_file(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.safetensors"
    save_checkpoint(network, file, {"turn": "first"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space left on device"):
        save_checkpoint(network, file, {"turn": "second"})
    assert read_metadata(file) == {"turn": "first"}
    assert list(tmp_path.iterdir()) == [file]


def test_who_reads_while_a_file_is_replaced_reads_the_old_one(
    network: nn.Module, tmp_path: Path
) -> None:
    file = tmp_path / "c.safetensors"
    save_checkpoint(network, file, {"turn": "first"})
    old = file.read_bytes()
    with file.open("rb") as reader:
        save_checkpoint(network, file, {"turn": "second"})
        assert reader.read() == old
    assert read_metadata(file) == {"turn": "second"}


def test_a_path_that_cannot_be_written_is_told(network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(network, tmp_path / "file" / "c.safetensors", {})
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(network, tmp_path, {})


def test_a_saved_file_is_readable_by_others_as_any_new_file(
    network: nn.Module, tmp_path: Path
) -> None:
    save_checkpoint(network, tmp_path / "c.safetensors", {})
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    save_checkpoint(nn.Sequential(first, second), tmp_path / "tied.safetensors", {})
    state = read_state_dict(tmp_path / "tied.safetensors")
    assert torch.equal(state["0.weight"], state["1.weight"])


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"weights" * 300_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"weights" * 300_000).hexdigest()
    with pytest.raises(CheckpointError, match="cannot be read"):
        sha256_of(tmp_path / "none")


@pytest.mark.parametrize("spec", list(SHIPPED))
def test_shipped_weights_need_no_checkpoint(spec: str) -> None:
    file = shipped_weights(spec)
    assert file is not None
    assert len(file.read_bytes()) < 1_000_000
    data = load_data("digits")
    classifier = load_classifier(spec, classes=data.classes)
    with torch.inference_mode():
        found = classifier(data.images(range(len(data)))).argmax(1)
    # Nine in ten is what a linear classifier reaches on these digits.
    assert (found == data.targets(range(len(data)))).float().mean() > 0.9
