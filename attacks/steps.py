"""How far APGD steps: per sample, from how its loss has gone since it was last looked at."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from robustcode.threat import Norm, ThreatModel

# Croce and Hein 2020, arXiv:2003.01690, section 3.2: the first checkpoint as a share of all steps,
# by how much the distance to the next one shrinks, and what it shrinks to.
FIRST, SHRINK, LEAST = 0.22, 0.03, 0.06
# The same paper, algorithm 1: weight of the new step against the last move.
MOMENTUM = 0.75
# Croce and Hein 2021, arXiv:2103.01208, section 3.3, and AutoAttack's code where the paper leaves
# the number open: distance of checkpoints, coordinates moved at first, how many of those that the
# best point moves are moved next, when the number has shrunk, by what a step shrinks, and to what.
SPARSE_EVERY, SHARE, SPARSER, SHRUNK, SLOWER, SLOWEST = 0.04, 0.2, 1.5, 0.95, 1.5, 10.0
# What projections leave of a value that they put back, in units of the last place of the largest.
ULPS = 4

P = TypeVar("P", "Halving", "Sparse")


class Pace(Protocol):
    """The control of the steps of some rows, each by itself."""

    def moved(
        self, x_adv: Tensor, before: Tensor, gradient: Tensor, region: tuple[Tensor, ...]
    ) -> Tensor:
        """Where one step takes each row (rows, values); ``gradient`` is used up."""
        ...

    def saw(self, loss: Tensor) -> None:
        """Take note of the loss (rows,) at the point that the last step led to."""
        ...

    def checked(self, number: int, top: Tensor, top_loss: Tensor) -> Tensor | None:
        """At a checkpoint after step ``number``, which rows go back to their ``top``; else None."""
        ...

    def __getitem__(self, rows: Tensor) -> Self:
        """The control of some of the rows."""
        ...


def pace_for(
    threat: ThreatModel,
    x: Tensor,
    loss: Tensor,
    steps: int,
    rho: float,
    start: Tensor | None = None,
) -> Pace:
    """The control that fits the norm, for rows ``x`` (rows, values) whose loss is ``loss``.

    In l1 it is as sparse at first as the ``start``, if one is given, moves its rows.
    """
    if threat.norm is Norm.L1:
        return Sparse.start(threat, x, steps, start)
    return Halving.start(threat, loss, steps, rho)


def checkpoints(steps: int) -> Iterator[int]:
    """After how many steps the loss is looked at, ascending.

    >>> list(checkpoints(100))
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    distance, number = max(int(FIRST * steps), 1), 0
    while (number := number + distance) <= steps:
        yield number
        distance = max(distance - max(int(SHRINK * steps), 1), max(int(LEAST * steps), 1))


@dataclass
class Halving:
    """Momentum steps that halve where the loss stalls or swings (linf and l2).

    Source: Croce and Hein 2020, arXiv:2003.01690, algorithm 1. With the condition on swings, the
    increases are counted from the step before, as the paper has it, and not from the best.

    Attributes:
        threat: what is allowed.
        looks: the checkpoints.
        rho: the share of steps since the last checkpoint that must have raised the loss.
        size: length of the next step, (rows,).
        rises: steps since the last checkpoint that raised the loss, (rows,).
        last: the loss after the last step, (rows,).
        halved: at the last checkpoint, bool (rows,).
        top: the best loss at the last checkpoint, (rows,).
        weight: of the next step against the last move; the first has none before it.
    """

    threat: ThreatModel
    looks: tuple[int, ...]
    rho: float
    size: Tensor
    rises: Tensor
    last: Tensor
    halved: Tensor
    top: Tensor
    weight: float = 1.0

    @classmethod
    def start(cls, threat: ThreatModel, loss: Tensor, steps: int, rho: float) -> Halving:
        """Steps as long as the ball is wide; no row is compared with anything yet."""
        return cls(
            threat,
            tuple(checkpoints(steps)),
            rho,
            torch.full_like(loss, 2 * threat.eps),
            torch.zeros_like(loss),
            loss,
            torch.ones_like(loss, dtype=torch.bool),
            loss,
        )

    def moved(
        self, x_adv: Tensor, before: Tensor, gradient: Tensor, region: tuple[Tensor, ...]
    ) -> Tensor:
        """See Pace.moved."""
        step = self.threat.steepest(gradient, x_adv).mul_(self.size[:, None]).add_(x_adv)
        step = self.threat.onto(region, step)
        new, old = self.weight, 1 - self.weight
        self.weight = MOMENTUM
        if not old:
            return step
        # x + .75 (step - x) + .25 (x - before), in the memory of the step.
        step.mul_(new).add_(x_adv, alpha=2 * old).sub_(before, alpha=old)
        return self.threat.onto(region, step)

    def saw(self, loss: Tensor) -> None:
        """See Pace.saw."""
        self.rises = self.rises + (loss > self.last)
        self.last = loss

    def checked(self, number: int, top: Tensor, top_loss: Tensor) -> Tensor | None:
        """See Pace.checked."""
        if number not in self.looks:
            return None
        place = self.looks.index(number)
        since = number - (self.looks[place - 1] if place else 0)
        swings = self.rises <= self.rho * since
        stalls = ~self.halved & (top_loss <= self.top)
        self.halved = swings | stalls
        self.size = torch.where(self.halved, self.size / 2, self.size)
        self.rises = torch.zeros_like(self.rises)
        self.top = top_loss
        return self.halved

    def __getitem__(self, rows: Tensor) -> Halving:
        return _chosen(self, rows)


