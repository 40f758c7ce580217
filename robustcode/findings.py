"""Checks that weaken the evidence: what is wrong, by which figures, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


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


def plain(finding: Finding) -> dict[str, Any]:
    """A finding as JSON holds it."""
    return {**asdict(finding), "severity": str(finding.severity)}


def in_order(findings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings as JSON holds them, the gravest first."""
    order = [Severity.FAILURE, Severity.WARNING, Severity.INFO]
    return sorted(findings, key=lambda finding: order.index(finding["severity"]))


def in_short(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a summary says of findings, without their figures and samples."""
    keys = ("code", "severity", "what", "remedy")
    return [{key: finding[key] for key in keys} for finding in findings]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the defence is, as tested; attacks, judge and suites go by these.

    Attributes:
        stochastic: two draws can differ.
        differentiable: ``logits`` has a gradient that is not zero everywhere.
        batch_coupled: a prediction depends on other inputs in its batch.
        classes: width of the logits.
        noise: of one draw's gradient, as a multiple of its signal; see gradients.gradient_noise.
        adversary: whom it faces, by name; see adversary.ADVERSARIES.
        stateful: calls see each other; see checks.state.
        remedies: attacks that a pilot showed to get further than the planned ones; see repair.
        detector: it may refuse to decide, and says so.
        lead: of a detector, the usual size of its top class's lead; see refusal.sizes_of.
        rejection: of a detector, the usual size of its rejection.
    """

    stochastic: bool
    differentiable: bool
    batch_coupled: bool
    classes: int
    noise: float = 0.0
    adversary: str = "solo"
    stateful: bool = False
    remedies: Sequence[str] = ()
    detector: bool = False
    lead: float = 1.0
    rejection: float = 1.0
