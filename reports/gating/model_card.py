"""A run as a part of a model card: results in the `model-index` form, and a section for people.

The form is that of the Hugging Face Hub, which reads evaluation results from the YAML at the head
of a README.md. Text is written as JSON writes it, which YAML reads as well and nothing escapes
from.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from robustcode.corrupted import notes_of
from robustcode.reports.escape import markdown, plain
from robustcode.reports.grids import accuracy_of, counted, interval_of
from robustcode.reports.numbers.proofs import proof_verdict
from robustcode.reports.sections import corruption
from robustcode.reports.sections.corruption import corruption_verdict
from robustcode.reports.sections.findings import Weakness, weaknesses
from robustcode.reports.sections.verdict import verdict, warning
from robustcode.reports.table import Row, Source, as_text, name_of, rows_of, sources
from robustcode.store import Run
from robustcode.summary import tally

TASK = "image-classification"
KINDS = ("clean", "attack", "worst case", "certified", "corruption")
# Data sets whose name says nothing without that of their file.
IN_FILES = ("npz", "folder")


def model_card(run: Run, url: str = "") -> str:
    """A model card of one run: what is put into an existing card, as a card of its own.

    ``url`` is where the run or its report can be seen; none is named without it.
    """
    return card_of(sources([run])[0], url)


def card_of(source: Source, url: str = "") -> str:
    """See model_card."""
    head = ["---", *index_head(source), *result_lines(source, url, 2), "---", ""]
    return "\n".join([*head, f"# {markdown(_name(source))}", "", *section(source), ""])


def key_of(source: Source) -> str:
    """A short name of what was evaluated, the same for a later run of it with other numbers."""
    asked = [source.fact(name) for name in ("command", "defense", "data", "threat")]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]


def index_head(source: Source) -> list[str]:
    """The lines of a model-index above its results."""
    return ["model-index:", f"- name: {scalar(_name(source))}", "  results:"]


def result_lines(source: Source, url: str, indent: int) -> list[str]:
    """One entry of the results of a model-index, between comments that it is found by."""
    key, pad = key_of(source), " " * indent
    lines = yaml_lines([result_of(source, url)], indent)
    return [f"{pad}# robustcode {key}: begin", *lines, f"{pad}# robustcode {key}: end"]


def section(source: Source) -> list[str]:
    """The lines of the section for people, between comments that it is found by."""
    key, threat = key_of(source), source.fact("threat")
    rows, found = _rows(source), weaknesses([source])
    against = f" in {markdown(threat)}" if threat else ""
    if source.corrupts:
        against, said = " to common corruptions", corruption_verdict(source)
    elif source.proves:
        said = proof_verdict(source, {source.label: rows})
    else:
        said = verdict(source, rows)
    notes = notes_of(source.run.summary) if source.corrupts else []
    return [
        f"<!-- robustcode {key}: begin -->",
        f"## Robustness{against}",
        "",
        markdown(said + warning(found, 1)),
        "",
        *_table(rows),
        "",
        *(f"- {markdown(note)}" for note in notes),
        *([""] if notes else []),
        *_findings(found),
        *_repeat(source),
        f"<!-- robustcode {key}: end -->",
    ]


def result_of(source: Source, url: str = "") -> dict[str, Any]:
    """One result of a model-index: task, dataset, metrics and where they come from."""
    name = _data_name(source.fact("data") or "unnamed data")
    sha = {"sha256": as_text(source.run.manifest.get("data_sha256"))}
    result: dict[str, Any] = {
        "task": {"type": TASK},
        "dataset": {
            "type": re.sub(r"[^A-Za-z0-9._-]+", "-", plain(name)).strip("-") or "unnamed",
            "name": name,
            "args": {
                "samples": source.run.summary.get("samples"),
                **{k: v for k, v in sha.items() if v},
            },
        },
        "metrics": [_metric(source, row) for row in rows_of(source) if row.kind in _METRICS],
    }
    if source.corrupts:
        result["metrics"].append(_corrupted(source))
    if url:
        result["source"] = {"name": "robustcode", "url": url}
    return result


_METRICS = {
    "clean": "accuracy",
    "worst case": "robust_accuracy",
    "certified": "certified_accuracy",
}


def _metric(source: Source, row: Row) -> dict[str, Any]:
    threat = source.fact("threat")
    args: dict[str, Any] = {"low": row.low, "high": row.high, "confidence": 0.95}
    name = "Clean accuracy"
    if row.kind == "worst case":
        suite = source.fact("suite") or _request(source).get("suite")
        attacks = [plain(str(attack["name"])) for attack in source.attacks]
        under = f"suite {suite}" if suite else counted(len(attacks), "attack")
        name = f"Robust accuracy under {under} in {threat}"
        args |= {"threat": threat, "attacks": attacks}
    elif row.kind == "certified":
        block = source.run.summary.get("certified") or {}
        threat = str(block.get("threat") or threat)
        name = f"Certified accuracy by {block.get('method')} in {threat}"
        args |= {"threat": threat, "method": block.get("method")}
    if row.kind == "worst case" and source.draws:
        name = f"{name}, expected over {source.draws} draws of the defence"
    args |= {"samples": row.samples}
    if row.unfinished:
        args |= {"unfinished": row.unfinished, "at_most": row.most}
    args |= {"findings": _weakened(source)}
    return {"type": _METRICS[row.kind], "value": row.value, "name": name, "args": args}


def _corrupted(source: Source) -> dict[str, Any]:
    """The mean over corruptions and severities, with all that it is comparable by."""
    summary = source.run.summary
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
        "findings": _weakened(source),
    }
    name = f"Mean accuracy under {counted(len(named), 'common corruption')}"
    return {"type": "corruption_accuracy", "value": mean["accuracy"], "name": name, "args": args}


def _weakened(source: Source) -> str:
    """How many findings of which severity: a number must not travel without what weakens it."""
    return tally(str(finding.get("severity")) for finding in source.run.findings) or "none"


def _rows(source: Source) -> list[Row]:
    """What the section's table shows: of corruptions what is clean and the means, no cells."""
    if not source.corrupts:
        return rows_of(source)
    return [row for row in corruption.rows_of(source) if not row.at]


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


