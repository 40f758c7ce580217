"""The layers that can be bounded: affine maps, ReLU and max pooling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]


class Layer(ABC):
    """What a node does. Tensors have a batch first; shapes are those of one row, without it."""

    @abstractmethod
    def value(self, *inputs: Tensor) -> Tensor:
        """The output for these inputs."""


class Affine(Layer):
    """``W x + b``, of one input or of several.

    Attributes:
        terms: at most so many products are summed for a value of the output, or, transposed, of
            an input; 0 where values are only moved. It scales the bound on rounding errors.
    """

    terms: int = 0

    @abstractmethod
    def linear(self, *inputs: Tensor) -> Tensor:
        """``W x``."""

    @abstractmethod
    def absolute(self, *inputs: Tensor) -> Tensor:
        """``|W| x``, with the absolute values of all coefficients."""

    @abstractmethod
    def transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """``W^T`` applied to each row, (rows, ...) of the output's shape; one result an input."""

    def absolute_transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """``|W|^T`` applied to each row; the same as ``transposed`` if no coefficient is < 0."""
        return self.transposed(rows, shapes)

    @property
    def bias(self) -> Tensor | None:
        """``b``, broadcast against the output's shape; None for 0."""
        return None

    def value(self, *inputs: Tensor) -> Tensor:
        """See Layer."""
        bias = self.bias
        return self.linear(*inputs) if bias is None else self.linear(*inputs) + bias


class Input(Layer):
    """The place where the network is fed."""

    def value(self, *inputs: Tensor) -> Tensor:
        """See Layer."""
        return inputs[0]


class ReLU(Layer):
    """``max(z, 0)`` of each value."""

    def value(self, *inputs: Tensor) -> Tensor:
        """See Layer."""
        return inputs[0].relu()


@dataclass(frozen=True, eq=False)
class MaxPool(Layer):
    """The largest value of each window.

    Attributes:
        pool: from planes to their largest values and where these are.
        disjoint: no value is in two windows.
    """

    pool: Callable[..., tuple[Tensor, Tensor]]
    disjoint: bool

    def value(self, *inputs: Tensor) -> Tensor:
        """See Layer."""
        return self.pool(inputs[0])[0]

    def largest(self, values: Tensor) -> Tensor:
        """Where in each window the largest value is, as an index into the flat plane."""
        return self.pool(values)[1]


@dataclass(frozen=True, eq=False)
class Dense(Affine):
    """A fully connected layer, on the last dimension."""

    module: nn.Linear

    @property
    def terms(self) -> int:  # type: ignore[override]
        """See Affine."""
        return max(self.module.in_features, self.module.out_features)

    @property
    def bias(self) -> Tensor | None:
        """See Affine."""
        return self.module.bias

    def linear(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return F.linear(inputs[0], self.module.weight)

    def absolute(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return F.linear(inputs[0], self.module.weight.abs())

    def transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return (rows @ self.module.weight,)

    def absolute_transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return (rows @ self.module.weight.abs(),)


@dataclass(frozen=True, eq=False)
class Convolution(Affine):
    """A convolution over planes, padded with zeros."""

    module: nn.Conv2d

    @property
    def terms(self) -> int:  # type: ignore[override]
        """See Affine."""
        channels = max(self.module.in_channels, self.module.out_channels) // self.module.groups
        return channels * prod(self.module.kernel_size)

    @property
    def bias(self) -> Tensor | None:
        """See Affine."""
        bias = self.module.bias
        return None if bias is None else bias.view(-1, 1, 1)

    def linear(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return self.convolved(inputs[0], self.module.weight)

    def absolute(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return self.convolved(inputs[0], self.module.weight.abs())

    def convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        """The same convolution with another weight, without bias."""
        m = self.module
        return F.conv2d(x, weight, None, m.stride, self.padding, m.dilation, m.groups)

    def transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return (self._spread(rows, self.module.weight, shapes[0]),)

    def absolute_transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return (self._spread(rows, self.module.weight.abs(), shapes[0]),)

    def _spread(self, rows: Tensor, weight: Tensor, shape: Shape) -> Tensor:
        m = self.module
        # Pixels at the far edge that no window reached, for the stride, get zeros back.
        unread = [
            size - ((out - 1) * step - 2 * pad + gap * (kernel - 1) + 1)
            for size, out, step, pad, gap, kernel in zip(
                shape[1:],
                rows.shape[2:],
                m.stride,
                self.padding,
                m.dilation,
                m.kernel_size,
                strict=True,
            )
        ]
        return F.conv_transpose2d(
            rows, weight, None, m.stride, self.padding, unread, m.groups, m.dilation
        )

    @property
    def padding(self) -> tuple[int, ...]:
        """Zeros before and after each side of a plane."""
        m = self.module
        if m.padding == "valid":
            return (0, 0)
        if m.padding == "same":  # of odd windows: others were refused
            return tuple(
                gap * (kernel - 1) // 2
                for gap, kernel in zip(m.dilation, m.kernel_size, strict=True)
            )
        return tuple(int(pad) for pad in m.padding)


@dataclass(frozen=True, eq=False)
class Sum(Affine):
    """The sum of inputs of one shape, each with a sign; or the double of one that comes twice."""

    signs: tuple[int, ...]

    @property
    def terms(self) -> int:  # type: ignore[override]
        """See Affine."""
        return len(self.signs)

    def linear(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return sum_of([x if sign > 0 else -x for sign, x in zip(self.signs, inputs, strict=True)])

    def absolute(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return sum_of(list(inputs))

    def transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return tuple(rows if sign > 0 else -rows for sign in self.signs)

    def absolute_transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return tuple(rows for _ in self.signs)


@dataclass(frozen=True, eq=False)
class Gather(Affine):
    """Values moved, dropped, filled up with zeros or averaged: no coefficient is negative.

    Attributes:
        function: (rows, ...) -> (rows, ...), linear, each row by itself, for any number of rows.
        terms: see Affine.
    """

    function: Callable[[Tensor], Tensor]
    terms: int = 0

    def linear(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return self.function(inputs[0])

    def absolute(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return self.function(inputs[0])

    def transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine. A linear map's transpose is its gradient."""
        with torch.enable_grad():
            x = rows.new_zeros(len(rows), *shapes[0], requires_grad=True)
            return torch.autograd.grad(self.function(x), x, rows, create_graph=rows.requires_grad)


@dataclass(frozen=True, eq=False)
class Reshape(Affine):
    """The same values in another shape."""

    shape: Shape

    def linear(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return inputs[0].reshape(-1, *self.shape)

    def absolute(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return self.linear(*inputs)

    def transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return (rows.reshape(-1, *shapes[0]),)


def sum_of(parts: list[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
