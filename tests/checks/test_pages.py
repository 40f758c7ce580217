"""The pages of the checks: complete, listed, and found by their codes."""

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustcode.checks import CHECKS, Check, Group
from robustcode.checks.catalogue import every
from robustcode.checks.pages import README, check_of, index, readme, told
from robustcode.cli import app
from robustcode.errors import UnknownNameError
from robustcode.listing import listing

CHECKS_FOLDER = README.parent / "catalogue"
# A paper, a name of a classical method, notes of ours that say where they read it, or our own idea.
CITED = re.compile(r"arXiv:\d{4}\.\d{5}|\b(?:19|20)\d\d\b|research notes|AutoAttack|Fisher|ours")


def raised(module: Path) -> set[str]:
    """Codes of findings that a module makes, as they stand in its source."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
            code = next(word.value for word in node.keywords if word.arg == "code")
            found |= {str(code.value)} if isinstance(code, ast.Constant) else set()
    return found


@pytest.mark.parametrize("check", every(), ids=lambda check: check.code)
def test_every_check_has_a_whole_page(check: Check) -> None:
    page = check.page()
    for part in (page.title, page.raised, page.why, page.remedy, page.false_alarms, check.says):
        assert part
    assert page.title.endswith(".")
    assert not page.source or CITED.search(page.source)
    assert check.group in Group
    assert CHECKS.get(check.code) is type(check)


@pytest.mark.parametrize("check", every(), ids=lambda check: check.code)
def test_what_a_check_raises_is_its_own_code_or_one_that_its_page_tells_of(check: Check) -> None:
    module = CHECKS_FOLDER / f"{check.code.replace('-', '_')}.py"
    assert raised(module) <= {check.code, *check.also}
    page = " ".join(told(check.code))
    assert all(f"`{code}`" in page for code in check.also)


def test_no_finding_anywhere_in_the_package_is_without_a_page() -> None:
    codes = {code for path in README.parents[1].rglob("*.py") for code in raised(path)}
    also = {code for check in every() for code in check.also}
    assert codes <= {check.code for check in every()} | also
    # A code that is promised is raised.
    assert also <= codes


def test_no_two_checks_have_a_code_in_common() -> None:
    codes = [code for check in every() for code in (check.code, *check.also)]
    assert len(set(codes)) == len(codes)


def test_the_table_in_the_documentation_is_that_of_the_registry() -> None:
    text = README.read_text()
    # If this fails: python -m robustcode.checks.pages
    assert readme(text) == text
    for check in every():
        assert f"| `{check.code}`" in index()


def test_a_code_that_a_check_raises_besides_its_own_leads_to_its_page() -> None:
    assert check_of("convergence-untested").code == "not-converged"
    assert told("draws-untested") == told("draws-too-few")


def test_an_unknown_code_is_answered_by_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match="zero-gradient"):
        told("zero-gradent")
    assert UnknownNameError.exit_code == 2


def test_the_command_prints_every_part_of_a_page() -> None:
    shown = CliRunner().invoke(app, ["explain", "zero-gradient"])
    assert shown.exit_code == 0
    starts = ("Raised when", "Why it matters", "What to do", "False alarms", "Source")
    places = [shown.stdout.index(start) for start in starts]
    assert places == sorted(places)
    assert "``" not in shown.stdout


def test_checks_are_listed_by_what_they_look_at() -> None:
    entries = listing("checks")
    groups = list(dict.fromkeys(entry["group"] for entry in entries))
    assert groups == [str(group) for group in Group]
    assert {entry["name"] for entry in entries} == {check.code for check in every()}
    assert all(entry["summary"].startswith(f"{entry['group']}: ") for entry in entries)
