"""Many probabilities judged on one stream, for the price of one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustcode.errors import ConfigError
from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.sequential import sequential

Verdicts = NDArray[np.int8]


class Verdict(IntEnum):
    """What a stream has shown of one probability so far."""

    GIVEN_UP = -1
    OPEN = 0
    CERTIFIED = 1


class Design(Protocol):
    """What makes the boundaries of one probability: fixed, sequential or anytime."""

    def __call__(self, probability: float, alpha: float, draws: int, /) -> Boundaries: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Ladder:
    """Boundaries of rising probabilities, which share their looks and do not cross.

    Each rung is decided at the first look at which its own boundaries say so, and stays decided;
    draws are made while any is open. Since both of its boundaries are nowhere above those of the
    next rung, a stream that certifies a rung has certified all below it by then, and one that
    gives up a rung has given up all above it.

    Why no rung pays for another: of a stream with success probability p those rungs are false whose
    probability is p or more. If any false one is certified, so is the lowest false one. Hence the
    chance of any false claim is that of certifying the lowest false rung: the exact error of its
    boundaries at p, which is at most that at its own probability, and with that alpha.

    Attributes:
        rungs: by rising probability.
    """

    rungs: tuple[Boundaries, ...]

    def __post_init__(self) -> None:
        if not self.rungs:
            raise ConfigError("a ladder has no rungs; name one probability or more")
        if not nested(self.rungs):
            raise ConfigError(
                "the boundaries of "
                + ", ".join(f"{rung.probability:.6g}" for rung in self.rungs)
                + " cross, or are of different looks; a claim of one would not hold for all"
            )

    def start(self, batch: int) -> Verdicts:
        """Nothing decided of any of ``batch`` streams, int8 of shape (batch, rungs)."""
        return np.zeros((batch, len(self.rungs)), dtype=np.int8)

    def after(self, look: int, successes: ArrayLike, verdicts: Verdicts) -> Verdicts:
        """What is decided after look number ``look``, given what was before: as ``verdicts``.

        ``successes`` of shape (batch,) are those of all draws up to the look, and ``verdicts``, as
        from ``start``, those of the look before. Looks are not to be left out.
        """
        counts = np.asarray(successes)[:, None]
        certify = np.array([rung.certify[look] for rung in self.rungs])
        give_up = np.array([rung.give_up[look] for rung in self.rungs])
        now = (counts >= certify).astype(np.int8) - (counts <= give_up).astype(np.int8)
        return np.where(verdicts == Verdict.OPEN, now, verdicts)

    @property
    def looks(self) -> NDArray[np.int64]:
        """Numbers of draws after which it is looked, shape (looks,)."""
        return self.rungs[0].looks

    def error(self, probability: float) -> float:
        """Probability that a stream of that ``probability`` has any rung certified falsely."""
        false = [rung for rung in self.rungs if rung.probability >= probability]
        return false[0].power(probability) if false else 0.0


def nested(designs: Sequence[Boundaries]) -> bool:
    """Whether they share their looks, and rise in both boundaries with the probability."""
    return all(
        lower.probability < upper.probability
        and np.array_equal(lower.looks, upper.looks)
        and bool((lower.certify <= upper.certify).all())
        and bool((lower.give_up <= upper.give_up).all())
        for lower, upper in pairwise(designs)
    )


def ladder(
    probabilities: Sequence[float], alpha: float, draws: int, design: Design = sequential
) -> Ladder:
    """A rung for each of ``probabilities``, which rise, each of error ``alpha`` at most.

    Where two that lie close cross by a success, as the lattice of counts makes them, the upper one
    is raised to the lower; that can only lower its error.
    """
    rungs = [design(probability, alpha, draws) for probability in probabilities]
    certify, give_up = (
        np.maximum.accumulate([getattr(rung, name) for rung in rungs], axis=0)
        for name in ("certify", "give_up")
    )
    return Ladder(
        rungs=tuple(
            Boundaries(
                probability=rung.probability,
                alpha=alpha,
                looks=rung.looks,
                certify=high,
                give_up=low,
            )
            for rung, high, low in zip(rungs, certify, give_up, strict=True)
        )
    )
