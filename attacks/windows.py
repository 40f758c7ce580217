"""Windows of an image: where they lie, what may be written into them, in flattened rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Size, Tensor

from robustcode.seeds import Streams
from robustcode.threat import Norm

# The published grid of tiles and the smallest window with a peak in each half need 5 pixels a
# side; on less than that a window may be a single pixel, as it may in linf.
GRID = 5
SMALLEST = 3
# Rings around a peak fall by this power of their number.
POWERS = {Norm.L2: 2, Norm.L1: 4}
# With more channels than this, two proposals with the same signs do not happen, and their signs
# and two positions would not fit into 63 bits.
CODED = 16
# Samples whose turns are drawn together: their random bits take ten times the memory of what
# is kept of them.
TOGETHER = 16


@dataclass(frozen=True)
class Frame:
    """Channels and sides of a sample. One that is no image is one row of pixels."""

    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, shape: Size) -> Frame:
        """The frame of samples of ``shape``."""
        if len(shape) == 3:
            return cls(*shape)
        return cls(1, *shape) if len(shape) == 2 else cls(1, 1, shape.numel())

    @property
    def values(self) -> int:
        """Numbers in a sample."""
        return self.channels * self.height * self.width

    def window(self, share: float, norm: Norm) -> Window:
        """The square that covers a ``share`` of the pixels, or the stretch of a single row.

        Source: Andriushchenko et al. 2020, arXiv:1912.00049, algorithms 2 and 3; in l2 (and l1)
        the side is odd and at least 3.
        """
        pixels, short = self.height * self.width, min(self.height, self.width)
        side = max(round(share * pixels if short == 1 else math.sqrt(share * pixels)), 1)
        if norm is not Norm.LINF and short >= GRID:
            side = max(side, SMALLEST) | 1
        if short == 1:
            return Window(self, min(side, self.height), min(side, self.width))
        return Window(self, min(side, short), min(side, short))

    def tiles(self) -> tuple[Window, list[int]]:
        """Windows that fill the frame side by side from its middle, and their positions."""
        short = min(self.height, self.width)
        side = max((max(self.height, self.width) if short == 1 else short) // GRID, 1)
        tile = Window(self, min(side, self.height), min(side, self.width))
        down, right = self.height // tile.height, self.width // tile.width
        top = (self.height - down * tile.height) // 2
        left = (self.width - right * tile.width) // 2
        return tile, [
            tile.position(top + i * tile.height, left + j * tile.width)
            for i in range(down)
            for j in range(right)
        ]


@dataclass(frozen=True)
class Window:
    """A rectangle that may lie anywhere within a frame; its positions are numbered by rows."""

    frame: Frame
    height: int
    width: int

    @property
    def across(self) -> int:
        """Positions in a row."""
        return self.frame.width - self.width + 1

    @property
    def positions(self) -> int:
        """Where it can lie, the edges of the frame included."""
        return (self.frame.height - self.height + 1) * self.across

    def position(self, top: int, left: int) -> int:
        """The number of the position with that corner."""
        return top * self.across + left

    @cached_property
    def inside(self) -> Tensor:
        """Its values relative to its corner, shape (channels, pixels)."""
        pixels = (
            torch.arange(self.height)[:, None] * self.frame.width + torch.arange(self.width)
        ).flatten()
        plane = self.frame.height * self.frame.width
        return torch.arange(self.frame.channels)[:, None] * plane + pixels

    @cached_property
    def corners(self) -> Tensor:
        """As ``inside``, of its corners only."""
        last = self.height * self.width - 1
        return self.inside[:, sorted({0, self.width - 1, last - self.width + 1, last})]

    def corner(self, position: Tensor) -> Tensor:
        """Where windows begin among the values of a sample."""
        top = position.div(self.across, rounding_mode="floor")
        return position + top * (self.width - 1)

    def bumps(self, norm: Norm) -> Tensor:
        """A peak up in one half and one down in the other, (2, pixels): by rows, by columns.

        Of unit length in ``norm``. Source: Andriushchenko et al. 2020, section 3.4; in l1 the
        rings fall with the fourth power, as the attack has it in AutoAttack.
        """
        by_rows = _halves(self.height, self.width, norm)
        by_columns = _halves(self.width, self.height, norm).T
        if self.height == 1:  # only the longer side has two halves
            by_rows = by_columns
        elif self.width == 1:
            by_columns = by_rows
        return torch.stack([by_rows.flatten(), by_columns.flatten()])


def _halves(height: int, width: int, norm: Norm) -> Tensor:
    both = torch.cat([_peak(height // 2, width, norm), -_peak(height - height // 2, width, norm)])
    return both / _length(both, norm)


def _peak(height: int, width: int, norm: Norm) -> Tensor:
    """Squares around the middle, one within the other, each adding less than the one within."""
    if height == 0:
        return torch.zeros(0, width)
    down = (torch.arange(height) - height // 2).abs()
    right = (torch.arange(width) - width // 2).abs()
    adds = 1 / torch.arange(1, max(height, width) // 2 + 2) ** POWERS[norm]
    peak = adds.flip(0).cumsum(0).flip(0)[torch.maximum(down[:, None], right)]
    return peak / _length(peak, norm)


def _length(values: Tensor, norm: Norm) -> Tensor:
    return torch.linalg.vector_norm(values, ord=2 if norm is Norm.L2 else 1)


@dataclass(frozen=True)
class Turns:
    """Which proposals the iterations of one block make, drawn for all its samples at once.

    Attributes:
        window: of the block.
        slot: int64 (samples,), the row that is drawn for a sample; some may have none.
        corner: int32 (rows, turns), where the window begins among the values of a sample.
        signs: bool (rows, turns, channels).
        other: as ``corner``, of the window that is emptied; empty in linf.
        turned: bool (rows, turns), which of two bumps; empty in linf.
    """

    window: Window
    slot: Tensor
    corner: Tensor
    signs: Tensor
    other: Tensor
    turned: Tensor

    @classmethod
    def draw(
        cls, window: Window, norm: Norm, count: int, streams: Streams, chosen: Tensor
    ) -> Turns:
        """Of each ``chosen`` sample, bool (samples,), from its own stream."""
        parts = [cls._of_some(window, norm, count, some) for some in _some_of(streams[chosen])]
        tables = (torch.cat(part) for part in zip(*parts, strict=True))
        return cls(window, chosen.cumsum(0) - 1, *tables)

    @staticmethod
    def _of_some(window: Window, norm: Norm, count: int, streams: Streams) -> list[Tensor]:
        """The tables of a few samples, so that what they are made from is small."""

        def numbers(purpose: str, high: int) -> Tensor:
            return streams.child(purpose).integers(high, count)

        corner = window.corner(numbers("position", window.positions)).int()
        signs = streams.child("signs").integers(2, count, window.frame.channels).bool()
        other = turned = corner[:, :0]
        if norm is not Norm.LINF:
            other = window.corner(numbers("other", window.positions)).int()
            turned = numbers("turned", 2).bool()
        return [corner, signs, other, turned]

    @property
    def count(self) -> int:
        """Iterations in the block."""
        return self.corner.shape[1]

    def of(self, table: Tensor, places: Tensor) -> Tensor:
        """Entries of one of the tables with numbers, int64 (batch,), by their ``places``."""
        return table.view(-1).index_select(0, places).long()

    def places(self, rows: Tensor, turn: Tensor) -> Tensor:
        """Where samples' turns are in the flattened tables."""
        return self.slot[rows] * self.count + turn

    def earlier(self) -> Tensor:
        """The last earlier turn that made the same proposal, -1 if none, int32 (rows, turns)."""
        if self.signs.shape[2] > CODED:
            return torch.full_like(self.corner, -1)
        tables = (self.signs, self.corner, self.other, self.turned)
        parts = zip(*(table.split(TOGETHER) for table in tables), strict=True)
        return torch.cat([_earlier(*part) for part in parts])


def _earlier(signs: Tensor, corner: Tensor, other: Tensor, turned: Tensor) -> Tensor:
    """Of some rows, from their part of the tables."""
    code = (signs.long() << torch.arange(signs.shape[2], device=signs.device)).sum(2)
    for part in (corner, other, turned):
        if part.numel():
            code = code * (int(part.max()) + 1) + part
    order = code.argsort(dim=1, stable=True)
    of_order = code.gather(1, order)
    before = torch.full_like(corner, -1)
    before[:, 1:] = order[:, :-1].int().where(of_order[:, 1:] == of_order[:, :-1], -1)
    return torch.empty_like(before).scatter_(1, order, before)


def _some_of(streams: Streams) -> Iterator[Streams]:
    rows = torch.arange(len(streams.samples), device=streams.samples.device)
    return (streams[part] for part in rows.split(TOGETHER))
