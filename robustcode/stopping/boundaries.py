"""A stopping rule on a Bernoulli stream, as tables, and what it really does."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from robustcode.errors import ConfigError
from robustcode.stopping.walk import Counts, Walk, increments, walk

# Below it what ``walk`` drops of a distribution is no longer small beside alpha.
LEAST = 1e-18


@dataclass(frozen=True, kw_only=True, eq=False)
class Boundaries:
    """When to claim, of a stream of independent draws, that successes are likelier than so.

    At look j, after ``looks[j]`` draws of which S succeeded, the stream is certified if
    S >= ``certify[j]``, given up if S <= ``give_up[j]``, and goes on otherwise; the last look
    decides. The claim is that a draw succeeds with a probability above ``probability``.

    Why its error is at most that at ``probability``: let p be smaller, and draw both streams from
    the same uniform numbers, so that the one of p never has more successes. If that one is
    certified at look j, it was above ``give_up`` at every look before; so was the other, which has
    reached ``certify[j]`` by then too, hence is certified at look j or before. That the streams
    below ``give_up`` stop is part of the rule: a caller may not draw on after it.

    Source: Armitage, McPherson and Rowe 1969, Journal of the Royal Statistical Society A 132(2).

    Attributes:
        probability: p0, that of which certification says that it is exceeded.
        alpha: probability with which that is meant to be false at most; ``error`` is what it is.
        looks: draws made when it is looked, rising, int64 of shape (looks,).
        certify: successes that suffice, int64 of shape (looks,); draws + 1 for never.
        give_up: successes that are too few, int64 of shape (looks,); -1 for never.
    """

    probability: float
    alpha: float
    looks: Counts
    certify: Counts
    give_up: Counts

    def __post_init__(self) -> None:
        check(self.probability, self.alpha)
        for name in ("looks", "certify", "give_up"):
            table = np.array(getattr(self, name), dtype=np.int64)
            table.setflags(write=False)
            object.__setattr__(self, name, table)
            if table.ndim != 1 or table.shape != self.looks.shape or not table.size:
                raise ConfigError(
                    f"{name} of shape {table.shape} with {len(self.looks)} looks; give one number "
                    "for each look"
                )
        if self.looks[0] < 1 or (np.diff(self.looks) < 1).any():
            raise ConfigError(f"looks after {self.looks.tolist()} draws do not rise from 1 on")
        for looks, high, low in zip(self.looks, self.certify, self.give_up, strict=True):
            if not -1 <= low < high <= looks + 1:
                raise ConfigError(
                    f"after {looks} draws {high} successes certify and {low} give up; that needs "
                    f"-1 <= give up < certify <= {looks + 1}"
                )
        if self.certify[-1] != self.give_up[-1] + 1:
            raise ConfigError(
                f"after the last draw {self.certify[-1]} successes certify and "
                f"{self.give_up[-1]} give up; between them nothing is decided"
            )

    def power(self, probability: float) -> float:
        """Probability that a stream of that ``probability`` is certified, computed exactly."""
        return float(self.ways(probability).certified[::-1].sum())

    def error(self, probability: float | None = None) -> float:
        """Probability that a stream is certified falsely, at its largest by default.

        It is ``power``, of p0 if no smaller ``probability`` is named.
        """
        probability = self.probability if probability is None else probability
        return self.power(probability) if probability <= self.probability else 0.0

    def draws(self, probability: float) -> float:
        """How many draws a stream of that ``probability`` takes on average."""
        ways = self.ways(probability)
        return float(self.looks @ (ways.certified + ways.given_up))

    def ways(self, probability: float) -> Walk:
        """With which probability a stream of that ``probability`` stops where, and how."""
        if not 0 <= probability <= 1:
            raise ValueError(f"{probability} is no probability")
        return _ways(self, probability)


# A few are kept: power and mean draws are asked for at the same places.
@functools.lru_cache(maxsize=8)
def _ways(rule: Boundaries, probability: float) -> Walk:
    return walk(list(increments(rule.looks, probability)), rule.certify, rule.give_up)


def check(probability: float, alpha: float, draws: int = 1) -> None:
    """Refuse what no rule can be made for."""
    if not 0.5 <= probability < 1:
        raise ConfigError(
            f"probability = {probability:g} is not in [.5, 1): at or below one half no radius is "
            "proved, and 1 is never exceeded"
        )
    if not 0 < alpha < 1:
        raise ConfigError(
            f"alpha = {alpha:g} is not between 0 and 1; take .001 for a false proof in 1,000"
        )
    if alpha < LEAST:
        raise ConfigError(
            f"alpha = {alpha:g} is below {LEAST:g}, to which errors are computed; take a larger one"
        )
    if draws < 1:
        raise ConfigError(f"draws = {draws} decide nothing; make 1 or more")
