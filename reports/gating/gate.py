"""The verdict of a gate in a build: a run keeps what it must, and has lost nothing, or it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from robustcode.components import convert, number
from robustcode.errors import ConfigError
from robustcode.reports.escape import plain
from robustcode.reports.gating.baseline import Loss, losses
from robustcode.reports.gating.measured import Measured, What, measured
from robustcode.reports.gating.refusals import refuse_altered, refuse_itself, refuse_part
from robustcode.reports.grids import counted
from robustcode.reports.table import Source, sources
from robustcode.statistics import proportion
from robustcode.store import Run

# Decimals of a percentage at which two that differ are told apart, for the sake of a reader.
DECIMALS = range(1, 13)


class Allowed(StrEnum):
    """The gravest findings that a gate lets pass; an info takes nothing from a number."""

    FAILURE = "failure"
    WARNING = "warning"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run must keep to pass, as shares in [0, 1] or None where nothing is asked.

    Attributes:
        min_robust: the least that the lower end of the worst case's 95 % interval may be.
        min_clean: likewise of clean accuracy.
        min_certified: likewise of certified accuracy.
        alpha: of the tests against a baseline, two-sided; see losses.Loss.significant.
        allow_findings: see Allowed. By default a finding that says not to rely on the numbers fails
            the gate, since then there is no number to hold against a minimum.
    """

    min_robust: float | None = None
    min_clean: float | None = None
    min_certified: float | None = None
    alpha: float = 0.05
    allow_findings: Allowed = Allowed.WARNING

    def __post_init__(self) -> None:
        for name in ("min_robust", "min_clean", "min_certified"):
            value = getattr(self, name)
            if value is not None:
                share(value, name)
        # So small that 1 less it is 1, it leaves no interval.
        if not 0 < self.alpha < 1 or 1 - self.alpha == 1:
            raise ConfigError(
                f"alpha = {self.alpha:g} is not between 0 and 1; write 0.05 or 5% for one loss in "
                "twenty that is none"
            )

    @property
    def minima(self) -> dict[What, float]:
        """What each accuracy must not fall below, of those that are asked for."""
        found = {
            What.ROBUST: self.min_robust,
            What.CERTIFIED: self.min_certified,
            What.CLEAN: self.min_clean,
        }
        return {what: least for what, least in found.items() if least is not None}


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
class Verdict:
    """What a gate says of a run: all that was asked, and the sentence that decides."""

    run: Run
    conditions: tuple[Condition, ...]

    @property
    def holds(self) -> bool:
        """Whether the run passes."""
        return all(condition.holds for condition in self.conditions)

    @property
    def sentence(self) -> str:
        """That it passes, or the first thing in which it does not."""
        path, count = plain(str(self.run.path)), len(self.conditions)
        if self.holds:
            return f"{path} passes the gate, {count} of {count}: {self.conditions[0].said}."
        failed = [condition for condition in self.conditions if not condition.holds]
        return f"{path} fails the gate, {len(failed)} of {count}: {failed[0].said}."

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
        }


def share(value: Any, name: str) -> float:
    """A share in [0, 1] from a number or from text: ``.45``, ``0.45`` or ``45%``.

    >>> share("45%", "min_robust"), share(".45", "min_robust")
    (0.45, 0.45)
    """
    text = value.strip() if isinstance(value, str) else value
    in_percent = isinstance(text, str) and text.endswith("%")
    found = number(text[:-1] if in_percent else text, name)
    if in_percent:
        found /= 100
    if not 0 <= found <= 1:  # which nan is not, either
        meant = 1 < found <= 100 and not in_percent
        hint = f"was it a percentage? Then write {found:g}%" if meant else "write 45%"
        raise ConfigError(f"{name} = {value} is not a share between 0 and 1; {hint} or 0.45")
    return found


def asked_of(minima: Mapping[str, Any], alpha: Any, allow_findings: str) -> Asked:
    """What is asked from numbers or text, as they stand on a command line; see Asked."""
    read = {name: share(value, name) for name, value in minima.items() if value is not None}
    gravest = convert(allow_findings, Allowed, "allow_findings")
    return Asked(**read, alpha=share(alpha, "alpha"), allow_findings=gravest)


def judge(run: Run, asked: Asked, baseline: Run | None = None) -> Verdict:
    """Hold a run against what is asked of it, and against an earlier run if one is given.

    ConfigError if nothing was asked, or what a run of its kind does not measure.
    """
    if not asked.minima and baseline is None:
        raise ConfigError(
            "nothing was asked of the run; give a minimum, such as --min-robust 45%, or --baseline"
        )
    source, *earlier = sources([run, *filter(None, [baseline])])
    refuse_part(source)
    refuse_altered(source)
    conditions = [_minimum(measured(source, what), least) for what, least in asked.minima.items()]
    for before in earlier:
        refuse_itself(source, before)
        refuse_part(before)
        conditions += [_no_loss(loss) for loss in losses(source, before, asked.alpha)]
    conditions.append(_sound(source, asked.allow_findings))
    return Verdict(run, tuple(replace(one, said=plain(one.said)) for one in conditions))


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
    verdict = "a loss" if loss.significant else "no loss"
    figures = {
        "difference": loss.gap.value,
        "low": loss.gap.low,
        "high": loss.gap.high,
        "alpha": loss.alpha,
        "samples": loss.samples,
        **({} if loss.p_value is None else {"p_value": loss.p_value}),
    }
    said = f"{loss.said}, {verdict} at alpha = {loss.alpha:g}"
    return Condition(f"no loss of {loss.what.noun}", not loss.significant, said, figures)


def _sound(source: Source, allowed: Allowed) -> Condition:
    """Whether no finding is graver than allowed; one of unknown severity is taken for a failure."""
    known = {"info": 0, "warning": 1, "failure": 2}
    limit = {Allowed.NONE: 0, Allowed.WARNING: 1, Allowed.FAILURE: 2}[allowed]
    graver = [f for f in source.run.findings if known.get(str(f.get("severity")), 3) > limit]
    words = "failure" if limit else "failure or warning"
    if not graver:
        said = f"no finding of severity {words}" if limit < 2 else "findings are not looked at"
        return Condition("findings", True, said, {"findings": 0})
    first = min(graver, key=lambda f: -known.get(str(f.get("severity")), 3))
    told = plain(f"{first.get('severity')} {first.get('code')}: {first.get('what')}").rstrip(". ")
    more = f" (and {len(graver) - 1} more)" if len(graver) > 1 else ""
    said = f"its numbers are not to be relied on{more}, {told}"
    if limit == 0:
        said = f"the evidence for its numbers is weakened{more}, {told}"
    return Condition("findings", False, said, {"findings": len(graver)})
