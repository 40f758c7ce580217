"""What one iteration of the Square Attack proposes, in each norm, written into windows only.

Source: Andriushchenko et al. 2020, arXiv:1912.00049, algorithms 2 (linf) and 3 (l2); l1 as in the
authors' AutoAttack. The window and the signs are each sample's own, and a window may lie at the
last row and column, where the published code puts none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.attacks.base import Edit
from robustcode.attacks.windows import Frame, Turns
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

# Of unit vectors: what adds up to less than this cancelled out, up to rounding.
CANCELLED = 1e-5
TINY = 1e-12


class Moves(ABC):
    """The proposals of one restart for some samples, all kept as flattened rows.

    Attributes:
        threat: what is allowed.
        frame: of one sample.
        x: the samples, shape (samples, values).
        x_adv: where they are; changed by ``take``.
        turns: which proposals are made in this block of iterations.
        windowed: whether a proposal is a single window, so that ``edits`` has them.
    """

    windowed: ClassVar[bool] = False
    turns: Turns

    def __init__(self, threat: ThreatModel, frame: Frame, x: Tensor, streams: Streams) -> None:
        self.threat, self.frame, self.x = threat, frame, x
        self.x_adv = self._start(streams)

    def begin(self, turns: Turns) -> None:
        """Make the proposals of another block from now on."""
        self.turns = turns
        self.inside = turns.window.inside.to(self.x.device)

    def take(self, rows: Tensor, x_adv: Tensor) -> None:
        """Go on from other inputs for some samples."""
        self.x_adv.index_copy_(0, rows, x_adv)

    def changes(self, rows: Tensor, turn: Tensor) -> Tensor:
        """Whether proposals differ from where their samples are, bool (batch,).

        True where that is not known without making them.
        """
        return torch.ones_like(rows, dtype=torch.bool)

    def edits(self, rows: Tensor, turn: Tensor) -> Edit:
        """``proposals`` as the windows that they write."""
        raise NotImplementedError

    def write(self, edit: Edit) -> None:
        """``take``, given what ``edits`` gave."""
        raise NotImplementedError

    @abstractmethod
    def proposals(self, rows: Tensor, turn: Tensor) -> Tensor:
        """Inputs of shape (batch, values) from samples ``rows`` at iterations ``turn``."""

    @abstractmethod
    def _start(self, streams: Streams) -> Tensor:
        """Where the search begins, shape (samples, values)."""


class Signs(Moves):
    """In linf every value is at one of its two bounds, and a window takes one sign a channel."""

    windowed = True

    def __init__(self, threat: ThreatModel, frame: Frame, x: Tensor, streams: Streams) -> None:
        self.bounds = torch.stack(threat.region(x))  # lower and upper (2, samples, values)
        super().__init__(threat, frame, x, streams)

    def begin(self, turns: Turns) -> None:
        """See Moves.begin."""
        super().begin(turns)
        self.corners = turns.window.corners.to(self.x.device)
        self.signs = turns.signs.flatten(0, 1)

    def changes(self, rows: Tensor, turn: Tensor) -> Tensor:
        """See Moves.changes. Few windows agree in their corners, and only those are looked at."""
        differ = self._differ(rows, turn, self.corners)
        alike = (~differ).nonzero().squeeze(1)
        if len(alike):
            differ[alike] = self._differ(rows[alike], turn[alike], self.inside)
        return differ

    def proposals(self, rows: Tensor, turn: Tensor) -> Tensor:
        """See Moves.proposals."""
        made = self.x_adv.index_select(0, rows)
        where, side = self._drawn(rows, turn)
        values = self._values(where, side, rows)
        own = torch.arange(len(rows), device=rows.device) * self.frame.values
        made.view(-1).put_((where + own)[:, None, None] + self.inside, values)
        return made

    def edits(self, rows: Tensor, turn: Tensor) -> Edit:
        """See Moves.edits."""
        window = self.turns.window
        where, side = self._drawn(rows, turn)
        top = where.div(self.frame.width, rounding_mode="floor")
        values = self._values(where, side, rows)
        return Edit(
            rows, (window.height, window.width), top, where - top * self.frame.width, values
        )

    def write(self, edit: Edit) -> None:
        """See Moves.write."""
        corner = edit.rows * self.frame.values + edit.top * self.frame.width + edit.left
        self.x_adv.view(-1).put_(corner[:, None, None] + self.inside, edit.values)

    def _differ(self, rows: Tensor, turn: Tensor, part: Tensor) -> Tensor:
        """Whether a part of the windows differs from where the samples are, bool (batch,)."""
        where, side = self._drawn(rows, turn)
        where += rows * self.frame.values
        here = self.x_adv.take(where[:, None, None] + part)
        there = self.bounds.take(where[:, None, None] + side[:, :, None] + part)
        return (here != there).flatten(1).any(1)

    def _values(self, where: Tensor, side: Tensor, rows: Tensor) -> Tensor:
        """What windows take from the bounds, (batch, channels, pixels)."""
        sources = (where + rows * self.frame.values)[:, None] + side
        places = sources[:, :, None] + self.inside
        # Of one row of numbers this takes a third of the time of take().
        return self.bounds.view(-1).index_select(0, places.flatten()).view(places.shape)

    def _drawn(self, rows: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Where windows begin, (batch,), and which bound each channel takes, (batch, channels)."""
        places = self.turns.places(rows, turn)
        # Where the bound of each sign is among both, from where the lower one is.
        side = self.signs.index_select(0, places).long().mul_(self.x.numel())
        return self.turns.of(self.turns.corner, places), side

    def _start(self, streams: Streams) -> Tensor:
        """Stripes: one sign for each column of each channel."""
        frame = self.frame
        up = streams.child("stripes").integers(2, frame.channels, 1, frame.width).bool()
        up = up.expand(-1, -1, frame.height, -1).flatten(1)
        return torch.where(up, self.bounds[1], self.bounds[0])


