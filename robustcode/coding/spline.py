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
    values, bends = _evaluation(knots[order], at)
    matrix = np.empty_like(values)
    matrix[:, order] = _fitted(values, bends, gaps, lam)
    return matrix


def _evaluation(knots: Array, at: Array) -> tuple[Array, Array]:
    """What a natural spline is at each point, of its values and second derivatives at its knots.

    Two matrices of shape (points, n) for rising ``knots``; what the spline is, is the one times
    the values plus the other times the second derivatives.
    """
    inside = np.clip(at, knots[0], knots[-1])
    i = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
    h = knots[i + 1] - knots[i]
    a = inside - knots[i]
    b = h - a
    # Beyond the ends a * b is zero and the line goes on with the slope of the end, which the bend
    # at the other knot of the last interval turns; the end itself does not bend.
    beyond = at - inside
    point = np.arange(len(at))
    values = np.zeros((len(at), len(knots)))
    values[point, i] = (b - beyond) / h
    values[point, i + 1] = (a + beyond) / h
    bends = np.zeros_like(values)
    bends[point, i] = -a * b * (1 + b / h) / 6 + np.maximum(beyond, 0) * h / 6
    bends[point, i + 1] = -a * b * (1 + a / h) / 6 - np.minimum(beyond, 0) * h / 6
    return values, bends


def _fitted(values: Array, bends: Array, gaps: Array, lam: float) -> Array:
    """The same of the data alone, shape (points, n), once the spline is that of the data.

    In the notation of the source: gamma = (R + n lam Q'Q)^-1 Q'y and g = y - n lam Q gamma. Of
    a row v of ``values`` and w of ``bends``, v g + w gamma is (v + (w - n lam v Q) (..)^-1 Q') y.
    Q and Q' are differences of quotients of differences, and the inverse is two triangular
    solves of bandwidth 2: for all rows together O(points n).
    """
    n = len(gaps) + 1
    left, right = 1 / gaps[:-1], 1 / gaps[1:]
    middle = -left - right  # of a column of Q, whose other two entries are left and right
    bands = np.zeros((3, n - 2))  # lower form: row b holds the b-th diagonal below the main one
    bands[0] = left**2 + middle**2 + right**2
    bands[1, :-1] = middle[:-1] * left[1:] + right[:-1] * middle[1:]
    bands[2, :-2] = right[:-2] * left[2:]
    bands *= n * lam
    bands[0] += (gaps[:-1] + gaps[1:]) / 3
    bands[1, :-1] += gaps[1:-1] / 6
    inner = bends[:, 1:-1] - n * lam * np.diff(np.diff(values) / gaps)
    # Rows here are columns there: the transpose is laid out as the solver wants it.
    solved = solveh_banded(bands, inner.T, overwrite_ab=True, overwrite_b=True, lower=True).T
    slopes = np.diff(np.pad(solved, ((0, 0), (1, 1)))) / gaps
    fitted = values.copy()
    fitted[:, :-1] += slopes
    fitted[:, 1:] -= slopes
    return fitted
