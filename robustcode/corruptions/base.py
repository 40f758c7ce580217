"""What a corruption is: an image becomes a worse one, more so the higher the severity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from robustcode.errors import ConfigError, UnknownNameError
from robustcode.registry import Registry, suggestion

Image = NDArray[np.float64]

SEVERITIES = (1, 2, 3, 4, 5)
CHANNELS = (1, 3)
# The fewest pixels on a side on which all of them mean something.
SMALLEST = 8


class Group(StrEnum):
    """What a corruption imitates."""

    NOISE = "noise"
    BLUR = "blur"
    WEATHER = "weather"
    DIGITAL = "digital"


class Scale(StrEnum):
    """Whose strengths are used: each set was made for images of one size."""

    CIFAR_10_C = "cifar-10-c"
    TINY_IMAGENET_C = "tiny-imagenet-c"
    IMAGENET_C = "imagenet-c"

    @classmethod
    def fitting(cls, height: int, width: int) -> Scale:
        """The set whose images, of 32, 64 and 224 pixels, are nearest in size.

        The limits lie between; they are ours.
        """
        side = min(height, width)
        if side <= 48:
            return cls.CIFAR_10_C
        return cls.TINY_IMAGENET_C if side <= 128 else cls.IMAGENET_C


class Corruption(ABC):
    """One way to spoil an image. Subclasses are frozen dataclasses.

    Unlike the files that were published, images are not rounded to 255 levels here, except by what
    rounds by its nature. Rounding there was downwards, half a level on average.

    Source of all, and of their strengths: Hendrycks and Dietterich 2019, arXiv:1903.12261, and the
    three scripts by which its data sets were made.

    Attributes:
        group: what it imitates.
        amounts: for each scale the strengths of severities 1 to 5.
    """

    group: ClassVar[Group]
    amounts: ClassVar[Mapping[Scale, Sequence[Any]]]

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that it reads; their content is part of what it does."""
        return ()

    def corrupt(
        self, x: NDArray[Any], severity: int, scale: Scale, generator: Generator
    ) -> NDArray[np.float32]:
        """The image ``x`` at a severity, of the same shape (height, width, channels), in [0, 1].

        All randomness comes from ``generator``.
        """
        if severity not in SEVERITIES:
            raise ConfigError(
                f"severity = {severity}: corruptions come in severities 1 to {SEVERITIES[-1]}"
            )
        refuse_shape(x.shape)
        spoilt = self.apply(x.astype(np.float64), self.amounts[scale][severity - 1], generator)
        return np.clip(spoilt, 0.0, 1.0).astype(np.float32)

    @abstractmethod
    def apply(self, x: Image, amount: Any, generator: Generator) -> Image:
        """The image at a strength; values may leave [0, 1]."""


def refuse_shape(shape: tuple[int, ...]) -> None:
    """ConfigError unless images of this shape, (height, width, channels), can be corrupted."""
    if len(shape) != 3 or shape[2] not in CHANNELS:
        raise ConfigError(
            f"images of shape {shape} (height, width, channels) cannot be corrupted: corruptions "
            "are of grey or colour images, of 1 or 3 channels"
        )
    if min(shape[:2]) < SMALLEST:
        raise ConfigError(
            f"images of {shape[0]} x {shape[1]} pixels are too small to be corrupted; at least "
            f"{SMALLEST} x {SMALLEST} are needed"
        )


CORRUPTIONS: Registry[type[Corruption]] = Registry(
    "corruption", "robustcode.corruptions", Corruption
)


def every() -> list[str]:
    """The names of all, group by group."""
    groups = list(Group)
    return sorted(CORRUPTIONS, key=lambda name: (groups.index(CORRUPTIONS.get(name).group), name))


def named(word: str) -> list[str]:
    """The corruptions that a word stands for: those of a group, or itself.

    >>> named("jpeg_compression")
    ['jpeg_compression']
    """
    if word not in set(Group):
        if ":" not in word and word not in CORRUPTIONS:
            known = [*Group, *every()]
            raise UnknownNameError(
                f"no corruption is called {word!r}.{suggestion(word, known)} "
                f"Known: {', '.join(known)}."
            )
        return [word]
    return [name for name in every() if CORRUPTIONS.get(name).group == word]
