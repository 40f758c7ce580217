"""Windows of an image: where they lie, what may be written into them, in flattened rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Size, Tensor

from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

# The published grid of tiles and the smallest window with a peak in each half need 5 pixels a
# side; on less than that a window may be a single pixel, as it may in linf.
GRID = 5
SMALLEST = 3
# Rings around a peak fall by this power of their number.
POWERS = {Norm.L2: 2, Norm.L1: 4}
# Of a window's unit length: less than this is what cancelled out, up to rounding.
CANCELLED = 1e-5


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

    def corner(self, rows: Tensor, position: Tensor) -> Tensor:
        """Where the corner of each window is among the numbers of flattened rows, shape (batch,)."""
        top = position.div(self.across, rounding_mode="floor")
        return rows * self.frame.values + position + top * (self.width - 1)

    def places(self, rows: Tensor, position: Tensor, of: Tensor | None = None) -> Tensor:
        """Where windows lie among the numbers of flattened rows, (batch, channels, pixels)."""
        of = self.inside if of is None else of
        return self.corner(rows, position)[:, None, None] + of.to(rows.device)

    def bumps(self, norm: Norm) -> Tensor:
        """A peak up in one half and one down in the other, (2, pixels): by rows, by columns.

        Of unit length in ``norm``. Source: as ``Frame.window``, section 3.4 and figure 3; in l1
        the rings fall with the fourth power, Croce and Hein 2021, arXiv:2103.01208, appendix.
        """
        power = POWERS[norm]
        by_rows = _halves(self.height, self.width, norm, power)
        by_columns = _halves(self.width, self.height, norm, power).T
        if min(self.height, self.width) == 1:  # only its longer side has two halves
            by_rows = by_columns = by_rows if self.width == 1 else by_columns
        return torch.stack([by_rows.flatten(), by_columns.flatten()])


def _halves(height: int, width: int, norm: Norm, power: int) -> Tensor:
    upper = _peak(height // 2, width, norm, power)
    both = torch.cat([upper, -_peak(height - height // 2, width, norm, power)])
    return both / torch.linalg.vector_norm(both, ord=2 if norm is Norm.L2 else 1)


def _peak(height: int, width: int, norm: Norm, power: int) -> Tensor:
    """Squares around the middle, one within the other, each adding less than the one within."""
    if height == 0:
        return torch.zeros(0, width)
    down = (torch.arange(height) - height // 2).abs()
    right = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(down[:, None], right)
    count = max(height, width) // 2 + 1
    adds = 1 / torch.arange(1, count + 1) ** power
    tails = adds.flip(0).cumsum(0).flip(0)
    peak = tails[ring]
    # In l1 the published halves keep their own lengths.
    return peak / peak.norm() if norm is Norm.L2 else peak


class Turns(NamedTuple):
    """Which proposals the iterations of one block make, drawn for all samples at once."""

    position: Tensor  # (samples, turns)
    other: Tensor  # (samples, turns): of the window that is emptied; none in linf
    signs: Tensor  # bool (samples, turns, channels)
    turned: Tensor  # (samples, turns): which of two bumps; none in linf

    @classmethod
    def draw(cls, window: Window, norm: Norm, count: int, streams: Streams) -> Turns:
        """From each sample's own stream."""

        def numbers(purpose: str, high: int) -> Tensor:
            return streams.child(purpose).integers(high, count).to(torch.int32)

        signs = streams.child("signs").integers(2, count, window.frame.channels).bool()
        position = numbers("position", window.positions)
        if norm is Norm.LINF:
            return cls(position, position[:, :0], signs, position[:, :0])
        return cls(position, numbers("other", window.positions), signs, numbers("turned", 2))

    def earlier(self) -> Tensor:
        """The last earlier turn that made the same proposal, -1 if none, (samples, turns)."""
        weights = 2 ** torch.arange(self.signs.shape[2], device=self.signs.device).clamp(max=40)
        code = (self.signs * weights).sum(2)
        for part in (self.position, self.other, self.turned):
            if part.numel():
                # The largest position is far below this, and code stays below 2^63.
                code = code * (int(part.max()) + 1) + part
        order = code.argsort(dim=1, stable=True)
        of_order = code.gather(1, order)
        before = torch.full_like(order, -1)
        same = of_order[:, 1:] == of_order[:, :-1]
        before[:, 1:] = order[:, :-1].where(same, -1)
        return torch.empty_like(before).scatter_(1, order, before)


class Moves(Protocol):
    """What the iterations of one block propose, given where samples are."""

    turns: Turns

    def changes(self, rows: Tensor, turn: Tensor) -> Tensor:
        """Whether a proposal is another input than where its sample is, bool (batch,)."""
        ...

    def proposals(self, rows: Tensor, turn: Tensor) -> Tensor:
        """Inputs of shape (batch, values); ``rows`` are samples, ``turn`` iterations."""
        ...

    def moved(self, rows: Tensor) -> None:
        """Some samples are somewhere else than before."""
        ...
