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
    """

    votes: Tensor
    draws: int

    def share_right(self, y: Tensor) -> Tensor:
        """Share of decisions that were right, float64 of shape (batch,)."""
        return self.votes.gather(1, y[:, None]).squeeze(1).double() / self.draws

    def majority(self) -> Tensor:
        """The class with the most decisions; ABSTAIN on a tie or if all abstained."""
        most = self.votes.max(1)
        ties = (self.votes == most.values[:, None]).sum(1)
        return most.indices.where(ties == 1, ABSTAIN)


@torch.no_grad()
def judge(defense: Defense, x: Tensor, streams: Streams, draws: int, classes: int) -> Verdict:
    """``draws`` independent decisions on each input; memory is that of one."""
    votes = torch.zeros(len(x), classes, dtype=torch.int64, device=x.device)
    for draw in range(draws):
        label = defense.decide(x, streams.child("draw", draw))
        decided = label != ABSTAIN
        votes[decided.nonzero().squeeze(1), label[decided]] += 1
    return Verdict(votes, draws)
