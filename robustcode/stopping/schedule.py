"""When to look, and how many draws any proof needs."""

from __future__ import annotations

import functools
import math

import numpy as np

from robustcode.errors import ConfigError
from robustcode.stopping.boundaries import check
from robustcode.stopping.walk import Counts

FIRST = 16  # ten successes of ten are the least that certify anything at alpha = .001
GROWTH = 1.15
# How strongly, in nats, all draws together must speak against p0 before one gives up; see
# robustcode.stopping.evidence.hopeless. Replayed on the logs of Cohen et al. 2019, one nat takes a
# seventh more draws and wins back .02 points of certified accuracy at most.
PATIENCE = 0.0


@functools.cache
def looks(draws: int, growth: float = GROWTH) -> Counts:
    """Numbers of draws after which to look, each ``growth`` times the last; ``draws`` ends them.

    They depend on nothing else, so that all radii can be judged on one stream.

    >>> looks(25).tolist()
    [16, 18, 21, 25]
    """
    if not growth > 1:
        raise ConfigError(
            f"growth = {growth:g}: each look needs more draws than the last; 1.15 will do"
        )
    times = int(math.log(max(draws / FIRST, 1), growth)) + 1
    rounded = np.rint(FIRST * growth ** np.arange(times)).astype(np.int64)
    # A last step that is much shorter than the others would buy nothing.
    kept = rounded[rounded < draws / math.sqrt(growth)]
    result = np.unique(np.append(kept, draws))
    result.setflags(write=False)
    return result


def needed(probability: float, alpha: float) -> int:
    """The least number of draws with which, all of them successes, anything certifies.

    With fewer, even a stream of that ``probability`` shows nothing else more often than ``alpha``.

    >>> needed(0.5, 0.001)
    10
    """
    check(probability, alpha)
    draws = max(1, math.floor(math.log(alpha) / math.log(probability)))
    return next(n for n in range(draws, draws + 3) if probability**n < alpha)


def enough(probability: float, alpha: float, draws: int) -> None:
    """Refuse a number of ``draws`` with which nothing could be certified."""
    check(probability, alpha, draws)
    least = needed(probability, alpha)
    if draws < least:
        raise ConfigError(
            f"{draws} draws never show that a probability exceeds {probability:.9g} at alpha = "
            f"{alpha:g}; allow {least} or more, or ask for a smaller radius"
        )
