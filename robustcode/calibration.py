"""How far a classifier's confidence is from how often it is right, over a whole data set.

A mean over batches of what is computed batch by batch is another and larger number: each batch's
scatter counts as error. Nothing here is to be averaged over parts of a data set.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import chndtr

# Bins of confidence: what the literature takes.
BINS = 15


class Calibration(NamedTuple):
    """Two measures of miscalibration.

    Attributes:
        ece: mean distance between confidence and share of right, over equal-width bins: the number
            that papers print. Too large, the more so the fewer samples there are.
        squared: unbiased estimate of the mean squared distance over bins of equally many samples,
            as far as equal confidences let themselves be parted; below 0 as often as above where
            there is none.
        error: its root, and 0 where it is negative: on the scale of ``ece``, without its bias.
        low: lower end of the 95 % interval for ``error``.
        high: upper end.
    """

    ece: float
    squared: float
    error: float
    low: float
    high: float


class Bin(NamedTuple):
    """Samples of like confidence: their mean confidence, and the share of them that is right."""

    samples: int
    confidence: float
    right: float


def calibration(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> Calibration:
    """Miscalibration of what is said with ``confidence`` and is ``right`` or not.

    Both have shape (samples,); ``confidence`` is the probability that was given to the predicted
    class, ``right`` is 0 or 1. ``squared`` is, in each bin, the mean product of the distances of
    two different samples, which no sample's own scatter enters. It speaks of the bins: how far off
    confidences are within one, each way, is not seen.

    The interval takes bins for fixed and distances in them for normal: it inverts the noncentral
    chi-squared distribution that the weighted squares then nearly have.

    Source: Guo et al. 2017, arXiv:1706.04599, for ``ece``; the removal of the bias as in Kumar,
    Liang and Ma 2019, arXiv:1909.10155, but with the spread of right less confidence where they
    take that of right alone, which is exact where confidence varies within a bin.

    >>> calibration([0.9] * 10, [1] * 9 + [0]).ece < 1e-12
    True
    """
    stated, hits = _checked(confidence, right)
    plain, own, spread = 0.0, 0.0, []
    for part in _alike(stated, bins):
        distance = hits[part] - stated[part]
        count, scatter = len(part), float(distance.var(ddof=1))
        # A bin's weight times its squared mean, and times the variance of that mean.
        plain += count / len(stated) * float(distance.mean()) ** 2
        own += scatter / len(stated)
        # With one right and one wrong more, a bin in which none is wrong is not taken for certain.
        share = (float(hits[part].sum()) + 1) / (count + 2)
        spread.append(max(scatter, share * (1 - share)) / len(stated))
    squared = plain - own
    low, high = _interval(plain, np.array(spread))
    ece = sum(b.samples * abs(b.right - b.confidence) for b in reliability(stated, hits, bins))
    return Calibration(ece / len(stated), squared, math.sqrt(max(0.0, squared)), low, high)


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> list[Bin]:
    """The bins of equal width that hold a sample, from low to high confidence.

    A bin reaches from above its lower to its upper end.
    """
    stated, hits = _checked(confidence, right)
    place = np.clip(np.ceil(stated * bins).astype(int) - 1, 0, bins - 1)
    return [
        Bin(int(here.sum()), float(stated[here].mean()), float(hits[here].mean()))
        for here in (place == number for number in range(bins))
        if here.any()
    ]


def _interval(plain: float, spread: NDArray[np.float64]) -> tuple[float, float]:
    """Between what the root of a weighted sum of squares lies of which ``plain`` was seen.

    ``spread`` are the variances of its weighted terms. Their sum is like a multiple of one
    chi-squared variable, of which the first two moments agree: Satterthwaite 1946, Biometrics 2(6).
    """
    unit = float((spread**2).sum() / spread.sum())
    degrees = float(spread.sum() ** 2 / (spread**2).sum())
    seen = plain / unit

    def shift(probability: float) -> float:
        """The noncentrality at which so much probability lies below what was seen."""
        if chndtr(seen, degrees, 0.0) <= probability:
            return 0.0
        most = 2 * seen + 100.0
        return float(brentq(lambda at: chndtr(seen, degrees, at) - probability, 0.0, most))

    low = math.sqrt(unit * shift(0.975))
    # Less than calibration itself is expected to leave by chance says no more than that much would.
    seen = max(seen, degrees)
    return min(1.0, low), min(1.0, math.sqrt(unit * shift(0.025)))


def _alike(stated: NDArray[np.float64], bins: int) -> list[NDArray[np.intp]]:
    """The samples of each bin, from low to high confidence, as equally many as can be.

    Equal confidences share a bin: else the order of the data set, which may be by class, would part
    those that are right from those that are wrong. A bin has two samples at least: the scatter of
    one is not known.
    """
    order = np.argsort(stated, kind="stable")
    changes = np.flatnonzero(np.diff(stated[order])) + 1
    ends = np.cumsum([len(part) for part in np.array_split(order, min(bins, len(order) // 2))])
    cuts = [0]
    for end in ends[:-1]:
        further = changes[changes >= max(end, cuts[-1] + 2)]
        if end > cuts[-1] and len(further) and further[0] <= len(order) - 2:
            cuts.append(int(further[0]))
    return np.split(order, cuts[1:])


def _checked(
    confidence: ArrayLike, right: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    stated, hits = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if stated.ndim != 1 or stated.shape != hits.shape or len(stated) < 2:
        raise ValueError(
            f"confidence of shape {stated.shape} and right of shape {hits.shape} are no samples; "
            "give one number each, of two samples or more"
        )
    if not ((stated >= 0) & (stated <= 1)).all():
        raise ValueError("confidence must lie in [0, 1]")
    if not np.isin(hits, (0, 1)).all():
        raise ValueError("right must be 0 or 1")
    return stated, hits
