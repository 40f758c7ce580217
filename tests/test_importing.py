"""Code is imported where the user named it, and what goes wrong is said in one sentence."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustcode.errors import ConfigError
from robustcode.importing import import_callable, is_import_spec


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("spec", "is_one"),
    [
        ("nets.py:make", True),
        ("../some where/nets.py:make", True),
        ("C:\\work\\nets.py:make", True),
        ("package.module:make", True),
        ("timm:resnet18", False),
        ("digits_cnn:adversarial", False),
        ("pgd:steps=40", False),
        ("nets.py", False),
        ("nets.py:make:depth", False),
        ("package.module", False),
        ("npz:folder.d/file.npz", False),
        ("cifar10:folder/nets.py:make", False),
    ],
)
def test_a_spec_is_known_by_its_form(spec: str, is_one: bool) -> None:
    assert is_import_spec(spec) is is_one


def test_a_file_gives_its_callables(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    (tmp_path / "besides.py").write_text("VALUE = 7\n")
    file.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Net:\n"
        "    depth: int = 3\n"
        "def make():\n"
        "    from besides import VALUE\n"
        "    return VALUE\n"
    )
    assert import_callable(f"{file}:make")() == 7
    net = import_callable(f"{file}:Net")
    assert net is import_callable(f"{file}:Net")
    assert pickle.loads(pickle.dumps(net())) == net()
    file.write_text("def make():\n    return 8\n")
    assert import_callable(f"{file}:make")() == 8


def test_a_module_of_the_working_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme_nets").mkdir()
    (tmp_path / "acme_nets" / "small.py").write_text("def make():\n    return 9\n")
    assert import_callable("acme_nets.small:make")() == 9
    assert import_callable("os.path:join")("a", "b")


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("def make(): pass\n", "mak", "defines no 'mak'. Did you mean 'make'?"),
        ("make = 3\n", "make", "cannot be called"),
        ("def make(:\n", "make", "SyntaxError"),
        ("import a_missing_dependency\n", "make", "No module named 'a_missing_dependency'"),
        ("raise RuntimeError('one\\ntwo')\n", "make", "RuntimeError: one"),
        ("raise SystemExit(2)\n", "make", "SystemExit: 2"),
    ],
)
def test_what_is_wrong_with_the_code_is_said(
    content: str, name: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(content)
    with pytest.raises(ConfigError) as caught:
        import_callable(f"{tmp_path / 'nets.py'}:{name}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        import_callable(f"{tmp_path / 'nets.py'}:make")
    with pytest.raises(ConfigError, match="No module named 'acme_absent'"):
        import_callable("acme_absent.nets:make")
    with pytest.raises(ConfigError, match="write FILE"):
        import_callable("nets.py")


def test_a_file_does_not_hide_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "statistics.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "nets.py").write_text("import statistics\nmake = statistics.mean\n")
    assert import_callable(f"{tmp_path / 'nets.py'}:make")([1, 3]) == 2