class Bumps(Moves):
    """In l2 and l1 the budget of two windows goes into one, added to what is there.

    Nothing changes outside the two: they give away what they had and take what the sample has
    not spent, so that its perturbation is as long as eps before the box cuts it.
    """

    def __init__(self, threat: ThreatModel, frame: Frame, x: Tensor, streams: Streams) -> None:
        super().__init__(threat, frame, x, streams)
        self.spent = self._length(self.x_adv - x)  # (samples,)

    def begin(self, turns: Turns) -> None:
        """See Moves.begin."""
        super().begin(turns)
        self.bumps = turns.window.bumps(self.threat.norm).to(self.x)
        self.signs = turns.signs.flatten(0, 1)

    def take(self, rows: Tensor, x_adv: Tensor) -> None:
        """See Moves.take."""
        super().take(rows, x_adv)
        self.spent[rows] = self._length(x_adv - self.x.index_select(0, rows))

    def proposals(self, rows: Tensor, turn: Tensor) -> Tensor:
        """See Moves.proposals."""
        made, x = self.x_adv.index_select(0, rows), self.x.index_select(0, rows)
        places = self.turns.places(rows, turn)
        own = torch.arange(len(rows), device=rows.device) * self.frame.values
        place = (own + self.turns.of(self.turns.corner, places))[:, None, None] + self.inside
        other = (own + self.turns.of(self.turns.other, places))[:, None, None] + self.inside
        at, at_other = x.take(place), x.take(other)
        here = made.take(place) - at
        made.view(-1).put_(place, at)
        # What both windows cover counts once: it is empty by now.
        there = made.take(other) - at_other
        made.view(-1).put_(other, at_other)
        had = self._length(here)
        signs = (self.signs.index_select(0, places).to(x) * 2 - 1)[:, :, None]
        turned = self.turns.of(self.turns.turned, places)
        bump = self.bumps.index_select(0, turned)[:, None]
        shape = bump * signs + here / had.clamp(min=TINY)[:, :, None]
        length = self._length(shape)
        budget = self._budget(self.spent[rows, None], had, self._length(there))
        shape *= (budget / length.clamp(min=TINY))[:, :, None]
        made.view(-1).put_(place, (at + shape).clamp_(self.threat.low, self.threat.high))
        return self._allowed(made, x, (length < CANCELLED).any(1))

    @abstractmethod
    def _budget(self, spent: Tensor, had: Tensor, emptied: Tensor) -> Tensor:
        """Length of each channel of the written window, (batch, channels).

        Given that of the whole perturbation (batch, 1), and of both windows' channels. What is
        left over may be negative by rounding, and is then taken back.
        """

    @abstractmethod
    def _allowed(self, made: Tensor, x: Tensor, cancelled: Tensor) -> Tensor:
        """Proposals as they are allowed; where something ``cancelled``, some length is missing."""

    def _length(self, values: Tensor) -> Tensor:
        order = 2 if self.threat.norm is Norm.L2 else 1
        return torch.linalg.vector_norm(values, ord=order, dim=-1)

    def _tiled(self, streams: Streams) -> Tensor:
        """A bump on every tile with a sign for each channel, shape (samples, values)."""
        tile, positions = self.frame.tiles()
        streams = streams.child("tiles")
        signs = streams.child("signs").integers(2, len(positions), self.frame.channels) * 2 - 1
        turned = streams.child("turned").integers(2, len(positions))
        bumps = tile.bumps(self.threat.norm).to(self.x)[turned]  # (samples, tiles, pixels)
        delta = torch.zeros_like(self.x)
        rows = torch.arange(len(self.x), device=self.x.device)
        for number, position in enumerate(positions):
            begin = rows * self.frame.values + tile.corner(torch.full_like(rows, position))
            place = begin[:, None, None] + tile.inside.to(rows.device)
            delta.view(-1).put_(place, bumps[:, number, None] * signs[:, number, :, None])
        return delta


