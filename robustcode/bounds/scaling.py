"""Layers that scale each value by itself: normalisations, batch norms and constants."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from robustcode.bounds.layers import Affine, Shape


class Scale(Affine):
    """Each value times a factor plus a shift, both broadcast against the shape of one row."""

    terms = 4  # the factor of a batch norm takes as many operations

    @property
    @abstractmethod
    def factor(self) -> Tensor:
        """What values are multiplied by."""

    def linear(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return inputs[0] * self.factor

    def absolute(self, *inputs: Tensor) -> Tensor:
        """See Affine."""
        return inputs[0] * self.factor.abs()

    def transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return (rows * self.factor,)

    def absolute_transposed(self, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """See Affine."""
        return (rows * self.factor.abs(),)


@dataclass(frozen=True, eq=False)
class Constant(Scale):
    """A factor and a shift that are given."""

    times: Tensor
    plus: Tensor | None = None

    @property
    def factor(self) -> Tensor:
        """See Scale."""
        return self.times

    @property
    def bias(self) -> Tensor | None:
        """See Affine."""
        return self.plus


@dataclass(frozen=True, eq=False)
class BatchNorm(Scale):
    """A batch norm with the statistics that it keeps; one factor and one shift a channel."""

    module: nn.BatchNorm1d | nn.BatchNorm2d
    dimensions: int

    @property
    def factor(self) -> Tensor:
        """See Scale."""
        m = self.module
        assert m.running_var is not None
        factor = (m.running_var + m.eps).rsqrt()
        return self._shaped(factor if m.weight is None else factor * m.weight)

    @property
    def bias(self) -> Tensor | None:
        """See Affine."""
        m = self.module
        assert m.running_mean is not None
        shift = -self._shaped(m.running_mean) * self.factor
        return shift if m.bias is None else shift + self._shaped(m.bias)

    def _shaped(self, channels: Tensor) -> Tensor:
        return channels.view(-1, *[1] * (self.dimensions - 1))
