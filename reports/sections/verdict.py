"""The verdict of a report: what a reader must know, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from robustcode.reports.comparison.comparable import doubt_of
from robustcode.reports.comparison.compare import Comparison
from robustcode.reports.grids import (
    counted,
    first_of,
    listed,
    percent,
    setting_of,
    stated,
)
from robustcode.reports.sections.findings import Weakness
from robustcode.reports.source import Source
from robustcode.reports.table import Row
from robustcode.wording import DOUBTS

NAMED = 4  # runs at which a verdict no longer names those that are concerned


def verdict(source: Source, rows: Sequence[Row]) -> str:
    """One run of attacks in one sentence."""
    clean, worst, proof = (first_of(rows, kind) for kind in ("clean", "worst case", "certified"))
    parts = []
    if clean:
        looked_at = source.run.summary.get("samples")
        # A time limit may end a run before each sample was looked at.
        of = f" of the {clean.samples} looked at" if clean.samples != looked_at else ""
        parts.append(f"classifies {percent(clean.value, clean.samples)} %{of} correctly")
    if worst:
        parts.append(f"keeps {stated(worst)} {_under(source, worst)}")
    if proof:
        parts.append(f"is certified for {stated(proof)}")
    if source.draws:
        parts.append(f"is random, so that these are expectations over {source.draws} draws")
    said = listed(parts) or "was not measured"
    count = source.run.summary.get("samples") or 0
    looked = f"{counted(count, 'sample')} of {source.data}"
    if not (tested := source.run.pilot_of):
        return f"On {looked}, {source.label} {said}."
    looked = f"{count} of the {tested} samples of {source.data}, spread over all"
    after = "This is a test of the evaluation, not yet the evaluation."
    return f"On {looked}, {source.label} {said}. {after}"


def _under(source: Source, worst: Row) -> str:
    """What a worst case was kept under, and what of it nobody had to classify or attack."""
    threat, kept = source.fact("threat"), []
    attacks = f"the worst of {counted(len(source.searches), 'attack')}"
    if source.suite:
        attacks = f"{attacks} of {source.suite}"
    if not source.searched:
        attacks = "random noise alone, which is no attack,"
    if refused := (source.run.summary.get("detector") or {}).get("attacked_refused"):
        kept.append(f"{percent(refused, worst.samples)} points of it by refusals")
    if proved := source.run.summary.get("proved"):
        kept.append(f"{counted(proved, 'sample')} taken for proved and not attacked")
    return f"under {attacks} in {threat}" + (f" ({', '.join(kept)})" if kept else "")


def group_verdict(group: Comparison, rows: dict[str, list[Row]]) -> list[str]:
    """Several runs that may be compared, in one sentence, and one that weakens it."""
    if len(group.members) == 1:
        return [verdict(group.members[0], rows[group.members[0].label])]
    # What only noise was tried on is not held against what was attacked.
    attacked = {member.label for member in group.members if member.searched}
    worst = [row for row in group.rows if row.kind == "compared worst case" and row.run in attacked]
    setting = (
        f"On the same {counted(len(group.samples), 'sample')} of {setting_of(group.members[0])}"
    )
    suites = {member.suite for member in group.members if member.searched}
    if len(suites) == 1 and (suite := suites.pop()):
        setting = f"{setting}, attacked by {suite}"
    if len(worst) < 2:
        return [f"{setting}, fewer than two of the runs were attacked."]
    best, least = (pick(worst, key=lambda row: row.value or 0) for pick in (max, min))
    doubt = [said] if (said := doubt_of(group.members)) else []
    if best.value == least.value:
        same = f"all attacked runs keep the same worst-case accuracy, {stated(best)}"
        return [f"{setting}, {same}.", *doubt]
    first, last = ([row.run for row in worst if row.value == end.value] for end in (best, least))
    sentence = (
        f"{setting}, {_listed(first)} {'keeps' if len(first) == 1 else 'keep'} the highest "
        f"worst-case accuracy, {stated(best)}, and {_listed(last)} the lowest, {stated(least)}; "
        f"{_told_apart(group, best.run, least.run)}."
    )
    return [sentence, *doubt]


def _told_apart(group: Comparison, best: str, least: str) -> str:
    """What the paired tests say of the highest and of the lowest of several runs."""
    two = len(group.contrasts) == 1
    if not any(contrast.resolved for contrast in group.contrasts):
        return f"these samples {'do not tell the two' if two else 'tell no two of them'} apart"
    if two:
        return "these samples tell the two apart"
    others, lower = group.unresolved(best), group.unresolved(least)
    said = f"tell {best} from every other run"
    if others:
        said = f"do not tell {best} from {_listed(others)}"
    if lower:
        said += f", {'nor' if others else 'and do not tell'} {least} from {_listed(lower)}"
    return f"these samples {said}"


def _listed(names: Sequence[str]) -> str:
    """A, B and C; of many the first few and how many more."""
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return listed(names)


def not_begun(threats: Sequence[str]) -> str:
    """The threats of a curve that have no run."""
    if not threats:
        return ""
    were = "was" if len(threats) == 1 else "were"
    return (
        f"{', '.join(threats)} {were} not begun: the time limit of the curve was over; the same "
        "command with more time goes on."
    )


def warning(findings: Sequence[Weakness], runs: int) -> str:
    """The end of the verdict: what the reader must know before believing it, and of which runs."""
    for severity, said in DOUBTS.items():
        grave = [finding for finding in findings if finding.severity == severity]
        if grave:
            concerned = list(dict.fromkeys(finding.run for finding in grave))
            whose = "these numbers"
            if len(concerned) < min(runs, NAMED):
                whose = f"the numbers of {' and '.join(concerned)}"
            return f"{said.format(whose)}: {counted(len(grave), severity)} below."
    return ""
