"""Losses an attack raises, one value per sample and never a mean over the batch.

A sum or mean would let one sample's loss scale another's step; each function returns shape
(batch,), positive or negative, in the units of the logits unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcode.attacks.base import Loss

# The authors' guard against logits that are all equal: AutoAttack, autopgd_base.py.
TIED = 1e-12


class LossName(StrEnum):
    """A loss by the name it has on the command line."""

    CE = "ce"
    MARGIN = "margin"
    DLR = "dlr"
    PM = "pm"


class TargetedLossName(StrEnum):
    """A loss towards a class, by the name it has on the command line."""

    DLR = "dlr"
    MARGIN = "margin"


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """How far the right class leads the best other one, shape (batch,); negative when broken."""
    right, other = _rivals(logits, y)
    return right - other


def margin_and_scale(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The margin, and the larger finite size of the two logits it is of, each of shape (batch,).

    Rounding of the margin scales with these two alone: a class that is masked by -1e9 does not
    blur the others.
    """
    right, other = _rivals(logits, y)
    size = right.abs().nan_to_num(nan=0.0, posinf=0.0)
    return right - other, size.maximum(other.abs().nan_to_num(nan=0.0, posinf=0.0))


def margin_scale(logits: Tensor, y: Tensor) -> Tensor:
    """What rounding of the margin scales with, shape (batch,): see ``margin_and_scale``."""
    return margin_and_scale(logits, y)[1]


def _rivals(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of the right class and the best other one, each of shape (batch,)."""
    right = logits.gather(1, y[:, None]).squeeze(1)
    return right, logits.scatter(1, y[:, None], -torch.inf).amax(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Negative log probability of the right class, in nats."""
    return F.cross_entropy(logits, y, reduction="none")


def negative_margin(logits: Tensor, y: Tensor) -> Tensor:
    """The best other class over the right one: does not vanish for a confident sample."""
    return -margin(logits, y)


def probability_margin(logits: Tensor, y: Tensor) -> Tensor:
    """How far the best other class leads the right one in probability, in [-1, 1].

    Source: the probability margin attack of Xie et al. 2024, arXiv:2411.15210.
    """
    return -margin(logits.softmax(1), y)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio: the negative margin over the spread of the top three logits.

    Invariant to shift and scale of the logits, so it cannot be masked by scaling them. Two
    classes have no spread but the margin itself: there it is the plain negative margin.

    Source: Croce and Hein 2020, arXiv:2003.01690, equation 6.
    """
    lead = negative_margin(logits, y)
    if logits.shape[1] < 3:
        return lead
    return lead / (_spread(logits, 3) + TIED)


def targeted_margin(goal: Tensor) -> Loss:
    """The lead of the class ``goal`` (batch,) over the right one, in the logits' own units."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        pair = logits.gather(1, torch.stack([goal, y], dim=1))
        return pair[:, 0] - pair[:, 1]

    return loss


def targeted_dlr(goal: Tensor) -> Loss:
    """The lead of the class ``goal`` (batch,) over the spread of the top four logits.

    Source: Croce and Hein 2020, arXiv:2003.01690, equation 7. Three classes have their whole
    spread below it instead, and two nothing: the paper leaves them undefined.
    """

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        lead = targeted_margin(goal)(logits, y)
        if logits.shape[1] < 3:
            return lead
        return lead / (_spread(logits, min(4, logits.shape[1])) + TIED)

    return loss


def _spread(logits: Tensor, count: int) -> Tensor:
    """How far the top logit is above the mean of the third to the ``count``-th, (batch,).

    A class that is masked by -inf is none of them: over an infinite spread every loss is zero.
    Where only two classes are left, the spread is 1, as the losses have it for two.
    """
    top = logits.topk(count, dim=1).values
    third = top[:, 2:]
    masked = third.isinf()
    left = (~masked).sum(1)
    mean = third.masked_fill(masked, 0.0).sum(1) / left.clamp(min=1)
    return torch.where(left > 0, top[:, 0] - mean, 1.0)


LOSSES: dict[LossName, Loss] = {
    LossName.CE: cross_entropy,
    LossName.MARGIN: negative_margin,
    LossName.DLR: dlr,
    LossName.PM: probability_margin,
}

TARGETED: dict[TargetedLossName, Callable[[Tensor], Loss]] = {
    TargetedLossName.DLR: targeted_dlr,
    TargetedLossName.MARGIN: targeted_margin,
}
"""The same towards given classes, int64 (batch,)."""
