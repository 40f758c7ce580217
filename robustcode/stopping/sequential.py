"""The group-sequential rule whose error is alpha exactly, not at most."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from robustcode.errors import ConfigError
from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.evidence import enough_above, enough_below
from robustcode.stopping.schedule import GROWTH, enough, looks
from robustcode.stopping.walk import Counts, Increment, increments, walk

# What the computed error may be off by, as a share of alpha: sums of some 1e5 rounded numbers.
SLACK = 1e-9
# Alpha left over that is no longer worth a search, as a share of it.
LEFT = 0.002
ROUNDS = 24
# Where only a few failures decide, single numbers of successes are dear, and to begin with less
# than all of alpha may end nearer to it. A design that is as close as this is not tried again.
CLOSE = 0.985
SHARES = (1, 0.9, 0.8, 0.7, 0.6, 0.5)


@functools.cache
def sequential(
    probability: float, alpha: float, draws: int, beta: float = 0.05, growth: float = GROWTH
) -> Boundaries:
    """Certify as early as the draws allow, with error ``alpha`` over all looks together.

    A look certifies when the evidence for more than ``probability`` reaches c, and gives up when
    that for less reaches 1 / ``beta``, so that a stream worth certifying is given up with a
    probability of at most ``beta``. Ville's inequality would have c = 1 / ``alpha``; here c is the
    least with which the error, computed and not bounded, is ``alpha``: about half of that. What the
    lattice of counts leaves over is then spent on single numbers of successes.

    Source: this project's research notes on certification, section 4.2; evidence as in
    robustcode.stopping.evidence, exact error as in robustcode.stopping.walk.
    """
    if not 0 < beta < 1:
        raise ConfigError(f"beta = {beta:g} is not between 0 and 1; .05 is usual")
    enough(probability, alpha, draws)
    when = looks(draws, growth)
    steps = list(increments(when, probability))
    give_up = np.minimum(enough_below(when, probability, -math.log(beta)), when - 1)
    budget = alpha * (1 - SLACK)
    designs = []
    for share in SHARES:
        certify = _calibrated(when, steps, give_up, probability, share * budget)
        certify, low = _spent(steps, certify, give_up, budget)
        designs.append(
            Boundaries(
                probability=probability, alpha=alpha, looks=when, certify=certify, give_up=low
            )
        )
        if designs[-1].error() > CLOSE * alpha:
            break
    return max(designs, key=Boundaries.error)


def _calibrated(
    when: Counts, steps: Sequence[Increment], give_up: Counts, probability: float, alpha: float
) -> Counts:
    """The boundaries of the least c that is found to keep the error within ``alpha``.

    The error is about inversely proportional to c, so that a few steps along log c suffice; it
    falls in steps, so that they end in a bisection.
    """

    def at(threshold: float) -> tuple[Counts, float]:
        certify = enough_above(when, probability, threshold)
        certify = np.maximum(certify, give_up + 1)
        low = np.append(give_up[:-1], certify[-1] - 1)
        return certify, float(walk(steps, certify, low).certified.sum())

    safe = -math.log(alpha)  # Ville
    best, error = at(safe)
    unsafe = 0.0
    guess = safe + math.log(max(error, alpha / 100) / alpha)
    for _ in range(ROUNDS):
        if error > (1 - LEFT) * alpha or safe - unsafe < 1e-4:
            break
        guess = guess if unsafe < guess < safe else (safe + unsafe) / 2
        certify, found = at(guess)
        if found <= alpha:
            safe, best, error = guess, certify, found
        else:
            unsafe = guess
        # Aim a little short: what is safe need not be searched again.
        guess += math.log(max(found, alpha / 100) / alpha) + LEFT / 2
    return best


def _spent(
    steps: Sequence[Increment], certify: Counts, give_up: Counts, alpha: float
) -> tuple[Counts, Counts]:
    """Let single further numbers of successes certify as long as ``alpha`` allows.

    To certify one success earlier at a look costs at most the probability of standing there. Of
    what fits, and is not small beside the rest, the latest look is taken: late boundaries lie far apart for probabilities that are
    close, so that they seldom cross (see robustcode.stopping.ladder).
    """
    certify, give_up = certify.copy(), give_up.copy()
    give_up[-1] = certify[-1] - 1
    for _ in range(ROUNDS):
        ways = walk(steps, certify, give_up)
        left = alpha - float(ways.certified.sum())
        free = certify - 1 > give_up
        free[-1] = certify[-1] > 0  # where all that is not certified is given up
        price = np.where(free & (ways.edge <= left), ways.edge, 0)
        if price.max() < LEFT * alpha:
            break
        (fits,) = np.nonzero(price >= price.max() / 2)
        certify[fits[-1]] -= 1
        give_up[-1] = certify[-1] - 1
    return certify, give_up
