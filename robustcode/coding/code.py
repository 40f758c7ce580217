"""The codec: k samples to n coded samples and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from robustcode.coding.berrut import berrut_matrix
from robustcode.coding.diagnostics import Diagnostics, diagnose
from robustcode.coding.points import Points
from robustcode.coding.spline import spline_matrix
from robustcode.errors import ConfigError

Array = NDArray[np.float64]

# Codes whose matrices are kept. A run has one, and one more for each size of a shrunken batch; at
# k = 512 and n = 768 the two matrices of a code are 6 MB.
KEPT = 32


class Basis(StrEnum):
    """The functions that go through a batch: natural cubic splines, or Berrut's rationals."""

    SPLINE = "spline"
    BERRUT = "berrut"


@dataclass(frozen=True)
class Code:
    """Coded samples are ``encoder @ samples``; decoded outputs are ``decoder @ outputs``.

    Sample i of a batch sits at the i-th point of samples, by default Chebyshev's of the first
    kind, and coded sample j at the j-th of coded samples, of the second kind; a natural cubic
    smoothing spline takes each set to the other. Both matrices have rows that sum to one and
    are symmetric under reversal of both orders. Equal codes share their matrices.

    Source: the coded-smoothing module, Moradi et al. 2025, arXiv:2510.00253v1. That it smooths
    by the mean-square criterion of ``spline_matrix`` and uses the two kinds of points so is the
    convention of the same authors' earlier codes; the paper's own values were not available.
    Berrut's interpolant for the same use: Soleymani et al. 2022, arXiv:2109.09868.

    Attributes:
        k: samples in a batch.
        n: coded samples, the forward passes that the batch costs.
        c: smoothing as c = lambda k^4, with lambda the weight of both splines' roughness. The
            same lambda averages ever more samples as k grows; the same c does not. 0 is
            interpolation, and all that Berrut's basis does.
        basis: what goes through the samples, and through the outputs.
        points: where both sit.
    """

    k: int
    n: int
    c: float = 0.0
    basis: Basis = Basis.SPLINE
    points: Points = Points.CHEBYSHEV

    def __post_init__(self) -> None:
        if self.basis is Basis.SPLINE and (self.k < 3 or self.n < 3):
            raise ConfigError(
                f"a code from k = {self.k} to n = {self.n}: a cubic spline needs 3 of each or more"
            )
        if self.k < 2 or self.n < 2:
            raise ConfigError(
                f"a code from k = {self.k} to n = {self.n}: coding takes 2 of each or more"
            )
        if not (math.isfinite(self.c) and self.c >= 0):
            raise ConfigError(f"c = {self.c}: the smoothing of a code is finite and >= 0")
        if self.basis is Basis.BERRUT and self.c > 0:
            raise ConfigError(
                f"c = {self.c}: Berrut's interpolant has no smoothing; take c = 0, or a spline"
            )
        # Sample i and coded sample j meet where (2i + 1) / (2k) = j / (n - 1), see Points. If that
        # has a j for i = 0, it has one for all i.
        if (self.n - 1) % (2 * self.k) == 0:
            raise ConfigError(
                f"a code from k = {self.k} to n = {self.n} codes nothing: n - 1 is a multiple of "
                f"2 k, so that every sample's point is a coded point too; take n = {self.n - 1}"
            )

    @property
    def smoothing(self) -> float:
        """The weight lambda of both splines' roughness."""
        return self.c / self.k**4

    @property
    def sample_points(self) -> Array:
        """Where the samples of a batch sit, shape (k,), falling."""
        return self.points.of_samples(self.k)

    @property
    def coded_points(self) -> Array:
        """Where the coded samples sit, shape (n,), falling from 1 to -1."""
        return self.points.of_coded(self.n)

    @property
    def encoder(self) -> Array:
        """Shape (n, k), read-only."""
        return _encoder(self)

    @property
    def decoder(self) -> Array:
        """Shape (k, n), read-only."""
        return _decoder(self)

    @property
    def diagnostics(self) -> Diagnostics:
        """What the code does to a batch, in numbers."""
        return _diagnostics(self)

    def support(self, tolerance: float) -> NDArray[np.int64]:
        """The coded rows that carry each sample's output, shape (k, m), heaviest first.

        Row i has every j with abs(decoder[i, j]) above ``tolerance`` times the largest of that
        row, and then the next heaviest, so that all rows are as long as the longest needs; with
        tolerance 0 all that have any weight.
        """
        if not 0 <= tolerance < 1:
            raise ConfigError(
                f"tolerance = {tolerance}: the share of a largest weight is from 0 to below 1"
            )
        weights = np.abs(self.decoder)
        heavy = weights > tolerance * weights.max(axis=1, keepdims=True)
        # Stable, so that the order of equal weights is the same on every machine.
        order = np.argsort(-weights, axis=1, kind="stable")
        return order[:, : heavy.sum(axis=1).max()].astype(np.int64)


@lru_cache(KEPT)
def _encoder(code: Code) -> Array:
    return _matrix(code, code.sample_points, code.coded_points)


@lru_cache(KEPT)
def _decoder(code: Code) -> Array:
    return _matrix(code, code.coded_points, code.sample_points)


@lru_cache(KEPT)
def _diagnostics(code: Code) -> Diagnostics:
    return diagnose(code.encoder, code.decoder)


def _matrix(code: Code, knots: Array, at: Array) -> Array:
    if code.basis is Basis.BERRUT:
        matrix = berrut_matrix(knots, at)
    else:
        matrix = spline_matrix(knots, at, code.smoothing)
    matrix.flags.writeable = False
    return matrix
