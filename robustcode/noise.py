"""The noise of randomized smoothing, and the radius that each kind of it proves.

All three kinds are independent and alike in every value of the input, with standard deviation
sigma, so that one sigma hides the image as much in each. And all three have the same worst case: a
set whose edge is one hyperplane across the direction of the move. A class with probability p at x
then sits behind a threshold at ``quantile(p)`` of the one-dimensional noise, and a move by r
towards it leaves ``cdf(quantile(p) - r)``: at least one half up to the radius ``quantile(p)``. Why
nothing is worse is said of each kind below. It holds for every set, and for every function into
[0, 1]: so for a base classifier that is random itself, if its draws do not depend on the noise.

Drawn noise has 24 bits or more, and Gaussian noise ends at 6.7 sigma, where the theory has real
numbers without an end; what lies beyond has probability 2e-11 in each value. No proof accounts for
either.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from scipy.special import log_ndtr, ndtri
from torch import Tensor

from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import Norm


def _same(values: int) -> float:
    return 1.0


def _over_root(values: int) -> float:
    return values**-0.5


@dataclass(frozen=True, kw_only=True)
class Noise(ABC):
    """Independent noise on every value of an input.

    Attributes:
        sigma: its standard deviation in each value, in the units of the input.
        units: norms in which it proves something: how large in each, for an input of so many
            values, the ball is that a radius of 1 proves.
    """

    units: ClassVar[Mapping[Norm, Callable[[int], float]]]

    sigma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise ConfigError(f"sigma = {self.sigma}: a standard deviation is finite and >= 0")

    @abstractmethod
    def draw(self, streams: Streams, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Noise for each row, (batch, *shape)."""

    @abstractmethod
    def quantile(self, probability: float) -> float:
        """Where the one-dimensional noise is below with this probability; infinite for 0 and 1."""

    @abstractmethod
    def log_cdf(self, place: float) -> float:
        """Logarithm of the probability that the one-dimensional noise is below ``place``.

        As a logarithm it tells a probability near 1 from 1, which decides how many draws show it.
        """

    def radius(self, probability: float) -> float:
        """Up to where a class that has ``probability`` at x keeps at least one half.

        0 for one half and less.
        """
        return max(0.0, self.quantile(probability))

    def probability(self, radius: float) -> float:
        """What a class must have at x to keep at least one half within ``radius``; 1 if nothing
        does.
        """  # noqa: D205
        return math.exp(self.log_cdf(radius))

    def left(self, probability: float, distance: float) -> float:
        """The least that a class with ``probability`` at x keeps at that distance."""
        if probability <= 0:
            return 0.0
        return math.exp(self.log_cdf(self.quantile(probability) - distance))


@dataclass(frozen=True, kw_only=True)
class Gaussian(Noise):
    """Normal noise: radius sigma Phi^-1(p) in l2.

    A ball in l1 lies within that of the same radius in l2, and one in linf of d values within that
    of sqrt(d) times the radius.

    Source: Cohen et al. 2019, arXiv:1902.02918, theorem 1, by the lemma of Neyman and Pearson.
    """

    units: ClassVar[Mapping[Norm, Callable[[int], float]]] = {
        Norm.L2: _same,
        Norm.L1: _same,
        Norm.LINF: _over_root,
    }

    def draw(self, streams: Streams, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See Noise.draw."""
        return streams.normal(*shape, dtype=dtype).mul_(self.sigma)

    def quantile(self, probability: float) -> float:
        """See Noise.quantile."""
        return float(self.sigma * ndtri(probability))

    def log_cdf(self, place: float) -> float:
        """See Noise.log_cdf."""
        return float(log_ndtr(place / self.sigma))


@dataclass(frozen=True, kw_only=True)
class Uniform(Noise):
    """Uniform noise on [-lam, lam], lam = sqrt(3) sigma: radius 2 lam (p - 1/2) in l1.

    Two such cubes, one moved by delta, share all but ``1 - prod(1 - |delta_i| / (2 lam))`` of their
    mass, which is at most ``|delta|_1 / (2 lam)``; no set can lose more than that.

    Source: Yang et al. 2020, "Randomized smoothing of all shapes and sizes", as its code has it
    (github.com/tonyduan/rs4a).
    """

    units: ClassVar[Mapping[Norm, Callable[[int], float]]] = {Norm.L1: _same}

    @property
    def lam(self) -> float:
        """Half the width."""
        return math.sqrt(3) * self.sigma

    def draw(self, streams: Streams, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See Noise.draw."""
        return streams.uniform(*shape, dtype=dtype).mul_(2 * self.lam).sub_(self.lam)

    def quantile(self, probability: float) -> float:
        """See Noise.quantile."""
        return 2 * self.lam * (probability - 0.5)

    def log_cdf(self, place: float) -> float:
        """See Noise.log_cdf."""
        below = min(max(0.5 + place / (2 * self.lam), 0.0), 1.0)
        return math.log(below) if below > 0 else -math.inf


@dataclass(frozen=True, kw_only=True)
class Laplace(Noise):
    """Laplace noise of scale b = sigma / sqrt(2): radius -b log(2 (1 - p)) in l1.

    Its density changes by at most a factor of ``exp(|delta|_1 / b)`` when it is moved by delta, and
    so does the probability ``1 - p`` of all other classes, or p itself once it is below one half.

    Source: Teng et al. 2020, "l1 adversarial robustness certificates: a randomized smoothing
    approach"; the form for one class against all others, as in github.com/tonyduan/rs4a.
    """

    units: ClassVar[Mapping[Norm, Callable[[int], float]]] = {Norm.L1: _same}

    @property
    def scale(self) -> float:
        """Where its density has fallen to 1 / e."""
        return self.sigma / math.sqrt(2)

    def draw(self, streams: Streams, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See Noise.draw."""
        # 53 bits, and half a unit more: so neither end is met, whose logarithm is not finite.
        signed = streams.uniform(*shape, dtype=torch.float64).mul_(2).sub_(1 - 2**-53)
        size = torch.log1p(-signed.abs()).mul_(-self.scale)
        return size.copysign_(signed).to(dtype)

    def quantile(self, probability: float) -> float:
        """See Noise.quantile."""
        tail = 2 * min(probability, 1 - probability)
        size = -self.scale * math.log(tail) if tail > 0 else math.inf
        return math.copysign(size, probability - 0.5)

    def log_cdf(self, place: float) -> float:
        """See Noise.log_cdf."""
        if place < 0:
            return math.log(0.5) + place / self.scale
        return math.log1p(-0.5 * math.exp(-place / self.scale))


class Kind(StrEnum):
    """The kinds of noise, by the names they are asked for."""

    GAUSSIAN = "gaussian"
    UNIFORM = "uniform"
    LAPLACE = "laplace"


KINDS: Mapping[Kind, type[Noise]] = {
    Kind.GAUSSIAN: Gaussian,
    Kind.UNIFORM: Uniform,
    Kind.LAPLACE: Laplace,
}
