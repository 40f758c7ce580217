"""Numbers for the report, each with the interval that says how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, ndtri
from scipy.stats import binomtest

# The least p-value that ``paired_p_value`` tells of, and the largest below 1.
LEAST, MOST = 1e-300, 0.999


class Proportion(NamedTuple):
    """A measured fraction and a two-sided confidence interval around it."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A measured difference of two fractions, in [-1, 1], and its confidence interval."""

    value: float
    low: float
    high: float


def proportion(successes: int, trials: int, confidence: float = 0.95) -> Proportion:
    """Fraction of successes with its Clopper-Pearson interval.

    The interval covers the true fraction with probability at least ``confidence`` whatever
    that fraction is. It speaks of the draw of test samples only: not of the attack's seeds,
    and not of how far the attack is from the strongest one.

    Source: Clopper and Pearson 1934, Biometrika 26(4), in its beta-quantile form.

    >>> proportion(0, 10)
    Proportion(value=0.0, low=0.0, high=0.308...)
    """
    _check(successes, trials, confidence)
    return Proportion(successes / trials, *_clopper_pearson(successes, trials, confidence))


def lower_bound(successes: ArrayLike, draws: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """The least fraction that so many ``successes`` are not too many for, one-sided; broadcast.

    At or above the true fraction except with probability ``alpha`` at most, whatever that fraction
    is, for a number of ``draws`` that was fixed beforehand. Not so where one looks and goes on: for
    that see robustcode.stopping.

    Source: Clopper and Pearson 1934, Biometrika 26(4); one-sided as in Cohen et al. 2019,
    arXiv:1902.02918, section 3.2.2.

    >>> float(lower_bound(100, 100, 0.001)) == 0.001 ** (1 / 100)
    True
    """
    hits, trials = np.asarray(successes, np.float64), np.asarray(draws, np.float64)
    if not (np.all(hits >= 0) and np.all(hits <= trials) and np.all(trials > 0)):
        raise ValueError(f"{successes!r} successes in {draws!r} draws is not a proportion")
    _check(1, 1, 1 - alpha)
    # The quantile function is told of at least one success and one failure: what it would make
    # of none has a closed form.
    inner = betaincinv(np.maximum(hits, 1), np.maximum(trials - hits, 0) + 1, alpha)
    return np.where(hits == 0, 0.0, np.where(hits == trials, alpha ** (1 / trials), inner))


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Proportion:
    """Fraction of successes with its Wilson score interval; counts may be effective counts.

    Shorter than ``proportion`` and right on average over the true fraction, but not at each: near
    0 and 1 it covers as little as 84 % where it says 95 %. For display, not for claims.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158).

    >>> wilson(0, 10)
    Proportion(value=0.0, low=0.0, high=0.277...)
    """
    _check(successes, trials, confidence)
    z2 = _quantile(confidence) ** 2
    value = successes / trials
    centre = (successes + z2 / 2) / (trials + z2)
    half = math.sqrt(z2 * (trials * value * (1 - value) + z2 / 4)) / (trials + z2)
    # At the ends the roots are exactly 0 and 1; rounding must not say otherwise.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Proportion(value, low, high)


def clustered(fractions: ArrayLike, draws: int, confidence: float = 0.95) -> Proportion:
    """Mean of per-sample fractions, shape (samples,), each the share of right among ``draws``.

    The draws of one sample are one cluster: a thousand draws on fifty images are fifty pieces of
    evidence about images. The variance of the mean is that between samples over their number,
    which already holds the noise within samples. It is turned into the number of independent
    draws that would leave as much, and the interval is Clopper-Pearson's with that many; hence
    for fractions of 0 and 1 only it equals ``proportion``. The variance is estimated with
    z^2 / 2 further samples at 0 and as many at 1, as in ``_effective``: the interval stays
    open when all fractions agree, since a kind of sample not seen yet may differ.

    Source: Korn and Graubard 1998, Survey Methodology 24(2), for the effective counts.

    >>> clustered([1.0] * 50, draws=100) == proportion(50, 50)
    True
    """
    shares = _vector(fractions, "fractions")
    if draws < 1:
        raise ValueError(f"fractions of {draws} draws mean nothing; at least one draw is needed")
    _check(1, 1, confidence)
    value = float(shares.mean())
    trials = min(_effective(shares, _quantile(confidence)), len(shares) * draws)
    return Proportion(value, *_clopper_pearson(value * trials, trials, confidence))


def paired_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Difference:
    """Mean of ``second - first`` over the same samples: positive when ``second`` is higher.

    Both have shape (samples,) and hold 0 and 1, or fractions of right draws. Half of one plus the
    difference is a fraction again, so the interval is that of ``clustered``. Two vectors that
    agree everywhere still get an interval of about 4 / samples to either side: the next sample
    may be the first on which they differ.

    >>> paired_difference([1, 1, 0, 0], [1, 1, 1, 1]).value
    0.5
    """
    before, after = _paired(first, second)
    _check(1, 1, confidence)
    halves = (1 + after - before) / 2
    value, trials = float(halves.mean()), _effective(halves, _quantile(confidence))
    low, high = _clopper_pearson(value * trials, trials, confidence)
    return Difference(float((after - before).mean()), 2 * low - 1, 2 * high - 1)


def paired_p_value(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p-value that the mean of ``second - first`` is 0, from ``paired_difference``.

    The least alpha at which that interval, at confidence 1 - alpha, leaves out 0. For vectors of 0
    and 1 ``mcnemar`` is exact and to be preferred; this is for fractions of right draws.

    Say that the halves of ``paired_difference`` have the mean v >= 1/2 and n effective samples.
    Their interval leaves out 1/2 when twice the probability that n fair coins show n v heads or
    more, continued to fractions as in ``_clopper_pearson``, is below alpha. The larger alpha, the
    fewer samples does ``_effective`` add and the larger is n, and the smaller is that
    probability: so the two meet once, which is found by halving the range of log alpha. It is never
    below LEAST, which then stands for less, and 1 above MOST, where intervals shrink to a point.

    >>> paired_p_value([1.0] * 10, [0.5] * 10) < 0.05 < paired_p_value([1.0, 0.5], [0.5, 0.5])
    True
    """
    before, after = _paired(first, second)
    halves = (1 + after - before) / 2
    value = max(float(halves.mean()), 1 - float(halves.mean()))

    def left_out(alpha: float) -> bool:
        trials = _effective(halves, -float(ndtri(alpha / 2)))
        tail = float(betainc(value * trials, (1 - value) * trials + 1, 0.5))
        return 2 * tail < alpha

    if not left_out(MOST):
        return 1.0
    below, above = math.log(LEAST), math.log(MOST)
    if left_out(LEAST):
        return LEAST
    while above - below > 1e-9:
        middle = (below + above) / 2
        below, above = (below, middle) if left_out(math.exp(middle)) else (middle, above)
    return math.exp(above)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value that both of two classifiers are right equally often on one set of samples.

    ``only_first`` samples are right for the first alone, ``only_second`` for the second alone;
    those on which both agree say nothing. Exact, and 1 when the two never differ.

    Source: McNemar 1947, Psychometrika 12(2), with the binomial in place of chi-squared.

    >>> mcnemar(0, 6)
    0.03125
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"{only_first} and {only_second} are not counts of samples")
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value, in the order given, adjusted so that one threshold serves them all.

    To call those below 5 % real is then wrong about any of them with probability at most 5 %.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2).

    >>> holm([0.01, 0.04])
    [0.02, 0.04]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie in [0, 1]; got {list(p_values)}")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def any_of(correct: int, draws: int, tries: int) -> float:
    """Probability that an adversary with ``tries`` fresh draws meets none that is wrong.

    The unbiased estimate of p^tries from ``correct`` right answers in ``draws``: the share of
    choices of ``tries`` draws in which all are right. (correct / draws)^tries is too high.

    Source: Halmos 1946, Annals of Mathematical Statistics 17(1): the U-statistic of the product.

    >>> any_of(9, 10, 5)
    0.5
    """
    _check(correct, draws, 0.95)
    if not 1 <= tries <= draws:
        raise ValueError(
            f"{tries} tries cannot be judged from {draws} draws; ask for 1 to {draws} tries"
        )
    return math.comb(correct, tries) / math.comb(draws, tries)


def _effective(shares: NDArray[np.float64], quantile: float) -> float:
    """How many independent 0-or-1 draws would leave the mean of ``shares`` as uncertain.

    n p (1 - p) / v, with p and v estimated after z^2 / 2 samples at 0 and as many at 1 are
    added, z being the normal ``quantile`` of the interval, which is what Wilson's does to the
    centre (Agresti and Coull 1998). Never below n, and n exactly when all shares are 0 or 1.
    """
    extra = quantile**2 / 2
    count = len(shares) + 2 * extra
    mean = (shares.sum() + extra) / count
    # v, as p (1 - p) less the mean of f (1 - f): exact, and safe from rounding, for 0 and 1.
    spread = mean * (1 - mean) - (shares * (1 - shares)).sum() / count
    return float(len(shares) * mean * (1 - mean) / spread)


def _clopper_pearson(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    tail, failures = (1 - confidence) / 2, trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0
    return low, high


def _quantile(confidence: float) -> float:
    return float(ndtri((1 + confidence) / 2))


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, after = _vector(first, "first"), _vector(second, "second")
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} and {len(after)} fractions cannot be paired; give both on one set of "
            "samples in one order"
        )
    return before, after


def _vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} of shape {array.shape} are no samples; give one number each")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"{name} must lie in [0, 1]; got {array.min():g} to {array.max():g}")
    return array


def _check(successes: float, trials: float, confidence: float) -> None:
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials is not a proportion")
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence = {confidence:g} is not between 0 and 1; was it a percentage?"
        )
