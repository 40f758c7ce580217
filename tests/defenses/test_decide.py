"""What a defence decides from several draws: the class of most, or of the highest mean score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from robustcode.defenses import ABSTAIN, Defense
from robustcode.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class Told(Defense):
    """Gives the scores it was told, (votes, batch, classes), one vote after the other."""

    stochastic: ClassVar[bool] = True

    scores: Tensor
    votes: int = 1
    mean: bool = False
    model: nn.Module = field(default_factory=nn.Identity)

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        rows = Streams.of(0, "told", streams.samples)
        (vote,) = (
            vote
            for vote in range(len(self.scores))
            if torch.equal(rows.child("vote", vote).keys, streams.keys)
        )
        return self.scores[vote]


def decisions(scores: list[list[list[float]]], mean: bool) -> list[int]:
    told = torch.tensor(scores)
    rows = told.shape[1]
    defense = Told(scores=told, votes=len(told), mean=mean)
    decided = defense.decide(torch.zeros(rows, 1), Streams.of(0, "told", torch.arange(rows)))
    assert decided.dtype is torch.int64
    assert decided.shape == (rows,)
    return decided.tolist()


# Two votes for class 0 by a little, one for class 2 by a lot.
DISPUTED = [[[2.0, 1.0, 1.5]], [[2.0, 1.0, 1.5]], [[0.0, 1.0, 9.0]]]
TIED = [[[3.0, 1.0]], [[0.0, 1.0]]]
NOT_ALL_NUMBERS = [[[3.0, 1.0]], [[torch.nan, 5.0]], [[3.0, 1.0]]]


def test_by_votes_it_is_the_class_of_most_draws() -> None:
    assert decisions(DISPUTED, mean=False) == [0]
    assert decisions(TIED, mean=False) == [ABSTAIN]


def test_by_mean_it_is_the_class_of_the_highest_mean_score() -> None:
    assert decisions(DISPUTED, mean=True) == [2]
    assert decisions(TIED, mean=True) == [0]


@pytest.mark.parametrize("votes", [1, 2, 7])
def test_by_mean_it_is_the_argmax_of_the_mean_on_any_scores(votes: int) -> None:
    told = Streams.of(0, "scores", torch.arange(votes)).normal(40, 6)
    assert decisions(told.tolist(), mean=True) == told.mean(0).argmax(1).tolist()
    if votes > 1:
        assert decisions(told.tolist(), mean=False) != decisions(told.tolist(), mean=True)


@pytest.mark.parametrize("mean", [False, True])
def test_of_one_draw_both_are_its_argmax(mean: bool) -> None:
    told = Streams.of(0, "scores", torch.arange(1)).normal(40, 6)
    assert decisions(told.tolist(), mean) == told[0].argmax(1).tolist()


def test_a_draw_that_is_no_number_spoils_a_mean_and_is_no_vote() -> None:
    assert decisions(NOT_ALL_NUMBERS, mean=True) == [ABSTAIN]
    assert decisions(NOT_ALL_NUMBERS, mean=False) == [0]
    opposed = [[[torch.inf, 1.0]], [[-torch.inf, 2.0]]]
    assert decisions(opposed, mean=True) == [ABSTAIN]
    nobody = [[[torch.nan, 1.0]]]
    assert decisions(nobody, mean=True) == decisions(nobody, mean=False) == [ABSTAIN]


def test_infinite_scores_are_the_highest() -> None:
    assert decisions([[[torch.inf, 1.0]], [[0.0, 2.0]]], mean=True) == [0]
    assert decisions([[[-torch.inf, 1.0]], [[9.0, 2.0]]], mean=True) == [1]


def test_a_row_decides_for_itself() -> None:
    rows = [[vote[0], [torch.nan, 0.0, 0.0]] for vote in DISPUTED]
    assert decisions(rows, mean=True) == [2, ABSTAIN]
    assert decisions(rows, mean=False) == [0, ABSTAIN]
