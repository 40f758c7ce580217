"""The part of a plane that coefficients are not zero on.

A value deep in a convolutional network reads a few pixels only: its coefficients are carried on
the smallest window that holds those of all rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcode.bounds.layers import Convolution, Shape


class Window(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a plane, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, places: Tensor, shape: Shape) -> Window:
        """The smallest that holds these indices into flat values of shape (channels, h, w)."""
        y, x = places % (shape[1] * shape[2]) // shape[2], places % shape[2]
        return cls(int(y.min()), int(y.max()) + 1, int(x.min()), int(x.max()) + 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def of(self, values: Tensor) -> Tensor:
        """Its part of the planes in the last two dimensions; where they are of size 1, all."""
        if values.ndim >= 2 and values.shape[-2] > 1:
            values = values[..., self.top : self.bottom, :]
        if values.ndim >= 1 and values.shape[-1] > 1:
            values = values[..., self.left : self.right]
        return values

    def filled(self, rows: Tensor, plane: tuple[int, ...]) -> Tensor:
        """The rows on the whole plane, with zeros outside."""
        sides = (self.left, plane[1] - self.right, self.top, plane[0] - self.bottom)
        return F.pad(rows, sides)

    def joined(self, other: Window) -> Window:
        """The smallest window that holds both."""
        return Window(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def within(self, other: Window) -> Window:
        """The same window counted from the corner of another one that holds it."""
        y, x = other.top, other.left
        return Window(self.top - y, self.bottom - y, self.left - x, self.right - x)

    def before(self, layer: Convolution, plane: tuple[int, ...]) -> Window:
        """What of its input a convolution reads for this window of its output."""
        m, padding = layer.module, layer.padding
        ends: list[int] = []
        for k, (first, last) in enumerate(((self.top, self.bottom), (self.left, self.right))):
            reach = m.dilation[k] * (m.kernel_size[k] - 1) + 1
            start = first * m.stride[k] - padding[k]
            ends += [max(start, 0), min((last - 1) * m.stride[k] - padding[k] + reach, plane[k])]
        return Window(*ends)


def transposed(
    layer: Convolution, rows: Tensor, window: Window, plane: tuple[int, ...]
) -> tuple[Tensor, Window]:
    """``W^T`` applied to rows on a window of the output, on one of the input's plane."""
    m, padding = layer.module, layer.padding
    whole = F.conv_transpose2d(rows, m.weight, None, m.stride, 0, 0, m.groups, m.dilation)
    before = window.before(layer, plane)
    # The pixel that the first one of ``whole`` is, counted in the input's plane.
    y, x = window.top * m.stride[0] - padding[0], window.left * m.stride[1] - padding[1]
    return (
        whole[..., before.top - y : before.bottom - y, before.left - x : before.right - x],
        before,
    )


def added(rows: Tensor, window: Window, others: Tensor, another: Window) -> tuple[Tensor, Window]:
    """The sum of rows on two windows of one plane, on a window that holds both."""
    if window == another:
        return rows + others, window
    joined = window.joined(another)
    return (
        window.within(joined).filled(rows, joined.shape)
        + another.within(joined).filled(others, joined.shape),
        joined,
    )


def along_a_curve(places: Tensor, shape: Shape) -> Tensor:
    """The order of indices into values of shape (channels, h, w) in which pixels stay close.

    That of Z-shaped blocks in blocks: consecutive ones fit a small window.
    """
    y, x = places % (shape[1] * shape[2]) // shape[2], places % shape[2]
    key = torch.zeros_like(places)
    for bit in range(max(shape[1:]).bit_length()):
        key = key | ((y >> bit & 1) << 2 * bit + 1) | ((x >> bit & 1) << 2 * bit)
    return key.argsort(stable=True)
