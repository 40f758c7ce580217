"""A target that remembers what it was asked, and one run of an attack against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustcode.attacks.base import Ascent, Attack, Loss, Target
from robustcode.defenses.base import Defense
from robustcode.defenses.identity import Identity
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.testing.check import require
from robustcode.testing.problems import Problem
from robustcode.threat import ThreatModel


class Query(NamedTuple):
    """One call of a target."""

    x: Tensor
    y: Tensor | None  # labels, if a gradient was asked for
    logits: Tensor
    streams: Streams
    stochastic: bool  # whether the target is


@dataclass(frozen=True)
class Watched:
    """A target that keeps every query of itself and of its undefended model."""

    target: Target
    queries: list[Query] = field(default_factory=list, repr=False)

    @property
    def stochastic(self) -> bool:
        """See Target.stochastic."""
        return self.target.stochastic

    @property
    def undefended(self) -> Watched:
        """See Target.undefended."""
        return Watched(self.target.undefended, self.queries)

    def beside(self, model: nn.Module) -> Watched:
        """See Target.beside."""
        return Watched(self.target.beside(model), self.queries)

    def mended(self, way: str, optional: bool = False) -> Watched:
        """See Target.mended."""
        return Watched(self.target.mended(way, optional), self.queries)

    @property
    def width(self) -> int:
        """See Target.width."""
        return self.target.width

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Target.logits."""
        logits = self.target.logits(x, streams)
        self.queries.append(
            Query(x.detach().clone(), None, logits.clone(), streams, self.stochastic)
        )
        return logits

    def ascent(self, x: Tensor, y: Tensor, loss: Loss, streams: Streams) -> Ascent:
        """See Target.ascent."""
        return self.ascents(x, y, (loss,), streams)[0]

    def ascents(
        self, x: Tensor, y: Tensor, losses: Sequence[Loss], streams: Streams
    ) -> list[Ascent]:
        """See Target.ascents."""
        found = self.target.ascents(x, y, losses, streams)
        logits = found[0].logits.clone()
        self.queries.append(Query(x.detach().clone(), y.clone(), logits, streams, self.stochastic))
        return found

    def nearby(self, x: Tensor, streams: Streams, size: tuple[int, int]) -> None:
        """None: every query is to be a whole one."""

    def scores(self, x: Tensor, streams: Streams) -> Tensor:
        """See Target.scores."""
        scores = self.target.scores(x, streams)
        logits = scores.detach().clone()
        self.queries.append(Query(x.detach().clone(), None, logits, streams, self.stochastic))
        return scores


class Attempt(NamedTuple):
    """What an attack proposed for the samples of a problem, and what it asked on the way."""

    x_adv: Tensor
    queries: list[Query]


def attempt(
    attack: Attack,
    problem: Problem,
    threat: ThreatModel,
    defense: Defense | None = None,
    rows: Tensor | None = None,
) -> Attempt:
    """Run ``attack`` on some rows of ``problem``, in that order, as the engine would.

    The target is the plain model unless a ``defense`` around it is given. ContractError if a
    proposal is not allowed, or what was handed over changed.
    """
    defense = Identity(model=problem.model) if defense is None else defense
    rows = torch.arange(len(problem.x)) if rows is None else rows
    target = Watched(
        DefendedTarget(
            defense, Ledger(problem.samples), stochastic=defense.stochastic, differentiable=True
        )
    )
    x, y = problem.x[rows], problem.y[rows]
    streams = Streams.of(0, "contract", problem.samples)[rows]
    given = {"inputs": x, "labels": y, "streams": streams.keys}
    before = {name: tensor.clone() for name, tensor in given.items()}
    x_adv = attack.perturb(target, x, y, threat, streams)
    for name, tensor in given.items():
        require(torch.equal(tensor, before[name]), f"it changed the {name} that it was given")
    threat.check(x_adv, x, by="it")
    return Attempt(x_adv, target.queries)
