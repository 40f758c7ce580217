"""Where on [-1, 1] the samples of a batch and the coded samples sit."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from robustcode.errors import ConfigError

Array = NDArray[np.float64]


class Points(StrEnum):
    """A family of places: for samples, inside (-1, 1), and for coded samples, ends included.

    Sample i of k is a share of (2i + 1) / (2k) on the way from 1 to -1 and coded sample j of n
    one of j / (n - 1): of the way round a half-circle for Chebyshev points, of the straight one
    for equispaced points. So two of them meet in the one family where they do in the other.

    Source: Chebyshev points of the two kinds as in the code of ApproxIFER, Soleymani et al.
    2022, arXiv:2109.09868. Equispaced points are no paper's: they tell what the choice is worth.
    """

    CHEBYSHEV = "chebyshev"
    EQUISPACED = "equispaced"

    def of_samples(self, count: int) -> Array:
        """The points of a batch, shape (count,)."""
        return (chebyshev_first if self is Points.CHEBYSHEV else equispaced_middles)(count)

    def of_coded(self, count: int) -> Array:
        """The points of coded samples, shape (count,)."""
        return (chebyshev_second if self is Points.CHEBYSHEV else equispaced_ends)(count)


def chebyshev_first(count: int) -> Array:
    """Points of the first kind, cos((2i + 1) pi / (2 count)): inside (-1, 1), falling.

    >>> chebyshev_first(2).round(3).tolist()
    [0.707, -0.707]
    """
    if count < 1:
        raise ConfigError(f"{count} Chebyshev points of the first kind were asked for; take 1 up")
    return _chebyshev(count, 2 * count)


def chebyshev_second(count: int) -> Array:
    """Points of the second kind, cos(i pi / (count - 1)): from 1 down to -1, both included.

    >>> chebyshev_second(3).tolist()
    [1.0, 0.0, -1.0]
    """
    if count < 2:
        raise ConfigError(f"{count} Chebyshev points of the second kind were asked for; take 2 up")
    return _chebyshev(count, 2 * (count - 1))


def equispaced_middles(count: int) -> Array:
    """The middles of ``count`` equal cells of [-1, 1], falling.

    >>> equispaced_middles(4).tolist()
    [0.75, 0.25, -0.25, -0.75]
    """
    if count < 1:
        raise ConfigError(f"the middles of {count} cells were asked for; take 1 up")
    return _falling(count) / count


def equispaced_ends(count: int) -> Array:
    """Equal steps from 1 down to -1, both included.

    >>> equispaced_ends(5).tolist()
    [1.0, 0.5, 0.0, -0.5, -1.0]
    """
    if count < 2:
        raise ConfigError(f"{count} points including both ends were asked for; take 2 up")
    return _falling(count) / (count - 1)


def _chebyshev(count: int, parts: int) -> Array:
    # A sine about the middle instead of a cosine from the end: points mirror to the last bit.
    return np.sin(np.pi * _falling(count) / parts)


def _falling(count: int) -> NDArray[np.int64]:
    """Whole numbers in steps of two from count - 1 down to 1 - count."""
    return count - 1 - 2 * np.arange(count)
