"""The true error of a stopping rule, computed: does it keep the alpha that it names?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from robustcode.components import Component
from robustcode.stopping import peers as _peers  # noqa: F401 - registers those of others
from robustcode.stopping import table as _table  # noqa: F401 - registers that of a file
from robustcode.stopping.boundaries import check
from robustcode.stopping.rules import RULES as RULES

# What rounding may put a computed error off by, as a share of alpha.
ROUNDING = 1e-6
# Where mean draws are told, as shares of the way from p0 to 1: a stream that is hardly worth it,
# one that is, and one that is far above.
PLACES = (0.25, 0.5, 0.75)


class Outcome(StrEnum):
    """Whether a rule's error is within its alpha."""

    HOLDS = "holds"
    EXCEEDS = "exceeds alpha"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a rule really does, for one p0 and alpha.

    Attributes:
        rule: as it was named, ``NAME:key=value,..``.
        probability: p0, that of which certification says that it is exceeded.
        alpha: probability with which the rule says that this is false at most.
        most: draws of one stream at most.
        error: probability with which it is false where the truth is p0 itself.
        draws: mean draws by the true probability of the stream, p0 first.
        power: probability of certification, likewise.
    """

    rule: str
    probability: float
    alpha: float
    most: int
    error: float
    draws: dict[float, float]
    power: dict[float, float]

    @property
    def share(self) -> float:
        """The error in units of alpha: 1 where all that is allowed is made use of."""
        return self.error / self.alpha

    @property
    def outcome(self) -> Outcome:
        """Whether the error is within alpha."""
        return Outcome.HOLDS if self.share <= 1 + ROUNDING else Outcome.EXCEEDS


def audit(text: str, probability: float, alpha: float = 0.001, draws: int | None = None) -> Audit:
    """The exact error of a rule, named as ``NAME:key=value,..`` of ``RULES``.

    It is that at ``probability`` itself, computed from the distribution of the stream and not
    simulated; for a rule given by boundaries none is larger at a smaller probability. ``draws`` are
    the most that one stream may take; where left out, as many as the rule's authors make.
    """
    check(probability, alpha)
    component = Component.parse(text)
    rule = component.build(RULES, "rule")
    most = rule.most if draws is None else draws
    check(probability, alpha, most)
    examined = rule.examined(probability, alpha, most)
    truths = [probability, *(probability + place * (1 - probability) for place in PLACES)]
    power = {truth: examined.power(truth) for truth in truths}
    return Audit(
        rule=str(component),
        probability=probability,
        alpha=alpha,
        most=most,
        error=power[probability],
        draws={truth: examined.draws(truth) for truth in truths},
        power=power,
    )
