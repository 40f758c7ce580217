"""Noise of sensors: in dim light, of single photons, and of broken bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.random import Generator

from robustcode.corruptions.base import CORRUPTIONS, Corruption, Group, Image, Scale


@CORRUPTIONS.register("gaussian_noise")
@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Corruption):
    """Independent normal noise in each value; strengths are its standard deviations."""

    group = Group.NOISE
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (0.04, 0.06, 0.08, 0.09, 0.10),
        Scale.TINY_IMAGENET_C: (0.04, 0.08, 0.12, 0.15, 0.18),
        Scale.IMAGENET_C: (0.08, 0.12, 0.18, 0.26, 0.38),
    }

    def apply(self, x: Image, amount: float, generator: Generator) -> Image:
        """See Corruption.apply."""
        return x + generator.normal(scale=amount, size=x.shape)


@CORRUPTIONS.register("shot_noise")
@dataclass(frozen=True, kw_only=True)
class ShotNoise(Corruption):
    """Each value as a count of photons, Poisson; strengths are how many white is."""

    group = Group.NOISE
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (500, 250, 100, 75, 50),
        Scale.TINY_IMAGENET_C: (250, 100, 50, 30, 15),
        Scale.IMAGENET_C: (60, 25, 12, 5, 3),
    }

    def apply(self, x: Image, amount: float, generator: Generator) -> Image:
        """See Corruption.apply."""
        return generator.poisson(x * amount) / amount


@CORRUPTIONS.register("impulse_noise")
@dataclass(frozen=True, kw_only=True)
class ImpulseNoise(Corruption):
    """Values that are 0 or 1 instead, as likely; strengths are their share."""

    group = Group.NOISE
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (0.01, 0.02, 0.03, 0.05, 0.07),
        Scale.TINY_IMAGENET_C: (0.01, 0.02, 0.05, 0.08, 0.14),
        Scale.IMAGENET_C: (0.03, 0.06, 0.09, 0.17, 0.27),
    }

    def apply(self, x: Image, amount: float, generator: Generator) -> Image:
        """See Corruption.apply."""
        place = generator.random(x.shape)
        spoilt = x.copy()
        spoilt[place < amount] = 0.0
        spoilt[place < amount / 2] = 1.0
        return spoilt
