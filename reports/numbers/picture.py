"""One adversarial example as it is looked at: the sample, its perturbation, what became of it."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 160  # pixels of a side at most
# Values of a picture at most: so the three pictures of 24 examples, of pixels that nothing can
# compress, are under 2.5 MB as text in a page.
VALUES = 24_576
# Pixels of a side up to which a picture is enlarged with its pixels seen.
FEW = 48
GREY = 0.5  # what stands for no change
# A change of eps that was rounded up is not to make a factor of 5 one of 4.9.
ROUNDED = 1 + 1e-4

Image3 = NDArray[np.float32]


@dataclass(frozen=True)
class Shown:
    """One picture as a PNG file, of ``width`` x ``height`` pixels."""

    png: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The file as an address that holds it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def coarse(self) -> bool:
        """Whether it has so few pixels that each is to be seen."""
        return max(self.width, self.height) <= FEW


@dataclass(frozen=True)
class Triple:
    """The three pictures of an example.

    Attributes:
        clean: the sample.
        change: mid-grey where nothing changed; changes are ``factor`` times as large as they are.
        adversarial: the proposal.
        factor: makes the largest change fill the range, to two digits.
        shrunk: how many pixels of the input, each way, one pixel of a picture is the mean of.
        channels: of the input; other numbers than 1 and 3 are shown as their mean.
    """

    clean: Shown
    change: Shown
    adversarial: Shown
    factor: float
    shrunk: int
    channels: int

    @property
    def times(self) -> str:
        """The factor as it is printed.

        Below 10 with its decimal, as 0.5; else whole, as 1,200; beyond a million as 3e+07.
        """
        large = 10 <= self.factor < 1e6
        return f"{self.factor:,.0f}" if large else f"{self.factor:g}"


def triple(x: Image3, x_adv: Image3) -> Triple:
    """The pictures of a sample and its proposal, each of shape (channels, height, width) in [0, 1].

    What is shown is first averaged, over channels that have no colours and over pixels that are
    too many; the change is that between what is shown.
    """
    if x.shape != x_adv.shape or x.ndim != 3 or not x.size:
        raise ValueError(f"no pictures: shapes {x.shape} and {x_adv.shape}")
    factor = shrinking(*_colours(x).shape)
    before, after = (_reduced(_colours(image), factor) for image in (x, x_adv))
    change = after - before
    amplified = amplification(float(np.abs(change).max()))
    return Triple(
        _png(before),
        _png(GREY + amplified * change),
        _png(after),
        amplified,
        factor,
        len(x),
    )


def shrinking(channels: int, height: int, width: int) -> int:
    """The least whole factor by which a picture of that shape becomes small enough.

    >>> shrinking(3, 32, 32), shrinking(3, 224, 224), shrinking(1, 4096, 1)
    (1, 3, 26)
    """
    factor = max(1, -(-max(height, width) // SIDE))
    while -(-height // factor) * -(-width // factor) * channels > VALUES:
        factor += 1
    return factor


def amplification(largest: float) -> float:
    """What a change is multiplied with so that ``largest`` fills the range, down to two digits.

    >>> amplification(8 / 255), amplification(0.1), amplification(1.0)
    (15.0, 5.0, 0.5)
    """
    wanted = GREY * ROUNDED / largest if largest else 1.0
    if not math.isfinite(wanted):  # the least numbers there are
        wanted = 1.0
    return float(Context(prec=2, rounding=ROUND_FLOOR).create_decimal_from_float(wanted))


def _colours(x: Image3) -> NDArray[Any]:
    """One channel or three, as they are or as their mean."""
    return x if len(x) in (1, 3) else x.mean(0, dtype=np.float64, keepdims=True)


def _reduced(x: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Means over squares of ``factor`` pixels; at the far edges over what is left of them."""
    for axis, along in ((1, (1, -1, 1)), (2, (1, 1, -1))):
        starts = np.arange(0, x.shape[axis], factor)
        sizes = np.diff(starts, append=x.shape[axis])
        x = np.add.reduceat(x, starts, axis, dtype=np.float64) / sizes.reshape(along)
    return x


def _png(values: NDArray[np.float64]) -> Shown:
    """A picture of values in [0, 1], cut off outside, at 8 bits; nothing but pixels is written."""
    levels: NDArray[Any] = np.rint(values.clip(0.0, 1.0) * 255).astype(np.uint8)
    image = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return Shown(buffer.getvalue(), image.width, image.height)
