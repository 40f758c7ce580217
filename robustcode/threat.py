"""Threat models: what an adversary may do to one input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.components import number
from robustcode.errors import ConfigError, ContractError
from robustcode.registry import suggestion
from robustcode.seeds import Streams

# x + delta is rounded in the units of x, so what a correct attack overshoots scales with the
# box and the number of values, not with eps. Four roundings are noise; more is a bug.
ROUNDINGS = 4
# Both searches below end exactly after as many rounds as there are distinct kinks on their way;
# on real images that is under ten, and the bound only stops a loop that NaN would keep going.
MAX_ROUNDS = 100
# Share of coordinates that one l1 step moves: Tramer and Boneh 2019, arXiv:1904.13000, section 4
# (SLIDE moves those above the 99th percentile of the gradient).
L1_SHARE = 0.01


class Norm(StrEnum):
    """How far two inputs are from each other."""

    LINF = "linf"
    L2 = "l2"
    L1 = "l1"


# The order of the dual norm: what a unit perturbation gains most on a linear score.
DUAL = {Norm.LINF: 1.0, Norm.L2: 2.0, Norm.L1: torch.inf}


@dataclass(frozen=True, slots=True)
class ThreatModel:
    """Each input may move at most ``eps`` in ``norm`` and must stay in ``[low, high]``.

    ``eps`` is in the units of the input: 8/255 on images in [0, 1]. ``over_255`` is whether it was
    written as such a fraction, which is how it is printed, then; no number depends on it.
    """

    norm: Norm
    eps: float
    low: float = 0.0
    high: float = 1.0
    over_255: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not math.isfinite(self.eps):
            raise ConfigError(f"eps = {self.eps}: a budget is a finite number")
        if self.eps < 0:
            raise ConfigError(f"eps = {self.eps:g}: a budget cannot be negative")
        if self.norm is Norm.LINF and self.eps > self.high - self.low:
            raise ConfigError(
                f"eps = {self.eps:g} in linf is wider than the inputs' whole range "
                f"[{self.low:g}, {self.high:g}]; was it meant in units of 1/255, "
                f"as {self.eps:g}/255?"
            )

    @classmethod
    def parse(cls, text: str) -> ThreatModel:
        """Read ``linf:8/255``, ``l2:0.5`` or ``l1:12``."""
        name, colon, eps = text.partition(":")
        if not colon:
            raise ConfigError(f"threat {text!r} is not NORM:EPS; write for example linf:8/255")
        try:
            norm = Norm(name.strip().lower())
        except ValueError:
            raise ConfigError(
                f"threat {text!r}: no norm is called {name!r}.{suggestion(name, list(Norm))} "
                f"Known: {', '.join(Norm)}."
            ) from None
        value = number(eps.strip(), f"threat {text!r}: eps")
        return cls(norm, value, over_255=eps.strip().endswith("/255"))

    def __str__(self) -> str:
        return f"{self.norm}:{_written(self.eps, self.over_255)}"

    @property
    def geometry(self) -> Geometry:
        """How this norm measures, projects, ascends and draws."""
        return GEOMETRIES[self.norm]

    def with_eps(self, eps: float) -> ThreatModel:
        """The same norm and box with another budget, at most the whole box in linf."""
        if self.norm is Norm.LINF:
            eps = min(eps, self.high - self.low)
        return ThreatModel(self.norm, eps, self.low, self.high)

    def whole_box(self, values: int) -> float:
        """The eps with which any input of ``values`` numbers reaches any other in the box."""
        side = self.high - self.low
        return {Norm.LINF: side, Norm.L2: side * math.sqrt(values), Norm.L1: side * values}[
            self.norm
        ]

    def fits(self, values: int) -> None:
        """Raise ConfigError if eps is wider than the whole box of ``values`` numbers."""
        if self.eps > self.whole_box(values) * (1 + 1e-9):
            raise ConfigError(
                f"eps = {self.eps:g} in {self.norm} is wider than the whole box of {values} "
                f"values in [{self.low:g}, {self.high:g}], which is {self.whole_box(values):g}; "
                "was it meant in units of 1/255?"
            )

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Size of each perturbation, shape (batch,)."""
        move = (x_adv - x).flatten(1)
        if self.norm is Norm.LINF:
            # vector_norm takes ten times as long.
            return move.abs().amax(1)
        return torch.linalg.vector_norm(move, ord={Norm.L2: 2, Norm.L1: 1}[self.norm], dim=1)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The allowed inputs nearest to ``x_adv`` (in l2), shape (batch, ...).

        Exact for ball and box together, up to rounding: the nearest point of the intersection,
        not the box applied after the ball. ``x`` must lie in the box.
        """
        if self.eps == 0:  # the searches below would leave roundings of 1e-17
            return x.clone()
        return self.geometry.project(self, x_adv, x)

    def region(self, x: Tensor) -> tuple[Tensor, ...]:
        """What ``onto`` has to know of ``x``, each of its shape: computed once for many steps."""
        if self.norm is not Norm.LINF:
            return (x,)
        return (x - self.eps).clamp_(min=self.low), (x + self.eps).clamp_(max=self.high)

    def onto(self, region: tuple[Tensor, ...], x_adv: Tensor) -> Tensor:
        """``project`` onto what is allowed around what ``region`` was made of, perhaps in place."""
        if self.norm is not Norm.LINF:
            return self.project(x_adv, *region)
        return x_adv.clamp_(*region)

    def steepest(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The unit perturbation of each sample at ``x`` that gains most to first order.

        In l1 it moves the share ``L1_SHARE`` of coordinates that gain most and are not stopped
        by the box, all by the same amount. A zero gradient gives a zero step.
        """
        return self.geometry.steepest(self, gradient, x)

    def random(self, x: Tensor, streams: Streams) -> Tensor:
        """Points drawn uniformly from the ball around each input, then taken into the box.

        In linf that is the uniform distribution on ball and box together up to the mass that
        the box folds onto its faces.
        """
        return self.project(x + self.eps * self.geometry.random(x, streams), x)

    def check(self, x_adv: Tensor, x: Tensor, by: str) -> None:
        """Raise ContractError unless every input of ``x_adv`` is one the adversary may use."""
        if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
            raise ContractError(
                f"{by} returned {x_adv.dtype} of shape {tuple(x_adv.shape)} "
                f"for {x.dtype} of shape {tuple(x.shape)}"
            )
        if not x_adv.isfinite().all():
            raise ContractError(f"{by} returned NaN or infinity")
        if len(x) == 0:
            return
        if x_adv.min() < self.low or x_adv.max() > self.high:
            raise ContractError(
                f"{by} left [{self.low:g}, {self.high:g}]: "
                f"values span [{x_adv.min():g}, {x_adv.max():g}]"
            )
        furthest = self.distance(x_adv, x).max().item()
        if furthest > self.eps + self.rounding(x):
            raise ContractError(
                f"{by} moved an input by {furthest:g} in {self.norm}; eps = {self.eps:g}"
            )

    def rounding(self, x: Tensor) -> float:
        """How far past eps rounding alone may take a correct attack on inputs like ``x``."""
        values = x[0].numel()
        count = {Norm.LINF: 1.0, Norm.L2: math.sqrt(values), Norm.L1: float(values)}[self.norm]
        return ROUNDINGS * torch.finfo(x.dtype).eps * (self.high - self.low) * count


