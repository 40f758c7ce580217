"""Blur: out of focus, through glass, in motion, towards the camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.signal import fftconvolve

from robustcode.corruptions.base import CORRUPTIONS, Corruption, Group, Image, Scale
from robustcode.corruptions.lens import between, magnifier, smeared


class Disk(NamedTuple):
    """A lens out of focus: radius in pixels, and the Gaussian that softens the disk's edge."""

    radius: float
    edge: float


@CORRUPTIONS.register("defocus_blur")
@dataclass(frozen=True, kw_only=True)
class DefocusBlur(Corruption):
    """The mean over a disk around each pixel; beyond the edge the image is mirrored."""

    group = Group.BLUR
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (
            Disk(0.3, 0.4),
            Disk(0.4, 0.5),
            Disk(0.5, 0.6),
            Disk(1, 0.2),
            Disk(1.5, 0.1),
        ),
        Scale.TINY_IMAGENET_C: (
            Disk(0.5, 0.6),
            Disk(1, 0.1),
            Disk(1.5, 0.1),
            Disk(2.5, 0.01),
            Disk(3, 0.1),
        ),
        Scale.IMAGENET_C: (
            Disk(3, 0.1),
            Disk(4, 0.5),
            Disk(6, 0.5),
            Disk(8, 0.5),
            Disk(10, 0.5),
        ),
    }

    def apply(self, x: Image, amount: Disk, generator: Generator) -> Image:
        """See Corruption.apply."""
        kernel = disk(amount)
        reach = len(kernel) // 2
        wide = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
        return fftconvolve(wide, kernel[:, :, None], mode="valid", axes=(0, 1))


@lru_cache(maxsize=64)
def disk(amount: Disk) -> Image:
    """Weights of a disk, softened, that sum to 1: square, of odd size.

    The softening reaches one pixel, or two for a radius above 8; a disk that fills the table in
    which the scripts draw it, from a radius of 8 on, has no room for it outside.
    """
    soft = 1 if amount.radius <= 8 else 2
    reach = min(int(amount.radius) + 2 * soft, max(8, int(amount.radius)))
    places = np.arange(-reach, reach + 1)
    flat = (places[:, None] ** 2 + places**2 <= amount.radius**2).astype(np.float64)
    gauss = np.exp(-(np.arange(-soft, soft + 1) ** 2) / (2 * amount.edge**2))
    gauss /= gauss.sum()
    for axis in (0, 1):
        flat = correlate1d(flat, gauss, axis, mode="mirror")
    return flat / flat.sum()


class Glass(NamedTuple):
    """Frosted glass: Gaussian blur, how far pixels are taken from, how often."""

    sigma: float
    reach: int
    times: int


@CORRUPTIONS.register("glass_blur")
@dataclass(frozen=True, kw_only=True)
class GlassBlur(Corruption):
    """Pixels taken from nearby, one after the other, between two Gaussian blurs.

    From the lower right corner on, each pixel becomes a copy of one at most ``reach`` away, as that
    is by then. The published images are made so: what their script writes as an exchange of two
    pixels is, of colour images, a copy.
    """

    group = Group.BLUR
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (
            Glass(0.05, 1, 1),
            Glass(0.25, 1, 1),
            Glass(0.4, 1, 1),
            Glass(0.25, 1, 2),
            Glass(0.4, 1, 2),
        ),
        Scale.TINY_IMAGENET_C: (
            Glass(0.1, 1, 1),
            Glass(0.5, 1, 1),
            Glass(0.6, 1, 2),
            Glass(0.7, 2, 1),
            Glass(0.9, 2, 2),
        ),
        Scale.IMAGENET_C: (
            Glass(0.7, 1, 2),
            Glass(0.9, 2, 1),
            Glass(1, 2, 3),
            Glass(1.1, 3, 2),
            Glass(1.5, 4, 2),
        ),
    }

    def apply(self, x: Image, amount: Glass, generator: Generator) -> Image:
        """See Corruption.apply."""
        return _soft(_scattered(_soft(x, amount.sigma), amount, generator), amount.sigma)


def _soft(x: Image, sigma: float) -> Image:
    return gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def _scattered(x: Image, amount: Glass, generator: Generator) -> Image:
    height, width, channels = x.shape
    reach = amount.reach
    rows = range(height - reach, reach, -1)
    columns = range(width - reach, reach, -1)
    # Where each pixel comes from: lists, since one step needs what the last has written.
    source = list(range(height * width))
    for _ in range(amount.times):
        moves = generator.integers(-reach, reach, (len(rows), len(columns), 2))
        by = (moves[..., 0] * width + moves[..., 1]).tolist()
        for row, line in zip(rows, by, strict=True):
            for column, move in zip(columns, line, strict=True):
                place = row * width + column
                source[place] = source[place + move]
    return x.reshape(-1, channels)[source].reshape(x.shape)


class Motion(NamedTuple):
    """A moving camera: half the steps, and the Gaussian over them, in pixels."""

    radius: int
    sigma: float


@CORRUPTIONS.register("motion_blur")
@dataclass(frozen=True, kw_only=True)
class MotionBlur(Corruption):
    """Smeared to one side at an angle between -45 and 45 degrees."""

    group = Group.BLUR
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (
            Motion(6, 1),
            Motion(6, 1.5),
            Motion(6, 2),
            Motion(8, 2),
            Motion(9, 2.5),
        ),
        Scale.TINY_IMAGENET_C: (
            Motion(10, 1),
            Motion(10, 1.5),
            Motion(10, 2),
            Motion(10, 2.5),
            Motion(12, 3),
        ),
        Scale.IMAGENET_C: (
            Motion(10, 3),
            Motion(15, 5),
            Motion(15, 8),
            Motion(15, 12),
            Motion(20, 15),
        ),
    }

    def apply(self, x: Image, amount: Motion, generator: Generator) -> Image:
        """See Corruption.apply."""
        return smeared(x, amount.radius, amount.sigma, generator.uniform(-45, 45))


class Zoom(NamedTuple):
    """A camera that moves forwards: factors from 1 in equal steps, ``end`` excluded."""

    end: float
    step: float

    @property
    def factors(self) -> list[float]:
        """Each once. Rounding may let one at ``end`` in, here as in the scripts."""
        return np.arange(1, self.end, self.step).tolist()


# The smaller sets share theirs.
SLOW = (Zoom(1.06, 0.01), Zoom(1.11, 0.01), Zoom(1.16, 0.01), Zoom(1.21, 0.01), Zoom(1.26, 0.01))


@CORRUPTIONS.register("zoom_blur")
@dataclass(frozen=True, kw_only=True)
class ZoomBlur(Corruption):
    """The mean of the image and of several enlargements of its middle."""

    group = Group.BLUR
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: SLOW,
        Scale.TINY_IMAGENET_C: SLOW,
        Scale.IMAGENET_C: (
            Zoom(1.11, 0.01),
            Zoom(1.16, 0.01),
            Zoom(1.21, 0.02),
            Zoom(1.26, 0.02),
            Zoom(1.31, 0.03),
        ),
    }

    def apply(self, x: Image, amount: Zoom, generator: Generator) -> Image:
        """See Corruption.apply. The image itself counts twice: the first factor is 1."""
        total = x.copy()
        for factor in amount.factors:
            total += between(x, magnifier(x.shape[0], factor), magnifier(x.shape[1], factor))
        return total / (len(amount.factors) + 1)
