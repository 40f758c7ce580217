"""A wrong request is answered by one sentence and exit code 2, and nothing is lost or run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from robustcode import cli

GOOD = {"--model": "digits_cnn", "--data": "digits", "--threat": "linf:0.1", "--samples": "4"}


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command with some options changed; what it said when it refused."""

    def run(*words: str, out: Path | None = None, **changed: str) -> str:
        options = GOOD | {f"--{key.replace('_', '-')}": value for key, value in changed.items()}
        options["--out"] = str(out or tmp_path / "run")
        listed = [word for pair in options.items() for word in pair]
        code = cli.call(lambda **mode: cli.app(["attack", *listed, "--quiet", *words], **mode))
        said = capsys.readouterr()
        assert code == 2, said.err
        assert said.out == ""
        assert "Traceback" not in said.err
        assert said.err.startswith("robustcode: ")
        assert said.err.count("\n") == 1, "one sentence"
        assert not (out or tmp_path / "run" / "records").exists() or out, "something was run"
        return said.err

    return run


class Plant:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def npz(path: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.savez(path, images=images, labels=labels)
    return f"npz:{path}"


def digits_like(count: int = 4) -> np.ndarray:
    return np.full((count, 1, 8, 8), 0.5, dtype=np.float32)


def test_missing_checkpoint(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "weights.pt" in refused(checkpoint=str(tmp_path / "weights.pt"))


def test_missing_data(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere" in refused(data=f"cifar10:{tmp_path / 'nowhere'}")


def test_wrong_architecture(refused: Callable[..., str], tmp_path: Path) -> None:
    from robustcode.models import build_model

    save_file(build_model("mnist_trades_cnn").state_dict(), tmp_path / "other.safetensors")
    said = refused(checkpoint=str(tmp_path / "other.safetensors"))
    assert "missing" in said
    assert "unexpected" in said
    assert "'mnist_trades_cnn'" in said, "the architecture that fits is named"


def test_weights_for_images_of_another_shape(refused: Callable[..., str], tmp_path: Path) -> None:
    from robustcode.models import build_model

    save_file(build_model("mnist_cnn_a").state_dict(), tmp_path / "mnist.safetensors")
    said = refused(model="mnist_cnn_a", checkpoint=str(tmp_path / "mnist.safetensors"))
    assert "(1, 8, 8)" in said


def test_malicious_pickle_does_not_run(refused: Callable[..., str], tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    torch.save({"state_dict": Plant(planted)}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Plant(planted)))
    for name in ("evil.pt", "plain.pt"):
        said = refused(checkpoint=str(tmp_path / name))
        assert not planted.exists(), "the checkpoint ran code"
        assert "safetensors" in said, "the remedy is named"
    pickle.loads((tmp_path / "plain.pt").read_bytes())
    assert planted.exists(), "the plant would not have worked anywhere"


def test_labels_outside_the_classes(refused: Callable[..., str], tmp_path: Path) -> None:
    data = npz(tmp_path / "labels.npz", digits_like(), np.array([0, 1, 2, 10]))
    said = refused(data=data)
    assert "10" in said


def test_negative_labels(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused(data=npz(tmp_path / "labels.npz", digits_like(), np.array([0, 1, -2, 3])))
    assert "-2" in said


def test_images_in_0_to_255(refused: Callable[..., str], tmp_path: Path) -> None:
    images = digits_like() * 300
    said = refused(data=npz(tmp_path / "wide.npz", images, np.arange(4)))
    assert "255" in said


def test_nan_pixels(refused: Callable[..., str], tmp_path: Path) -> None:
    images = digits_like()
    images[2, 0, 3, 3] = np.nan
    said = refused(data=npz(tmp_path / "nan.npz", images, np.arange(4)))
    assert "NaN" in said
    assert "2" in said, "the sample is named"


@pytest.mark.parametrize("threat", ["linf:8", "l2:9", "l1:65"])
def test_eps_wider_than_the_box(refused: Callable[..., str], threat: str) -> None:
    assert "units of 1/255" in refused(threat=threat)


@pytest.mark.parametrize("threat", ["linf", "l7:1", "linf:", "linf:x", "linf:nan", "linf:-1"])
def test_a_threat_that_is_none(refused: Callable[..., str], threat: str) -> None:
    assert "threat" in refused(threat=threat) or "eps" in refused(threat=threat)


def test_unknown_attack_with_a_suggestion(refused: Callable[..., str]) -> None:
    assert "Did you mean 'pgd'" in refused("--attack", "pgdd")


def test_unknown_key_with_its_path(refused: Callable[..., str]) -> None:
    said = refused("--attack", "fgsm", "--attack", "pgd:setps=3")
    assert "attacks[1]" in said
    assert "Did you mean 'steps'" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "digits_cn"}, "Did you mean 'digits_cnn'?"),
        ({"data": "digit"}, "Did you mean 'digits'?"),
        ({"defense": "gausian-noise"}, "Did you mean 'gaussian-noise'?"),
        ({"suite": "quik"}, "Did you mean 'quick'?"),
        ({"device": "gpu"}, "cuda"),
        ({"device": "meta"}, "not supported"),
        ({"mean": "0.5"}, "std"),
        ({"attack": "pgd:steps=0"}, "at least 1"),
        ({"attack": "pgd:steps=many"}, "whole number"),
        ({"attack": "pgd:loss=cee"}, "Did you mean 'ce'?"),
        ({"defense": "gaussian-noise:sigma=-1"}, "sigma"),
        ({"samples": "501"}, "500"),
        ({"samples": "0"}, "at least 1 sample"),
        ({"batch_size": "0"}, "batch_size"),
    ],
)
def test_other_wrong_words(refused: Callable[..., str], changed: dict[str, str], said: str) -> None:
    assert said in refused(**changed)


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "no sample"), ("[1, 1]", "twice"), ("[500]", "500"), ("one two", "whole numbers")],
)
def test_wrong_indices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "indices.json").write_text(text)
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", "linf:0.1"]
    words += ["--indices", str(tmp_path / "indices.json"), "--out", str(tmp_path / "run")]
    assert cli.call(lambda **mode: cli.app(words, **mode)) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "choose another --out" in refused(out=tmp_path / "file" / "run")


