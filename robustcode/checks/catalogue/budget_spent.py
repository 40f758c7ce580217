"""Attacks were stopped before their end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustcode.budget import Limit
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.results import Results
from robustcode.findings import Finding, Severity


@CHECKS.register("budget-spent")
class BudgetSpent(Check):
    """Attacks were stopped before their end.

    Raised when max_passes or max_seconds left samples that no attack broke and that some attack
    was not finished on, or not begun on.

    Why it matters: of these samples nothing is known, so the robust accuracy is only known to lie
    in an interval.

    What to do: give more.

    False alarms: none; samples are counted.
    """

    code = "budget-spent"
    group = Group.RESULTS
    says = "every attack came to its end"

    def review(self, results: Results) -> Iterator[Finding]:
        """See Check.review."""
        for one in results.stopped:
            yield budget_spent(
                one.limit, one.value, one.samples, one.never_begun, results.asked, one.idle
            )


def budget_spent(
    limit: Limit,
    value: float,
    samples: Sequence[int],
    never_begun: int,
    asked: int,
    idle: bool = False,
) -> Finding:
    """The finding of BudgetSpent; ``never_begun`` samples have not even a clean prediction."""
    what = f"{len(samples) + never_begun} of {asked} samples were not attacked to the end"
    if limit is Limit.PASSES:
        passes = "1 pass" if value == 1 else f"{value:g} passes"
        what += f" with {passes} for each on average"
        remedy = (
            "give more passes, in another folder, or quote the interval: its low end counts them "
            "as broken, its high end as right"
        )
    else:
        what += f" in {value:g} second" + ("" if value == 1 else "s")
        what += f", {never_begun} of them not looked at at all" if never_begun else ""
        remedy = (
            "run the same command again with more time or without the limit: finished shards are "
            "kept, and the one in work is begun again"
        )
        if idle:
            remedy += (
                "; this time was too short for a single shard, so that as much again gets no "
                "further: give more, or a smaller batch size in another folder"
            )
    return Finding(
        code="budget-spent",
        severity=Severity.WARNING,
        what=what,
        remedy=remedy,
        figures={
            "unfinished": float(len(samples) + never_begun),
            "never_begun": float(never_begun),
            "samples": float(asked),
            f"max_{limit}": float(value),
        },
        samples=tuple(samples),
    )
