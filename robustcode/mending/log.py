"""Logarithms of scores that are probabilities."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from robustcode.defenses.base import Defense
from robustcode.mending.base import Keeps, Scores, Way
from robustcode.seeds import Streams

# Of a half-precision softmax; see facts.probabilities-as-logits.
ROUNDING = 1e-3


class Log(Way):
    """Rows of scores that are nowhere negative by their logarithm.

    A second softmax in the loss flattens probabilities, and kernels exp(-g d^2) of distances are
    all near zero; their logarithms are neither. Which class comes first does not change.

    Source: probabilities in place of logits as a failure of attacks, Carlini and Wagner 2017,
    arXiv:1608.04644, section IV.
    """

    keeps: ClassVar[Keeps] = Keeps.ORDER

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        scores = follow(x, streams)
        return _logarithm(scores, (scores >= 0).all(1))


def of_probabilities(scores: Tensor) -> Tensor:
    """Log-probabilities of rows (batch, classes) that sum to one, and other rows as they are."""
    whole = (scores.sum(1) - 1).abs() <= ROUNDING
    return _logarithm(scores, whole & (scores >= 0).all(1))


def _logarithm(scores: Tensor, rows: Tensor) -> Tensor:
    # The smallest normal number, not the smallest one: sums of logarithms stay exact.
    least = torch.finfo(scores.dtype).tiny
    # Rows that are left alone must not send NaN back through the logarithm.
    safe = torch.where(rows[:, None], scores, 1.0).clamp(min=least)
    return torch.where(rows[:, None], safe.log(), scores)
