"""A target that remembers what it was asked, and one run of an attack against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.base import Ascent, Attack, Loss, Target
from robustcode.defenses.base import Defense
from robustcode.defenses.identity import Identity
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
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

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Target.logits."""
        logits = self.target.logits(x, streams)
        self.queries.append(Query(x.detach().clone(), None, logits.clone(), streams, self.stochastic))
        return logits

    def ascent(self, x: Tensor, y: Tensor, loss: Loss, streams: Streams) -> Ascent:
        """See Target.ascent."""
        found = self.target.ascent(x, y, loss, streams)
        self.queries.append(Query(x.detach().clone(), y.clone(), found.logits.clone(), streams, self.stochastic))
        return found


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
    seed: int = 0,
) -> Attempt:
    """Run ``attack`` on some rows of ``problem``, in that order, as the engine would.

    The target is the plain model unless a ``defense`` around it is given. ContractError if a
    proposal is not allowed.
    """
    defense = Identity(model=problem.model) if defense is None else defense
    rows = torch.arange(len(problem.x)) if rows is None else rows
    target = Watched(
        DefendedTarget(
            defense, Ledger(problem.samples), stochastic=defense.stochastic, differentiable=True
        )
    )
    x, streams = problem.x[rows], streams_of(problem, seed)[rows]
    x_adv = attack.perturb(target, x, problem.y[rows], threat, streams)
    threat.check(x_adv, x, by="it")
    return Attempt(x_adv, target.queries)


def streams_of(problem: Problem, seed: int = 0) -> Streams:
    """The streams that an attack gets for the samples of a problem."""
    return Streams.of(seed, "contract", problem.samples)
