"""The judge: a defence's own decisions on draws that no attack has seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.defenses.base import ABSTAIN, Defense
from robustcode.seeds import Streams


@dataclass(frozen=True)
class Verdict:
    """Decisions on one batch of inputs.

    Attributes:
        votes: int64 of shape (batch, classes); abstentions are what is missing from the draws.
        draws: decisions asked for per input.
        noticed: of a detector, the inputs that somebody perturbed, bool of shape (batch,): there an
            abstention is right, and wrong on the others. None for what is no detector.
    """

    votes: Tensor
    draws: int
    noticed: Tensor | None = None

    def share_right(self, y: Tensor) -> Tensor:
        """Share of decisions that were right, float64 of shape (batch,)."""
        right = self.votes.gather(1, y[:, None]).squeeze(1)
        if self.noticed is not None:
            right = right + self.abstained * self.noticed
        return right.double() / self.draws

    @property
    def abstained(self) -> Tensor:
        """Decisions that were none, int64 of shape (batch,)."""
        return self.draws - self.votes.sum(1)

    def majority(self) -> Tensor:
        """The class with the most decisions; ABSTAIN on a tie or if all abstained.

        A detector's abstentions are counted like the votes of a class.
        """
        most = self.votes.max(1)
        ties = (self.votes == most.values[:, None]).sum(1)
        label = most.indices.where(ties == 1, ABSTAIN)
        return label if self.noticed is None else label.where(most.values > self.abstained, ABSTAIN)

    def take(self, rows: Tensor, other: Verdict) -> None:
        """Let the decisions on some rows be those of another."""
        self.votes[rows] = other.votes[rows]
        if self.noticed is not None and other.noticed is not None:
            self.noticed[rows] = other.noticed[rows]


def moved(x: Tensor, samples: Tensor) -> Tensor:
    """Which inputs are no longer the samples they were, bool of shape (batch,)."""
    return (x != samples).flatten(1).any(1)


@torch.no_grad()
def judge(
    defense: Defense,
    x: Tensor,
    streams: Streams,
    draws: int,
    classes: int,
    noticed: Tensor | None = None,
) -> Verdict:
    """``draws`` independent decisions on each input; memory is that of one.

    ``noticed`` is as in Verdict.
    """
    votes = torch.zeros(len(x), classes, dtype=torch.int64, device=x.device)
    for draw in range(draws):
        label = defense.decide(x, streams.child("draw", draw))
        decided = label != ABSTAIN
        votes[decided.nonzero().squeeze(1), label[decided]] += 1
    return Verdict(votes, draws, noticed)
