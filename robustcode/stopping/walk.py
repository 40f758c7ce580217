"""The exact distribution of a Bernoulli stream that is watched at a few looks and then stopped.

Between two looks the number of successes grows by a binomial count. The streams still open after a
look have a sub-distribution over that number; convolved with the next increment and cut at the
next boundaries it gives the probabilities of each way to stop, with no approximation but the
truncation that ``increment`` states.

Source: Armitage, McPherson and Rowe 1969, Journal of the Royal Statistical Society A 132(2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
NOTHING = 1e-40  # a million of them are below the rounding of any alpha above 1e-18


class Increment(NamedTuple):
    """The distribution of a number of successes, as of those between two looks.

    Attributes:
        least: the smallest number held.
        chances: the probability of each number from ``least`` on.
    """

    least: int
    chances: Floats


class Walk(NamedTuple):
    """How a stopped stream ends, by look.

    Attributes:
        certified: probability that it is certified there, shape (looks,).
        given_up: probability that it is given up there, shape (looks,).
        edge: probability that it stands one success short of certifying there, shape (looks,).
        rest: the successes of those that are open after the last look.
    """

    certified: Floats
    given_up: Floats
    edge: Floats
    rest: Increment


def increment(draws: int, probability: float) -> Increment:
    """The binomial distribution of ``draws`` draws, cut far out in both tails.

    What is cut lies more than 12 standard deviations and 50 from the mean on either side, which by
    Bernstein's inequality has probability below 2 exp(-72) < 1e-30; the rest is scaled to sum to 1.
    The probabilities come from the ratios of neighbours, not from factorials, whose logarithms
    would cost nine digits at 1e5 draws.
    """
    if probability in (0, 1):
        return Increment(round(draws * probability), np.ones(1))
    mean = draws * probability
    reach = 12 * math.sqrt(mean * (1 - probability)) + 50
    least, most = max(0, math.ceil(mean - reach)), min(draws, math.floor(mean + reach))
    mode = min(max(math.floor((draws + 1) * probability), least), most)
    odds = probability / (1 - probability)
    above = np.arange(mode, most, dtype=np.float64)
    below = np.arange(mode, least, -1, dtype=np.float64)
    rising = np.cumprod((draws - above) / (above + 1) * odds)
    falling = np.cumprod(below / (draws - below + 1) / odds)
    chances = np.concatenate([falling[::-1], [1.0], rising])
    return Increment(least, chances / chances.sum())


def increments(looks: Counts, probability: float) -> Iterator[Increment]:
    """What is drawn before the first look, and between each two."""
    for draws in np.diff(looks, prepend=0):
        yield increment(int(draws), probability)


def walk(steps: Sequence[Increment], certify: Counts, give_up: Counts) -> Walk:
    """Follow a stream that stops at ``certify`` successes or more, or at ``give_up`` or fewer.

    All three have one entry for each look. At either end of what stays open, numbers of successes
    of probability below ``NOTHING`` each are dropped.
    """
    certified, given_up, edge = np.zeros((3, len(steps)))
    least, open_ = 0, np.ones(1)
    for number, step in enumerate(steps):
        least += step.least
        chances = np.convolve(open_, step.chances)
        low = min(max(int(give_up[number]) + 1 - least, 0), len(chances))
        high = min(max(int(certify[number]) - least, low), len(chances))
        short = int(certify[number]) - 1 - least
        # From the small end on, so that a tail keeps its digits.
        certified[number] = chances[high:][::-1].sum()
        given_up[number] = chances[:low].sum()
        edge[number] = chances[short] if 0 <= short < len(chances) else 0.0
        (alive,) = np.nonzero(chances[low:high] > NOTHING)
        if not len(alive):
            least, open_ = 0, np.zeros(1)
            break
        least, open_ = least + low + int(alive[0]), chances[low:high][alive[0] : alive[-1] + 1]
    return Walk(certified, given_up, edge, Increment(least, open_))
