"""Findings as a report shows them, and what a summary and its records do not agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcode.reports.grids import listed
from robustcode.reports.sections.checks import explained_by
from robustcode.reports.source import Source, as_text
from robustcode.reports.table import tables
from robustcode.summary import ANSWERED

SHOWN = 12  # samples of a finding that are listed before "and n more"


@dataclass(frozen=True)
class Weakness:
    """A finding as it is shown.

    ``explained`` is the command that prints the page of its check; ``answered`` is whether an
    attack was added that makes it harmless, so that nothing is left to be done.
    """

    run: str
    code: str
    severity: str
    what: str
    remedy: str
    figures: str
    samples: str
    explained: str = ""
    answered: bool = False


def weaknesses(found: Iterable[Source]) -> tuple[Weakness, ...]:
    """Those of all runs, failures first; one of unknown severity stands before what reassures."""
    return by_severity(weakness for source in found for weakness in _weaknesses(source))


def by_severity(findings: Iterable[Weakness]) -> tuple[Weakness, ...]:
    """In the order in which a reader must see them."""
    rank = {"failure": 0, "warning": 1, "info": 3}
    return tuple(sorted(findings, key=lambda finding: rank.get(finding.severity, 2)))


def _weaknesses(source: Source) -> list[Weakness]:
    found = [_shown(source, finding) for finding in source.run.findings]
    for what, column in (("clean", "clean"), ("robust", "robust")):
        stated = (source.run.summary.get(what) or {}).get("accuracy")
        if stated is None or source.verdicts.empty or (column == "robust" and not source.attacks):
            continue
        of = len(source.verdicts) if column == "clean" else source.run.summary["samples"]
        counted = float(source.verdicts[column].sum()) / of
        # Both are means of the same numbers; only the order of summation may differ.
        if not np.isclose(stated, counted, rtol=0, atol=1e-9):
            text = f"summary.json says {what} accuracy {stated:.6g}, the records say {counted:.6g}."
            remedy = "Run the command again into another folder; one of the two files was altered."
            found.append(
                Weakness(source.label, "summary-disagrees", "failure", text, remedy, "", "")
            )
    return [*found, *_silenced(source), *_unattacked(source)]


def silenced(source: Source) -> list[str]:
    """The codes of what summary.json tells of and findings.json does not: one was altered.

    The summary lists findings with their severities, and the checks with how each went.
    """
    told = Counter(map(_graded, tables(source.run.findings)))
    said = Counter(map(_graded, tables(source.run.summary.get("findings"))))
    lost = [code for _, code in said - told]
    codes = {code for _, code in told}
    for line in tables(source.run.summary.get("checks")):
        if line.get("status") in ("failure", "warning") and str(line.get("code")) not in codes:
            lost.append(str(line.get("code")))
    return list(dict.fromkeys(lost))


def _graded(finding: Mapping[str, Any]) -> tuple[str, str]:
    return str(finding.get("severity")), str(finding.get("code"))


def _silenced(source: Source) -> list[Weakness]:
    lost = silenced(source)
    if not lost:
        return []
    what = f"summary.json tells of {listed(lost)}, findings.json does not in the same way."
    remedy = "Run the command again into another folder; one of the two files was altered."
    return [Weakness(source.label, "findings-disagree", "failure", what, remedy, "", "")]


def _unattacked(source: Source) -> list[Weakness]:
    """That nothing which was done to the samples could have shown them to break."""
    if source.searched or not source.attacks:
        return []
    what = (
        "Random noise, a control, was all that was tried: what it leaves says nothing of attacks."
    )
    remedy = "Attack with --suite quick, or better adaptive."
    return [Weakness(source.label, "no-attack", "failure", what, remedy, "", "")]


def _shown(source: Source, finding: dict[str, Any]) -> Weakness:
    samples = list(finding.get("samples") or [])
    more = f" and {len(samples) - SHOWN} more" if len(samples) > SHOWN else ""
    figures = finding.get("figures") or {}
    # Findings of before there were pages are shown as they were.
    paged = bool(source.run.summary.get("checks"))
    if paged and isinstance(figures, Mapping):
        figures = {name: _short(value) for name, value in figures.items()}
    code = str(finding.get("code", "unnamed"))
    what = str(finding.get("what", ""))
    severity = str(finding.get("severity", "unknown severity"))
    answered = severity == "info" and ANSWERED in what
    return Weakness(
        source.label,
        code,
        severity,
        _sentence(what),
        "" if answered else _sentence(str(finding.get("remedy", ""))),
        as_text(figures),
        f"{', '.join(map(str, samples[:SHOWN]))}{more}",
        explained_by(code) if paged else "",
        answered,
    )


def _short(value: Any) -> Any:
    """A number to four digits, which is what a reader takes in."""
    return f"{value:.4g}" if isinstance(value, float) else value


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
