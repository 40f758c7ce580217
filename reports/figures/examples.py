"""A few adversarial examples on one sheet, for paper."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from robustcode.reports.drawing import Ink, drawable
from robustcode.reports.figures.accuracies import WIDTH
from robustcode.reports.numbers.picture import Triple

COLUMNS = 2
ACROSS = 3.25  # inches of a strip's width
LEAST, MOST = 0.5, 2.2  # inches of a strip's height: flat and tall pictures are bounded
WORDS = 0.34  # inches above each strip
GAP = 0.06  # between the pictures of a strip, in widths of one


@dataclass(frozen=True)
class Strip:
    """One example: the sample, its change and its proposal side by side under ``title``."""

    title: str
    triple: Triple


@dataclass(frozen=True)
class Sheet:
    """Strips in two columns; see drawing.Drawing."""

    stem: str
    title: str
    note: str
    strips: tuple[Strip, ...]

    @property
    def said(self) -> str:
        """What each strip is of."""
        return "; ".join(strip.title for strip in self.strips)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return WIDTH, self._rows * (self._height + WORDS)

    @property
    def _rows(self) -> int:
        return math.ceil(len(self.strips) / COLUMNS)

    @property
    def _height(self) -> float:
        """Inches of a strip: what the tallest pictures need."""
        tall = max(strip.triple.clean.height / strip.triple.clean.width for strip in self.strips)
        return min(max(ACROSS / (3 + 2 * GAP) * tall, LEAST), MOST)

    def draw(self, figure: Figure, ink: Ink) -> None:
        """See Drawing.draw. Pixels are drawn as they are, each a square."""
        # Placed by hand: to arrange so many axes takes a second.
        figure.set_layout_engine("none")
        width, height = self.size
        for number, strip in enumerate(self.strips):
            row, column = divmod(number, COLUMNS)
            left = column * (WIDTH - ACROSS) / (COLUMNS - 1)
            bottom = height - row * (self._height + WORDS) - WORDS - self._height
            axes = figure.add_axes(
                (left / width, bottom / height, ACROSS / width, self._height / height)
            )
            axes.imshow(_side_by_side(strip.triple), interpolation="none")
            axes.set_axis_off()
            # The names of classes come from outside: a dollar sign must not start a formula.
            axes.set_title(
                drawable(strip.title), fontsize=7.0, color=ink.text, pad=3.0, parse_math=False
            )


def _side_by_side(triple: Triple) -> NDArray[np.uint8]:
    """The three pictures in a row, with nothing between them; shape (height, width, 4)."""
    pictures = [_pixels(one.png) for one in (triple.clean, triple.change, triple.adversarial)]
    height, width = pictures[0].shape[:2]
    nothing = np.zeros((height, max(1, round(GAP * width)), 4), np.uint8)
    first, second, third = pictures
    return np.concatenate([first, nothing, second, nothing, third], axis=1)


def _pixels(png: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
