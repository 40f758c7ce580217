"""What the README promises a new user, run as written."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import robustcode
from robustcode.cli import app
from robustcode.store import load_run

README = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.long
def test_the_demo_ends_with_a_report_to_open(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "robustcode", "demo", "--out", str(tmp_path), "--quiet"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    assert page.name == "report.html"
    assert "worst" in page.read_text()
    runs = {run.name: load_run(run).summary for run in tmp_path.glob("runs/*")}
    robust = {name: said["robust"]["accuracy"] for name, said in runs.items() if said["robust"]}
    proved = {
        name: said["certified"]["accuracy"] for name, said in runs.items() if said["certified"]
    }
    assert (len(robust), len(proved)) == (4, 2)
    for name in ("plain", "adversarially-trained"):
        assert 0.25 < proved[f"{name}-proved"] <= robust[name]
    # Adversarial training is the one that helps; noise and coding at inference do not.
    assert robust["adversarially-trained"] > 0.8
    assert max(robust[name] for name in ("plain", "gaussian-noise", "coded-smoothing")) < 0.6


def test_the_five_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, _ = PYTHON
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    monkeypatch.chdir(tmp_path)
    x = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()
    y = model(x).argmax(1)
    names: dict[str, Any] = {"my_model": model, "images": x, "labels": y}
    exec(compile(code, "README.md", "exec"), names)
    summary, broken = names["run"].summary, names["broken"]
    assert summary["clean"]["accuracy"] == 1.0
    # A row for each sample, however many attacks there were.
    assert len(broken) == broken["sample"].nunique() == 12 - summary["robust"]["correct"]
    assert (tmp_path / "report" / "report.html").exists()


def test_the_test_of_the_readme_holds_for_a_robust_network(tmp_path: Path) -> None:
    _, code, _ = PYTHON
    images = torch.full((12, 1, 2, 2), 0.1)
    images[6:] = 0.9
    # Whether an image is bright: .4 from the boundary.
    bright = torch.nn.Linear(4, 2)
    with torch.no_grad():
        bright.weight.copy_(torch.tensor([[0.0], [1.0]]).expand(2, 4))
        bright.bias.copy_(torch.tensor([2.0, 0.0]))
    net = torch.nn.Sequential(torch.nn.Flatten(), bright).eval()
    names: dict[str, Any] = {"net": net, "images": images, "labels": torch.arange(12) // 6}
    exec(compile(code, "README.md", "exec"), names)
    names["test_robust"](partial(robustcode.assert_robust, out=tmp_path / "run"))


def test_the_three_lines_of_coded_training_in_the_readme_run() -> None:
    _, _, code = PYTHON
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    x = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"network": network, "images": x, "labels": torch.arange(12) % 3}
    exec(compile(code, "README.md", "exec"), names)
    names["loss"].backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_train_attack_report_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def robust(*words: str) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    common = ["--model", "digits_cnn", "--data", "digits", "--quiet"]
    robust("train", "standard", *common, "--epochs", "1", "--out", "weights.safetensors")
    again = robust("train", "standard", *common, "--epochs", "1", "--out", "weights.safetensors")
    assert "nothing was trained" in again
    words = ["--checkpoint", "weights.safetensors", "--samples", "8", "--threat", "l2:0.5"]
    said = robust("attack", *common, *words, "--suite", "standard", "--out", "run")
    assert "worst case" in said
    robust("report", "run", "--out", "report")
    assert {f.suffix for f in (tmp_path / "report").iterdir()} >= {
        ".html",
        ".md",
        ".tex",
        ".csv",
        ".json",
    }
    assert robustcode.load_run(tmp_path / "run").spec["threat"] == "l2:0.5"
