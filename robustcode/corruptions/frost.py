"""Frost on the lens: crystals of our own making, or photographs of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from robustcode.corruptions.base import CORRUPTIONS, Corruption, Group, Image, Scale
from robustcode.corruptions.lens import plasma
from robustcode.errors import ConfigError

ENDINGS = (".png", ".jpg", ".jpeg")
# Of the five photographs that the published data sets were made with: their mean grey, how much
# it differs within what covers one image, and how much redder or bluer they are than grey.
LIGHT = (0.48, 0.81)
ROUGH = 0.09
TINT = np.array([-0.07, 0.01, 0.06])


class Ice(NamedTuple):
    """How much of the image is left, how much ice is added, and how small photographs are made."""

    kept: float
    added: float
    shrunk: float


@CORRUPTIONS.register("frost")
@dataclass(frozen=True, kw_only=True)
class Frost(Corruption):
    """Ice over the image. Without photographs of frost, errors are not those of the literature.

    The published data sets lay parts of photographs over the images, which are not ours to pass on.
    Instead there are random ridges here, of the photographs' mean, contrast and tint, but not
    their shapes. With ``pictures`` the strengths are as published and the photographs the user's;
    the package imagecorruptions brings the original ones, in its folder ``frost``.

    Attributes:
        pictures: a folder of PNG or JPEG files of frost; none if empty.
    """

    group = Group.WEATHER
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]] = {
        Scale.CIFAR_10_C: (
            Ice(1, 0.2, 0.2),
            Ice(1, 0.3, 0.2),
            Ice(0.9, 0.4, 0.2),
            Ice(0.85, 0.4, 0.2),
            Ice(0.75, 0.45, 0.2),
        ),
        Scale.TINY_IMAGENET_C: (
            Ice(1, 0.3, 0.3),
            Ice(0.9, 0.4, 0.3),
            Ice(0.8, 0.45, 0.3),
            Ice(0.75, 0.5, 0.3),
            Ice(0.7, 0.55, 0.3),
        ),
        Scale.IMAGENET_C: (
            Ice(1, 0.4, 1),
            Ice(0.8, 0.6, 1),
            Ice(0.7, 0.7, 1),
            Ice(0.65, 0.7, 1),
            Ice(0.6, 0.75, 1),
        ),
    }

    pictures: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """See Corruption.files."""
        if not self.pictures:
            return ()
        folder = Path(self.pictures)
        found = [path for path in folder.glob("*") if path.suffix.lower() in ENDINGS]
        if not found:
            raise ConfigError(
                f"pictures = {self.pictures!r} holds no PNG or JPEG file; name a folder of "
                "photographs of frost, or leave it out"
            )
        return tuple(sorted(found))

    def apply(self, x: Image, amount: Ice, generator: Generator) -> Image:
        """See Corruption.apply."""
        height, width, channels = x.shape
        if files := self.files:
            file = files[generator.integers(len(files))]
            ice = _part(_photograph(file, amount.shrunk), height, width, generator)
        else:
            ice = crystals(height, width, generator)
        if channels == 1:
            ice = ice.mean(axis=2, keepdims=True)
        return amount.kept * x + amount.added * ice


def crystals(height: int, width: int, generator: Generator) -> Image:
    """Random bluish ice, (height, width, 3): ridges of two surfaces, where they cross the middle.

    Ours; see Frost.
    """
    ridges = np.zeros((height, width))
    for decay in (1.3, 1.5):
        surface = plasma(height, width, decay, generator)
        ridges += 1 - np.abs(surface - np.median(surface)) / np.ptp(surface)
    ridges -= ridges.mean()
    light = generator.uniform(*LIGHT) + ROUGH * ridges / ridges.std()
    return np.clip(light[..., None] + TINT, 0.0, 1.0)


def _part(photograph: Image, height: int, width: int, generator: Generator) -> Image:
    """A random part of a photograph, which is enlarged first if it is too small for that."""
    short = max(height / photograph.shape[0], width / photograph.shape[1])
    if short > 1:
        # A little more than is needed, so that there is a part to choose.
        photograph = _resized(photograph, 1.1 * short)
    top = generator.integers(photograph.shape[0] - height + 1)
    left = generator.integers(photograph.shape[1] - width + 1)
    return photograph[top : top + height, left : left + width]


@lru_cache(maxsize=64)
def _photograph(file: Path, shrunk: float) -> Image:
    try:
        with Pillow.open(file) as read:
            photograph = np.asarray(read.convert("RGB"), np.float64) / 255
    except (OSError, UnidentifiedImageError) as cause:
        raise ConfigError(f"the photograph {file} cannot be read: {cause}") from cause
    return photograph if shrunk == 1 else _resized(photograph, shrunk)


def _resized(photograph: Image, by: float) -> Image:
    height, width = (round(by * side) for side in photograph.shape[:2])
    channels = [
        Pillow.fromarray(photograph[..., channel].astype(np.float32)).resize(
            (width, height), Pillow.Resampling.BILINEAR
        )
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel, np.float64) for channel in channels], axis=-1)