def test_a_read_only_place(refused: Callable[..., str]) -> None:
    # /proc refuses new folders to everyone, root too.
    if not Path("/proc/self").exists():
        pytest.skip("no /proc on this system to stand for a read-only place")
    assert "choose another --out" in refused(out=Path("/proc/robustcode-run"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = 'digits_cnn'\nbacth_size = 3", "unknown key 'bacth_size'. Did you mean"),
        ("model = 'digits_cnn'\ndata = 'digits'", "'threat' is missing"),
        ("model = ", "is not TOML"),
        (
            "model='digits_cnn'\ndata='digits'\nthreat='linf:0.1'\n[[attacks]]\nname='fgsm'\n"
            "[[attacks]]\nname='pgd'\nsetps=3",
            "attacks[1] (attack 'pgd'): unknown key 'setps'",
        ),
        ("schema = 7\nmodel='m'\ndata='d'\nthreat='linf:0.1'", "schema 7"),
        ("model='m'\ndata='d'\nthreat='linf:0.1'\nsamples='ten'", "samples = 'ten'"),
    ],
)
def test_wrong_spec_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(text)
    assert cli.call(lambda **mode: cli.app(["run", str(file), "--quiet"], **mode)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


PROOF = [
    "certify",
    "--model",
    "digits_cnn",
    "--data",
    "digits",
    "--threat",
    "linf:.1",
    "--out",
    "x",
]
CURVE = ["curve", "--model", "digits_cnn", "--data", "digits", "--threat", "linf", "--out", "x"]
MISSING = "missing option '--model' (it needs --model, --data, --threat, --out)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "attaks"], "'attaks'"),
        (["report", "nowhere", "--out", "x"], "nowhere is not there"),
        (["report"], "missing argument 'runs' (it needs runs, --out); `robustcode report --help`"),
        (["run"], "missing argument 'spec'; "),
        (["attack"], MISSING),
        (["attack", "--model"], "option '--model' requires an argument"),
        (["reprt"], "no such command 'reprt'. Did you mean 'report'? `robustcode --help` says"),
        (["gate", "run", "--min-robst", ".3"], "--min-robust"),
        (["demo", "--workers", "many"], "'many'"),
        ([*PROOF, "--method", "crown", "--radii", "0.1,,0.2,"], "radii = '0.1,,0.2,' has a comma"),
        ([*CURVE, "--eps", "1/255,"], "eps = '1/255,' has a comma"),
    ],
)
def test_other_commands_refuse_alike(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.call(lambda **mode: cli.app(words, **mode)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("robustcode: ")
    assert said in told.err
    assert told.err.count("\n") == 1


def test_every_command_says_in_one_sentence_what_it_cannot_do_without(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = [
        command.name or getattr(command.callback, "__name__", "")
        for command in cli.app.registered_commands
    ]
    assert len(commands) > 10
    for command in {*commands} - {"demo", "list"}:  # which need nothing
        assert cli.call(lambda command=command, **mode: cli.app([command], **mode)) == 2
        said = capsys.readouterr().err
        assert said.startswith("robustcode: missing ")
        assert said.count("\n") == 1


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(lambda **mode: cli.app(["--version"], **mode)) == 0
    assert capsys.readouterr().out == f"robustcode {version('robustcode')}\n"
    assert cli.call(lambda **mode: cli.app([], **mode)) == 2
    assert "certify" in capsys.readouterr().err, "without a command it says which there are"


@pytest.mark.parametrize("what", ["attacks", "defenses", "models", "data", "recipes", "suites"])
def test_listings_are_for_people_and_programs(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(lambda **mode: cli.app(["list", what, "--json"], **mode)) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries
    assert all(entry["name"] and entry["summary"] for entry in entries)
    assert cli.call(lambda **mode: cli.app(["list", what], **mode)) == 0
    printed = capsys.readouterr().out.splitlines()
    named = [line.split()[0] for line in printed if not line.startswith(" ")]
    assert named == [entry["name"] for entry in entries]
