"""A run and its gate as JUnit XML, which most build servers show as tests.

A suite holds a test case for each condition of the gate and one for each check of the evaluation;
that of the findings has in its output what was let through.
A check that raised a failure fails; one that raised a warning passes and says so in its output,
since the number stands; one that was not made is skipped. There is no standard for the format: the
elements and attributes are those of the schema of Jenkins's xunit plug-in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from robustcode.reports.escape import plain
from robustcode.reports.gating.gate import FINDINGS, Condition, LetThrough, Verdict
from robustcode.reports.sections.origins import FACTS
from robustcode.reports.source import Source, as_text, name_of, sources
from robustcode.reports.table import tables
from robustcode.store import Run

GATE, CHECKS = "robustcode.gate", "robustcode.checks"
FAILED, SKIPPED, SILENT = "failure", ("untested", "not applicable"), ("passed",)


def junit(run: Run, verdict: Verdict | None = None) -> bytes:
    """The document, with the gate's conditions if there was a gate. Same run, same bytes."""
    source = sources([run])[0]
    suite = ET.Element("testsuite", name=f"robustcode: {plain(name_of(source))}")
    properties = ET.SubElement(suite, "properties")
    for name, value in _facts(source):
        ET.SubElement(properties, "property", name=name, value=value)
    for condition in verdict.conditions if verdict else ():
        _condition(suite, condition, verdict.let_through if verdict else ())
    for line in tables(run.summary.get("checks")):
        _check(suite, line)
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    whole = ET.Element("testsuites")
    whole.append(suite)
    ET.indent(whole)
    return ET.tostring(whole, encoding="utf-8", xml_declaration=True) + b"\n"


def _condition(suite: ET.Element, condition: Condition, passed: Sequence[LetThrough]) -> None:
    case = ET.SubElement(suite, "testcase", classname=GATE, name=plain(condition.name))
    said = plain(condition.said)
    lines = [] if not condition.holds else [said]
    if not condition.holds:
        ET.SubElement(case, "failure", type="gate", message=said).text = said
    if condition.name == FINDINGS:
        lines += [f"let through: {plain(finding.said)}" for finding in passed]
    if lines:
        ET.SubElement(case, "system-out").text = "\n".join(lines)


def _check(suite: ET.Element, line: Mapping[str, object]) -> None:
    code, status, said = (plain(str(line.get(key, ""))) for key in ("code", "status", "said"))
    case = ET.SubElement(suite, "testcase", classname=CHECKS, name=code or "unnamed")
    if status in SKIPPED:
        ET.SubElement(case, "skipped", message=f"{status}: {said}")
    elif status == FAILED:
        ET.SubElement(case, "failure", type=code, message=said).text = said
    elif status not in SILENT:
        ET.SubElement(case, "system-out").text = f"{status}: {said}"


def _facts(source: Source) -> list[tuple[str, str]]:
    """What the numbers depend on: the run, its inputs and the versions."""
    facts = {name: source.fact(name) for name in ("model", "defense", "data", "threat", "seed")}
    for name in FACTS:
        value = source.run.manifest.get(name)
        if isinstance(value, Mapping):
            facts |= {f"{name}.{key}": as_text(inner) for key, inner in value.items()}
        else:
            facts[name] = as_text(value)
    facts["records_sha256"] = source.run.digest
    return [(plain(name), plain(value)) for name, value in facts.items() if value]
