"""The spline codec: k samples to n coded samples and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustcode.coding.points import chebyshev_first, chebyshev_second
from robustcode.coding.spline import spline_matrix
from robustcode.errors import ConfigError


@dataclass(frozen=True)
class Code:
    """Coded samples are ``encoder @ samples``; decoded outputs are ``decoder @ outputs``.

    Sample i of a batch sits at the i-th Chebyshev point of the first kind, coded sample j at
    the j-th of the second kind; a natural cubic smoothing spline takes each set to the other.
    Both matrices have rows that sum to one and are symmetric under reversal of both orders.

    Source: the coded-smoothing module, Moradi et al. 2025, arXiv:2510.00253v1. That it smooths
    by the mean-square criterion of ``spline_matrix`` and uses the two kinds of points so is the
    convention of the same authors' earlier codes; the paper's own values were not available.

    Attributes:
        k: samples in a batch.
        n: coded samples, the forward passes that the batch costs.
        c: smoothing as c = lambda k^4, with lambda the weight of both splines' roughness. The
            same lambda averages ever more samples as k grows; the same c does not. 0 is
            interpolation.
    """

    k: int
    n: int
    c: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 3 or self.n < 3:
            raise ConfigError(
                f"a code from k = {self.k} to n = {self.n}: a cubic spline needs 3 of each or more"
            )
        if not (math.isfinite(self.c) and self.c >= 0):
            raise ConfigError(f"c = {self.c}: the smoothing of a code is finite and >= 0")
        if (self.n - 1) % (2 * self.k) == 0:
            raise ConfigError(
                f"a code from k = {self.k} to n = {self.n} codes nothing: n - 1 is a multiple of "
                f"2 k, so that every sample's point is a coded point too; take n = {self.n - 1}"
            )

    @property
    def smoothing(self) -> float:
        """The weight lambda of both splines' roughness."""
        return self.c / self.k**4

    @cached_property
    def encoder(self) -> NDArray[np.float64]:
        """Shape (n, k), read-only."""
        return self._matrix(chebyshev_first(self.k), chebyshev_second(self.n))

    @cached_property
    def decoder(self) -> NDArray[np.float64]:
        """Shape (k, n), read-only."""
        return self._matrix(chebyshev_second(self.n), chebyshev_first(self.k))

    def _matrix(self, knots: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = spline_matrix(knots, at, self.smoothing)
        matrix.flags.writeable = False
        return matrix