class Geometry(NamedTuple):
    """What depends on the norm, as functions of the threat model."""

    project: Callable[[ThreatModel, Tensor, Tensor], Tensor]
    steepest: Callable[[ThreatModel, Tensor, Tensor], Tensor]
    random: Callable[[Tensor, Streams], Tensor]


def column(per_sample: Tensor, like: Tensor) -> Tensor:
    """Shape (batch,) as (batch, 1, ..., 1), to broadcast against ``like``."""
    return per_sample.view(-1, *[1] * (like.ndim - 1))


def _project_linf(threat: ThreatModel, x_adv: Tensor, x: Tensor) -> Tensor:
    inside = torch.clamp(x_adv, x - threat.eps, x + threat.eps)
    return inside.clamp_(threat.low, threat.high)


def _project_l2(threat: ThreatModel, x_adv: Tensor, x: Tensor) -> Tensor:
    """The point x + clip(t v) with the largest t <= 1 that stays in the ball, v = x_adv - x.

    |clip(t v)|^2 = t^2 (sum of v^2 over the free coordinates) + (sum of room^2 over those
    that met the box). Solving for t on the current split and adding the coordinates that then
    meet the box climbs to the exact t, since a coordinate never leaves the box again.
    """
    v, room = _move_and_room(threat, x_adv, x)
    inside = torch.minimum(v.abs(), room).norm(dim=1) <= threat.eps
    scale = threat.eps / v.norm(dim=1).clamp(min=torch.finfo(v.dtype).tiny)
    for _ in range(MAX_ROUNDS):
        met = scale[:, None] * v.abs() >= room
        free = v.masked_fill(met, 0).square().sum(1)
        left = threat.eps**2 - room.masked_fill(~met, 0).square().sum(1)
        better = (left.clamp(min=0) / free.clamp(min=torch.finfo(v.dtype).tiny)).sqrt()
        better = torch.where(free > 0, better, scale).maximum(scale)
        if not (better > scale * (1 + 1e-12)).any():
            break
        scale = better
    scale = torch.where(inside, 1.0, scale.clamp(max=1.0))
    size = torch.minimum(scale[:, None] * v.abs(), room)
    return _rebuilt(threat, x, size * v.sign())


