"""What is asked of a run that goes through a gate, as it stands on a command line or in a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from robustcode.components import convert, number
from robustcode.errors import ConfigError
from robustcode.reports.gating.measured import What


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
        alpha: of the tests against a baseline, two-sided; see baseline.Loss.significant.
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
        level(self.alpha, "alpha")

    @property
    def minima(self) -> dict[What, float]:
        """What each accuracy must not fall below, of those that are asked for."""
        found = {
            What.ROBUST: self.min_robust,
            What.CERTIFIED: self.min_certified,
            What.CLEAN: self.min_clean,
        }
        return {what: least for what, least in found.items() if least is not None}


def asked_of(
    minima: Mapping[str, Any], alpha: Any, allow_findings: str, *, typed: bool = False
) -> Asked:
    """What is asked from numbers or text; see Asked.

    What is wrong is called by its name in Python, or as it was ``typed`` on a command line.
    """

    def called(name: str) -> str:
        return f"--{name.replace('_', '-')}" if typed else name

    read = {name: share(value, called(name)) for name, value in minima.items() if value is not None}
    gravest = convert(allow_findings, Allowed, called("allow_findings"))
    return Asked(**read, alpha=level(alpha, called("alpha")), allow_findings=gravest)


def share(value: Any, name: str) -> float:
    """A share in [0, 1] from a number or from text: ``.45``, ``0.45`` or ``45%``.

    >>> share("45%", "min_robust"), share(".45", "min_robust")
    (0.45, 0.45)
    """
    found = _fraction(value, name, "write 45% or 0.45")
    if not 0 <= found <= 1:  # which nan is not, either
        meant = 1 < found <= 100 and not _in_percent(value)
        hint = "write 45% or 0.45"
        if meant:
            hint = f"was it a percentage? Then write {found:g}% or {found / 100:g}"
        raise ConfigError(f"{name} = {value} is not a share between 0 and 1; {hint}")
    return found


def level(value: Any, name: str) -> float:
    """The probability of a false alarm, above 0 and below 1, from a number or from text."""
    usual = "write 0.05 or 5% for one loss in twenty that is none"
    found = _fraction(value, name, usual)
    # So small that 1 less it is 1, it leaves no interval.
    if not 0 < found < 1 or 1 - found == 1:
        raise ConfigError(f"{name} = {value} is not a probability between 0 and 1; {usual}")
    return found


def _fraction(value: Any, name: str, remedy: str) -> float:
    in_percent = _in_percent(value)
    try:
        found = number(value.strip()[:-1] if in_percent else value, name)
    except ConfigError:
        raise ConfigError(f"{name} = {value!r} is not a number; {remedy}") from None
    return found / 100 if in_percent else found


def _in_percent(value: Any) -> bool:
    return isinstance(value, str) and value.strip().endswith("%")