def _name(source: Source) -> str:
    return plain(name_of(source)) or "unnamed model"


def _request(source: Source) -> Mapping[str, Any]:
    request = source.run.manifest.get("request")
    return request if isinstance(request, Mapping) else {}


def _data_name(data: str) -> str:
    """The data set without the folder that it lies in on one machine.

    >>> _data_name("cifar10:/data/cifar"), _data_name("npz:/data/mine.npz")
    ('cifar10', 'npz mine.npz')
    """
    name, _, where = plain(data).partition(":")
    return f"{name} {PurePath(where).name}" if name in IN_FILES and where else name or "unnamed"


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| measured | accuracy (%) | 95 % interval | samples |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row.kind in KINDS:
            cells = (row.name, accuracy_of(row), interval_of(row), str(row.samples or ""))
            lines.append(f"| {' | '.join(map(markdown, cells))} |")
    return lines


def _findings(found: Sequence[Weakness]) -> list[str]:
    if not found:
        return []
    lines = ["Findings of the checks of this evaluation:", ""]
    for one in found:
        said = " ".join(filter(None, (one.what, one.remedy)))
        lines.append(f"- {markdown(one.severity)}, {markdown(one.code)}: {markdown(said)}")
    return [*lines, ""]


def _repeat(source: Source) -> list[str]:
    """The spec as it stands in the run, in a fence that nothing in it closes."""
    path = source.run.path / "spec.toml"
    spec = [plain(line) for line in path.read_text("utf-8", "replace").splitlines()]
    longest = max((len(found) for line in spec for found in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    manifest = source.run.manifest
    facts = {"checkpoint sha256": "checkpoint_sha256", "versions": "versions", "git": "git"}
    lines = [
        f"- {name}: {markdown(as_text(manifest[key]))}"
        for name, key in facts.items()
        if manifest.get(key)
    ]
    return [
        "To repeat it, save these lines as spec.toml and call `robustcode run spec.toml`:",
        "",
        f"{fence}toml",
        *spec,
        fence,
        "",
        *([*lines, ""] if lines else []),
    ]
