"""A chain of layers asked about inputs that differ from known ones in a window only.

A window of 3 x 3 pixels reaches 3 x 3 of the 8 x 8 outputs of two strided convolutions. What lies
outside is known from the input without the window, and only the rest is computed: the same sums
as in a pass through the whole network, up to the order they are added in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustcode.attacks.base import Edit
from robustcode.chain import Chain, FlatLinear
from robustcode.convolution import BlockConvolution
from robustcode.fast import ChannelsLast

# Of the last planes: where a window reaches more, a pass through the whole network costs as much.
MOST = 1 / 2

Size = tuple[int, int]
"""Height and width."""


class Axis(NamedTuple):
    """A convolution along one axis: which outputs see a stretch of inputs."""

    length: int  # of the input
    kernel: int
    stride: int
    padding: int

    @property
    def outputs(self) -> int:
        """How many there are."""
        return (self.padded - self.kernel) // self.stride + 1

    @property
    def padded(self) -> int:
        """The length with the padding on both sides."""
        return self.length + 2 * self.padding

    @property
    def complete(self) -> bool:
        """Whether every input is seen by an output."""
        unseen = (self.padded - self.kernel) % self.stride
        return self.kernel >= self.stride and unseen <= self.padding

    def reached(self, width: int) -> int:
        """Outputs that see at least one of ``width`` inputs, at most."""
        return min((width + self.kernel - 2) // self.stride + 1, self.outputs)

    def read(self, count: int) -> int:
        """Inputs, some of the padding, that ``count`` outputs see."""
        return (count - 1) * self.stride + self.kernel

    def first(self, start: Tensor, count: int) -> Tensor:
        """The first of ``count`` outputs among which are all that see inputs from ``start`` on."""
        before = start + (self.padding - self.kernel + self.stride)
        first = before.div(self.stride, rounding_mode="floor")
        return first.clamp_(min=0, max=self.outputs - count)


class Layer:
    """A convolution, perhaps with a ReLU behind it, of planes kept as (pixels, channels)."""

    def __init__(self, conv: BlockConvolution, size: Size, relu: bool) -> None:
        kernel = conv.weight.shape[2:]
        self.axes = (
            Axis(size[0], kernel[0], conv.stride[0], conv.padding[0]),
            Axis(size[1], kernel[1], conv.stride[1], conv.padding[1]),
        )
        self.relu = relu
        self.taps = conv.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        self.offset = conv.weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias
        self.mean = conv.weight.new_zeros(conv.weight.shape[1])
        if conv.mean is not None:
            # What is normalised is padded with zeros afterwards: with the mean, before.
            self.mean = conv.mean.flatten()
            self.offset = self.offset - (conv.weight * conv.mean).sum((1, 2, 3))

    @property
    def outputs(self) -> Size:
        """Sides of the planes that it gives."""
        return self.axes[0].outputs, self.axes[1].outputs

    @property
    def padded(self) -> Size:
        """Sides of the planes that it takes, with their padding."""
        return self.axes[0].padded, self.axes[1].padded

    def pad(self, x: Tensor) -> Tensor:
        """Planes (batch, channels, height, width) with their padding, channels last."""
        planes = self.mean.expand(len(x), *self.padded, -1).contiguous()
        self.inside(planes).copy_(x)
        return planes

    def inside(self, planes: Tensor) -> Tensor:
        """Planes without their padding, (batch, channels, height, width), a view."""
        down, right = (slice(a.padding, a.padding + a.length) for a in self.axes)
        return planes[:, down, right].permute(0, 3, 1, 2)

    def __call__(self, patch: Tensor, size: Size) -> Tensor:
        """From patches (batch, height, width, channels) outputs of that size, (pixels, outputs)."""
        _, high, wide, channels = patch.shape
        down, right = self.axes
        # Where the kernel lies on a patch, each of its lines is in one piece.
        line, shape = wide * channels, (down.kernel, right.kernel * channels)
        strides = (high * line, down.stride * line, right.stride * channels, line, 1)
        seen = patch.as_strided((len(patch), *size, *shape), strides)
        found = torch.addmm(self.offset, seen.reshape(-1, len(self.taps)), self.taps)
        return found.relu_() if self.relu else found


class Reach(NamedTuple):
    """What a window changes in the input of one layer, or in what the last of them gives.

    Attributes:
        size: of what is new there.
        start: where it begins, in padded planes, by the row and the column of the window.
        read: size of the patch around it that the new outputs see.
        begin: where that begins, likewise.
    """

    size: Size
    start: tuple[Tensor, Tensor]
    read: Size
    begin: tuple[Tensor, Tensor]


class Nearby:
    """Inputs, what a chain of layers makes of them, and of the same with a window changed.

    Attributes:
        logits: of the inputs themselves, (samples, classes).
    """

    def __init__(
        self,
        chain: Chain,
        x: Tensor,
        width: int,
        pay: Callable[[Tensor], None],
        see: Callable[[Tensor, Tensor, Tensor], None] | None = None,
    ) -> None:
        """``width``: inputs that are looked at together.

        ``pay`` is given the inputs (batch,) that are asked about, before they are; ``see`` the
        images, the answer and the same.
        """
        layers, size = list(chain.layers), (x.shape[2], x.shape[3])
        self._layers: list[Layer] = []
        while isinstance(conv := layers[0], BlockConvolution):
            relu = isinstance(layers[1], nn.ReLU)
            self._layers.append(Layer(conv, size, relu))
            size, layers = self._layers[-1].outputs, layers[1 + relu :]
        self._end, self._side = layers, size
        self._pay, self._see = pay, see
        parts = [self._known(part) for part in x.split(width)]
        *planes, self.logits = (torch.cat(part) for part in zip(*parts, strict=True))
        self._sides = [*(layer.padded for layer in self._layers), size]
        # The pixels of all samples, one after the other.
        self._planes = [plane.flatten(0, 2) for plane in planes]

    @torch.no_grad()
    def changed(self, edit: Edit) -> Tensor:
        """See attacks.base.Nearby.changed."""
        rows = edit.rows
        self._pay(rows)
        own = torch.arange(len(rows))
        new, found = edit.values.transpose(1, 2).flatten(0, 1), []
        reaches = self._reaches(edit.size)
        for layer, plane, side, reach in zip(
            self._layers, self._planes, self._sides, reaches, strict=False
        ):
            found.append(new)
            start, begin = (_corners(edit, at) for at in (reach.start, reach.begin))
            patch = plane.index_select(0, _pixels(rows, begin, reach.read, side))
            within = (start[0] - begin[0], start[1] - begin[1])
            patch.index_copy_(0, _pixels(own, within, reach.size, reach.read), new)
            size = layer.axes[0].reached(reach.size[0]), layer.axes[1].reached(reach.size[1])
            new = layer(patch.view(len(rows), *reach.read, -1), size)
        found.append(new)
        self._asked = _Asked(edit, found)
        # Whole planes are copied at once: row by row, not pixel by pixel.
        planes = self._planes[-1].view(len(self.logits), -1).index_select(0, rows)
        planes = planes.view(-1, new.shape[1])
        corner, last = _corners(edit, reaches[-1].start), reaches[-1].size
        planes.index_copy_(0, _pixels(own, corner, last, self._side), new)
        scores = self._scores(planes.view(len(rows), *self._side, -1))
        if self._see is not None:
            self._see(self._images(edit), scores, rows)
        return scores

    def take(self, places: Tensor) -> None:
        """See attacks.base.Nearby.take."""
        edit, found = self._asked
        taken, reaches = edit.at(places), self._reaches(edit.size)
        for plane, side, reach, new in zip(self._planes, self._sides, reaches, found, strict=True):
            grid = _pixels(taken.rows, _corners(taken, reach.start), reach.size, side)
            own = new.view(len(edit.rows), -1, new.shape[1]).index_select(0, places)
            plane.index_copy_(0, grid, own.flatten(0, 1))

    def _known(self, x: Tensor) -> list[Tensor]:
        """Inputs of all convolutions, padded, what the last of them gives, and the scores."""
        kept = []
        for layer in self._layers:
            kept.append(layer.pad(x))
            found = layer(kept[-1], layer.outputs).view(len(x), *layer.outputs, -1)
            x = found.permute(0, 3, 1, 2)
        last = x.permute(0, 2, 3, 1)
        return [*kept, last, self._scores(last)]

    def _scores(self, planes: Tensor) -> Tensor:
        scores = planes.permute(0, 3, 1, 2)
        for layer in self._end:
            scores = layer(scores)
        return scores

    def _images(self, edit: Edit) -> Tensor:
        """The inputs that are asked about."""
        first = self._layers[0]
        planes = self._planes[0].view(len(self.logits), -1).index_select(0, edit.rows)
        corner = _corners(edit, self._reaches(edit.size)[0].start)
        grid = _pixels(torch.arange(len(edit.rows)), corner, edit.size, first.padded)
        planes = planes.view(-1, edit.values.shape[1])
        planes.index_copy_(0, grid, edit.values.transpose(1, 2).flatten(0, 1))
        return first.inside(planes.view(len(edit.rows), *first.padded, -1))

    def _reaches(self, size: Size) -> list[Reach]:
        return _reaches(tuple(layer.axes for layer in self._layers), size)


class _Asked(NamedTuple):
    """What was asked about last, and what was new for each layer and after the last."""

    edit: Edit
    new: list[Tensor]


@functools.lru_cache(maxsize=32)
def _reaches(layers: tuple[tuple[Axis, Axis], ...], size: Size) -> list[Reach]:
    """What windows of a size change in each layer, and what they change in the end."""
    found = []
    down, right = (
        torch.arange(axis.length - side + 1) for axis, side in zip(layers[0], size, strict=True)
    )
    for rows, columns in layers:
        after = rows.reached(size[0]), columns.reached(size[1])
        below, beside = rows.first(down, after[0]), columns.first(right, after[1])
        start = (down + rows.padding, right + columns.padding)
        begin = (below * rows.stride, beside * columns.stride)
        found.append(Reach(size, start, (rows.read(after[0]), columns.read(after[1])), begin))
        size, down, right = after, below, beside
    return [*found, Reach(size, (down, right), size, (down, right))]


def _corners(edit: Edit, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return at[0].index_select(0, edit.top), at[1].index_select(0, edit.left)


def _pixels(rows: Tensor, corner: tuple[Tensor, Tensor], size: Size, side: Size) -> Tensor:
    """Pixels of rectangles of a size, in planes with those sides that lie one after the other."""
    first = (rows * side[0] + corner[0]) * side[1] + corner[1]
    return (first[:, None] + _inside(size, side[1])).flatten()


@functools.lru_cache(maxsize=128)
def _inside(size: Size, line: int) -> Tensor:
    return (torch.arange(size[0])[:, None] * line + torch.arange(size[1])).flatten()


def chain_for(model: nn.Module, x: Tensor, window: Size) -> Chain | None:
    """The chain inside a model, where windows in inputs like ``x`` are asked about for less."""
    chain = model.model if isinstance(model, ChannelsLast) else model
    if not isinstance(chain, Chain) or x.ndim != 4 or x.device.type != "cpu":
        return None
    layers, size = list(chain.layers), (x.shape[2], x.shape[3])
    convolutions = 0
    while isinstance(conv := layers.pop(0) if layers else None, BlockConvolution):
        layer = Layer(conv, size, relu=False)
        if not all(axis.complete for axis in layer.axes):
            return None
        size = layer.outputs
        window = (layer.axes[0].reached(window[0]), layer.axes[1].reached(window[1]))
        convolutions += 1
        if layers and isinstance(layers[0], nn.ReLU):
            layers.pop(0)
    saves = convolutions and window[0] * window[1] <= MOST * size[0] * size[1]
    return chain if saves and isinstance(conv, FlatLinear) else None
