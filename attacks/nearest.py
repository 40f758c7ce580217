"""What a search for the nearest wrong input keeps of all that it asks about, and proposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import Target
from robustcode.attacks.climb import ROUNDING
from robustcode.attacks.expectation import more_broken, standing
from robustcode.attacks.losses import margin_and_scale
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel, column

# Where distances are what is looked for, to be as sure as climb.ROUNDING would cost some 1 % of
# them; what rounding really does to logits is below this: see fast.LOGIT_ERROR.
FINE_ROUNDING = 1e-5


@dataclass
class Nearest:
    """Of each row the nearest wrong input within eps, and until there is one the lowest margin.

    An input is wrong when it is so by more than rounding, as in ``climb.Best``, or by more than a
    finer rounding where the search goes on for the distance's sake. Inputs further than eps are
    never kept: no attack may propose them.

    Attributes:
        x: where the search began, shape (batch, ...).
        y: right classes, shape (batch,).
        threat: what may be proposed.
        x_adv: what is kept, shape of ``x``; ``x`` itself where nothing allowed was asked about.
        margin: of what is kept, shape (batch,); infinite where it was not asked about.
        distance: of the nearest wrong input, shape (batch,); infinite where none is known.
        open: which rows are still to be improved, bool of shape (batch,).
        until_broken: whether a row closes as soon as a wrong input is known.
    """

    x: Tensor
    y: Tensor
    threat: ThreatModel
    x_adv: Tensor
    margin: Tensor
    distance: Tensor
    open: Tensor
    until_broken: bool

    @classmethod
    def of(cls, x: Tensor, y: Tensor, threat: ThreatModel, until_broken: bool) -> Nearest:
        """Nothing found yet, from ``x`` of shape (batch, ...)."""
        unknown = x.new_full((len(x),), torch.inf)
        every = torch.ones_like(y, dtype=torch.bool)
        return cls(x, y, threat, x.clone(), unknown, unknown.clone(), every, until_broken)

    @property
    def broken(self) -> Tensor:
        """Of which rows a wrong input within eps is known, bool of shape (batch,)."""
        return self.distance < torch.inf

    def offer(self, x_adv: Tensor, logits: Tensor, rows: Tensor | None = None) -> None:
        """Compare with an input of each row, given its logits.

        ``rows`` are the places, int64, of those that are offered one, each at most once; all
        without it. ``x_adv`` is copied from and not kept.
        """
        rows = torch.arange(len(self.x), device=x_adv.device) if rows is None else rows
        # Scores that are not numbers are no decision, so not the right one: see climb.Best.
        lost = logits.isnan().any(1)
        lead, scale = margin_and_scale(logits, self.y[rows])
        lead = lead.to(self.margin.dtype).masked_fill(lost, -torch.inf)
        rounding = ROUNDING if self.until_broken else FINE_ROUNDING
        wrong = lost | (lead < -rounding * scale)
        self.keep(x_adv, lead, wrong, rows)

    def keep(self, x_adv: Tensor, lead: Tensor, wrong: Tensor, rows: Tensor) -> None:
        """``offer`` where margins and which of them are wrong are known, perhaps over draws."""
        hopeful = self.open[rows] & (wrong | (lead < self.margin[rows]))
        # Distances are taken of few rows only: most inputs on the way are neither.
        some = hopeful.nonzero().squeeze(1)
        places, lead, wrong = rows[some], lead[some], wrong[some]
        # Of whole inputs index_select takes a fifth of the time that indexing takes.
        chosen = x_adv.index_select(0, some)
        distance = self.threat.distance(chosen, self.x.index_select(0, places))
        # Half of what ThreatModel.check grants: summed in another batch a distance differs a bit.
        slack = self.threat.rounding(self.x) / 2 if len(self.x) else 0.0
        allowed = distance <= self.threat.eps + slack
        nearer = wrong & (distance < self.distance[places])
        lower = ~wrong & ~self.broken[places]
        better = (allowed & (nearer | lower)).nonzero().squeeze(1)
        places, wrong = places[better], wrong[better]
        self.x_adv[places] = chosen[better]
        self.margin[places] = lead[better]
        self.distance[places[wrong]] = distance[better[wrong]]
        if self.until_broken:
            self.open[places[wrong]] = False

    def proposals(self) -> Tensor:
        """What is kept, shape of ``x``; with eps = 0 that is ``x``."""
        return self.x.clone() if self.threat.eps == 0 else self.x_adv


def stretched(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """The direction from ``x`` to ``x_adv`` followed for the whole of eps, then into the box.

    A wrong input close to the boundary is wrong on half of a random defence's draws; what the
    search has found is the direction. Where ``x_adv`` is ``x`` there is none, and it stays.
    """
    tiny = torch.finfo(x.dtype).tiny
    length = threat.eps / threat.distance(x_adv, x).clamp(min=tiny)
    move = torch.nan_to_num(column(length, x) * (x_adv - x), nan=0.0)
    return threat.project(x + move, x)


def most_broken(
    target: Target, candidates: Sequence[Tensor], y: Tensor, streams: Streams, draws: int
) -> Tensor:
    """The candidate of each row that stands worst on the same ``draws`` draws, the first in a tie.

    Each candidate has the shape of a batch of inputs. ``streams`` must name draws that no step
    of the search has seen, or the luck of a step would be taken for strength.
    """
    best = candidates[0]
    record = standing(target, best, y, streams, draws)
    for candidate in candidates[1:]:
        table = standing(target, candidate, y, streams, draws)
        better = more_broken(table, record)
        best = torch.where(column(better, best), candidate, best)
        record = torch.where(better[:, None], table, record)
    return best
