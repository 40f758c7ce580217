"""Rules that hold whenever one stops: by Ville's inequality, without a plan and below alpha."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike

from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.evidence import above, enough_above, hopeless
from robustcode.stopping.schedule import GROWTH, PATIENCE, enough, looks
from robustcode.stopping.walk import Floats


@functools.cache
def anytime(
    probability: float, alpha: float, draws: int, patience: float = PATIENCE, growth: float = GROWTH
) -> Boundaries:
    """Certify as soon as ``anytime_lower`` exceeds ``probability``, looked at now and then.

    Gives up as ``sequential`` does. Its error is below ``alpha`` by a factor of about two: what it
    does not know is when it will be looked at.
    """
    enough(probability, alpha, draws)
    when = looks(draws, growth)
    give_up = hopeless(when, probability, patience)
    certify = np.maximum(enough_above(when, probability, -math.log(alpha)), give_up + 1)
    give_up[-1] = certify[-1] - 1
    return Boundaries(
        probability=probability, alpha=alpha, looks=when, certify=certify, give_up=give_up
    )


def anytime_lower(successes: ArrayLike, draws: ArrayLike, alpha: float) -> Floats:
    """The least probability that the draws so far do not speak against; broadcast.

    With probability 1 - ``alpha`` the true one is not below it after any number of draws, hence
    also where one stops because of what one saw. It is the p at which the evidence for more than p
    reaches 1 / ``alpha``; where that is above 1, the evidence falls as p rises, so there is one.

    Source: confidence sequences by Ville's inequality, Robbins 1970, Annals of Mathematical
    Statistics 41(5); the evidence is robustcode.stopping.evidence.above.

    >>> float(anytime_lower(100, 100, 0.001).round(3))
    0.922
    """
    hits, count = np.broadcast_arrays(
        np.asarray(successes, np.float64), np.asarray(draws, np.float64)
    )
    if not (np.all(hits >= 0) and np.all(hits <= count) and np.all(count > 0)):
        raise ValueError(f"{successes!r} successes in {draws!r} draws is not a proportion")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha = {alpha:g} is not between 0 and 1")
    low, high = np.zeros(hits.shape), hits / count
    for _ in range(60):  # a double has no more halves
        middle = (low + high) / 2
        against = above(hits, count, middle) >= -math.log(alpha)
        low, high = np.where(against, middle, low), np.where(against, high, middle)
    return low
