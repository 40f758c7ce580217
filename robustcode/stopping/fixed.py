"""One look after all draws: the rule of the papers."""

from __future__ import annotations

import functools

import numpy as np
from scipy.stats import binom

from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.evidence import least
from robustcode.stopping.schedule import enough
from robustcode.stopping.walk import Counts


@functools.cache
def fixed(probability: float, alpha: float, draws: int) -> Boundaries:
    """Certify if the Clopper-Pearson bound of all ``draws`` exceeds ``probability``.

    Source: Cohen et al. 2019, arXiv:1902.02918, section 3.2.2.
    """
    enough(probability, alpha, draws)
    look = np.array([draws])
    certify = fewest(probability, alpha, look)
    return Boundaries(
        probability=probability, alpha=alpha, looks=look, certify=certify, give_up=certify - 1
    )


def fewest(probability: float, alpha: float, draws: Counts) -> Counts:
    """Fewest successes whose Clopper-Pearson bound exceeds ``probability``; draws + 1 if none.

    Those are the fewest that are rarer than ``alpha`` at that probability.
    """
    return least(
        lambda hits: binom.sf(hits - 1, draws, probability) < alpha,
        np.zeros_like(draws),
        draws + 1,
    )


def most(probability: float, alpha: float, draws: Counts) -> Counts:
    """Most successes whose Clopper-Pearson bound from above is below ``probability``; -1 if none.

    It is ``fewest`` for the failures.
    """
    return draws - fewest(1 - probability, alpha, draws)
