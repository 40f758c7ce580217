"""Weather: snow, fog, and more light than usual. Frost is in a module of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator

from robustcode.corruptions.base import CORRUPTIONS, Corruption, Group, Image, Scale
from robustcode.corruptions.lens import magnified, plasma, smeared

# What the three primaries of a television of 1982 add to grey: ITU-R BT.601.
GREY = np.array([0.299, 0.587, 0.114])


class Flakes(NamedTuple):
    """A layer of snow.

    Attributes:
        mean: of the normal noise that flakes are the peaks of.
        spread: its standard deviation.
        size: by how much the noise is magnified.
        least: noise below this is no flake.
        fall: half the steps of a flake's fall, in pixels.
        sigma: of the Gaussian over them.
        clear: how much of the image keeps its colours; the rest becomes pale.
    """

    mean: float
    spread: float
    size: float
    least: float
    fall: int
    sigma: float
    clear: float


@CORRUPTIONS.register("snow")
@dataclass(frozen=True, kw_only=True)
class Snow(Corruption):
    """Falling flakes, smeared by their fall, on an image that turns pale.

    A layer of flakes is laid on it twice, the second time upside down.
    """

    group = Group.WEATHER
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (
            Flakes(0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            Flakes(0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            Flakes(0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            Flakes(0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            Flakes(0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        Scale.TINY_IMAGENET_C: (
            Flakes(0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            Flakes(0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            Flakes(0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            Flakes(0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            Flakes(0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        Scale.IMAGENET_C: (
            Flakes(0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            Flakes(0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            Flakes(0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            Flakes(0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            Flakes(0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    }

    def apply(self, x: Image, amount: Flakes, generator: Generator) -> Image:
        """See Corruption.apply."""
        noise = generator.normal(amount.mean, amount.spread, x.shape[:2])[..., None]
        layer = magnified(noise, amount.size)
        layer = np.where(layer < amount.least, 0.0, np.minimum(layer, 1.0))
        layer = smeared(layer, amount.fall, amount.sigma, generator.uniform(-135, -45))
        grey = x if x.shape[2] == 1 else (x @ GREY)[..., None]
        pale = amount.clear * x + (1 - amount.clear) * np.maximum(x, 1.5 * grey + 0.5)
        return pale + layer + layer[::-1, ::-1]


class Haze(NamedTuple):
    """How much fog there is, and how smooth: see lens.plasma."""

    amount: float
    decay: float


@CORRUPTIONS.register("fog")
@dataclass(frozen=True, kw_only=True)
class Fog(Corruption):
    """A random surface added to the image, and the whole dimmed to the image's own maximum."""

    group = Group.WEATHER
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (
            Haze(0.2, 3),
            Haze(0.5, 3),
            Haze(0.75, 2.5),
            Haze(1, 2),
            Haze(1.5, 1.75),
        ),
        Scale.TINY_IMAGENET_C: (
            Haze(0.4, 3),
            Haze(0.7, 3),
            Haze(1, 2.5),
            Haze(1.5, 2),
            Haze(2, 1.75),
        ),
        Scale.IMAGENET_C: (
            Haze(1.5, 2),
            Haze(2, 2),
            Haze(2.5, 1.7),
            Haze(2.5, 1.5),
            Haze(3, 1.4),
        ),
    }

    def apply(self, x: Image, amount: Haze, generator: Generator) -> Image:
        """See Corruption.apply."""
        most = x.max()
        fog = plasma(x.shape[0], x.shape[1], amount.decay, generator)[..., None]
        return (x + amount.amount * fog) * most / (most + amount.amount)


@CORRUPTIONS.register("brightness")
@dataclass(frozen=True, kw_only=True)
class Brightness(Corruption):
    """More light: strengths are added to each pixel's largest value, hue and saturation kept."""

    group = Group.WEATHER
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (0.05, 0.1, 0.15, 0.2, 0.3),
        Scale.TINY_IMAGENET_C: (0.1, 0.2, 0.3, 0.4, 0.5),
        Scale.IMAGENET_C: (0.1, 0.2, 0.3, 0.4, 0.5),
    }

    def apply(self, x: Image, amount: float, generator: Generator) -> Image:
        """See Corruption.apply. Black has no hue; it becomes grey."""
        value = x.max(axis=2, keepdims=True)
        brighter = np.minimum(value + amount, 1.0)
        return np.where(value > 0, x * brighter / np.where(value > 0, value, 1.0), brighter)
