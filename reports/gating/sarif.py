"""The findings of a run as SARIF 2.1.0, which code hosts show beside the code.

One result a finding, where it applies the run's spec.toml: that is the file which says how the run
was evaluated, and which the remedy would change.

Source: OASIS Standard, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from robustcode.reports.escape import plain
from robustcode.reports.gating.gate import LetThrough, Verdict
from robustcode.reports.sections.checks import explained_by
from robustcode.reports.sections.origins import FACTS
from robustcode.reports.source import Source, as_text, sources
from robustcode.store import Run

LEVELS = {"failure": "error", "warning": "warning", "info": "note"}
# What is of unknown severity must not be passed over.
UNKNOWN = "error"
GATE = "gate"
SHOWN = 100  # samples of a finding that are listed; a data set may have 50,000


def sarif(run: Run, verdict: Verdict | None = None) -> bytes:
    """The log, with a result for each condition of the gate that fails if there was a gate.

    A finding that the gate let through says so. Same run, same bytes.
    """
    source = sources([run])[0]
    passed = verdict.let_through if verdict else ()
    results = [_result(source, finding, passed) for finding in run.findings]
    for condition in verdict.failed if verdict else ():
        results.append(_failed(source, condition.name, condition.said, condition.figures))
    rules = {result["ruleId"]: _rule(result) for result in results}
    order, seen = list(rules), Counter[str]()
    for result in results:
        rule = result["ruleId"]
        seen[rule] += 1
        result["ruleIndex"] = order.index(rule)
        # The figures change from run to run, and what was found does not.
        fingerprint = _hashed([_evaluation(source), rule, seen[rule]])
        result["partialFingerprints"] = {"finding/v1": fingerprint}
    log = {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
        "sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {**_driver(run), "rules": list(rules.values())}},
                # Two runs of one evaluation are of one category; hosts replace the older by it.
                "automationDetails": {"id": f"robustcode/{_evaluation(source)}/"},
                "artifacts": [{"location": _spec(run)}],
                "properties": _facts(source),
                "results": results,
            }
        ],
    }
    return (json.dumps(log, indent=2, allow_nan=False) + "\n").encode()


def _driver(run: Run) -> dict[str, Any]:
    versions = run.manifest.get("versions")
    version = versions.get("robustcode") if isinstance(versions, Mapping) else None
    return {"name": "robustcode", **({"version": plain(str(version))} if version else {})}


def _result(
    source: Source, finding: Mapping[str, Any], passed: Sequence[LetThrough]
) -> dict[str, Any]:
    code, severity, what, remedy = (
        plain(str(finding.get(key) or "")) for key in ("code", "severity", "what", "remedy")
    )
    let = LetThrough(severity, code, what) in passed
    samples, figures = finding.get("samples"), finding.get("figures")
    listed = samples[:SHOWN] if isinstance(samples, list) else []
    # A full stop between two sentences, whether or not the first one brings it.
    parts = (what, remedy, "The gate let it through" if let else "")
    text = ". ".join(part.rstrip(". ") for part in parts if part) + "."
    properties = {"severity": severity, "figures": _numbers(figures), "samples": _plain(listed)}
    if let:
        properties["gate"] = "let through"
    return _told(source, code or "unnamed", LEVELS.get(severity, UNKNOWN), text, properties)


def _failed(source: Source, name: str, said: str, figures: Mapping[str, float]) -> dict[str, Any]:
    rule = f"{GATE}-{plain(name).replace(' ', '-')}"
    return _told(source, rule, "error", f"{plain(said)}.", {"figures": _numbers(figures)})


def _told(
    source: Source, rule: str, level: str, text: str, properties: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": _inert(text)},
        # Of the file as a whole; hosts do not show what has no line.
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": _spec(source.run),
                    "region": {"startLine": 1},
                }
            }
        ],
        "properties": properties,
    }


def _rule(result: Mapping[str, Any]) -> dict[str, Any]:
    code = result["ruleId"]
    command = explained_by(code) if not code.startswith(f"{GATE}-") else "robustcode gate --help"
    page = f"`{command}` explains it." if command else "There is no page for it."
    words = code.replace("-", " ")
    return {
        "id": code,
        "shortDescription": {"text": _inert(words)},
        "help": {"text": page.replace("`", "")},
        "defaultConfiguration": {"level": result["level"]},
    }


def _inert(text: str) -> str:
    """Text in which no viewer finds a link or a placeholder, which SARIF has in plain messages.

    Source: SARIF 2.1.0, sections 3.11.5 (placeholders) and 3.11.6 (embedded links).
    """
    doubled = text.replace("{", "{{").replace("}", "}}")
    # A backslash that stands before a bracket would take the effect of the one put there.
    return re.sub(r"(\\*)([\[\]])", r"\1\1\\\2", doubled)


def _spec(run: Run) -> dict[str, str]:
    """Where spec.toml is, from the folder that the command was called in."""
    path = Path(run.path) / "spec.toml"
    try:
        path = path.resolve().relative_to(Path.cwd().resolve())
    except ValueError:
        # Elsewhere: a URI with a machine's own folders in it would be of no use to a reader.
        path = Path(run.path.resolve().name) / "spec.toml"
    return {"uri": quote(path.as_posix(), errors="replace"), "uriBaseId": "%SRCROOT%"}


def _evaluation(source: Source) -> str:
    """A name of what was asked, the same for every run of it, whatever the weights."""
    asked = {name: source.fact(name) for name in ("command", "model", "defense", "data", "threat")}
    return _hashed([asked])[:16]


def _facts(source: Source) -> dict[str, str]:
    facts = {name: source.fact(name) for name in ("model", "defense", "data", "threat", "seed")}
    facts |= {name: as_text(source.run.manifest.get(name)) for name in FACTS}
    facts["records_sha256"] = source.run.digest
    return {name: plain(value) for name, value in facts.items() if value}


def _numbers(figures: Any) -> dict[str, float | str]:
    """Figures as JSON holds them; one that is not finite as text."""
    if not isinstance(figures, Mapping):
        return {}
    return {plain(str(name)): _plain(value) for name, value in figures.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    return plain(str(value))


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
