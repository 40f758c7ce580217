"""An attack proposed nothing but the samples themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.results import Results
from robustcode.findings import Finding, Severity


@CHECKS.register("attack-stood-still")
class AttackStoodStill(Check):
    """An attack proposed nothing but the samples themselves.

    Raised when every proposal of an attack that was run to its end equals its sample, while it was
    given samples that stand.

    Why it matters: it has not searched, so what it left standing says nothing.

    What to do: look at its settings, and at the gradient findings.

    False alarms: none for attacks that return their last or best iterate; those that return the
    sample where they find nothing within eps are left out.
    """

    code = "attack-stood-still"
    group = Group.RESULTS
    says = "every attack moved its samples"

    def review(self, results: Results) -> Iterator[Finding]:
        """See Check.review."""
        if results.threat.eps > 0:
            minimal = {p.name for p in results.attacks if p.attack.minimal}
            yield from stood_still(results.records, results.controls | minimal)


def stood_still(records: pd.DataFrame, may_stay: set[str]) -> list[Finding]:
    """The findings of AttackStoodStill; it is no wonder of the attacks that ``may_stay``."""
    asked = records[records.finished.astype(bool) & records.carried.isna()]
    asked = asked[~asked.proved.astype(bool) & (asked.clean_correct.astype(float) > 0)]
    findings = []
    for name, rows in asked.groupby("attack", sort=False):
        if name in may_stay or not (rows.distance == 0).all():
            continue
        findings.append(
            Finding(
                code="attack-stood-still",
                severity=Severity.WARNING,
                what=f"{name} moved none of the {len(rows)} samples it was given: every proposal "
                "is the sample itself",
                remedy="its accuracy says nothing about the defence: look at its settings (steps, "
                "step length, start) and at findings about the gradient",
                figures={"samples": float(len(rows))},
                samples=tuple(int(sample) for sample in rows["sample"]),
            )
        )
    return findings
