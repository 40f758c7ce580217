"""All checks of a pilot, and all checks of a run's records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from robustcode.checks.base import Check, Looked, Status, Untested
from robustcode.checks.catalogue import every
from robustcode.checks.examination import Examination
from robustcode.checks.results import Results
from robustcode.findings import Finding


@dataclass(frozen=True)
class Report:
    """What the checks found.

    Attributes:
        findings: in the order of the checks.
        looked: a line for each check that was asked.
    """

    findings: tuple[Finding, ...]
    looked: tuple[Looked, ...]


def examine(exam: Examination, checks: Iterable[Check] | None = None) -> Report:
    """Make ``checks`` of a pilot, all that look at one if None."""
    checks = [check for check in (every() if checks is None else checks) if check.examines()]
    findings: list[Finding] = []
    looked: list[Looked] = []
    for check in checks:
        ledger = exam.ledger
        before = int(ledger.forwards.sum()), int(ledger.backwards.sum())
        found: list[Finding] = []
        why, status = check.spared(exam), Status.SPARED
        if why is None:
            try:
                found = [finding for finding in check.examine(exam) if finding is not None]
            except Untested as cause:
                why, status = str(cause), Status.UNTESTED
        if check.of_the_attack and found and not exam.planned:
            found = [_of_the_pilot(finding, check, exam) for finding in found]
        passes = {
            "forwards": int(ledger.forwards.sum()) - before[0],
            "backwards": int(ledger.backwards.sum()) - before[1],
        }
        looked.append(
            Looked.at(check, found, **passes)
            if why is None
            else Looked.not_made(check, status, why, **passes)
        )
        findings += found
    return Report(tuple(findings), tuple(looked))


def review(results: Results) -> Report:
    """Make all checks that look at records."""
    findings: list[Finding] = []
    looked: list[Looked] = []
    for check in every():
        if not check.reviews():
            continue
        try:
            found = [finding for finding in check.review(results) if finding is not None]
        except Untested as cause:
            looked.append(Looked.not_made(check, Status.UNTESTED, str(cause)))
            continue
        looked.append(Looked.at(check, found))
        findings += found
    return Report(tuple(findings), tuple(looked))


def together(first: Iterable[Looked], second: Iterable[Looked]) -> list[Looked]:
    """The lines of both stages; a check that looked at both has the graver one."""
    order, lines = list(Status), {line.code: line for line in first}
    for line in second:
        other = lines.get(line.code, line)
        graver = max(other, line, key=lambda one: order.index(Status(one.status)))
        lines[line.code] = replace(graver, forwards=other.forwards, backwards=other.backwards)
    codes = [check.code for check in every()]
    return sorted(lines.values(), key=lambda line: codes.index(line.code))


def said_again(lines: Iterable[Looked], findings: Iterable[Finding]) -> list[Looked]:
    """The lines of checks, with what is said of their findings by now."""
    by_code = {finding.code: finding for finding in findings}
    return [
        replace(line, status=str(found.severity), said=found.what)
        if (found := by_code.get(line.code)) is not None
        else line
        for line in lines
    ]


def _of_the_pilot(finding: Finding, check: Check, exam: Examination) -> Finding:
    """The finding, said of a pilot that the plan does not contain."""
    return replace(
        finding,
        what=f"in a pilot of PGD with {exam.attack.steps} steps, {finding.what}",
        remedy=check.otherwise or finding.remedy,
    )
