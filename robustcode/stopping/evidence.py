"""How strongly draws speak for a success probability above p0: a bet that cannot win by chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaln, xlog1py, xlogy

from robustcode.stopping.walk import Counts, Floats

HALF = 0.5  # Jeffreys' prior Beta(1/2, 1/2), as in the Krichevsky-Trofimov estimator


def above(successes: ArrayLike, draws: ArrayLike, probability: ArrayLike) -> Floats:
    """Logarithm of the mean likelihood ratio of q to p0 over all q > p0; broadcast.

    q is drawn from Jeffreys' prior, cut below p0 = ``probability``. Along a stream of success
    probability p0 or less the ratio is a supermartingale that starts at 1, so that it ever reaches
    1 / alpha with probability at most alpha (Ville 1939). It rises with the successes, since each
    of the ratios does.

    Source: Robbins 1970, Annals of Mathematical Statistics 41(5), for mixtures of ratios; here with
    the prior cut so as to be one-sided.
    """
    hits, rate = np.asarray(successes, np.float64), np.asarray(probability, np.float64)
    misses = np.asarray(draws, np.float64) - hits
    with np.errstate(divide="ignore"):  # no mass above p0 is left: log 0
        mass = np.log(betaincc(HALF + hits, HALF + misses, rate))
        mass -= np.log(betaincc(HALF, HALF, rate))
    mass += betaln(HALF + hits, HALF + misses) - betaln(HALF, HALF)
    return np.asarray(mass - xlogy(hits, rate) - xlog1py(misses, -rate), np.float64)


def both(successes: ArrayLike, draws: ArrayLike, probability: ArrayLike) -> Floats:
    """Logarithm of the mean likelihood ratio of q to p0 over all q, by Jeffreys' prior; broadcast.

    What the estimator of Krichevsky and Trofimov 1981, IEEE Transactions on Information Theory
    27(2), bets on one draw after the other. It speaks against p0 on either side.
    """
    hits, rate = np.asarray(successes, np.float64), np.asarray(probability, np.float64)
    misses = np.asarray(draws, np.float64) - hits
    ratio = betaln(HALF + hits, HALF + misses) - betaln(HALF, HALF)
    return ratio - xlogy(hits, rate) - xlog1py(misses, -rate)


def least(enough: Callable[[Counts], ArrayLike], start: Counts, stop: Counts) -> Counts:
    """For each entry the smallest number in start .. stop - 1 that is ``enough``, ``stop`` if none.

    ``enough`` maps numbers of the shape of ``start`` to booleans and, once true, stays true.
    """
    low, high = start.copy(), stop.copy()
    while (low < high).any():
        middle = (low + high) // 2
        done = np.asarray(enough(np.minimum(middle, stop - 1)), dtype=bool)
        high = np.where(done & (low < high), middle, high)
        low = np.where(done | (low >= high), low, middle + 1)
    return low


def enough_above(looks: Counts, probability: float, threshold: float) -> Counts:
    """Fewest successes at each look at which ``above`` reaches ``threshold``; draws + 1 if none."""
    start = np.ceil(looks * probability).astype(np.int64)
    return least(lambda hits: above(hits, looks, probability) >= threshold, start, looks + 1)


def hopeless(looks: Counts, probability: float, patience: float) -> Counts:
    """Most successes at each look with which to go on is not worth its draws; -1 if none.

    Those whose own rate lies below p0 and is exp(``patience``) times as likely as p0, at the last
    look; at one after a k-th of its draws sqrt(k) times that, since early bad luck can still be
    made up for, and early draws are few. Nothing depends on this but cost and power.
    """
    goal = patience + 0.5 * np.log(looks[-1] / looks)

    def enough(misses: Counts) -> NDArray[np.bool_]:
        hits = looks - misses
        gain = xlogy(misses, misses / (looks * (1 - probability)))
        gain += xlogy(hits, hits / (looks * probability))
        return gain >= goal

    start = np.ceil(looks * (1 - probability)).astype(np.int64)
    return looks - least(enough, np.minimum(start, looks), looks + 1)
