"""The defence called a few times: its scores in several draws, again, and in a smaller batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.defenses.base import Defense
from robustcode.errors import ContractError
from robustcode.seeds import Streams
from robustcode.target import Ledger

# Draws that are compared, and at least so many (sample, draw) pairs on a small pilot: a defence
# that is random on one pair in twenty is then missed with probability .04.
DRAWS = 4
PAIRS = 64
# Differences below this share of a logit, of the row's two top ones and of most rows' two top ones
# are rounding: sums in another order move float32 logits by about 1e-6.
ROUNDING = 1e-5
# Another batch size chooses other kernels, whose rounding a deep network can amplify.
COUPLING = 1e-3


@dataclass(frozen=True)
class Calls:
    """Scores of the pilot inputs, (batch, classes) each.

    Attributes:
        first: one draw.
        again: the same draw, asked for a second time.
        others: other draws.
        alone: the first draw of the first half of the rows, without the other half.
    """

    first: Tensor
    again: Tensor
    others: tuple[Tensor, ...]
    alone: Tensor

    @classmethod
    def of(cls, defense: Defense, x: Tensor, streams: Streams, ledger: Ledger) -> Calls:
        """Calls on pilot inputs ``x``; ContractError where the scores are no logits."""
        draws = max(DRAWS, math.ceil(PAIRS / len(x)))
        half = (len(x) + 1) // 2

        def call(rows: int, draw: int) -> Tensor:
            own = streams.child("draw", draw)[:rows]
            ledger.charge(own.samples, defense.forwards(own))
            return defense.logits(x[:rows], own)

        with torch.no_grad():
            first = call(len(x), 0)
            check_shape(first, x)
            again = call(len(x), 0)
            others = tuple(call(len(x), draw) for draw in range(1, draws))
            alone = call(half, 0)
        return cls(first, again, others, alone)

    @property
    def draws(self) -> int:
        """How many draws were made."""
        return 1 + len(self.others)

    @property
    def unsteady(self) -> Tensor:
        """Rows on which equal streams gave different scores, bool of shape (batch,)."""
        return differ(self.first, self.again)

    @property
    def varied(self) -> Tensor:
        """Rows on which calls differ at all, bool of shape (batch,)."""
        apart = (differ(self.first, other) for other in self.others)
        return torch.stack([self.unsteady, *apart]).any(0)

    @property
    def finite(self) -> Tensor:
        """Rows whose scores are numbers in every draw, bool of shape (batch,)."""
        return torch.stack([scores.isfinite().all(1) for scores in (self.first, *self.others)]).all(
            0
        )

    @property
    def coupled(self) -> Tensor:
        """Rows of the first half whose scores change when the other half is gone."""
        half = len(self.alone)
        return differ(self.first[:half], self.alone, COUPLING) & ~self.unsteady[:half]

    @property
    def classes(self) -> int:
        """Width of the logits."""
        return self.first.shape[1]


def differ(first: Tensor, second: Tensor, tolerance: float = ROUNDING) -> Tensor:
    """Rows that are not the same up to rounding, bool of shape (batch,); NaN equals NaN."""
    gone = (first.isfinite() != second.isfinite()).any(1)
    first, second = (t.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for t in (first, second))
    # A logit near zero can be the rounded sum of larger terms. The row's largest would not do: a
    # class that is masked by -1e9 would hide that the others differ.
    top = torch.maximum(_top_size(first), _top_size(second))
    size = top.maximum(top.median()).maximum(first.abs()).maximum(second.abs())
    return gone | ((first - second).abs() > tolerance * size).any(1)


def _top_size(scores: Tensor) -> Tensor:
    """The larger size of the two top logits, shape (batch, 1)."""
    return scores.topk(min(2, scores.shape[1]), dim=1).values.abs().amax(1, keepdim=True)


def check_shape(scores: Tensor, x: Tensor) -> None:
    """ContractError unless ``scores`` are logits of ``x``."""
    if scores.ndim != 2 or len(scores) != len(x) or scores.shape[1] < 2:
        raise ContractError(
            f"the defence returned scores of shape {tuple(scores.shape)} for {len(x)} inputs; "
            f"logits have shape ({len(x)}, classes), with 2 classes or more"
        )
    if not scores.is_floating_point():
        raise ContractError(
            f"the defence returned scores of type {scores.dtype}; logits are real numbers"
        )
