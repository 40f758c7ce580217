"""What a success probability says of an l2 radius under Gaussian noise, and back."""

from __future__ import annotations

from scipy.special import ndtr, ndtri

from robustcode.errors import ConfigError


def probability_at(radius: float, sigma: float) -> float:
    """The probability that must be exceeded to prove ``radius``, in units of the input.

    Source: Cohen et al. 2019, arXiv:1902.02918, theorem 1, for one class against all others.

    >>> round(probability_at(1.0, 0.5), 5)
    0.97725
    """
    if not sigma > 0:
        raise ConfigError(f"sigma = {sigma:g} is no noise; name one above 0")
    if not radius >= 0:
        raise ConfigError(f"radius = {radius:g} is negative; name one from 0 up")
    return float(ndtr(radius / sigma))


def radius_at(probability: float, sigma: float) -> float:
    """The radius that a ``probability`` proves, in units of the input; 0 for one half or less.

    >>> round(radius_at(probability_at(0.7, 0.25), 0.25), 12)
    0.7
    """
    return max(0.0, sigma * float(ndtri(probability)))
