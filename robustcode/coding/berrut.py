"""Berrut's rational interpolant as a matrix."""

import numpy as np
from numpy.typing import NDArray

from robustcode.errors import ConfigError

Array = NDArray[np.float64]


def berrut_matrix(knots: Array, at: Array) -> Array:
    """M of shape (points, n) with ``M @ y`` the interpolant of ``y`` at the n knots, at ``at``.

    The weight of a knot is (-1)^rank / (at - knot), divided by the sum over knots. The rank is
    that of the knot among those given, in order along the line: where some of a code's outputs
    are lost, the signs alternate over those that are left. With alternate signs the sum has no
    zero anywhere on the line. Constants are reproduced, and straight lines by an even number of
    knots, where the signs add up to nothing.

    Source: Berrut's construction as in the code of ApproxIFER, Soleymani et al. 2022,
    arXiv:2109.09868. That it has no real pole: Floater and Hormann 2007, Numerische Mathematik
    107, of whose family it is the member of degree 0.

    >>> berrut_matrix(np.array([0.0, 1.0, 2.0]), np.array([0.5, 3.0])).round(6).tolist()
    [[0.6, 0.6, -0.2], [0.4, -0.6, 1.2]]
    """
    if len(knots) < 1:
        raise ConfigError("an interpolant needs a knot; got none")
    order = np.argsort(knots)
    if not (np.diff(knots[order]) > 0).all() or np.isnan(knots).any():
        raise ConfigError("two knots of an interpolant are the same point or no number")
    signs = np.empty(len(knots))
    signs[order] = 1 - 2 * (np.arange(len(knots)) % 2)
    away = at[:, None] - knots
    # Scaled by the nearest knot's distance no weight overflows, and a point that is a knot needs
    # no case of its own: its distance of 0 over that of every other knot is the weight 0.
    nearest = np.abs(away).min(axis=1, keepdims=True)
    shares = signs * np.divide(nearest, away, out=np.ones_like(away), where=away != 0)
    matrix: Array = shares / shares.sum(axis=1, keepdims=True)
    return matrix