def _project_l1(threat: ThreatModel, x_adv: Tensor, x: Tensor) -> Tensor:
    """The point x + sign(v) min(max(|v| - t, 0), room) with the least t >= 0 in the ball.

    The size as a function of t falls along straight pieces whose kinks are at |v| - room and
    |v|; the kinks are sorted, the piece that holds eps is found and solved exactly.
    """
    v, room = _move_and_room(threat, x_adv, x)
    size = v.abs()
    inside = torch.minimum(size, room).sum(1) <= threat.eps
    starts = (size - room).clamp(min=0)
    kinks, order = torch.cat([starts, size], dim=1).sort(dim=1)
    # From its start a coordinate falls with slope 1 until it is zero.
    slopes = torch.cat([torch.ones_like(v), -torch.ones_like(v)], dim=1).gather(1, order)
    slope = slopes.cumsum(1)
    drop = slope[:, :-1] * kinks.diff(dim=1)
    total = torch.minimum(size, room).sum(1, keepdim=True)
    level = total - torch.cat([torch.zeros_like(total), drop.cumsum(1)], dim=1)
    piece = (level > threat.eps).sum(1).clamp(min=1, max=level.shape[1] - 1)[:, None] - 1
    over = level.gather(1, piece) - threat.eps
    t = kinks.gather(1, piece) + over / slope.gather(1, piece).clamp(min=1)
    t = torch.where(inside[:, None], 0.0, t)
    return _rebuilt(threat, x, torch.minimum((size - t).clamp(min=0), room) * v.sign())


def _move_and_room(threat: ThreatModel, x_adv: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The move in float64, and how far each value may go that way before it meets the box."""
    start = x.flatten(1).double()
    v = x_adv.flatten(1).double() - start
    room = torch.where(v > 0, threat.high - start, start - threat.low)
    return v, room.clamp(min=0)


def _rebuilt(threat: ThreatModel, x: Tensor, move: Tensor) -> Tensor:
    return (x.double() + move.view(x.shape)).to(x.dtype).clamp(threat.low, threat.high)


def _steepest_linf(threat: ThreatModel, gradient: Tensor, x: Tensor) -> Tensor:
    return gradient.sign()


def _steepest_l2(threat: ThreatModel, gradient: Tensor, x: Tensor) -> Tensor:
    tiny = torch.finfo(gradient.dtype).tiny
    # By its largest value first: the square of a float32 gradient of 1e-30 is zero.
    largest = gradient.flatten(1).abs().amax(1).clamp(min=tiny)
    scaled = gradient / column(largest, gradient)
    size = torch.linalg.vector_norm(scaled.flatten(1), dim=1).clamp(min=tiny)
    return scaled / column(size, gradient)


def _steepest_l1(threat: ThreatModel, gradient: Tensor, x: Tensor) -> Tensor:
    stopped = ((x >= threat.high) & (gradient > 0)) | ((x <= threat.low) & (gradient < 0))
    gain = gradient.masked_fill(stopped, 0).flatten(1)
    count = max(1, round(L1_SHARE * gain.shape[1]))
    largest = gain.abs().topk(count, dim=1).values[:, -1:]
    chosen = (gain.abs() >= largest) & (gain != 0)
    direction = gain.sign() * chosen
    return (direction / direction.abs().sum(1, keepdim=True).clamp(min=1)).view_as(gradient)


def _random_linf(x: Tensor, streams: Streams) -> Tensor:
    return streams.uniform(*x.shape[1:], dtype=x.dtype).mul_(2).sub_(1)


def _random_l2(x: Tensor, streams: Streams) -> Tensor:
    direction = streams.child("direction").normal(*x.shape[1:], dtype=x.dtype).flatten(1)
    radius = streams.child("radius").uniform(1, dtype=x.dtype) ** (1 / direction.shape[1])
    return (radius * direction / direction.norm(dim=1, keepdim=True)).view_as(x)


def _random_l1(x: Tensor, streams: Streams) -> Tensor:
    """Exponentials over their sum are uniform on the simplex; signs and a radius do the rest."""
    values = x[0].numel()
    size = -torch.log1p(-streams.child("direction").uniform(values, dtype=x.dtype))
    signs = streams.child("sign").integers(2, values) * 2 - 1
    radius = streams.child("radius").uniform(1, dtype=x.dtype) ** (1 / values)
    return (radius * signs * size / size.sum(1, keepdim=True)).view_as(x)


GEOMETRIES = {
    Norm.LINF: Geometry(_project_linf, _steepest_linf, _random_linf),
    Norm.L2: Geometry(_project_l2, _steepest_l2, _random_l2),
    Norm.L1: Geometry(_project_l1, _steepest_l1, _random_l1),
}


def _written(eps: float, over_255: bool) -> str:
    """The shortest text that reads back equal, or ``8/255`` for what no few digits write.

    A few digits are what a person typed, though they be a whole number of 255ths: 0.2 stays 0.2.
    """
    over = Fraction(eps * 255).limit_denominator(4)
    if 0 < eps < 1 and over.denominator == 1 and (over_255 or float(f"{eps:g}") != eps):
        text = f"{over.numerator}/255"
        if number(text, "eps") == eps:
            return text
    return repr(eps)
