"""How runs show themselves in a notebook: a fragment of HTML by itself, and one line of text.

The fragment takes text and paper from the page it stands on, so that it reads on light and on
dark; it holds no script and loads nothing.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robustcode.components import Component
from robustcode.verdicts import searches

if TYPE_CHECKING:
    from robustcode.store import Run

SHOWN = 8  # findings, before "and n more"
LONGEST = 300  # characters of a text from the folder
# Two decimals need a thousand samples: below, one sample moves the first decimal.
MANY = 1000
RANKS = {"failure": 0, "warning": 1, "info": 3}
# Colours that stand out on light and on dark; a word says the same.
EDGES = {"failure": "#c0392b", "warning": "#c77c02"}
LINE = "rgba(128,128,128,.45)"
NUMBERS = "text-align:right;font-variant-numeric:tabular-nums"
BOX = "font:14px/1.45 system-ui,sans-serif;color:inherit;max-width:60em"
NOTE = (
    "Attacks bound the true robust accuracy from above, certificates from below. Intervals are at "
    "95 % and speak of the draw of the samples."
)


def line_of(run: Run) -> str:
    """A run on one line of a console."""
    summary = run.summary
    parts = [f"{_fact(run, 'model')} on {_fact(run, 'data')} in {_fact(run, 'threat')}"]
    parts.append(f"{summary['samples']} samples")
    for name in ("clean", "robust", "certified"):
        if summary.get(name):
            parts.append(f"{name} {_percent(summary[name])} %")
    if summary["attacks"]:
        parts.append(_counted(len(summary["attacks"]), "attack"))
    if run.findings:
        parts.append(_counted(len(run.findings), "finding"))
    if run.gap is not None:
        parts.append(run.gap.said)
    return f"Run({str(run.path)!r}: {_plain(', '.join(parts))})"


def html_of(run: Run) -> str:
    """A run as a fragment of HTML: the verdict, the table, the findings."""
    missing = [] if run.gap is None else [_edged("warning", _text(run.gap.sentences))]
    end = "" if run.gap is None else f"; {run.gap.said}"
    caption = f"{_label(run)} on {_fact(run, 'data')} in {_fact(run, 'threat')}{end}"
    return _box(
        [
            f"<p>{_text(sentence_of(run))}</p>",
            *missing,
            *_findings(run.findings),
            _table(caption, ("what", "n", "accuracy, %", "95 % interval, %", "passes"), _rows(run)),
            f'<p style="opacity:.75">{_text(NOTE)}</p>',
            f'<p style="opacity:.75">{_text(str(run.path))}</p>',
        ]
    )


def curve_html(path: str, points: Sequence[Mapping[str, Any]], left: int) -> str:
    """Runs under ascending eps as a fragment of HTML; ``left`` were asked for and not begun."""
    rows = [
        (
            *(str(point["threat"]), f"{point['samples']:,}", _percent(point["clean"])),
            *(_percent(point["robust"]), _interval(point["robust"]), f"{point['passes']:,}"),
        )
        for point in points
    ]
    headers = ("threat", "n", "clean, %", "worst case, %", "95 % interval, %", "attacks' passes")
    kept = ", ".join(f"{row[3]} % at {row[0]}" for row in rows)
    more = f" {_counted(left, 'threat')} not begun." if left else ""
    return _box(
        [
            f"<p>{_text(f'Keeps {kept}.{more}')}</p>",
            _table("Accuracy as eps grows", headers, rows),
            f'<p style="opacity:.75">{_text(path)}</p>',
        ]
    )


def sentence_of(run: Run) -> str:
    """What the run says, in one sentence."""
    summary, label = run.summary, _label(run)
    count = _counted(summary["samples"], "sample")
    parts = []
    if run.spec.get("command") != "certify":
        parts.append(f"classifies {_percent(summary['clean'])} % correctly")
    if summary.get("robust") and summary["attacks"]:
        tried = searches(summary["attacks"])
        worst = f"the worst of {_counted(len(tried), 'attack')}"
        if not tried:
            worst = "random noise alone, which is no attack"
        if summary.get("proved"):
            worst += f" ({_counted(summary['proved'], 'sample')} taken for proved, not attacked)"
        parts.append(f"keeps {_stated(summary['robust'])} under {worst}")
    if summary.get("certified"):
        proved = summary["certified"]
        parts.append(f"is certified by {proved['method']} for {_stated(proved)}")
    if summary.get("stochastic"):
        parts.append(
            f"is random, so that these are means of {summary['stochastic']['draws']} draws"
        )
    said = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
    threat = _fact(run, "threat")
    return f"On {count} of {_fact(run, 'data')} in {threat}, {label} {said}."


def _rows(run: Run) -> list[tuple[str, ...]]:
    summary = run.summary
    found = [("clean", summary["clean"])]
    for attack in summary["attacks"]:
        after = attack.get("after") and not summary.get("stochastic")
        found.append((f"after {attack['name']}" if after else attack["name"], attack))
    if summary.get("robust") and summary["attacks"]:
        found.append(("worst case over all attacks", summary["robust"]))
    if summary.get("certified"):
        found.append((f"certified: {summary['certified']['method']}", summary["certified"]))
    return [
        (
            *(name, f"{entry.get('samples') or summary['samples']:,}"),
            *(_percent(entry), _interval(entry), _passes(entry)),
        )
        for name, entry in found
    ]


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


def _label(run: Run) -> str:
    """What was evaluated."""
    if run.summary.get("title"):
        return str(run.summary["title"])
    model, defense = _fact(run, "model"), _fact(run, "defense")
    return model if defense in ("", "none", "identity") else f"{model} with {defense}"


def _fact(run: Run, name: str) -> str:
    value = run.summary.get(name)
    value = run.spec.get(name) if value is None else value
    if isinstance(value, Mapping):
        settings = {key: entry for key, entry in value.items() if key != "name"}
        return str(Component(str(value.get("name", "")), settings))
    return str(value or f"unnamed {name}") if name != "defense" else str(value or "")


def _stated(entry: Mapping[str, Any]) -> str:
    return f"{_percent(entry)} % (95 % interval {_interval(entry)} %)"


def _percent(entry: Mapping[str, Any]) -> str:
    """An accuracy in per cent; ``least to most`` where a budget left samples open."""
    most = entry.get("accuracy_high")
    open_ones = entry.get("unfinished") and most is not None
    ends = [entry["accuracy"], most] if open_ones else [entry["accuracy"]]
    return " to ".join(_share(end, entry) for end in ends)


def _interval(entry: Mapping[str, Any]) -> str:
    return f"{_share(entry['low'], entry)} to {_share(entry['high'], entry)}"


def _share(value: float, entry: Mapping[str, Any]) -> str:
    # How many samples there are follows from the accuracy, where it is not said.
    correct, accuracy = entry.get("correct", 0), entry["accuracy"]
    count = entry.get("samples") or (correct / accuracy if accuracy else 0)
    return f"{100 * value:.{2 if math.isfinite(count) and count >= MANY else 1}f}"


def _passes(entry: Mapping[str, Any]) -> str:
    if "forwards" not in entry:
        return ""
    return f"{entry['forwards'] + entry.get('backwards', 0):,}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _text(value: str) -> str:
    """Text from a folder, so that it is nothing but text."""
    return html.escape(_plain(value))


def _plain(value: str) -> str:
    """One line of not too many characters, none of which controls what stands beside it."""
    line = "".join(
        mark if unicodedata.category(mark)[0] not in "CZ" else " " for mark in value[:LONGEST]
    )
    return f"{line}.." if len(value) > LONGEST else line
