"""SARIF, held against the published schema of the format."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator, FormatChecker

import robustcode
from robustcode.reports.gating.gate import Verdict
from robustcode.reports.gating.sarif import sarif
from robustcode.store import Run

# As it is in the npm package @microsoft/jest-sarif, where the Makefile puts it.
SCHEMA = Path(sys.prefix, "share/npm/sarif.json")
FINDING = {
    "code": "zero-gradient",
    "severity": "failure",
    "what": "the gradient is zero on 3 of 16 samples",
    "remedy": "attack a surrogate",
    "figures": {"zeros": 3.0, "share": float("inf")},
    "samples": [1, 5, 7],
}
TEXT = st.text(max_size=30) | st.sampled_from(
    ["[a](http://x)", "{0} {{", "\\[", "\\\\", "<script>", "\x00\u202e\n"]
)


@cache
def valid() -> Draft4Validator:
    if not SCHEMA.is_file():
        pytest.skip(f"there is no schema at {SCHEMA}; `make peers` fetches it")
    return Draft4Validator(json.loads(SCHEMA.read_text()), format_checker=FormatChecker())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without findings, to put others into."""
    out = tmp_path_factory.mktemp("sarif") / "a run"
    found = robustcode.attack(
        "digits_cnn", "digits", "linf:0.1", out, attacks=["fgsm"], samples=16, progress=False
    )
    return replace(found, findings=[])


def found(run: Run, *findings: dict[str, Any]) -> Run:
    return replace(run, findings=list(findings))


def log_of(run: Run, verdict: Verdict | None = None) -> dict[str, Any]:
    """The one run of the document, which is valid."""
    document = json.loads(sarif(run, verdict))
    valid().validate(document)
    (only,) = document["runs"]
    return only


def test_a_run_without_findings_has_no_results(run: Run) -> None:
    log = log_of(run)
    assert log["results"] == []
    assert log["tool"]["driver"]["rules"] == []


def test_a_finding_is_a_result_with_its_figures_its_samples_and_its_remedy(run: Run) -> None:
    (result,) = log_of(found(run, FINDING))["results"]
    assert result["ruleId"] == "zero-gradient"
    assert result["message"]["text"] == f"{FINDING['what']}. {FINDING['remedy']}."
    assert result["properties"] == {
        "severity": "failure",
        "figures": {"zeros": 3.0, "share": "inf"},
        "samples": [1, 5, 7],
    }


@pytest.mark.parametrize(
    ("severity", "level"),
    [("failure", "error"), ("warning", "warning"), ("info", "note"), ("worse", "error")],
)
def test_levels_follow_severities_and_what_is_unknown_is_not_passed_over(
    severity: str, level: str, run: Run
) -> None:
    (result,) = log_of(found(run, {**FINDING, "severity": severity}))["results"]
    assert result["level"] == level


def test_each_code_is_one_rule_that_says_where_its_page_is(run: Run) -> None:
    other = {**FINDING, "code": "noise-as-strong"}
    log = log_of(found(run, FINDING, other, FINDING))
    rules = log["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["zero-gradient", "noise-as-strong"]
    assert rules[0]["help"]["text"] == "robustcode explain zero-gradient explains it."
    assert [result["ruleIndex"] for result in log["results"]] == [0, 1, 0]


def test_a_condition_that_fails_is_a_result_and_one_that_holds_is_none(run: Run) -> None:
    verdict = robustcode.gate(run, min_robust=0.99, min_clean=0.1)
    (result,) = log_of(run, verdict)["results"]
    assert result["ruleId"] == "gate-minimum-of-worst-case-accuracy"
    assert result["level"] == "error"
    assert result["message"]["text"] == f"{verdict.conditions[0].said}."


def test_a_finding_that_was_let_through_says_so(run: Run) -> None:
    warned = found(run, {**FINDING, "severity": "warning"})
    verdict = robustcode.gate(warned, min_robust=0)
    (result,) = log_of(warned, verdict)["results"]
    assert result["level"] == "warning"
    assert result["message"]["text"].endswith(f"{FINDING['remedy']}. The gate let it through.")
    assert result["properties"]["gate"] == "let through"
    refused = log_of(warned, robustcode.gate(warned, min_robust=0, allow_findings="none"))
    assert [result["ruleId"] for result in refused["results"]] == ["zero-gradient", "gate-findings"]
    assert "gate" not in refused["results"][0]["properties"]


def test_it_points_at_the_spec_from_where_the_build_runs(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uri() -> str:
        (result,) = log_of(found(run, FINDING))["results"]
        (location,) = result["locations"]
        return str(location["physicalLocation"]["artifactLocation"]["uri"])

    monkeypatch.chdir(run.path.parent)
    assert unquote(uri()) == "a run/spec.toml"
    assert (run.path.parent / unquote(uri())).is_file()
    (run.path.parent / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(run.path.parent / "elsewhere")
    assert uri() == "a%20run/spec.toml"


def test_a_later_run_of_the_same_evaluation_has_the_same_fingerprints(run: Run) -> None:
    """Figures, samples and weights change; the question that was asked does not."""
    later = {**FINDING, "what": "the gradient is zero on 4 of 16 samples", "samples": [2]}
    manifest = {**run.manifest, "checkpoint_sha256": "0" * 64}
    runs = [
        found(run, FINDING, FINDING),
        replace(run, findings=[later, later], manifest=manifest),
        replace(run, findings=[FINDING], summary={**run.summary, "threat": "linf:0.3"}),
    ]
    logs = [log_of(one) for one in runs]
    prints = [[r["partialFingerprints"]["finding/v1"] for r in log["results"]] for log in logs]
    assert prints[0] == prints[1]
    assert len(set(prints[0])) == 2
    assert not set(prints[0]) & set(prints[2])
    names = [log["automationDetails"]["id"] for log in logs]
    assert names[0] == names[1] != names[2]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    texts=st.lists(TEXT, min_size=4, max_size=4),
    model=TEXT,
    figures=st.dictionaries(TEXT, st.floats() | TEXT, max_size=3),
    samples=st.lists(st.integers(0, 10**6) | TEXT, max_size=4),
)
def test_no_text_makes_a_link_a_placeholder_or_an_invalid_log(
    run: Run, texts: Sequence[str], model: str, figures: dict[str, Any], samples: list[Any]
) -> None:
    keys = ("code", "severity", "what", "remedy")
    finding = {**dict(zip(keys, texts, strict=True)), "figures": figures, "samples": samples}
    hostile = replace(run, findings=[finding], spec={**run.spec, "model": model})
    (result,) = log_of(hostile)["results"]
    message = result["message"]["text"]
    assert message.isprintable()
    # Every bracket stands behind an odd number of backslashes; every brace is doubled.
    for place, mark in enumerate(message):
        if mark in "[]":
            before = message[:place]
            assert (len(before) - len(before.rstrip("\\"))) % 2 == 1
    assert "{" not in message.replace("{{", "")
    assert "}" not in message.replace("}}", "")
