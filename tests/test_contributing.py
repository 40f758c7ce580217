"""The examples of CONTRIBUTING.md are components as they stand: they register, run and report."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
# In one process of their own: here they would stay registered for every later test.
RUN = """
import torch
from robustcode import attack, certify, corrupt
from robustcode.models import build_model

torch.manual_seed(0)
model = build_model("digits_linear", 2).eval()
chosen = dict(attacks=["corners:tries=3"], defense="random-flip", samples=8, draws=4)
run = attack(model, "stripes", "linf:0.1", "run", progress=False, **chosen)
print(run.summary["samples"], run.summary["attacks"][0]["name"])
assert "flat-scores" in [line["code"] for line in run.summary["checks"]]
proved = certify(model, "stripes", "l2:0.001", "plane", "proved", progress=False, samples=8)
print(proved.summary["certified"]["method"])
spoilt = corrupt(model, "stripes", "spoilt", corruptions=["dimmed"], progress=False, samples=8)
print(spoilt.summary["corruptions"][0]["corruption"])
"""


def test_the_examples_run(tmp_path: Path) -> None:
    script = tmp_path / "examples.py"
    script.write_text("\n".join([*BLOCKS, RUN]))
    answer = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-3:] == ["8 corners", "plane", "dimmed"]


def test_there_is_an_example_of_each_kind() -> None:
    kinds = [re.findall(r"^@(\w+)\.register", block, flags=re.MULTILINE) for block in BLOCKS]
    named = ["ATTACKS", "DEFENSES", "CHECKS", "METHODS", "DATA", "MODELS", "CORRUPTIONS"]
    assert kinds == [[name] for name in named]


def test_the_examples_are_linted_as_the_rest_is(tmp_path: Path) -> None:
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"example_{number}.py").write_text(block)
    for command in (["check"], ["format", "--diff"]):
        config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        answer = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^\| `make ([a-z-]+)`", TEXT, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
