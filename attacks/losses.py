"""Losses an attack raises, one value per sample and never a mean over the batch.

A sum or mean would let one sample's loss scale another's step; each function returns shape
(batch,), positive or negative, in the units of the logits unless it says otherwise.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor
from torch.nn import functional as F

from robustcode.attacks.base import Loss
from robustcode.errors import ConfigError


class LossName(StrEnum):
    """A loss by the name it has on the command line."""

    CE = "ce"
    MARGIN = "margin"
    DLR = "dlr"


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """How far the right class leads the best other one, shape (batch,); negative when broken."""
    right = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -float("inf"))
    return right - others.amax(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Negative log probability of the right class, in nats."""
    return F.cross_entropy(logits, y, reduction="none")


def negative_margin(logits: Tensor, y: Tensor) -> Tensor:
    """The best other class over the right one: does not vanish for a confident sample."""
    return -margin(logits, y)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio: the negative margin over the spread of the top three logits.

    Invariant to shift and scale of the logits, so it cannot be masked by scaling them.

    Source: Croce and Hein 2020, arXiv:2003.01690, equation 6.
    """
    if logits.shape[1] < 3:
        raise ConfigError(
            f"the dlr loss needs 3 classes or more and this classifier has {logits.shape[1]}; "
            "use loss=margin"
        )
    top = logits.topk(3, dim=1).values
    # 1e-12 is the authors' guard for three equal logits.
    return -margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES: dict[LossName, Loss] = {
    LossName.CE: cross_entropy,
    LossName.MARGIN: negative_margin,
    LossName.DLR: dlr,
}
