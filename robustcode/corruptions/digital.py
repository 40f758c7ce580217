"""What editing and storing does: contrast, distortion, coarse pixels, JPEG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter, map_coordinates

from robustcode.corruptions.base import CORRUPTIONS, Corruption, Group, Image, Scale


@CORRUPTIONS.register("contrast")
@dataclass(frozen=True, kw_only=True)
class Contrast(Corruption):
    """Less difference from each channel's mean; strengths are what is left of it."""

    group = Group.DIGITAL
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (0.75, 0.5, 0.4, 0.3, 0.15),
        Scale.TINY_IMAGENET_C: (0.4, 0.3, 0.2, 0.1, 0.05),
        Scale.IMAGENET_C: (0.4, 0.3, 0.2, 0.1, 0.05),
    }

    def apply(self, x: Image, amount: float, generator: Generator) -> Image:
        """See Corruption.apply."""
        mean = x.mean(axis=(0, 1), keepdims=True)
        return mean + amount * (x - mean)


class Elastic(NamedTuple):
    """Lengths as fractions of the image's shorter side.

    Attributes:
        push: what the smooth displacements are multiplied by.
        smooth: sigma of the Gaussian that smooths them.
        tilt: how far each of three points of the image is moved at most.
    """

    push: float
    smooth: float
    tilt: float


# The script for images of 224 pixels takes 244 for their side.
WIDE = 244 / 224


@CORRUPTIONS.register("elastic_transform")
@dataclass(frozen=True, kw_only=True)
class ElasticTransform(Corruption):
    """A random affine map, then smooth random displacements.

    From one severity to the next the kind of distortion changes more than its size: the first ones
    shift and shear, the last ones ripple.
    """

    group = Group.DIGITAL
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (
            Elastic(0, 0, 0.08),
            Elastic(0.05, 0.2, 0.07),
            Elastic(0.08, 0.06, 0.06),
            Elastic(0.1, 0.04, 0.05),
            Elastic(0.1, 0.03, 0.03),
        ),
        Scale.TINY_IMAGENET_C: (
            Elastic(0, 0, 0.08),
            Elastic(0.05, 0.3, 0.06),
            Elastic(0.1, 0.08, 0.06),
            Elastic(0.1, 0.03, 0.03),
            Elastic(0.16, 0.03, 0.02),
        ),
        Scale.IMAGENET_C: (
            Elastic(2 * WIDE, 0.7 * WIDE, 0.1 * WIDE),
            Elastic(2 * WIDE, 0.08 * WIDE, 0.2 * WIDE),
            Elastic(0.05 * WIDE, 0.01 * WIDE, 0.02 * WIDE),
            Elastic(0.07 * WIDE, 0.01 * WIDE, 0.02 * WIDE),
            Elastic(0.12 * WIDE, 0.01 * WIDE, 0.02 * WIDE),
        ),
    }

    def apply(self, x: Image, amount: Elastic, generator: Generator) -> Image:
        """See Corruption.apply."""
        side = min(x.shape[:2])
        tilted = _tilted(x, amount.tilt * side, generator)
        return rippled(tilted, amount.push * side, amount.smooth * side, generator)


def _tilted(x: Image, most: float, generator: Generator) -> Image:
    """Three points about the middle are moved, and the rest of the image with them."""
    height, width = x.shape[:2]
    arm = min(height, width) // 3
    middle = np.array([height // 2, width // 2])
    before = middle + arm * np.array([[1, 1], [-1, 1], [-1, -1]])
    after = before + generator.uniform(-most, most, before.shape)
    # Where each pixel of the result comes from: the map from ``after`` back to ``before``.
    back = np.linalg.solve(np.column_stack([after, np.ones(3)]), before)
    places = np.moveaxis(np.indices((height, width)), 0, -1)
    return _sampled(x, np.moveaxis(places @ back[:2] + back[2], -1, 0), "mirror")


def rippled(x: Image, push: float, smooth: float, generator: Generator) -> Image:
    """Each pixel from a place that is off by ``push`` times uniform noise, smoothed.

    Both lengths are in pixels.
    """
    height, width = x.shape[:2]
    noise = generator.uniform(-1, 1, (2, height, width))
    offset = push * gaussian_filter(noise, (0, smooth, smooth), mode="reflect", truncate=3)
    return _sampled(x, np.indices((height, width)) + offset, "reflect")


def _sampled(x: Image, places: NDArray[np.float64], beyond: Literal["mirror", "reflect"]) -> Image:
    """The image at places (2, height, width) between its pixels, linear."""
    channels = [
        map_coordinates(x[..., channel], places, order=1, mode=beyond)
        for channel in range(x.shape[2])
    ]
    return np.stack(channels, axis=-1)


@CORRUPTIONS.register("pixelate")
@dataclass(frozen=True, kw_only=True)
class Pixelate(Corruption):
    """Fewer pixels, enlarged again; strengths are the share of each side that is left."""

    group = Group.DIGITAL
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (0.95, 0.9, 0.85, 0.75, 0.65),
        Scale.TINY_IMAGENET_C: (0.9, 0.8, 0.7, 0.6, 0.5),
        Scale.IMAGENET_C: (0.6, 0.5, 0.4, 0.3, 0.25),
    }

    def apply(self, x: Image, amount: float, generator: Generator) -> Image:
        """See Corruption.apply."""
        height, width = x.shape[:2]
        few = int(width * amount), int(height * amount)
        channels = []
        for channel in range(x.shape[2]):
            picture = Pillow.fromarray(x[..., channel].astype(np.float32))
            small = picture.resize(few, Pillow.Resampling.BOX)
            channels.append(np.asarray(small.resize((width, height), Pillow.Resampling.BOX)))
        return np.stack(channels, axis=-1).astype(np.float64)


@CORRUPTIONS.register("jpeg_compression")
@dataclass(frozen=True, kw_only=True)
class JPEGCompression(Corruption):
    """Stored as JPEG; strengths are its quality. Values are rounded to 255 levels for it."""

    group = Group.DIGITAL
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (80, 65, 58, 50, 40),
        Scale.TINY_IMAGENET_C: (65, 58, 50, 40, 25),
        Scale.IMAGENET_C: (25, 18, 15, 10, 7),
    }

    def apply(self, x: Image, amount: int, generator: Generator) -> Image:
        """See Corruption.apply."""
        levels = np.rint(255 * x).astype(np.uint8)
        stored = io.BytesIO()
        Pillow.fromarray(levels[..., 0] if x.shape[2] == 1 else levels).save(
            stored, "JPEG", quality=amount
        )
        with Pillow.open(stored) as read:
            return np.asarray(read, np.float64).reshape(x.shape) / 255
