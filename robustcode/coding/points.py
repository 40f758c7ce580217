"""Chebyshev points: where on [-1, 1] the samples of a batch and the coded samples sit."""

import numpy as np
from numpy.typing import NDArray

from robustcode.errors import ConfigError


def chebyshev_first(count: int) -> NDArray[np.float64]:
    """Points of the first kind, cos((2i + 1) pi / (2 count)): inside (-1, 1), falling.

    >>> chebyshev_first(2).round(3).tolist()
    [0.707, -0.707]
    """
    if count < 1:
        raise ConfigError(f"{count} Chebyshev points of the first kind were asked for; take 1 up")
    return _points(count, 2 * count)


def chebyshev_second(count: int) -> NDArray[np.float64]:
    """Points of the second kind, cos(i pi / (count - 1)): from 1 down to -1, both included.

    >>> chebyshev_second(3).tolist()
    [1.0, 0.0, -1.0]
    """
    if count < 2:
        raise ConfigError(f"{count} Chebyshev points of the second kind were asked for; take 2 up")
    return _points(count, 2 * (count - 1))


def _points(count: int, parts: int) -> NDArray[np.float64]:
    # A sine about the middle instead of a cosine from the end: points mirror to the last bit.
    return np.sin(np.pi * (count - 1 - 2 * np.arange(count)) / parts)
