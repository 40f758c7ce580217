"""Random search with no query that can be spared: known answers, and several turns in one query.

A sample takes the first proposal that is better than where it is, and goes on from there. All its
proposals are drawn beforehand, so that the iterates are those of one query an iteration:

- a proposal that is where the sample is already, or that it has refused since it last moved, needs
  no query;
- where few samples are left, a query holds several turns of each, as if it refused all but the
  last; what comes after the first that it takes is thrown away.

A query costs less, too, where the target can answer for a window without the rest of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Size, Tensor

from robustcode.attacks.base import Edit, Nearby, Target
from robustcode.attacks.climb import ROUNDING
from robustcode.attacks.losses import margin, margin_scale
from robustcode.attacks.moves import Moves
from robustcode.attacks.windows import Turns, Window
from robustcode.seeds import Streams

# Rows that fill a query: the published CNNs cost 180 us a query and 15 to 25 us a row.
FULL = 48
FULL_ON_GPU = 256
# A sample looks ahead as far as it has stood still, times this.
TRUST = 1 / 6
# Queries that are planned at once, and the turns looked through for each turn that is wanted.
# A sample that moves sits out the rest of a plan, which is given up when half of them do: to make
# one costs as much as ten to twenty passes of those CNNs.
AT_LEAST, PLANNED, SCAN = 4, 16, 2
STILL = 1 / 2


class Answer(NamedTuple):
    """What a query says of some inputs."""

    score: Tensor  # (batch,): lower is more broken
    scale: Tensor  # (batch,), of its rounding; of no use where the target is stochastic


@dataclass(frozen=True)
class Question:
    """How broken inputs are, on the same draws of the target whenever a sample is asked about.

    Attributes:
        target: what is asked.
        shape: that of one sample.
        y: right classes of all samples.
        streams: of all samples; their draws are named by it.
        draws: how many are averaged, if the target is stochastic.
    """

    target: Target
    shape: Size
    y: Tensor
    streams: Streams
    draws: int = 1

    def __call__(self, x_adv: Tensor, rows: Tensor) -> Answer:
        """Of inputs (batch, values) of some samples, by their rows.

        The score is the margin; of a stochastic target the share of right draws first, and
        then the mean margin, as in expectation.standing.
        """
        own, y, images = self.streams[rows], self.y[rows], x_adv.view(-1, *self.shape)
        if not self.target.stochastic:
            logits = self.target.logits(images, own)
            return Answer(_lead(logits, y), margin_scale(logits, y))
        right = torch.zeros(len(rows), dtype=torch.float64, device=x_adv.device)
        lead = torch.zeros_like(right)
        together = min(max(self.target.width // len(rows), 1), self.draws)
        for first in range(0, self.draws, together):
            named = [
                own.child("draw", draw) for draw in range(first, min(first + together, self.draws))
            ]
            images_of_all = images.repeat(len(named), *[1] * len(self.shape))
            logits = self.target.logits(images_of_all, Streams.joined(named))
            leads = _lead(logits, y.repeat(len(named))).view(len(named), -1).double()
            right += (leads > 0).sum(0)
            lead += leads.sum(0)
        # The mean margin in (0, 1): it decides where as many draws are right.
        score = right + 0.5 + (lead / self.draws).atan() / math.pi
        return Answer(score, torch.zeros_like(score))

    def near(self, known: Nearby, edit: Edit) -> Answer:
        """The same of a deterministic target and what it knows."""
        logits, y = known.changed(edit), self.y[edit.rows]
        return Answer(_lead(logits, y), margin_scale(logits, y))

    def lost(self, answer: Answer, rows: Tensor) -> Tensor:
        """Which inputs of a batch are broken for good, as climb.Best has it, bool."""
        if self.target.stochastic:
            return torch.zeros_like(rows, dtype=torch.bool)
        return answer.score[rows] < -ROUNDING * answer.scale[rows]


def _lead(logits: Tensor, y: Tensor) -> Tensor:
    """The margin; scores that are not numbers are no decision, so not the right one."""
    return margin(logits, y).nan_to_num_(nan=-math.inf, posinf=math.inf, neginf=-math.inf)


@dataclass
class Walk:
    """Samples in search of something better, each at its own iteration of a block.

    Attributes:
        moves: where they are, and where they may go next.
        question: one query.
        score: how broken they are where they are, (samples,).
        lost: broken for good, bool (samples,).
        quiet: proposals that each has refused in a row.
        width: rows that fit into a query.
        memo: spare queries whose answers are known.
        ahead: ask for several turns at once.
    """

    moves: Moves
    question: Question
    score: Tensor
    lost: Tensor
    quiet: Tensor
    width: int
    memo: bool
    ahead: bool

    @classmethod
    def of(cls, moves: Moves, question: Question, width: int, *, memo: bool, ahead: bool) -> Walk:
        """From where ``moves`` has the samples."""
        rows = torch.arange(len(moves.x), device=moves.x.device)
        answer = question(moves.x_adv, rows)
        lost, quiet = question.lost(answer, rows), torch.zeros_like(rows)
        return cls(moves, question, answer.score, lost, quiet, width, memo, ahead)

    def through(self, turns: Turns) -> None:
        """Make the moves of one block."""
        self.moves.begin(turns)
        self.known: Nearby | None = None  # so that there is never memory for two of them
        self.known = self._known(turns.window)
        self.turn = self.lost * turns.count
        # The turn at which each moved last: what it refused since then it would refuse again.
        self.moved = torch.full_like(self.turn, -1)
        earlier = turns.earlier() if self.memo else None
        while len(rows := (self.turn < turns.count).nonzero().squeeze(1)):
            self._follow(rows, self._plan(rows, turns, earlier))

    def _known(self, window: Window) -> Nearby | None:
        """Where the samples are, if the target answers for less about windows in that."""
        if not self.moves.windowed:
            return None
        x_adv = self.moves.x_adv.view(-1, *self.question.shape)
        size = (window.height, window.width)
        return self.question.target.nearby(x_adv, self.question.streams, size)

    def _plan(self, rows: Tensor, turns: Turns, earlier: Tensor | None) -> Plan:
        """The next queries about some samples, as if they took none of what is proposed."""
        quiet = self.quiet[rows]
        depth = torch.ones_like(quiet)
        full = min(FULL_ON_GPU if rows.is_cuda else FULL, self.width)
        if self.ahead and len(rows) < full:
            depth = (1 + (quiet * TRUST).long()).clamp_(max=-(-full // len(rows)))
        wide = int(depth.max())
        # So many that few samples are expected to move meanwhile, since those then sit out.
        queries = min(AT_LEAST + int(quiet.float().mean() * TRUST) // wide, PLANNED)
        planned = queries * wide
        at = self.turn[rows, None] + torch.arange(planned * SCAN, device=rows.device)
        end = at[:, -1:] + 1
        due = at < turns.count
        if earlier is not None:
            places = turns.places(rows[:, None], at.clamp(max=turns.count - 1))
            due &= earlier.take(places) <= self.moved[rows, None]
            which, where = due.nonzero(as_tuple=True)
            due[which, where] = self.moves.changes(rows[which], at[which, where])
        # Those due in their order, then the turn to go on with.
        at = torch.cat([at.where(due, end), end], 1).sort(1).values[:, : planned + 1]
        return Plan(at, at < end, depth, queries, wide)

    def _follow(self, rows: Tensor, plan: Plan) -> None:
        """Ask what is planned, until too many samples sit out because they moved."""
        still = torch.ones_like(rows, dtype=torch.bool)
        number = 0
        for number in range(plan.queries):
            which, at = plan.query(number, still)
            if len(which) == 0:
                break
            took = self._ask(rows[which], at)
            if len(took):
                still[which[took]] = False
                if still.sum() < STILL * len(rows):
                    break
        asked = plan.depth * (number + 1)
        on, asked = rows[still], asked[still]
        self.turn[on] = plan.at[still].gather(1, asked[:, None]).squeeze(1)
        self.quiet[on] += asked
        self.turn.masked_fill_(self.lost, self.moves.turns.count)

    def _ask(self, rows: Tensor, at: Tensor) -> Tensor:
        """One query; the places in it of what samples take, the first thing that is better."""
        known = self.known
        made: Tensor | Edit
        if known is None:
            made = self.moves.proposals(rows, at)
            answer = self.question(made, rows)
        else:
            made = self.moves.edits(rows, at)
            answer = self.question.near(known, made)
        places = (answer.score < self.score[rows]).nonzero().squeeze(1)
        if len(places) == 0:
            return places
        # Rows come by sample and turn.
        owners = rows[places]
        first = torch.ones_like(owners, dtype=torch.bool)
        first[1:] = owners[1:] != owners[:-1]
        places, owners = places[first], owners[first]
        if isinstance(made, Tensor):
            self.moves.take(owners, made.index_select(0, places))
        elif known is not None:
            self.moves.write(made.at(places))
            known.take(places)
        self.score[owners] = answer.score[places]
        self.lost[owners] = self.question.lost(answer, places)
        self.quiet[owners] = 0
        self.moved[owners] = at[places]
        self.turn[owners] = at[places] + 1
        return places


@dataclass(frozen=True)
class Plan:
    """Queries about some samples.

    Attributes:
        at: turns that are due, (rows, planned + 1); after the last, the turn to go on with.
        due: which of them are to be asked for.
        depth: turns of each row in a query, (rows,).
        queries: how many.
        wide: the largest depth.
    """

    at: Tensor
    due: Tensor
    depth: Tensor
    queries: int
    wide: int

    def query(self, number: int, still: Tensor) -> tuple[Tensor, Tensor]:
        """The rows and turns of one query, row by row, for those that are ``still`` there."""
        if self.wide == 1:
            which = (self.due[:, number] & still).nonzero().squeeze(1)
            return which, self.at[which, number]
        places = torch.arange(self.wide, device=still.device).expand(len(still), -1)
        column = places + number * self.depth[:, None]
        asked = self.due.gather(1, column) & (places < self.depth[:, None]) & still[:, None]
        which, where = asked.nonzero(as_tuple=True)
        return which, self.at[which, column[which, where]]
