"""The pytest plug-in as a project uses it that has this package installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import robustcode
from robustcode.errors import ConfigError
from robustcode.store import Run

AssertRobust = Callable[..., Run]
PROJECT = """
    def test_keeps(assert_robust):
        assert_robust("digits_cnn", "digits", "linf:.001", .5, attacks=["fgsm"], samples=16)

    def test_breaks(assert_robust):
        assert_robust("digits_cnn", "digits", "linf:.3", .9, attacks=["fgsm"], samples=16)
"""


def test_a_model_that_keeps_enough_passes_and_one_that_does_not_fails(
    assert_robust: AssertRobust,
) -> None:
    digits = {"attacks": ["fgsm"], "samples": 16}
    run = assert_robust("digits_cnn", "digits", "linf:0.001", at_least="50%", **digits)
    assert run.summary["samples"] == 16
    with pytest.raises(AssertionError) as told:
        assert_robust("digits_cnn", "digits", "linf:0.3", at_least=0.5, **digits)
    sentence = str(told.value)
    assert sentence.startswith("the model is not shown to be robust: worst-case accuracy of 0.0 %")
    assert "has its lower end at 0.0 %, below the minimum of 50.0 %" in sentence
    assert sentence.endswith("findings: none)")
    (folder,) = [word for word in sentence.split() if "robustcode-2" in word]
    assert robustcode.load_run(Path(folder.rstrip(";"))).spec["threat"] == "linf:0.3"


def test_each_assertion_of_a_test_has_a_folder_of_its_own(
    assert_robust: AssertRobust, tmp_path: Path
) -> None:
    images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    given = {"at_least": 0, "attacks": ["fgsm"]}
    first = assert_robust(net, (images, labels), "linf:0.1", **given)
    second = assert_robust(net, (images, labels), "l2:0.1", out=tmp_path / "mine", **given)
    assert (first.path, second.path) == (tmp_path / "robustcode-1", tmp_path / "mine")
    # The same weights in other code would be taken for the same run.
    with pytest.raises(ConfigError, match="holds a run already"):
        assert_robust(net, (images, labels), "l2:0.1", out=tmp_path / "mine", **given)


def test_a_module_stays_on_its_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is on a GPU is attacked there, unless a device is named."""
    asked: list[str] = []

    def attack(*_: object, device: str, **__: object) -> Run:
        asked.append(device)
        raise ConfigError("enough is seen")

    monkeypatch.setattr(robustcode, "attack", attack)
    net = torch.nn.Linear(2, 2, device="meta")
    for named in ({}, {"device": "cpu"}):
        with pytest.raises(ConfigError, match="enough"):
            robustcode.assert_robust(net, "digits", "linf:0.1", 0.5, out=tmp_path / "run", **named)
    assert asked == ["meta", "cpu"]


def project(folder: Path, text: str, *words: str) -> list[str]:
    """What pytest says of a project's own test file, in a process of its own.

    pytest's `pytester` would do so, but it unloads modules that its user has loaded meanwhile, and
    numpy cannot be loaded twice.
    """
    (folder / "test_mine.py").write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


@pytest.mark.long
def test_a_project_that_has_the_package_installed_has_the_fixture(tmp_path: Path) -> None:
    """What fails is shown at the line of the test, in one sentence."""
    lines = project(tmp_path, PROJECT, f"--basetemp={tmp_path / 'runs'}")
    assert lines[-1].startswith("1 failed, 1 passed")
    (sentence,) = [line for line in lines if line.startswith("E  ")]
    assert "AssertionError: the model is not shown to be robust" in sentence
    # What stands between the test and the sentence is no concern of the reader.
    assert not [line for line in lines if "asserted.py" in line]


def test_without_the_plug_in_there_is_no_such_fixture(tmp_path: Path) -> None:
    asked = "def test_it(assert_robust): pass"
    lines = project(tmp_path, asked, "-p", "no:robustcode")
    assert lines[-1].startswith("1 error")
    assert any("fixture 'assert_robust' not found" in line for line in lines)


def test_a_finding_that_the_number_is_not_to_be_relied_on_fails_as_well(tmp_path: Path) -> None:
    """A step function has no gradient: FGSM breaks nothing, and that shows nothing."""

    class Steps(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            dark = (x.mean(dim=(1, 2, 3)) < 0.5).float()
            return torch.stack([dark, 1 - dark], 1) + 0 * x.sum()

    images = torch.cat([torch.full((20, 1, 4, 4), 0.3), torch.full((20, 1, 4, 4), 0.7)])
    images += 0.001 * torch.arange(40).view(40, 1, 1, 1) / 40
    labels = torch.arange(40) // 20
    with pytest.raises(
        AssertionError, match=r"not to be relied on.* failure declared-diff"
    ) as told:
        robustcode.assert_robust(
            Steps().eval(),
            (images, labels),
            "linf:0.01",
            0.5,
            attacks=["fgsm"],
            out=tmp_path / "run",
        )
    assert "zero-gradient" in str(told.value)
    assert "worst-case accuracy" not in str(told.value)


@pytest.mark.parametrize("least", [45, -0.1, float("nan"), "most"])
def test_what_is_asked_wrongly_costs_no_attack(least: float | str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at_least"):
        robustcode.assert_robust("digits_cnn", "digits", "linf:0.1", least, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_samples_are_refused_as_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1 sample"):
        robustcode.assert_robust("digits_cnn", "digits", "linf:0.1", 0.5, samples=0)


def test_a_hostile_name_is_text(tmp_path: Path) -> None:
    """A class whose name is no name, in a model that breaks at once."""
    name = "\x1b[31m<b>] E\n{0}"
    net = type(name, (torch.nn.Linear,), {})(16, 2)
    model = torch.nn.Sequential(torch.nn.Flatten(), net).eval()
    images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
    with pytest.raises(AssertionError) as told:
        robustcode.assert_robust(model, (images, labels), "linf:1", 1, attacks=["fgsm"])
    assert str(told.value).isprintable()


def test_it_costs_a_test_run_of_others_nothing() -> None:
    """Everybody's pytest imports the plug-in, also where no test asks for it."""
    code = (
        "import sys, robustcode.pytest_plugin; "
        "print(sorted({'torch', 'pandas', 'numpy', 'scipy', 'rich', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
