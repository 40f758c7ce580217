"""Steps that follow a memory of past gradients, whatever found those gradients.

What sees a gradient and what makes a direction of those seen are left open: averages over draws
or differences of a loss; momentum of one kind or another. What every such search shares is here:
projection, the best input asked about, leaving, and comparison on held-out draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from robustcode.attacks.base import Target
from robustcode.attacks.climb import ROUNDING
from robustcode.attacks.expectation import more_broken, standing
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel, column


class View(NamedTuple):
    """What was seen at and around the iterates of some samples."""

    gradient: Tensor  # (batch, ...), the way up
    here: Tensor  # (batch,), mean margin at the iterate; NaN where no draw gives a number
    x: Tensor  # (batch, ...), the allowed input with the lowest margin that was asked about
    margin: Tensor  # (batch,), its margin
    scale: Tensor  # (batch,), losses.margin_scale there


class Place(NamedTuple):
    """Where some samples are."""

    x_adv: Tensor  # iterates, (batch, ...)
    x: Tensor  # the inputs they came from
    y: Tensor
    streams: Streams  # of this step


Look = Callable[[Place], View]


class Memory(Protocol):
    """Past gradients of every sample, and the direction that they make."""

    def direction(self, rows: Tensor, gradient: Tensor, x_adv: Tensor, number: int) -> Tensor:
        """A perturbation of about unit size for the samples ``rows``, given their new gradient.

        ``number`` counts the gradients seen so far, from 1.
        """
        ...


class Search(NamedTuple):
    """A search by steps along what a memory makes of what is seen.

    Attributes:
        target: is asked by ``look``, and here on held-out draws.
        threat: what is allowed.
        look: sees the gradients.
        memory: of past ones.
        steps: lengths of the steps, as fractions of eps.
        held_out: draws on which iterates are compared; for stochastic targets only.
    """

    target: Target
    threat: ThreatModel
    look: Look
    memory: Memory
    steps: tuple[float, ...]
    held_out: int

    def run(self, x: Tensor, y: Tensor, start: Tensor, streams: Streams) -> Tensor:
        """Proposals (batch, ...) from a ``start`` that is allowed."""
        find = self._stochastic if self.target.stochastic else self._deterministic
        return find(x, y, start, streams)

    def _deterministic(self, x: Tensor, y: Tensor, start: Tensor, streams: Streams) -> Tensor:
        x_adv, best = start.clone(), start.clone()
        lowest = x.new_full((len(x),), torch.inf)
        rows = torch.arange(len(x), device=x.device)
        for number, size in enumerate((*self.steps, None), 1):
            if len(rows) == 0:
                break
            at = Place(x_adv[rows], x[rows], y[rows], streams[rows].child("step", number))
            view = self.look(at)
            # Scores that are not numbers are no decision, so not the right one.
            lead = view.margin.to(lowest.dtype).nan_to_num(nan=-torch.inf)
            better = lead < lowest[rows]
            best[rows] = view.x.where(column(better, x), best[rows])
            lowest[rows] = lead.where(better, lowest[rows])
            going = lead >= -ROUNDING * view.scale
            if size is not None:
                x_adv[rows] = self._moved(rows, at, view.gradient, number, size)
            rows = rows[going]
        return best

    def _stochastic(self, x: Tensor, y: Tensor, start: Tensor, streams: Streams) -> Tensor:
        """Nothing leaves on a lucky draw: the last and the best seen iterate are compared."""
        x_adv, seen = start.clone(), start
        lowest = x.new_full((len(x),), torch.inf)
        rows = torch.arange(len(x), device=x.device)
        for number, size in enumerate(self.steps, 1):
            at = Place(x_adv, x, y, streams.child("step", number))
            view = self.look(at)
            lead = view.here.masked_fill(view.here.isnan(), -torch.inf)
            lower = lead < lowest
            seen = x_adv.where(column(lower, x), seen)
            lowest = lead.where(lower, lowest)
            x_adv = self._moved(rows, at, view.gradient, number, size)
        judged = streams.child("held out")
        last, before = (
            standing(self.target, candidate, y, judged, self.held_out)
            for candidate in (x_adv, seen)
        )
        return x_adv.where(column(more_broken(last, before), x), seen)

    def _moved(self, rows: Tensor, at: Place, gradient: Tensor, number: int, size: float) -> Tensor:
        way = self.memory.direction(rows, gradient, at.x_adv, number)
        return self.threat.project(at.x_adv + size * self.threat.eps * way, at.x)
