"""What a search may spend, noticed at its next query, and what is kept when it is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


class Limit(StrEnum):
    """What may run out."""

    PASSES = "passes"
    SECONDS = "seconds"


class BudgetSpent(BaseException):
    """Ends an attack at the query it may no longer make.

    No component is at fault, so nothing that looks for faults may catch it: like an interrupt it
    is no Exception. The shard answers it.
    """


@dataclass
class Budget:
    """What the attacks of one shard may still spend.

    Attributes:
        passes: passes of the model, forward or backward, of single samples; None for no limit.
        deadline: by time.monotonic, which all processes of a machine share; None for no limit.
        over: what has run out. Then no query is answered any more, not even a cheaper one.
    """

    passes: int | None = None
    deadline: float | None = None
    over: Limit | None = None

    @property
    def limited(self) -> bool:
        """Whether anything can run out."""
        return self.passes is not None or self.deadline is not None

    def spend(self, passes: int) -> None:
        """Pay for a query before it is made; BudgetSpent if it cannot be paid."""
        if self.over is None and past(self.deadline):
            self.over = Limit.SECONDS
        if self.over is None and self.passes is not None and passes > self.passes:
            self.over = Limit.PASSES
        if self.over is not None:
            raise BudgetSpent(self.over)
        if self.passes is not None:
            self.passes -= passes

    def give_back(self, passes: int) -> None:
        """Take back what was paid for work that is begun again."""
        if self.passes is not None:
            self.passes += passes


def past(deadline: float | None) -> bool:
    """Whether a deadline, by time.monotonic, is over."""
    return deadline is not None and time.monotonic() >= deadline


class Witness:
    """The first allowed input of each sample that a target was asked about and got wrong.

    An attack returns what it found at its end only; this is what is left of one that was stopped.

    Attributes:
        x_adv: those inputs, shape of ``x``; ``x`` itself where there is none.
        found: where there is one, bool of shape (batch,).
    """

    def __init__(self, x: Tensor, y: Tensor, samples: Tensor, threat: ThreatModel) -> None:
        self.x_adv = x.clone()
        self.found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._x, self._y, self._samples, self._threat = x, y, samples, threat

    def see(self, x_adv: Tensor, scores: Tensor, streams: Streams) -> None:
        """Look at one query and its answer."""
        rows = torch.searchsorted(self._samples, streams.samples)
        new = (scores.argmax(1) != self._y[rows]) & ~self.found[rows]
        places = new.nonzero().squeeze(1)
        if len(places) == 0:
            return
        rows, x_adv = rows[places], x_adv.detach()[places]
        for place in _allowed(self._threat, x_adv, self._x[rows]).nonzero().squeeze(1).tolist():
            # One by one: a query may hold a sample several times, and the first is to stay.
            row = int(rows[place])
            if not self.found[row]:
                self.found[row] = True
                self.x_adv[row] = x_adv[place]


def _allowed(threat: ThreatModel, x_adv: Tensor, x: Tensor) -> Tensor:
    """Which inputs ThreatModel.check would pass, bool of shape (batch,)."""
    inside = ((x_adv >= threat.low) & (x_adv <= threat.high)).flatten(1).all(1)
    return inside & (threat.distance(x_adv, x) <= threat.eps + threat.rounding(x))
