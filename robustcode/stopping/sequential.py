"""The group-sequential rule whose error is alpha exactly, not at most."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.evidence import enough_above, hopeless
from robustcode.stopping.schedule import GROWTH, PATIENCE, enough, looks
from robustcode.stopping.walk import Counts, Increment, increments, walk

# What the computed error may be off by, as a share of alpha: sums of some 1e5 rounded numbers.
SLACK = 1e-9
# Of alpha, what is kept for the last look: there it decides of the most streams.
KEPT = 0.15
# Alpha left over that is no longer worth a search, as a share of it.
LEFT = 0.002
ROUNDS = 24
# Where only a few failures decide, single numbers of successes are dear, and to begin otherwise may
# end nearer to alpha. A design that is as close as this is not tried again.
CLOSE = 0.985
OTHERWISE = (1, 0.9, 0.8, 0.7, 0.6, 0.5)


@functools.cache
def sequential(
    probability: float,
    alpha: float,
    draws: int,
    patience: float = PATIENCE,
    growth: float = GROWTH,
) -> Boundaries:
    """Certify as early as the draws allow, with error ``alpha`` over all looks together.

    A look certifies when the evidence for more than ``probability`` reaches c. Ville's inequality
    would have c = 1 / ``alpha``; here c is the least with which the error, computed and not
    bounded, is what is to be spent before the last look. That one has the rest, and what the
    lattice of counts still leaves over is spent on single numbers of successes. With at least
    four times the draws that are ``needed`` the error is above .97 ``alpha``, and never above
    ``alpha``.

    It gives up when the evidence makes it ``hopeless``; that is counted in the error.

    Source: this project's research notes on certification, section 4.2, with another rule for
    giving up; evidence as in robustcode.stopping.evidence, exact error as in
    robustcode.stopping.walk.
    """
    enough(probability, alpha, draws)
    when = looks(draws, growth)
    steps = list(increments(when, probability))
    give_up = np.minimum(hopeless(when, probability, patience), when - 1)
    budget = alpha * (1 - SLACK)
    designs: list[Boundaries] = []
    for share in (1 - KEPT, *OTHERWISE):
        certify = _calibrated(when, steps, give_up, probability, share * budget)
        if not designs:
            certify = _ended(steps, certify, give_up, budget)
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


def _ended(steps: Sequence[Increment], certify: Counts, give_up: Counts, alpha: float) -> Counts:
    """Spend at the last look what the looks before leave of ``alpha``."""
    never = np.append(certify[:-1], np.iinfo(np.int64).max)
    ways = walk(steps, never, np.append(give_up[:-1], -1))
    left = alpha - float(ways.certified.sum())
    tail = np.cumsum(ways.rest.chances[::-1])[::-1]
    fewest = ways.rest.least + int((tail > left).sum())
    return np.append(certify[:-1], min(fewest, int(certify[-1])))


def _spent(
    steps: Sequence[Increment], certify: Counts, give_up: Counts, alpha: float
) -> tuple[Counts, Counts]:
    """Let single further numbers of successes certify as long as ``alpha`` allows.

    To certify one success earlier at a look costs at most the probability of standing there. Of
    what fits, and is not small beside the rest, the latest look is taken: late boundaries lie far
    apart for probabilities that are close, so that they seldom cross (see
    robustcode.stopping.ladder).
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
