"""A run as results of a `model-index`, the YAML at the head of a model card.

The form is that of the Hugging Face Hub. Its library takes all results of a card for those of one
model, so that what was evaluated is said in each of them. Text is written as JSON writes it, which
YAML reads as well and nothing escapes from.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from robustcode.reports.escape import plain
from robustcode.reports.gating.entry import Entry
from robustcode.reports.gating.gate import FINDINGS
from robustcode.reports.gating.measured import What
from robustcode.reports.source import Source, as_text
from robustcode.reports.table import Row, rows_of
from robustcode.summary import tally
from robustcode.wording import counted

TASK = "image-classification"


def index_head(entry: Entry) -> list[str]:
    """The lines of a model-index above its results."""
    return ["model-index:", *model_head(entry)]


def model_head(entry: Entry) -> list[str]:
    """The lines of one model of it above its results."""
    return [f"- name: {scalar(entry.name)}", "  results:"]


def result_lines(entry: Entry, indent: int) -> list[str]:
    """One entry of the results of a model-index, between comments that it is found by."""
    pad = " " * indent
    lines = yaml_lines([result_of(entry)], indent)
    return [f"{pad}# robustcode {entry.key}: begin", *lines, f"{pad}# robustcode {entry.key}: end"]


def result_of(entry: Entry) -> dict[str, Any]:
    """One result of a model-index: task, dataset, metrics and where they come from."""
    source = entry.source
    sha = {"sha256": as_text(source.run.manifest.get("data_sha256"))}
    result: dict[str, Any] = {
        "task": {"type": TASK},
        "dataset": {
            "type": re.sub(r"[^A-Za-z0-9._-]+", "-", entry.data).strip("-") or "unnamed",
            "name": entry.data,
            "args": {
                "samples": source.run.summary.get("samples"),
                **{k: v for k, v in sha.items() if v},
            },
        },
        "metrics": [_metric(entry, row) for row in rows_of(source) if row.kind in _METRICS],
    }
    if source.corrupts:
        result["metrics"].append(_corrupted(entry))
    if entry.url:
        result["source"] = {"name": "robustcode", "url": entry.url}
    return result


_METRICS = {
    "clean": "accuracy",
    "worst case": "robust_accuracy",
    "certified": "certified_accuracy",
}
_NOUNS = {"clean": What.CLEAN, "worst case": What.ROBUST, "certified": What.CERTIFIED}


def _metric(entry: Entry, row: Row) -> dict[str, Any]:
    source = entry.source
    threat = source.fact("threat")
    args: dict[str, Any] = {"low": row.low, "high": row.high, "confidence": 0.95}
    name = f"Clean accuracy of {entry.name}"
    if row.kind == "worst case":
        suite = source.fact("suite") or _request(source).get("suite")
        attacks = [plain(str(attack["name"])) for attack in source.attacks]
        under = f"suite {suite}" if suite else counted(len(source.searches), "attack")
        name = f"Upper bound of the robust accuracy of {entry.name} under {under} in {threat}"
        args |= {"bound": "upper", "threat": threat, "attacks": attacks}
    elif row.kind == "certified":
        block = source.run.summary.get("certified") or {}
        threat = str(block.get("threat") or threat)
        name = f"Certified accuracy of {entry.name} by {block.get('method')} in {threat}"
        args |= {"bound": "lower", "threat": threat, "method": block.get("method")}
    if row.kind == "worst case" and source.draws:
        name = f"{name}, expected over {source.draws} draws of the defence"
    args |= {"samples": row.samples}
    if row.unfinished:
        args |= {"unfinished": row.unfinished, "at_most": row.most}
    args |= _doubts(entry, _NOUNS[row.kind].noun)
    return {"type": _METRICS[row.kind], "value": row.value, "name": name, "args": args}


def _corrupted(entry: Entry) -> dict[str, Any]:
    """The mean over corruptions and severities, with all that it is comparable by."""
    summary = entry.source.run.summary
    mean, named = summary["corruption_means"]["all"], summary["corruption_means"]["corruptions"]
    args = {
        **{"low": mean["low"], "high": mean["high"], "confidence": 0.95},
        "corruptions": [plain(str(name)) for name in named],
        "severities": sorted({cell["severity"] for cell in summary["corruptions"]}),
        "strengths": summary["corruption_scale"],
        "frost": summary.get("corruption_frost", "none"),
        "nll": mean["nll"],
        "calibration_error": mean["calibration"],
        "samples": summary["samples"],
        **_doubts(entry, ""),
    }
    name = f"Mean accuracy of {entry.name} under {counted(len(named), 'common corruption')}"
    return {"type": "corruption_accuracy", "value": mean["accuracy"], "name": name, "args": args}


def _doubts(entry: Entry, noun: str) -> dict[str, str]:
    """What must travel with a number: findings by severity, and what a gate says of it.

    ``noun`` is what a gate calls the number; "" if it never asks for it.
    """
    findings = entry.source.run.findings
    told = {"findings": tally(str(finding.get("severity")) for finding in findings) or "none"}
    said = [
        f"{'holds' if condition.holds else 'fails'}: {condition.said}"
        for condition in (entry.verdict.conditions if entry.verdict else ())
        # A finding that fails the gate takes from every number.
        if (noun and condition.name.endswith(f" of {noun}"))
        or (condition.name == FINDINGS and not condition.holds)
    ]
    return {**told, "gate": "; ".join(said)} if said else told


def _request(source: Source) -> Mapping[str, Any]:
    request = source.run.manifest.get("request")
    return request if isinstance(request, Mapping) else {}


def yaml_lines(value: Mapping[str, Any] | Sequence[Any], indent: int = 0) -> list[str]:
    """Nested tables and lists as lines of YAML; keys are this module's own."""
    pad = " " * indent
    named = isinstance(value, Mapping)
    if isinstance(value, Mapping):
        pairs = [(f"{key}:", item) for key, item in value.items()]
    else:
        pairs = [("-", item) for item in value]
    lines: list[str] = []
    for head, item in pairs:
        if not isinstance(item, Mapping | list) or not item:
            lines.append(f"{pad}{head} {scalar(item)}")
            continue
        inner = yaml_lines(item, indent + 2)
        lines += [f"{pad}{head}", *inner] if named else [f"{pad}- {inner[0].lstrip()}", *inner[1:]]
    return lines


def scalar(value: Any) -> str:
    """A value as both JSON and YAML 1.1 read it.

    >>> scalar("a: b"), scalar(1e-05), scalar(None)
    ('"a: b"', '1.0e-05', 'null')
    """
    if value is None or isinstance(value, bool | int) or value in ([], {}):
        return json.dumps(value)
    if isinstance(value, float) and math.isfinite(value):
        number, e, power = repr(value).partition("e")
        # YAML 1.1 takes 1e-05 for text: its numbers have a point.
        return f"{number}.0e{power}" if e and "." not in number else repr(value)
    return json.dumps(plain(str(value)), ensure_ascii=False)


def text_of(value: str) -> str | None:
    """The text that one line of YAML gives a key, as `scalar` writes it or a person does.

    >>> text_of(' "a: b"  # mine'), text_of(" it's # mine"), text_of(" 'it''s'")
    ('a: b', "it's", "it's")
    """
    text = value.strip()
    if text.startswith('"'):
        try:
            return str(json.JSONDecoder().raw_decode(text)[0])
        except ValueError:
            return None
    if quoted := re.match(r"'((?:[^']|'')*)'", text):
        return quoted[1].replace("''", "'")
    return re.sub(r"(?:^|\s+)#.*", "", text) or None
