"""A defence or an attack of the user's own is named by its file, without an installed package."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

import robustcode
from robustcode.attacks import ATTACKS
from robustcode.cli import app, call
from robustcode.components import Component
from robustcode.config import RunSpec, describe, read_spec
from robustcode.data import DATA
from robustcode.defenses import DEFENSES
from robustcode.errors import ConfigError, UnknownNameError
from robustcode.subject import Given, assemble, inputs_of

MINE = """
from dataclasses import dataclass
from robustcode.attacks.base import Attack
from robustcode.defenses.base import Defense
from torch import nn

@dataclass(frozen=True, kw_only=True)
class Softened(Defense):
    model: nn.Module
    by: float = 2.0

    def __post_init__(self):
        if self.by == 0:
            raise ZeroDivisionError("by is zero")

    def logits(self, x, streams):
        return self.model(x) / self.by

@dataclass(frozen=True, kw_only=True)
class Dimmed(Attack):
    share: float = 0.5

    def perturb(self, target, x, y, threat, streams):
        return threat.project(x * (1 - self.share), x)

@dataclass(frozen=True, kw_only=True)
class Unfinished(Defense):
    model: nn.Module

class Bare(Softened):
    pass

class Plain(Defense):
    def logits(self, x, streams):
        return self.model(x)

class Nobody:
    pass
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the user's in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    yield file
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("mine.py:Softened", "mine.py:Softened", {}),
        ("mine.py:Softened:by=3", "mine.py:Softened", {"by": "3"}),
        (" my files/mine.py:Softened : by=3,a=b:c", "my files/mine.py:Softened", None),
        ("C:\\mine.py:Softened:by=3", "C:\\mine.py:Softened", {"by": "3"}),
        ("acme.mine:Softened:by=3", "acme.mine:Softened", {"by": "3"}),
        ("acme.blur:by=3", "acme.blur", {"by": "3"}),
        ("random-ensemble:checkpoints=a.py", "random-ensemble", {"checkpoints": "a.py"}),
    ],
)
def test_the_name_of_code_goes_to_the_end_of_its_class(
    text: str, name: str, settings: dict[str, str] | None
) -> None:
    parsed = Component.parse(text)
    assert parsed.name == name
    assert parsed.settings == (settings if settings is not None else {"by": "3", "a": "b:c"})
    assert Component.parse(str(parsed)) == parsed


def test_a_run_with_own_code_is_repeated_by_its_spec(mine: Path) -> None:
    run = robustcode.attack(
        model="digits_cnn",
        data="digits",
        samples=3,
        threat="linf:0.1",
        defense="mine.py:Softened:by=4",
        attacks=["mine.py:Dimmed:share=0.25"],
        out=Path("run"),
        progress=False,
    )
    spec, _ = read_spec(Path("run", "spec.toml"))
    assert isinstance(spec, RunSpec)
    assert str(spec.defense) == "mine.py:Softened:by=4.0"
    assert [str(attack) for attack in spec.attacks] == ["mine.py:Dimmed:share=0.25"]
    content = hashlib.sha256(mine.read_bytes()).hexdigest()
    inputs = json.loads(Path("run", "manifest.json").read_text())
    assert inputs["code_sha256"] == {"mine.py:Softened": content, "mine.py:Dimmed": content}
    assert run.summary["defense"] == "mine.py:Softened:by=4"
    assert call(lambda **_: app(["run", "run/spec.toml", "--out", "again", "--quiet"])) == 0
    told = [[p.read_bytes() for p in Path(f, "records").iterdir()] for f in ("run", "again")]
    assert told[0] == told[1] != []


def test_an_edited_file_is_another_input(mine: Path) -> None:
    spec = describe(
        model="digits_cnn", data="digits", samples=2, threat="linf:0.1", defense="mine.py:Softened"
    )
    before = inputs_of(spec, assemble(spec, Given()))
    mine.write_text(MINE.replace("2.0", "3.0"))
    after = inputs_of(spec, assemble(spec, Given()))
    assert before.pop("code_sha256") != after.pop("code_sha256")
    assert before == after


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("mine.py:Softend", "defines no 'Softend'. Did you mean 'Softened'?"),
        ("yours.py:Softened", "there is no file 'yours.py'"),
        ("acme_absent.mine:Softened", "No module named 'acme_absent'"),
        ("mine.py:Nobody", "is no subclass of robustcode.defenses.base.Defense"),
        ("mine.py:Dimmed", "is no subclass of robustcode.defenses.base.Defense"),
        ("mine.py:Unfinished", "lacks logits"),
        ("mine.py:Plain", "is no dataclass"),
        ("mine.py:Softened:bye=3", "unknown key 'bye'. Did you mean 'by'?"),
        ("mine.py:Softened:by=0", "ZeroDivisionError: by is zero"),
        ("mine.py:Softened:by", "'by' is not key=value"),
    ],
)
def test_what_is_wrong_is_one_sentence(named: str, said: str, mine: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Component.parse(named).build(DEFENSES, "defense", model=nn.Identity())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_name_ends_the_command_with_two(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--samples", "2"]
    words += ["--threat", "linf:0.1", "--out", "run", "--defense", "mine.py:Nobody"]
    assert call(lambda **_: app(words)) == 2
    told = capsys.readouterr().err
    assert told.startswith("robustcode: defence 'mine.py:Nobody' is no subclass")
    assert told.count("\n") == 1
    assert not Path("run").exists()


def test_code_is_run_only_where_it_may_be_named(mine: Path) -> None:
    assert DEFENSES.get("mine.py:Softened").__name__ == "Softened"
    assert ATTACKS.get("mine.py:Dimmed").__name__ == "Dimmed"
    assert "mine.py:Softened" not in list(DEFENSES)
    with pytest.raises(UnknownNameError):
        DATA.get("mine.py:Softened")
