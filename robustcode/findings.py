"""Checks that weaken the evidence: what is wrong, by which figures, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding takes from the numbers above it."""

    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check that did not pass.

    Attributes:
        code: stable name of the check, e.g. ``zero-gradient``.
        severity: info, warning or failure.
        what: one sentence with the figures in it.
        remedy: one sentence: what to do.
        figures: the measured numbers by name.
        samples: the samples concerned, by index in the split.
    """

    code: str
    severity: Severity
    what: str
    remedy: str
    figures: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the defence is, as tested; attacks, judge and suites go by these.

    Attributes:
        stochastic: two draws can differ.
        differentiable: ``logits`` has a gradient that is not zero everywhere.
        batch_coupled: as declared.
        classes: width of the logits.
    """

    stochastic: bool
    differentiable: bool
    batch_coupled: bool
    classes: int
