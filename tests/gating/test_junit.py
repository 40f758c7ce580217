"""JUnit XML, read by another library and by a schema."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from junitparser import Failure, JUnitXml, Skipped, TestSuite

import robustcode
from robustcode.reports.gating.gate import Verdict
from robustcode.reports.gating.junit import junit
from robustcode.store import Run

# The schema of Jenkins's xunit plug-in (MIT), as it is in the source distribution of pytest 8.4.2.
SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "junit-10.xsd"))
STATUSES = ("passed", "info", "warning", "failure", "untested", "not applicable")
TEXT = st.text(max_size=30) | st.sampled_from(
    ["]]>", "<failure/>", "&amp;", "\x00\x1b[0m", "\ufffe"]
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("junit") / "run"
    return robustcode.attack(
        "digits_cnn", "digits", "linf:0.1", out, attacks=["fgsm"], samples=16, progress=False
    )


def suite_of(document: bytes) -> TestSuite:
    SCHEMA.validate(io.BytesIO(document))
    (suite,) = JUnitXml.fromstring(document)
    return suite


def checked(run: Run, *lines: Mapping[str, Any]) -> Run:
    return replace(run, summary={**run.summary, "checks": list(lines)})


def test_a_case_stands_for_each_condition_and_each_check(run: Run) -> None:
    verdict = robustcode.gate(run, min_robust=0.99, min_clean=0.1)
    suite = suite_of(junit(run, verdict))
    cases = {(case.classname, case.name) for case in suite}
    conditions = {("robustcode.gate", condition.name) for condition in verdict.conditions}
    checks = {("robustcode.checks", line["code"]) for line in run.summary["checks"]}
    assert len(checks) > 30
    assert cases == conditions | checks
    assert suite.tests == len(conditions | checks)


def test_a_condition_that_does_not_hold_is_a_failure_and_says_why(run: Run) -> None:
    verdict = robustcode.gate(run, min_robust=0.99, min_clean=0.1)
    cases = {case.name: case for case in suite_of(junit(run, verdict))}
    (failed,) = cases["minimum of worst-case accuracy"].result
    assert isinstance(failed, Failure)
    assert failed.message == verdict.conditions[0].said
    assert cases["minimum of clean accuracy"].is_passed
    assert cases["minimum of clean accuracy"].system_out == verdict.conditions[1].said


def test_what_was_let_through_stands_with_the_findings(run: Run) -> None:
    found = {"code": "zero-gradient", "severity": "warning", "what": "none at all"}
    for allowed, passed in (("warning", True), ("none", False)):
        verdict = robustcode.gate(
            replace(run, findings=[found]), min_robust=0, allow_findings=allowed
        )
        cases = {case.name: case for case in suite_of(junit(run, verdict))}
        told = "let through: warning zero-gradient: none at all"
        assert cases["findings"].is_passed == passed
        assert (cases["findings"].system_out or "").endswith(told) == passed


def test_checks_fail_pass_or_are_skipped_by_how_they_went(run: Run) -> None:
    lines = [
        {"code": status.replace(" ", "-"), "status": status, "said": "so"} for status in STATUSES
    ]
    suite = suite_of(junit(checked(run, *lines)))
    cases = {case.name: case for case in suite}
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (6, 1, 2, 0)
    assert [name for name, case in cases.items() if case.is_failure] == ["failure"]
    assert [name for name, case in cases.items() if case.is_skipped] == [
        "untested",
        "not-applicable",
    ]
    assert cases["warning"].system_out == "warning: so"
    assert cases["passed"].system_out is None
    (skipped,) = cases["untested"].result
    assert isinstance(skipped, Skipped)
    assert skipped.message == "untested: so"


def test_it_says_what_was_run_by_which_versions_on_what(run: Run) -> None:
    suite: Any = suite_of(junit(run))
    found = {one.name: one.value for one in suite.properties()}
    assert found["versions.torch"] == run.manifest["versions"]["torch"]
    assert found["checkpoint_sha256"] == run.manifest["checkpoint_sha256"]
    assert found["data_sha256.digits"] == run.manifest["data_sha256"]["digits"]
    assert found["records_sha256"] == run.digest
    assert (found["threat"], found["seed"]) == ("linf:0.1", "0")


def test_the_same_run_gives_the_same_bytes(run: Run) -> None:
    again = robustcode.load_run(run.path)
    assert junit(run) == junit(again)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(code=TEXT, status=st.sampled_from(STATUSES) | TEXT, said=TEXT, model=TEXT)
def test_no_text_breaks_out_of_its_place(
    run: Run, code: str, status: str, said: str, model: str
) -> None:
    """One case and its one result come back, whatever is written in them."""
    hostile = checked(run, {"code": code, "status": status, "said": said})
    hostile = replace(hostile, spec={**run.spec, "model": model, "title": model})
    failing = Verdict(hostile, robustcode.gate(run, min_robust=0.99).conditions[:1])
    document = junit(hostile, failing)
    suite = suite_of(document)
    assert [case.classname for case in suite] == ["robustcode.gate", "robustcode.checks"]
    assert suite.failures == 1 + (status == "failure")
    assert not {0, 0x1B} & set(document)
