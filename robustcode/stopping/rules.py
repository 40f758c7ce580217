"""What a stopping rule promises an audit, and our own ones by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

from robustcode.registry import Registry
from robustcode.stopping.anytime import anytime
from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.fixed import fixed
from robustcode.stopping.schedule import GROWTH, PATIENCE
from robustcode.stopping.sequential import sequential


class Examined(Protocol):
    """A rule for one p0 and alpha, whose ways to end can be summed up; ``Boundaries`` is one."""

    def power(self, probability: float) -> float:
        """Probability that a stream of that ``probability`` is certified."""
        ...

    def draws(self, probability: float) -> float:
        """How many draws such a stream takes on average."""
        ...


class Rule(ABC):
    """A way to decide from random draws whether a probability exceeds p0.

    Attributes:
        most: draws of one stream where nobody says how many.
    """

    most: ClassVar[int] = 125_000

    @abstractmethod
    def examined(self, probability: float, alpha: float, draws: int) -> Examined:
        """The rule made ready for p0 = ``probability`` with at most ``draws`` draws."""


RULES: Registry[type[Rule]] = Registry("stopping rule", "robustcode.rules", Rule)


@RULES.register("fixed")
@dataclass(frozen=True, kw_only=True)
class Fixed(Rule):
    """All draws at once and the Clopper-Pearson bound; see robustcode.stopping.fixed."""

    most = 100_000

    def examined(self, probability: float, alpha: float, draws: int) -> Boundaries:
        """See Rule.examined."""
        return fixed(probability, alpha, draws)


@RULES.register("sequential")
@dataclass(frozen=True, kw_only=True)
class Sequential(Rule):
    """Looks at growing numbers of draws, at an error that is computed; see sequential there.

    Attributes:
        patience: nats by which all draws must speak against p0 for giving up.
        growth: how many times as many draws each look has as the one before.
    """

    patience: float = PATIENCE
    growth: float = GROWTH

    def examined(self, probability: float, alpha: float, draws: int) -> Boundaries:
        """See Rule.examined."""
        return sequential(probability, alpha, draws, self.patience, self.growth)


@RULES.register("anytime")
@dataclass(frozen=True, kw_only=True)
class Anytime(Rule):
    """A bound that holds at every number of draws at once; settings as those of ``Sequential``."""

    patience: float = PATIENCE
    growth: float = GROWTH

    def examined(self, probability: float, alpha: float, draws: int) -> Boundaries:
        """See Rule.examined."""
        return anytime(probability, alpha, draws, self.patience, self.growth)
