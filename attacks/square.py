"""Square Attack: random search with windows, without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.ahead import Question, Walk
from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.moves import MOVES, Moves
from robustcode.attacks.windows import Frame, Turns, Window
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

# Iterations after which the share of pixels in a window is halved, of HORIZON.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
HORIZON = 10_000
# Iterations drawn at once, and for which a sample remembers what it refused: a stage of the
# published schedule is no longer.
BLOCK = 2000
# Iterations for which the draws of a stochastic target are held: what is gained on a few draws
# alone is lost again on the next ones.
HELD = 100


class Found(NamedTuple):
    """What one restart ends with."""

    x_adv: Tensor  # (samples, values)
    score: Tensor  # (samples,), lower is more broken
    lost: Tensor  # bool (samples,): broken for good


@ATTACKS.register("square")
@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Writes windows at random places and keeps what lowers the margin.

    As AutoAttack has it, but position and signs of a window are each sample's own. Against a
    deterministic target a sample leaves as soon as it is broken. Against a stochastic one draws
    are held fixed for a hundred iterations, where the search stands is asked again on the next
    ones, and the best of where it stood is found on ``held_out`` draws that no iteration has seen.

    Source: Andriushchenko et al. 2020, arXiv:1912.00049, algorithm 1; with 5000 queries and
    p = .8 in AutoAttack, Croce and Hein 2020, arXiv:2003.01690.

    Attributes:
        queries: iterations per restart; ones whose answer is known cost no pass.
        p: share of pixels that the first windows cover.
        restarts: independent starts; only samples still standing are started again.
        rescale: halve the windows after the same shares of ``queries`` rather than at the
            iterations published for 10,000.
        draws: draws of the defence averaged per query.
        held_out: draws on which candidates are compared; used for stochastic targets only.
        memo: spend no query on a proposal whose answer is known. Changes no iterate.
        ahead: ask for several iterations of a sample at once where few are left; passes beyond
            the first success are thrown away. Changes no iterate.
    """

    needs_gradient = False
    coarse = True

    queries: int = 5000
    p: float = 0.8
    restarts: int = 1
    rescale: bool = False
    draws: int = 1
    held_out: int = 16
    memo: bool = True
    ahead: bool = True

    def __post_init__(self) -> None:
        require_counts(self, "queries", "restarts", "draws", "held_out")
        if not 0 < self.p <= 1:
            raise ConfigError(f"p = {self.p:g}: a window covers a share of the pixels, 0 < p <= 1")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        if threat.eps == 0 or len(x) == 0:
            return x.clone()
        search = self._search_stochastic if target.stochastic else self._search
        best = x.clone()
        record = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        lost = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for restart in range(self.restarts):
            rows = (~lost).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            found = search(target, x[rows], y[rows], threat, streams[rows], restart)
            better = found.score < record[rows]
            best[rows[better]] = found.x_adv[better].view(-1, *x.shape[1:])
            record[rows[better]] = found.score[better].double()
            lost[rows] = found.lost
        return best

    def _search(
        self,
        target: Target,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        streams: Streams,
        restart: int,
    ) -> Found:
        """One restart on a deterministic target: a sample stands where it was lowest."""
        streams = streams.child("restart", restart)
        moves = self._moves(x, threat, streams)
        question = Question(target, x.shape[1:], y, streams.child("draw"))
        walk = Walk.of(moves, question, target.width, memo=self.memo, ahead=self.ahead)
        for number, (window, count) in enumerate(self.blocks(moves.frame, threat.norm, BLOCK)):
            if walk.lost.all():
                break
            own = streams.child("block", number)
            walk.through(Turns.draw(window, threat.norm, count, own, ~walk.lost))
        return Found(moves.x_adv, walk.score, walk.lost)

    def _search_stochastic(
        self,
        target: Target,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        streams: Streams,
        restart: int,
    ) -> Found:
        """One restart on a stochastic target, on other draws for each block of iterations."""
        # The same draws for every restart: on others, luck would choose among them.
        judged = Question(target, x.shape[1:], y, streams.child("held out"), self.held_out)
        streams = streams.child("restart", restart)
        moves = self._moves(x, threat, streams)
        everyone = torch.arange(len(x), device=x.device)
        best, record = moves.x_adv.clone(), judged(moves.x_adv, everyone).score
        for number, (window, count) in enumerate(self.blocks(moves.frame, threat.norm, HELD)):
            own = streams.child("block", number)
            question = Question(target, x.shape[1:], y, own, self.draws)
            # Where it stands is asked for again, on draws that it has not been fitted to.
            width = max(target.width // self.draws, 1)
            walk = Walk.of(moves, question, width, memo=self.memo, ahead=self.ahead)
            walk.through(Turns.draw(window, threat.norm, count, own, ~walk.lost))
            score = judged(moves.x_adv, everyone).score
            better = score < record
            best[better], record[better] = moves.x_adv[better], score[better]
        # Nothing that is random is broken for good.
        return Found(best, record, torch.zeros_like(everyone, dtype=torch.bool))

    def _moves(self, x: Tensor, threat: ThreatModel, streams: Streams) -> Moves:
        frame = Frame.of(x.shape[1:])
        return MOVES[threat.norm](threat, frame, x.flatten(1), streams.child("start"))

    def blocks(self, frame: Frame, norm: Norm, longest: int) -> list[tuple[Window, int]]:
        """The window of each block of iterations, and how many iterations it has."""
        blocks = []
        for window, same in groupby(range(self.queries), lambda n: self._window(n, frame, norm)):
            count = len(list(same))
            blocks += [(window, min(longest, count - start)) for start in range(0, count, longest)]
        return blocks

    def _window(self, number: int, frame: Frame, norm: Norm) -> Window:
        """That of one iteration."""
        if self.rescale:
            number = number * HORIZON // self.queries
        return frame.window(self.p / 2 ** sum(number > after for after in HALVED_AFTER), norm)
