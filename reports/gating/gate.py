"""The verdict of a gate in a build: a run keeps what it must, and has lost nothing, or it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from robustcode.errors import ConfigError
from robustcode.reports.escape import plain
from robustcode.reports.gating.asked import Allowed, Asked
from robustcode.reports.gating.baseline import Loss, losses
from robustcode.reports.gating.measured import Measured, measured
from robustcode.reports.gating.refusals import refuse_altered, refuse_itself, refuse_part
from robustcode.reports.source import Source, sources
from robustcode.statistics import proportion
from robustcode.store import Run
from robustcode.summary import tally
from robustcode.wording import counted

# Decimals of a percentage at which two that differ are told apart, for the sake of a reader.
DECIMALS = range(1, 13)
FINDINGS = "findings"  # the name of the condition that they are looked at for
# An unknown severity is taken for the gravest.
GRAVITY = {"info": 0, "warning": 1, "failure": 2}
UNKNOWN = 3
LIMITS = {Allowed.NONE: 0, Allowed.WARNING: 1, Allowed.FAILURE: 2}


@dataclass(frozen=True)
class Condition:
    """One thing that was asked of a run, and whether it holds.

    Attributes:
        name: what was asked, the same for every run.
        holds: whether the run passes it.
        said: a clause with the figures in it.
        figures: the figures by name.
    """

    name: str
    holds: bool
    said: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LetThrough:
    """A finding that takes something from the numbers and does not fail the gate."""

    severity: str
    code: str
    what: str

    @property
    def said(self) -> str:
        """The finding on one line."""
        return f"{self.severity} {self.code}: {self.what}"


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a run: all that was asked, and the sentence that decides."""

    run: Run
    conditions: tuple[Condition, ...]
    let_through: tuple[LetThrough, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the run passes."""
        return not self.failed

    @property
    def failed(self) -> tuple[Condition, ...]:
        """The conditions that do not hold."""
        return tuple(condition for condition in self.conditions if not condition.holds)

    @property
    def decisive(self) -> Condition:
        """The first that does not hold, or the first of all: what the sentence tells."""
        return (self.failed or self.conditions)[0]

    @property
    def outcome(self) -> str:
        """Whether it passes, in how many conditions of how many."""
        count = len(self.conditions)
        if self.holds:
            return f"passes the gate, {count} of {count}"
        return f"fails the gate, {len(self.failed)} of {count}"

    @property
    def sentence(self) -> str:
        """That it passes, or the first thing in which it does not."""
        return f"{plain(str(self.run.path))} {self.outcome}: {self.decisive.said}."

    def plain(self) -> dict[str, Any]:
        """The verdict as JSON holds it."""
        return {
            "schema": 1,
            "run": str(self.run.path),
            "holds": self.holds,
            "sentence": self.sentence,
            "conditions": [
                {"name": c.name, "holds": c.holds, "said": c.said, "figures": dict(c.figures)}
                for c in self.conditions
            ],
            "let_through": [asdict(finding) for finding in self.let_through],
        }


def judge(run: Run, asked: Asked, baseline: Run | None = None) -> Verdict:
    """Hold a run against what is asked of it, and against an earlier run if one is given.

    ConfigError if nothing was asked, or what a run of its kind does not measure.
    """
    if not asked.minima and baseline is None:
        raise ConfigError(
            "nothing was asked of the run; give a minimum, such as 45% of worst-case accuracy, or "
            "a baseline"
        )
    source, *earlier = sources([run, *filter(None, [baseline])])
    refuse_part(source)
    refuse_altered(source)
    conditions = [_minimum(measured(source, what), least) for what, least in asked.minima.items()]
    for before in earlier:
        refuse_itself(source, before)
        refuse_part(before)
        conditions += [_no_loss(loss) for loss in losses(source, before, asked.alpha)]
    passed = _let_through(source, LIMITS[asked.allow_findings])
    conditions.append(_sound(source, LIMITS[asked.allow_findings], passed))
    return Verdict(run, tuple(replace(one, said=plain(one.said)) for one in conditions), passed)


def _minimum(found: Measured, least: float) -> Condition:
    low, asked = _apart(found.low, least)
    name = f"minimum of {found.what.noun}"
    figures = {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "minimum": least,
        "samples": found.samples,
    }
    if found.low >= least:
        said = f"{found.said} has its lower end at {low} %, not below the minimum of {asked} %"
        return Condition(name, True, said, figures)
    said = f"{found.said} has its lower end at {low} %, below the minimum of {asked} %"
    best = proportion(found.samples, found.samples).low
    if best < least:
        sure, asked = _apart(best, least)
        said += (
            f", which {counted(found.samples, 'sample')} cannot show: with all of them right the "
            f"lower end is {sure} %, so take more"
        )
    return Condition(name, False, said, figures)


def _apart(first: float, second: float) -> tuple[str, str]:
    """Two shares in per cent, with as many decimals as it takes to see which is larger.

    >>> _apart(0.44996, 0.45)
    ('44.996', '45.000')
    """
    told = ("", "")
    for decimals in DECIMALS:
        told = (f"{100 * first:.{decimals}f}", f"{100 * second:.{decimals}f}")
        if told[0] != told[1] or first == second:
            break
    return told


def _no_loss(loss: Loss) -> Condition:
    figures = {
        "difference": loss.gap.value,
        "low": loss.gap.low,
        "high": loss.gap.high,
        "alpha": loss.alpha,
        "samples": loss.samples,
        "p_value": loss.p_value,
    }
    name = f"no significant loss of {loss.what.noun}"
    return Condition(name, not loss.significant, loss.said, figures)


def _sound(source: Source, limit: int, passed: tuple[LetThrough, ...]) -> Condition:
    """Whether no finding is graver than the limit; see GRAVITY."""
    graver = [finding for finding in source.run.findings if _gravity(finding) > limit]
    figures = {"findings": len(graver), "let_through": len(passed)}
    if not graver:
        severities = ["failure or warning", "failure", ""][limit]
        said = f"no finding of severity {severities}" if severities else "no finding is looked at"
        if passed:
            said += f", and {tally(one.severity for one in passed)} let through"
        return Condition(FINDINGS, True, said, figures)
    first = min(graver, key=lambda finding: -_gravity(finding))
    told = plain(f"{first.get('severity')} {first.get('code')}: {first.get('what')}").rstrip(". ")
    more = f" (and {len(graver) - 1} more)" if len(graver) > 1 else ""
    said = f"its numbers are not to be relied on{more}, {told}"
    if limit == 0:
        said = f"the evidence for its numbers is weakened{more}, {told}"
    return Condition(FINDINGS, False, said, figures)


def _let_through(source: Source, limit: int) -> tuple[LetThrough, ...]:
    """What weakens the evidence as far as the limit, the gravest first."""
    found = [finding for finding in source.run.findings if 0 < _gravity(finding) <= limit]
    return tuple(
        LetThrough(*(plain(str(finding.get(key) or "")) for key in ("severity", "code", "what")))
        for finding in sorted(found, key=lambda finding: -_gravity(finding))
    )


def _gravity(finding: Mapping[str, Any]) -> int:
    return GRAVITY.get(str(finding.get("severity")), UNKNOWN)
