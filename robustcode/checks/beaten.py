"""How many survivors of a strong search a weaker one may break before that is no luck."""

from __future__ import annotations

from scipy.stats import binom

# What another search may add to one that did its best: on honest networks AutoAttack's Square finds
# about a point that converged gradients left, and a pilot's few queries find less.
LUCK = 0.01
# Probability of saying so where the other search truly adds no more than that.
ALARMS = 0.01
# One sample alone is an accident.
FEWEST = 2


def too_many(broken: int, tried: int) -> bool:
    """Whether so many broken of ``tried`` survivors are more than 1 % of them, by a 1 % test.

    That is 2 of up to 15 survivors, 3 of up to 44; exact, by the binomial law.

    >>> [too_many(2, 15), too_many(2, 16), too_many(3, 32), too_many(1, 1)]
    [True, False, True, False]
    """
    return broken >= FEWEST and float(binom.sf(broken - 1, tried, LUCK)) <= ALARMS
