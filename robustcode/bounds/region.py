"""Where an input may be: a ball around it, perhaps within a box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcode.errors import ConfigError
from robustcode.threat import Norm

# Any multiplier gives a bound; after so many steps it is the best one to three digits or more.
MULTIPLIER_STEPS = 4


class Interval(NamedTuple):
    """Bounds on each value of a node, both (batch, ...)."""

    lower: Tensor
    upper: Tensor

    @property
    def size(self) -> Tensor:
        """The largest absolute value, (batch, ...)."""
        return torch.maximum(-self.lower, self.upper)

    def rows(self, index: Tensor) -> Interval:
        """Those of these samples."""
        return Interval(self.lower[index], self.upper[index])

    def within(self, other: Interval) -> Interval:
        """The intersection."""
        return Interval(
            torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        )


@dataclass(frozen=True, eq=False)
class Region:
    """All inputs within ``radius`` of ``x`` that lie in ``[low, high]``, if there is such a box.

    Attributes:
        x: the centres, (batch, ...), inside the box.
        radius: of each row, (batch,), in ``norm`` and in the units of ``x``.
        norm: what the radius is measured in.
        low: the least value an input may have; None where there is no box.
        high: the largest one, likewise.
    """

    x: Tensor
    radius: Tensor
    norm: Norm
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ConfigError(f"low = {self.low} and high = {self.high}: a box has both or neither")
        if self.radius.shape != (len(self.x),):
            raise ConfigError(
                f"radius has the shape {tuple(self.radius.shape)} for {len(self.x)} rows; give "
                "one radius a row"
            )

    def box(self) -> Interval:
        """The smallest box around it, widened by the rounding of its sides."""
        radius = self._column(self.radius)
        # Half a rounding of each sum; twice that, so that rounding the slack itself is covered.
        slack = torch.finfo(self.x.dtype).eps * (self.x.detach().abs() + radius)
        lower, upper = self.x - radius - slack, self.x + radius + slack
        if self.low is not None:
            lower, upper = lower.clamp(min=self.low), upper.clamp(max=self.high)
        return Interval(lower, upper)

    def least(self, rows: Tensor) -> Tensor:
        """The minimum of ``<rows, x>`` over the region, (batch, rows), for (batch, rows, ...).

        It is attained: exactly in linf and l1, with the box or without, and in l2 without. In l2
        with a box it is a lower bound, by a Lagrange multiplier that is close to the best.
        """
        a = rows.flatten(2)
        if self.norm is Norm.LINF:
            lower, upper = self.box()
            middle, side = (lower + upper) / 2, (upper - lower) / 2
            return _inner(a, middle.flatten(1)) - _inner(a.abs(), side.flatten(1))
        at_centre = _inner(a, self.x.flatten(1))
        if self.low is None:
            return at_centre - self.radius[:, None] * self.dual_norm(a)
        return at_centre - (self._gain_l1(a) if self.norm is Norm.L1 else self._gain_l2(a))

    def dual_norm(self, rows: Tensor) -> Tensor:
        """What a unit of the norm gains most on each row: its norm of the dual order, (..,)."""
        if self.norm is Norm.LINF:
            return rows.abs().sum(-1)
        if self.norm is Norm.L1:
            return rows.abs().amax(-1)
        return torch.linalg.vector_norm(rows, dim=-1)

    def rows(self, index: Tensor) -> Region:
        """The region of these samples."""
        return replace(self, x=self.x[index], radius=self.radius[index])

    def on(self, part: Callable[[Tensor], Tensor]) -> Region:
        """The region as far as a part of the input's values goes: what others do is not seen."""
        return replace(self, x=part(self.x))

    def to(self, dtype: torch.dtype) -> Region:
        """A region in another precision that holds all of this one."""
        if dtype == self.x.dtype:
            return self
        x = self.x.to(dtype)
        moved = (self.x.double() - x.double()).flatten(1)
        order = {Norm.LINF: torch.inf, Norm.L2: 2, Norm.L1: 1}[self.norm]
        further = torch.linalg.vector_norm(moved, ord=order, dim=1)
        radius = self.radius.double() + further
        # Up by more than the rounding to the new precision.
        radius = radius * (1 + 2 * torch.finfo(dtype).eps)
        return replace(self, x=x, radius=radius.to(dtype))

    def _gain_l1(self, a: Tensor) -> Tensor:
        """The radius spent where a unit of it gains most, as far as the box gives room."""
        gain, order = a.abs().sort(dim=2, descending=True)
        room = self._room(a).gather(2, order)
        # What is before a value alone: taking it from a sum with it would leave its rounding.
        before = F.pad(room.cumsum(2)[..., :-1], (1, 0))
        spent = (self.radius[:, None, None] - before).clamp(min=0).minimum(room)
        return (gain * spent).sum(2)

    def _gain_l2(self, a: Tensor) -> Tensor:
        """The most that can be gained, from above.

        For any multiplier m > 0, the sum of a_i d_i over a move d in the ball and the box is at
        most that of a_i d_i - m / 2 d_i^2, each at its own best d_i = min(a_i / m, room_i), plus
        m / 2 radius^2. The best m is the one at which the moves' length is the radius.
        """
        size, room, radius = a.abs(), self._room(a), self.radius[:, None]
        tiny = torch.finfo(a.dtype).tiny
        most = tiny**-0.5
        with torch.no_grad():
            step = radius / (size * (room > 0)).norm(dim=2).clamp(min=tiny)  # 1 / m
            for _ in range(MULTIPLIER_STEPS):
                free = step[..., None] * size < room
                left = radius**2 - (room * ~free).square().sum(2)
                length = (size * free).square().sum(2)
                better = (left.clamp(min=0) / length.clamp(min=tiny)).sqrt()
                # Where the box alone holds the move back, the best m is 0.
                step = torch.where(length > 0, better, most).maximum(step)
            m = 1 / step.clamp(min=1 / most, max=most)
        move = torch.minimum(size / m[..., None], room)
        length = move.square().sum(2)
        return (size * move).sum(2) + m / 2 * (radius**2 - length)

    def _room(self, a: Tensor) -> Tensor:
        """How far each value may go in the direction that lowers the row, (batch, rows, ...)."""
        assert self.low is not None
        assert self.high is not None
        x = self.x.flatten(1)[:, None]
        return torch.where(a > 0, x - self.low, self.high - x).clamp(min=0)

    def _column(self, per_row: Tensor) -> Tensor:
        return per_row.view(-1, *[1] * (self.x.ndim - 1))


def _inner(rows: Tensor, x: Tensor) -> Tensor:
    """(batch, rows, values) with (batch, values) -> (batch, rows)."""
    return (rows @ x[..., None]).squeeze(-1)
