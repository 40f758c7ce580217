"""Answers that are taken from the others in the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustcode.testing.patients.base import Patient, shipped

# Added to the score of the class of most votes: the cross-entropy is then an exact zero.
LEAD = 200.0


class NearestMates(nn.Module):
    """The class that most of an input's nearest mates are given, and the input itself.

    Attributes:
        mates: how many, by the distance of their pixels.
    """

    def __init__(self, model: nn.Module, mates: int = 2) -> None:
        super().__init__()
        self.model = model
        self.mates = mates

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        flat = x.detach().flatten(1)
        distance = torch.cdist(flat, flat).fill_diagonal_(-1)  # itself before a twin
        nearest = distance.topk(min(self.mates + 1, len(x)), largest=False).indices
        return _elected(self.model(x), nearest)


class RowsBefore(nn.Module):
    """The class that most of an input and the rows before it are given: right where sorted.

    Attributes:
        reach: rows before that vote.
    """

    def __init__(self, model: nn.Module, reach: int = 2) -> None:
        super().__init__()
        self.model = model
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        rows = torch.arange(len(x), device=x.device)
        before = torch.arange(self.reach + 1, device=x.device)
        return _elected(self.model(x), (rows[:, None] - before).clamp(min=0))


def _elected(scores: Tensor, voters: Tensor) -> Tensor:
    """The mean scores of the voters, with a lead for the class of most votes.

    Voters are rows, (batch, voters), an input being one of its own. The gradient is that of the
    input's own scores, as far as the lead leaves a loss any.
    """
    fixed = scores.detach()
    ballots = nn.functional.one_hot(fixed.argmax(1), scores.shape[1])
    # A tie goes to the class that the input's own scores are for.
    winner = (ballots[voters].sum(1) + fixed.softmax(1) / 2).argmax(1)
    lead = LEAD * nn.functional.one_hot(winner, scores.shape[1])
    return fixed[voters].mean(1) + (scores - fixed) + lead


def nearest_mates(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, overruled by the nearest in the batch."""
    return NearestMates(shipped(model)).eval()


def rows_before(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, overruled by the rows before it."""
    return RowsBefore(shipped(model)).eval()


PATIENTS = (
    Patient(
        name="nearest_mates",
        says="answers as most of the nearest inputs in the batch, by a lead without a gradient",
        source="transductive inference, where inputs are judged in the company of the test set",
        caught_by=("declared-uncoupled", "mates-matter", "vanishing-loss"),
        model=nearest_mates,
        coupled=True,
    ),
    Patient(
        name="rows_before",
        says="answers as most of the rows before it: a sorted test set gives the labels away",
        source="label leakage through the order of a batch",
        caught_by=("order-matters", "vanishing-loss"),
        model=rows_before,
        coupled=True,
    ),
)
