"""Imports point one way, as DESIGN.md draws them; a module that is not in the table fails."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "robustcode"

# What runs a run, in one group: its parts know each other, and the layers keep only others out.
ENGINE = {
    "accepted",
    "budget",
    "certification",
    "chain",
    "commands",
    "config",
    "convolution",
    "corrupting",
    "curves",
    "checks",
    "doctoring",
    "engine",
    "facts",
    "fast",
    "findings",
    "gradients",
    "judge",
    "mending",
    "nearby",
    "passed",
    "plan",
    "proposals",
    "proving",
    "refusal",
    "repair",
    "shard",
    "spoiling",
    "subject",
    "suites",
    "target",
    "testing",
    "trial",
    "values",
    "workers",
}
# From the top down. A module may import from the layers below it and from its own group; the
# groups of one layer do not know each other. "robustcode" is the package's own __init__.
LAYERS: list[list[set[str]]] = [
    [{"robustcode", "__main__", "asserted", "cli", "demo", "listing", "pytest_plugin", "usage"}],
    [{"reports"}, ENGINE],
    [{"methods"}],
    [{"attacks"}, {"defenses"}, {"training"}],
    [{"bounds"}, {"coding"}, {"checkpoint", "models"}, {"data"}],
    [
        {"importing"},
        {"memory"},
        {"progress"},
        {
            "bracket",
            "certified",
            "corrupted",
            "intact",
            "notebook",
            "partial",
            "salvage",
            "store",
            "summary",
            "verdicts",
        },
    ],
    [{"noise"}, {"stopping"}, {"corruptions"}, {"calibration"}],
    [{"answers"}, {"certificates"}, {"records"}, {"threat"}, {"adversary"}],
    [{"components"}],
    [{"registry"}, {"ranks"}, {"seeds"}, {"statistics"}, {"contract", "lines"}, {"wording"}],
    [{"errors"}],
]
# Reports are made where there is no torch, from run folders alone.
REPORTS_MAY_IMPORT = {
    "bracket",
    "certificates",
    "certified",
    "components",
    "corrupted",
    "errors",
    "intact",
    "partial",
    "records",
    "registry",
    "statistics",
    "store",
    "summary",
    "verdicts",
    "wording",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Each file of the package by its dotted name, e.g. robustcode.attacks.pgd."""
    for where, _, files in os.walk(PACKAGE, followlinks=True):
        for file in files:
            if file.endswith(".py"):
                path = Path(where, file)
                parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


NAMES = dict(modules())


def imported(module: str, source: str) -> set[str]:
    """Dotted names that ``source`` imports anywhere, at its top or inside a function."""
    package = (
        module if NAMES.get(module, Path()).name == "__init__.py" else module.rpartition(".")[0]
    )
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *filter(None, [node.module])]) if node.level else node.module
            assert base
            # "from robustcode import threat" names a module, "from robustcode.threat import Norm"
            # a thing in it.
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in NAMES else base for name in inner}
    return found | set(_by_text(source))


def _by_text(source: str) -> Iterator[str]:
    """Modules named in calls such as import_module("robustcode.engine")."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def part(name: str) -> str:
    """The row of the table that a dotted name belongs to: robustcode.attacks.pgd -> attacks."""
    return name.split(".")[1] if "." in name else name


def place(name: str) -> tuple[int, set[str]]:
    for depth, groups in enumerate(LAYERS):
        for group in groups:
            if name in group:
                return depth, group
    raise AssertionError(f"robustcode.{name} is in no layer; add it to LAYERS")


def allowed(importer: str, name: str) -> bool:
    """Whether a module of part ``importer`` may import part ``name``."""
    depth, group = place(importer)
    if importer == "reports":
        return name in REPORTS_MAY_IMPORT | {"reports"}
    return name in group or place(name)[0] > depth


@pytest.mark.parametrize("module", sorted(NAMES))
def test_imports_point_down(module: str) -> None:
    names = imported(module, NAMES[module].read_text())
    ours = {part(name) for name in names if name.split(".")[0] == "robustcode"}
    assert {name for name in ours if not allowed(part(module), name)} == set()


def test_each_name_stands_in_one_layer() -> None:
    names = [name for groups in LAYERS for group in groups for name in group]
    assert len(names) == len(set(names))


def test_tests_see_what_an_import_can_look_like() -> None:
    source = (
        "import robustcode.cli\n"
        "from robustcode import threat\n"
        "from robustcode.attacks.base import Attack\n"
        "from ..seeds import Streams\n"
        "from . import base\n"
        "def late():\n"
        "    from robustcode.errors import ConfigError\n"
        "    import_module('robustcode.engine')\n"
    )
    assert imported("robustcode.attacks.pgd", source) == {
        "robustcode.cli",
        "robustcode.threat",
        "robustcode.attacks.base",
        "robustcode.seeds",
        "robustcode.errors",
        "robustcode.engine",
    }


def test_the_table_is_the_drawing() -> None:
    """Each arrow of DESIGN.md once, and the arrows it leaves out."""
    assert not allowed("attacks", "defenses")
    assert not allowed("defenses", "attacks")
    assert not allowed("reports", "engine")
    assert not allowed("reports", "threat")
    assert not allowed("engine", "reports")
    assert not allowed("threat", "attacks")
    assert not allowed("statistics", "seeds")
    assert allowed("cli", "reports")
    assert allowed("cli", "engine")
    assert allowed("engine", "attacks")
    assert allowed("defenses", "coding")
    assert allowed("training", "data")
    assert allowed("attacks", "threat")


def within_reports(name: str) -> str:
    """The sub-package of reports that a module is in, or its own name beside these."""
    return name.split(".")[2]


def test_the_parts_of_reports_know_only_those_before_them() -> None:
    """Sub-packages in their order, and among them and the modules beside them no circle."""
    order = ["numbers", "figures", "comparison", "sections", "formats", "gating"]
    known: dict[str, set[str]] = {}
    for module, path in NAMES.items():
        if module.startswith("robustcode.reports."):
            names = imported(module, path.read_text())
            others = {within_reports(n) for n in names if n.startswith("robustcode.reports.")}
            mine = within_reports(module)
            known.setdefault(mine, set()).update(others - {mine})
    for place, name in enumerate(order):
        assert known[name] & set(order[place:]) == set(), name
        assert known[name] & {"compose", "render"} == set(), name
    assert len(list(TopologicalSorter(known).static_order())) >= len(known)


def test_reports_name_no_torch() -> None:
    for module, path in NAMES.items():
        if part(module) == "reports":
            roots = {name.split(".")[0] for name in imported(module, path.read_text())}
            assert roots & {"torch", "torchvision", "timm"} == set(), module


def test_reports_run_without_torch() -> None:
    """Also what they import may not import it: a report is made on a laptop without torch."""
    code = "import sys, robustcode.reports; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "False"
