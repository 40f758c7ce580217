"""What blurs, snow and fog are made of: resampling along lines, towards the middle, in waves."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from robustcode.corruptions.base import Image


def smeared(x: Image, radius: int, sigma: float, degrees: float) -> Image:
    """Each pixel as a mean of those in one direction from it, weighted by half a Gaussian.

    2 ``radius`` + 1 steps of one pixel along ``degrees`` from the x axis, each at the nearest
    pixel; beyond the edge stands the edge. ``sigma`` is the Gaussian's, in pixels.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    down = np.ceil(steps * math.sin(angle) - 0.5).astype(int)
    across = np.ceil(steps * math.cos(angle) - 0.5).astype(int)
    total: Counter[tuple[int, int]] = Counter()
    for weight, dy, dx in zip(weights.tolist(), down.tolist(), across.tolist(), strict=True):
        total[dy, dx] += weight
    height, width = x.shape[:2]
    top, left = -min(down.min(), 0), -min(across.min(), 0)
    beyond = ((top, max(down.max(), 0)), (left, max(across.max(), 0)), (0, 0))
    wide = np.pad(x, beyond, mode="edge")
    blurred = np.zeros_like(x)
    for (dy, dx), weight in total.items():
        blurred += weight * wide[top + dy : top + dy + height, left + dx : left + dx + width]
    return blurred


def magnified(x: Image, factor: float) -> Image:
    """The middle of the image, ``factor`` times as large, between pixels linear; the same shape."""
    return between(x, magnifier(x.shape[0], factor), magnifier(x.shape[1], factor))


def between(x: Image, rows: Image, columns: Image) -> Image:
    """The image resampled by a matrix from its rows and one from its columns."""
    return np.moveaxis(rows @ np.moveaxis(x, -1, 0) @ columns.T, 0, -1)


@lru_cache(maxsize=512)
def magnifier(size: int, factor: float) -> NDArray[np.float64]:
    """The matrix, (size, size), by which a line of pixels is magnified about its middle."""
    kept = math.ceil(size / factor)
    made = round(kept * factor)
    first, trimmed = (size - kept) // 2, (made - size) // 2
    # The ends of what is kept come to lie on the ends of what is made of it.
    places = first + (trimmed + np.arange(size)) * (kept - 1) / (made - 1)
    left = np.minimum(np.floor(places).astype(int), size - 2)
    matrix = np.zeros((size, size))
    lines = np.arange(size)
    matrix[lines, left] = 1 - (places - left)
    matrix[lines, left + 1] = places - left
    return matrix


def plasma(height: int, width: int, decay: float, generator: Generator) -> Image:
    """A random surface with detail of all sizes, (height, width), from 0 to 1 before it is cut.

    Midpoint displacement on a square whose opposite edges meet. From one level of detail to the
    next finer one the displacements shrink by the square of ``decay``.

    Source: Fournier, Fussell and Carpenter 1982, Communications of the ACM 25(6), as diamonds and
    squares.
    """
    size = 1 << (max(height, width) - 1).bit_length()
    surface = np.zeros((size, size))
    step, spread = size, 1.0
    while step > 1:
        half, count = step // 2, size // step

        def shaken(mean: Image, spread: float = spread, count: int = count) -> Image:
            return mean + generator.uniform(-spread, spread, (count, count))

        corners = surface[::step, ::step]
        above = corners + np.roll(corners, -1, 1)
        middles = shaken((above + np.roll(above, -1, 0)) / 4)
        surface[half::step, half::step] = middles
        across = above + middles + np.roll(middles, 1, 0)
        beside = corners + np.roll(corners, -1, 0) + middles + np.roll(middles, 1, 1)
        surface[::step, half::step] = shaken(across / 4)
        surface[half::step, ::step] = shaken(beside / 4)
        step, spread = half, spread / decay**2
    surface -= surface.min()
    return surface[:height, :width] / surface.max()
