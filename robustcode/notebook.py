"""How runs show themselves in a notebook: a fragment of HTML by itself, and one line of text.

The fragment takes text and paper from the page it stands on, so that it reads on light and on
dark; it holds no script and loads nothing.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robustcode import corrupted
from robustcode.certified import outcomes_of
from robustcode.components import Component, code_named, data_named
from robustcode.verdicts import searches
from robustcode.wording import DOUBTS, counted, listed, percent

if TYPE_CHECKING:
    from robustcode.store import Run

SHOWN = 8  # findings, before "and n more"
LONGEST = 300  # characters of a text from the folder
SENTENCES = 2000  # of what is said with several of these
RANKS = {"failure": 0, "warning": 1, "info": 3}
# Colours that stand out on light and on dark; a word says the same.
EDGES = {"failure": "#c0392b", "warning": "#c77c02"}
LINE = "rgba(128,128,128,.45)"
NUMBERS = "text-align:right;font-variant-numeric:tabular-nums"
BOX = "font:14px/1.45 system-ui,sans-serif;color:inherit;max-width:60em"
HEADERS = ("what", "n", "accuracy, %", "95 % interval, %", "passes")
SPOILT = ("what", "error, %", "95 % interval, %", "NLL, nats", "calibration error, %")
UNDOUBTED = "No check found anything that weakens the evidence."
NOTE = (
    "Attacks bound the true robust accuracy from above, certificates from below. Intervals are at "
    "95 % and speak of the draw of the samples."
)


def line_of(run: Run) -> str:
    """A run on one line of a console."""
    summary = run.summary
    parts = [_setting(run), counted(summary["samples"], "sample")]
    if run.pilot_of is not None:
        parts[-1] += f" of {run.pilot_of} to test the evaluation"
    for name in ("clean", "robust", "certified"):
        if summary.get(name):
            parts.append(f"{name} {_percent(summary[name], summary)} %")
    if means := summary.get("corruption_means"):
        parts.append(f"corrupted {_percent(means['all'], summary)} %")
    if summary["attacks"]:
        parts.append(counted(len(summary["attacks"]), "attack"))
    if run.findings:
        parts.append(counted(len(run.findings), "finding"))
    if failures := _of_severity(run, "failure"):
        parts[-1] += f", {counted(failures, 'failure')} among them"
    if run.stopped:
        parts.append("stopped by its time limit")
    if run.gap is not None:
        parts.append(run.gap.said)
    return f"Run({str(run.path)!r}: {_plain(', '.join(parts))})"


def html_of(run: Run) -> str:
    """A run as a fragment of HTML: the verdict, what is wrong with it, the table, the findings."""
    end = "" if run.gap is None else f"; {run.gap.said}"
    caption = f"{_setting(run, _label(run))}{end}"
    table, notes = _table(caption, HEADERS, _rows(run)), [NOTE]
    if run.summary.get("corruption_means"):
        table = _table(f"Errors: {caption}", SPOILT, _spoilt(run.summary))
        notes = [f"{note[:1].upper()}{note[1:]}." for note in corrupted.notes_of(run.summary)]
    return _box(
        [
            f"<p>{_text(sentence_of(run), SENTENCES)}</p>",
            *(_edged("warning", _text(said, SENTENCES)) for said in _unfinished(run)),
            *_findings(run.findings),
            table,
            *(f'<p style="opacity:.75">{_text(note)}</p>' for note in (*notes, str(run.path))),
        ]
    )


def _unfinished(run: Run) -> list[str]:
    """Why the numbers are not yet those that were asked for."""
    said = []
    if run.pilot_of is not None:
        said.append(
            f"These are {run.summary['samples']} of {run.pilot_of} samples: a test of the "
            "evaluation, not yet the evaluation."
        )
    if run.stopped:
        said.append(
            "The time limit stopped this run before its end: the same call with more time finishes "
            "it."
        )
    if run.gap is not None:
        said.append(run.gap.sentences)
    return said


def curve_html(path: str, points: Sequence[Mapping[str, Any]], left: int) -> str:
    """Runs under ascending eps as a fragment of HTML; ``left`` were asked for and not begun."""
    rows = [
        (
            *(str(point["threat"]), f"{point['samples']:,}", _percent(point["clean"], point)),
            *(_percent(point["robust"], point), _interval(point["robust"], point)),
            f"{point['passes']:,}",
        )
        for point in points
    ]
    headers = ("threat", "n", "clean, %", "worst case, %", "95 % interval, %", "attacks' passes")
    kept = ", ".join(f"{row[3]} % at {row[0]}" for row in rows)
    more = f" {counted(left, 'threat')} not begun." if left else ""
    return _box(
        [
            f"<p>{_text(f'Keeps {kept}.{more}', SENTENCES)}</p>",
            _table("Accuracy as eps grows", headers, rows),
            f'<p style="opacity:.75">{_text(path)}</p>',
        ]
    )


def sentence_of(run: Run) -> str:
    """What the run says, in a sentence or two, and whether it is to be believed."""
    said = _measured(run)
    for severity, doubt in DOUBTS.items():
        if grave := _of_severity(run, severity):
            return f"{said} {doubt.format('these numbers')}: {counted(grave, severity)} below."
    # Of a run that was not checked to its end nothing of the kind is known.
    looked = run.summary.get("checks") and run.gap is None and not run.stopped
    return f"{said} {UNDOUBTED}" if looked and not run.findings else said


def _measured(run: Run) -> str:
    summary, label = run.summary, _label(run)
    if summary.get("corruption_means"):
        return corrupted.sentence_of(summary, label, data_named(_fact(run, "data")))
    parts = []
    if run.spec.get("command") != "certify":
        parts.append(f"classifies {_percent(summary['clean'], summary)} % correctly")
    if summary.get("robust") and summary["attacks"]:
        tried = searches(summary["attacks"])
        worst = f"the worst of {counted(len(tried), 'attack')}"
        if summary.get("suite"):
            worst += f" of the suite {summary['suite']}"
        if not tried:
            worst = "random noise alone, which is no attack"
        if summary.get("proved"):
            worst += f" ({counted(summary['proved'], 'sample')} taken for proved, not attacked)"
        parts.append(f"keeps {_stated(summary['robust'], summary)} under {worst}")
    if proved := summary.get("certified"):
        parts.append(f"is certified by {proved['method']} for {_stated(proved, summary)}")
    if summary.get("stochastic"):
        parts.append(
            f"is random, so that these are means of {summary['stochastic']['draws']} draws"
        )
    looked = f"{counted(summary['samples'], 'sample')} of {data_named(_fact(run, 'data'))}"
    said = f"On {looked} in {_fact(run, 'threat')}, {label} {listed(parts)}."
    if run.spec.get("command") != "certify" or not proved or "undecided" not in proved:
        return said
    return f"{said} {outcomes_of(proved)}"


def _rows(run: Run) -> list[tuple[str, ...]]:
    summary = run.summary
    found = [("clean", summary["clean"])]
    for attack in summary["attacks"]:
        after = attack.get("after") and not summary.get("stochastic")
        found.append((f"after {attack['name']}" if after else attack["name"], attack))
    if summary.get("robust") and summary["attacks"]:
        found.append(("worst case over all attacks", summary["robust"]))
    if proved := summary.get("certified"):
        found.append((f"certified: {proved['method']}", proved))
        points = proved.get("curve") or []
        # The first is the radius of the threat alone, unless more were asked for.
        more = points if len(points) > 1 else []
        found += [(f"certified to radius {point['radius']:g}", point) for point in more]
    return [
        (
            *(name, f"{entry.get('samples') or summary['samples']:,}"),
            *(_percent(entry, summary), _interval(entry, summary), _passes(entry)),
        )
        for name, entry in found
    ]


def _spoilt(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Errors of what is clean, of each corruption over its severities, and means of several."""
    means, count = summary["corruption_means"], summary["samples"]
    found = {"clean": summary["clean"], **means["corruptions"]}
    if len(means["groups"]) > 1:
        found |= {f"mean of {group}": mean for group, mean in means["groups"].items()}
    found["mean of all"] = means["all"]
    return [
        (
            *(name, percent(1 - entry["accuracy"], count), corrupted.errors_of(entry, count)),
            "" if entry["nll"] is None else f"{entry['nll']:.3f}",
            percent(entry["calibration"], count),
        )
        for name, entry in found.items()
    ]


