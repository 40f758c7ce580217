"""What smoothing asks of one sample: draws that choose a class, then draws that prove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustcode.methods.votes import Course
from robustcode.statistics import lower_bound
from robustcode.stopping import (
    Design,
    Ladder,
    Verdict,
    anytime,
    anytime_lower,
    fixed,
    sequential,
)

# A class this far ahead is taken without further draws for the choice, which are looked at so many
# at a time. Simulated for two classes: where one has .6 of the draws the other is chosen with
# probability .026, after 52 draws on average; with all 100 it were .022. At .95 it takes 14 draws.
LEAD, STEP = 10, 10

Bound = Callable[[ArrayLike, ArrayLike, float], NDArray[np.float64]]


class Estimator(StrEnum):
    """How draws become a proof.

    ``sequential`` stops as soon as every radius is decided, with an error that is computed to be
    alpha. ``fixed`` makes all draws and gives the largest radius that they prove, as in Cohen et
    al. 2019. ``anytime`` gives a largest radius too and stops early, after some more draws than
    ``sequential``.
    """

    SEQUENTIAL = "sequential"
    FIXED = "fixed"
    ANYTIME = "anytime"


class Rule(NamedTuple):
    """What an estimator is made of.

    Attributes:
        design: when it has decided whether a probability is exceeded.
        bound: the least probability that so many successes of so many draws show at alpha, valid
            together with what ``design`` decides; None if there is none.
    """

    design: Design
    bound: Bound | None


RULES: Mapping[Estimator, Rule] = {
    Estimator.SEQUENTIAL: Rule(sequential, None),
    Estimator.FIXED: Rule(fixed, lower_bound),
    Estimator.ANYTIME: Rule(anytime, anytime_lower),
}


class Choice(NamedTuple):
    """The class that most draws were for, None if none was for any, and what it took."""

    chosen: int | None
    draws: int
    forwards: int


class Proof(NamedTuple):
    """What was shown of a class, and what it took.

    Attributes:
        rungs: how many of the ladder are certified, from the lowest.
        successes: of the draws, those that were for the class.
    """

    rungs: int
    successes: int
    draws: int
    forwards: int


NO_PROOF = Proof(0, 0, 0, 0)


def choose(most: int) -> Course[Choice]:
    """The class that most draws are for, of ``most`` draws or as few as make it clear.

    Any way to choose is sound, since other draws prove.
    """
    votes, draws, forwards = np.zeros(1, dtype=np.int64), 0, 0
    while draws < most:
        tally = yield (step := min(STEP, most - draws))
        votes, draws, forwards = votes + tally.votes, draws + step, forwards + tally.forwards
        first, *others = sorted(votes.tolist(), reverse=True)
        if first - max(others, default=0) >= LEAD:
            break
    return Choice(int(votes.argmax()) if votes.any() else None, draws, forwards)


def prove(chosen: int, rungs: Ladder, free: int) -> Course[Proof]:
    """Draws until all rungs but the ``free`` lowest are decided.

    No draw is made for those: they are certified if the draws for the others do it. To stop before
    a rung is decided can only keep it from being certified.
    """
    verdicts = rungs.start(1)
    successes = draws = forwards = 0
    for look, after in enumerate(rungs.looks.tolist()):
        tally = yield after - draws
        draws, forwards = after, forwards + tally.forwards
        successes += int(tally.votes[chosen])
        verdicts = rungs.after(look, [successes], verdicts)
        if (verdicts[0, free:] != Verdict.OPEN).all():
            break
    certified = int((verdicts == Verdict.CERTIFIED).sum())
    return Proof(certified, successes, draws, forwards)


def shown(proofs: Sequence[Proof], rungs: Ladder, bound: Bound | None) -> list[float]:
    """The least probability that the draws of each proof show, 0 if none.

    It is that of the highest certified rung, or what ``bound`` says of all draws if that is more.
    """
    least = [rungs.rungs[p.rungs - 1].probability if p.rungs else 0.0 for p in proofs]
    made = [place for place, proof in enumerate(proofs) if proof.draws]
    if bound is not None and made:
        successes = [proofs[place].successes for place in made]
        draws = [proofs[place].draws for place in made]
        bounds = bound(successes, draws, rungs.rungs[0].alpha)
        for place, value in zip(made, bounds.tolist(), strict=True):
            least[place] = max(least[place], value)
    return least
