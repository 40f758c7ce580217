"""The natural cubic smoothing spline as a matrix."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from robustcode.errors import ConfigError

Array = NDArray[np.float64]


def spline_matrix(knots: Array, at: Array, lam: float) -> Array:
    """M of shape (points, n) with ``M @ y`` the spline through ``y`` at the n knots, at ``at``.

    The spline minimises mean((u(knots) - y)^2) + lam * integral of u''^2. With lam = 0 it is the
    natural interpolating spline. Beyond the outermost knots it goes on as a straight line.
    Knots may come in any order but must differ. In scipy's ``make_smoothing_spline``, which
    minimises a sum and not a mean, the same spline has the parameter n * lam.

    Source: Green and Silverman 1994, Nonparametric Regression and Generalized Linear Models,
    chapter 2 (the algorithm is Reinsch's, 1967, Numerische Mathematik 10).

    >>> spline_matrix(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0]), lam=0.0).round(6).tolist()
    [[0.0, 1.0, 0.0], [0.25, -1.5, 2.25]]
    """
    if len(knots) < 3:
        raise ConfigError(f"a cubic spline needs 3 knots or more; got {len(knots)}")
    if not (np.isfinite(lam) and lam >= 0):
        raise ConfigError(f"lam = {lam}: the weight of a spline's roughness is finite and >= 0")
    order = np.argsort(knots)
    gaps = np.diff(knots[order])
    if not gaps.min() > 0:
        raise ConfigError("two knots of a spline are the same point or no number")
    values, bends = _fit(gaps, lam)
    matrix = np.empty((len(at), len(knots)))
    matrix[:, order] = _evaluate(knots[order], values, bends, at)
    return matrix


def _fit(gaps: Array, lam: float) -> tuple[Array, Array]:
    """The spline's values and second derivatives at its knots, each (n, n), acting on y.

    In the notation of the source: (R + n lam Q'Q) gamma = Q'y and g = y - n lam Q gamma.
    """
    n = len(gaps) + 1
    inner = np.arange(n - 2)
    q = np.zeros((n, n - 2))
    q[inner, inner] = 1 / gaps[:-1]
    q[inner + 1, inner] = -1 / gaps[:-1] - 1 / gaps[1:]
    q[inner + 2, inner] = 1 / gaps[1:]
    bands = np.zeros((3, n - 2))  # lower form: row b holds the b-th diagonal below the main one
    bands[0] = (gaps[:-1] + gaps[1:]) / 3
    bands[1, :-1] = gaps[1:-1] / 6
    for below in range(min(3, n - 2)):
        bands[below, : n - 2 - below] += (
            n * lam * (q[:, below:] * q[:, : n - 2 - below]).sum(axis=0)
        )
    bends = np.zeros((n, n))  # a natural spline does not bend at its ends
    bends[1:-1] = solveh_banded(bands, q.T, lower=True)
    return np.eye(n) - n * lam * (q @ bends[1:-1]), bends


def _evaluate(knots: Array, values: Array, bends: Array, at: Array) -> Array:
    """The spline of these values and second derivatives at the rising ``knots``, at ``at``."""
    # A straight continuation is the end value plus the end slope; points between are a cubic.
    inside = np.clip(at, knots[0], knots[-1])
    beyond = (at - inside)[:, None]
    i = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
    h = (knots[i + 1] - knots[i])[:, None]
    a = (inside - knots[i])[:, None]
    b = h - a
    between = (a * values[i + 1] + b * values[i]) / h - a * b / 6 * (
        (1 + a / h) * bends[i + 1] + (1 + b / h) * bends[i]
    )
    # At a = 0 and a = h this is the derivative of the cubic; the bend at that end is zero.
    slope = (values[i + 1] - values[i]) / h + h / 6 * np.where(beyond < 0, -bends[i + 1], bends[i])
    return between + beyond * slope