def _of_severity(run: Run, severity: str) -> int:
    return sum(finding.get("severity") == severity for finding in run.findings)


def _findings(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The gravest first, each with what is to be done about it."""
    ordered = sorted(findings, key=lambda finding: RANKS.get(str(finding.get("severity")), 2))
    shown = []
    for finding in ordered[:SHOWN]:
        severity = str(finding.get("severity", "unknown severity"))
        head = _text(f"{severity}: {finding.get('code', 'unnamed')}")
        what = _text(f"{finding.get('what', '')}")
        remedy = _text(f"{finding.get('remedy', '')}")
        shown.append(_edged(severity, f"{head}<br>{what}" + (f"<br>→ {remedy}" if remedy else "")))
    if len(ordered) > SHOWN:
        shown.append(f"<p>{len(ordered) - SHOWN} more findings are in findings.json.</p>")
    return shown


def _box(parts: Iterable[str]) -> str:
    return f'<div style="{BOX}">{"".join(parts)}</div>'


def _edged(severity: str, inner: str) -> str:
    edge = EDGES.get(severity, "#7f8c8d")
    return (
        f'<div style="border-left:4px solid {edge};padding:.2em .8em;margin:.5em 0">{inner}</div>'
    )


def _table(caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is of names, the others of numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        shown = []
        for place, cell in enumerate(cells):
            head = tag == "th" or place == 0
            scope = "col" if tag == "th" else "row"
            style = f"padding:.15em .7em;font-weight:{600 if tag == 'th' else 400};background:none;"
            style += NUMBERS if place else "text-align:left"
            opened = f'th scope="{scope}"' if head else "td"
            shown.append(f'<{opened} style="{style}">{_text(cell)}</{"th" if head else "td"}>')
        return f'<tr style="border-top:1px solid {LINE};background:none">{"".join(shown)}</tr>'

    return (
        '<table style="border-collapse:collapse;border:0;margin:.5em 0;color:inherit">'
        f'<caption style="caption-side:top;text-align:left;color:inherit">{_text(caption)}'
        f"</caption><thead>{line(headers, 'th')}</thead>"
        f"<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
    )


def _setting(run: Run, label: str = "") -> str:
    """What was evaluated on which data, and against what."""
    against = f"in {_fact(run, 'threat')}"
    if run.summary.get("corruption_means"):
        against = "under common corruptions"
    return (
        f"{label or code_named(_fact(run, 'model'))} on {data_named(_fact(run, 'data'))} {against}"
    )


def _label(run: Run) -> str:
    """What was evaluated."""
    if run.summary.get("title"):
        return str(run.summary["title"])
    model, defense = code_named(_fact(run, "model")), code_named(_fact(run, "defense"))
    return model if defense in ("", "none", "identity") else f"{model} with {defense}"


def _fact(run: Run, name: str) -> str:
    value = run.summary.get(name)
    value = run.spec.get(name) if value is None else value
    if isinstance(value, Mapping):
        settings = {key: entry for key, entry in value.items() if key != "name"}
        return str(Component(str(value.get("name", "")), settings))
    return str(value or f"unnamed {name}") if name != "defense" else str(value or "")


def _stated(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    return f"{_percent(entry, summary)} % (95 % interval {_interval(entry, summary)} %)"


def _percent(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """An accuracy in per cent; ``least to most`` where a budget left samples open."""
    most = entry.get("accuracy_high")
    open_ones = entry.get("unfinished") and most is not None
    ends = [entry["accuracy"], most] if open_ones else [entry["accuracy"]]
    return " to ".join(percent(end, _count(entry, summary)) for end in ends)


def _interval(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    count = _count(entry, summary)
    return f"{percent(entry['low'], count)} to {percent(entry['high'], count)}"


def _count(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> int:
    """Samples that an accuracy is of."""
    return int(entry.get("samples") or summary["samples"])


def _passes(entry: Mapping[str, Any]) -> str:
    if "forwards" not in entry:
        return ""
    return f"{entry['forwards'] + entry.get('backwards', 0):,}"


def _text(value: str, longest: int = LONGEST) -> str:
    """Text from a folder, so that it is nothing but text."""
    return html.escape(_plain(value, longest))


def _plain(value: str, longest: int = LONGEST) -> str:
    """One line of not too many characters, none of which controls what stands beside it."""
    line = "".join(
        mark if unicodedata.category(mark)[0] not in "CZ" else " " for mark in value[:longest]
    )
    return f"{line}.." if len(value) > longest else line
