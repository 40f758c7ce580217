"""A convolution whose input gradient costs less.

An attack differentiates with respect to images, of 1 or 3 channels, and oneDNN's input gradient
for so few channels is slow: it takes longer than the rest of a small network.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.models.normalize import Normalize

# Floats in the widest vector register: output channels of a convolution come in such groups.
LANES = 16
# Below this many input channels oneDNN's input gradient wastes most of those lanes.
FEW_CHANNELS = 8


class BlockConvolution(nn.Module):
    """A convolution, of images that it may normalise, with its input gradient taken by blocks.

    The gradient of a strided convolution scatters. Taken for blocks of input pixels at once it is
    an ordinary convolution of the outputs' gradient, with (block height x block width x channels)
    outputs of its own, which fills the vector lanes that 3 channels leave empty; the blocks are
    then put in place (depth to space). The gradient is laid out channels-last.

    The normalisation is linear: its scale goes into the weights, and the mean's own convolution,
    padded with zeros as the normalised image is, is taken from the outputs.
    """

    weight: Tensor
    bias: Tensor | None
    mean: Tensor | None
    taps: Tensor

    def __init__(self, conv: nn.Conv2d, normalize: Normalize | None = None) -> None:
        super().__init__()
        weight, mean = conv.weight.detach(), None
        if normalize is not None:
            weight, mean = weight / normalize.std, normalize.mean
        self.stride, self.padding = _pair(conv.stride), _pair(conv.padding)
        self.axes = _axes(weight, self.stride, self.padding)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.register_buffer("mean", mean)
        self.register_buffer("taps", _taps(weight, self.axes))
        self._of_mean: dict[torch.Size, Tensor] = {}  # by the size of the image

    def forward(self, x: Tensor) -> Tensor:
        """From images (batch, channels, height, width), as nn.Conv2d."""
        scores: Tensor = _ByBlocks.apply(x, self)  # type: ignore[no-untyped-call]
        return scores

    def outputs(self, x: Tensor) -> Tensor:
        """The convolution of the normalised images."""
        found = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if self.mean is None:
            return found
        size = x.shape[2:]
        if size not in self._of_mean:
            even = self.mean.expand_as(x[:1])
            self._of_mean[size] = F.conv2d(even, self.weight, None, self.stride, self.padding)
        return found.sub_(self._of_mean[size])

    def input_gradient(self, gradient: Tensor, height: int, width: int) -> Tensor:
        """The gradient of images of that size, given that of the outputs."""
        rows, columns = self.axes
        down, right = rows.blocks(height), columns.blocks(width)
        beyond = (
            columns.beyond(right, gradient.shape[3]),
            rows.beyond(down, gradient.shape[2]),
        )
        if any(beyond):
            gradient = F.pad(gradient, (0, beyond[0], 0, beyond[1]))
        steps, padding = (rows.step, columns.step), (rows.before, columns.before)
        blocks = F.conv2d(gradient, self.taps, None, steps, padding)[:, :, :down, :right]
        apart = blocks.unflatten(1, (rows.size, columns.size, -1)).permute(0, 4, 1, 5, 2, 3)
        placed = apart.reshape(len(gradient), down * rows.size, right * columns.size, -1)
        top, left = rows.offset, columns.offset
        return placed[:, top : top + height, left : left + width].permute(0, 3, 1, 2)


class _ByBlocks(torch.autograd.Function):
    """A first convolution and its input gradient by blocks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: BlockConvolution) -> Tensor:
        ctx.layer, ctx.size = layer, x.shape[2:]
        return layer.outputs(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.layer.input_gradient(gradients[0], *ctx.size), None


class Axis(NamedTuple):
    """One axis of an input gradient taken by blocks.

    Block t holds the input positions t size - offset, .., and needs the outputs' gradient at
    t step - before, .., one position for each column of ``reads``.
    """

    size: int  # input positions in a block, a multiple of the stride
    step: int  # output positions from one block to the next
    offset: int  # positions of the first block that lie before the input
    before: int  # zeros that the outputs' gradient needs in front
    reads: tuple[tuple[int, ...], ...]  # (size, reach): which kernel position; -1 for none

    @property
    def reach(self) -> int:
        """Output positions that one block depends on."""
        return len(self.reads[0])

    def blocks(self, length: int) -> int:
        """Blocks that cover an input of ``length``."""
        return -(-(length + self.offset) // self.size)

    def beyond(self, blocks: int, length: int) -> int:
        """Zeros needed behind a gradient of ``length``, besides ``before`` on either side."""
        return max(0, self.step * (blocks - 1) + self.reach - length - 2 * self.before)


@functools.cache
def _axis(kernel: int, stride: int, padding: int, step: int) -> Axis:
    """The blocks of step x stride positions that depend on the fewest outputs.

    Output v reads input u at kernel position u + padding - stride v.
    """
    size = step * stride
    found = []
    for offset in range(size):
        first = -((kernel - 1 + offset - padding) // stride)
        last = (size - 1 - offset + padding) // stride
        reads = tuple(
            tuple(
                q if 0 <= (q := i - offset + padding - stride * v) < kernel else -1
                for v in range(first, last + 1)
            )
            for i in range(size)
        )
        found.append(Axis(size, step, offset, -first, reads))
    return min(found, key=lambda axis: (axis.reach, axis.offset))


def _axes(weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> tuple[Axis, Axis]:
    """Blocks of the shape that costs the fewest multiplications per pixel on full lanes."""
    channels, kernel = weight.shape[1], weight.shape[2:]
    rows, columns = (
        [_axis(kernel[d], stride[d], padding[d], step) for step in range(1, 5)] for d in (0, 1)
    )

    def cost(axes: tuple[Axis, Axis]) -> float:
        pixels = axes[0].size * axes[1].size
        lanes = LANES * math.ceil(channels * pixels / LANES)
        return lanes * axes[0].reach * axes[1].reach / pixels

    return min(((one, other) for one in rows for other in columns), key=cost)


def _taps(weight: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """Weights of the convolution by blocks, (block rows x columns x channels, outputs, ..)."""
    rows, columns = (torch.tensor(axis.reads) for axis in axes)
    with_zero = F.pad(weight, (0, 1, 0, 1))  # index -1, the last, is the zero
    taps = with_zero[:, :, rows][:, :, :, :, columns]  # (o, c, size, reach, size, reach)
    return taps.permute(2, 4, 1, 0, 3, 5).flatten(0, 2).contiguous()


def _pair(values: Any) -> tuple[int, int]:
    return (int(values[0]), int(values[1]))


def gains(conv: nn.Conv2d) -> bool:
    """Whether a convolution can be a BlockConvolution, and is the faster for it."""
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return False
    # An output that reads padding alone would make blocks begin before the gradient does.
    within = all(p < k for p, k in zip(conv.padding, conv.kernel_size, strict=True))
    dense = conv.groups == 1 and conv.dilation == (1, 1)
    strided = max(conv.stride) > 1
    # Where strides divide the kernel no tap is zero: as many multiplications, and no scattering.
    tiled = all(k % s == 0 for k, s in zip(conv.kernel_size, conv.stride, strict=True))
    return within and dense and (conv.in_channels < FEW_CHANNELS or (strided and tiled))