@dataclass
class Sparse:
    """Steps along the coordinates that gain most, as many as the best point has use for (l1).

    Source: Croce and Hein 2021, arXiv:2103.01208, section 3.3.

    Attributes:
        threat: what is allowed.
        every: distance of checkpoints.
        x: the inputs, (rows, values).
        share: of the coordinates that the next step moves, (rows,).
        size: length of the next step, (rows,).
        moved_by_top: coordinates that the best point moved at the last checkpoint, (rows,).
    """

    threat: ThreatModel
    every: int
    x: Tensor
    share: Tensor
    size: Tensor
    moved_by_top: Tensor

    @classmethod
    def start(cls, threat: ThreatModel, x: Tensor, steps: int, start: Tensor | None) -> Sparse:
        """Steps of the whole budget along a fifth of the coordinates.

        Where the search goes on from a ``start`` (rows, values), along as many as that has use for.
        """
        rows = x.new_ones(len(x))
        every = max(int(SPARSE_EVERY * steps), 1)
        share, moved = SHARE * rows, x.shape[1] * rows
        if start is not None:
            moved = _moved(start, x, threat)
            share = moved / x.shape[1] / SPARSER
        return cls(threat, every, x, share, threat.eps * rows, moved)

    def moved(
        self, x_adv: Tensor, before: Tensor, gradient: Tensor, region: tuple[Tensor, ...]
    ) -> Tensor:
        """See Pace.moved."""
        values = x_adv.shape[1]
        ranked = gradient.abs().sort(dim=1).values
        # Rounded down: of two coordinates one must be able to remain.
        least = values - (self.share * values).long().clamp(1, values)
        chosen = gradient.abs() >= ranked.gather(1, least[:, None])
        direction = gradient.sign() * chosen
        length = direction.abs().sum(1, keepdim=True).clamp(min=1)
        return self.threat.onto(region, x_adv + self.size[:, None] * direction / length)

    def saw(self, loss: Tensor) -> None:
        """See Pace.saw: what counts here is where the best point is."""

    def checked(self, number: int, top: Tensor, top_loss: Tensor) -> Tensor | None:
        """See Pace.checked."""
        if number % self.every:
            return None
        moved = _moved(top, self.x, self.threat)
        sparser = moved < SHRUNK * self.moved_by_top
        self.share = moved / self.x.shape[1] / SPARSER
        slower = (self.size / SLOWER).clamp(min=self.threat.eps / SLOWEST)
        self.size = torch.where(sparser, torch.full_like(slower, self.threat.eps), slower)
        self.moved_by_top = moved
        return sparser

    def __getitem__(self, rows: Tensor) -> Sparse:
        return _chosen(self, rows)


def _moved(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """How many values of each row (rows, values) are moved by more than rounding, (rows,)."""
    least = ULPS * torch.finfo(x.dtype).eps * max(abs(threat.low), abs(threat.high))
    return ((x_adv - x).abs() > least).sum(1).to(x.dtype)


def _chosen(pace: P, rows: Tensor) -> P:
    twin = copy.copy(pace)
    for name, value in vars(pace).items():
        if isinstance(value, Tensor):
            setattr(twin, name, value[rows])
    return twin