class L2Bumps(Bumps):
    """Squares of lengths are what is shared out."""

    def _budget(self, spent: Tensor, had: Tensor, emptied: Tensor) -> Tensor:
        left = (self.threat.eps**2 - spent.square()) / self.frame.channels
        return (left + had.square() + emptied.square()).clamp_(min=0).sqrt_()

    def _allowed(self, made: Tensor, x: Tensor, cancelled: Tensor) -> Tensor:
        """Stretched to length eps again."""
        if cancelled.any():
            made[cancelled] = self._stretched(made[cancelled] - x[cancelled], x[cancelled])
        return made

    def _start(self, streams: Streams) -> Tensor:
        return self._stretched(self._tiled(streams), self.x)

    def _stretched(self, delta: Tensor, x: Tensor) -> Tensor:
        scale = self.threat.eps / self._length(delta).clamp(min=TINY)
        return (x + delta * scale[:, None]).clamp_(self.threat.low, self.threat.high)


class L1Bumps(Bumps):
    """The window takes as much in every channel, and the nearest allowed input is proposed."""

    def _budget(self, spent: Tensor, had: Tensor, emptied: Tensor) -> Tensor:
        left = (self.threat.eps - spent) / self.frame.channels
        return (left + had + emptied).clamp_(min=0) * self.frame.channels

    def _allowed(self, made: Tensor, x: Tensor, cancelled: Tensor) -> Tensor:
        # With one channel there is nothing beyond eps to take back.
        return made if self.frame.channels == 1 else self.threat.project(made, x)

    def _start(self, streams: Streams) -> Tensor:
        return self.threat.project(self.x + self._tiled(streams), self.x)


MOVES: dict[Norm, type[Moves]] = {Norm.LINF: Signs, Norm.L2: L2Bumps, Norm.L1: L1Bumps}
