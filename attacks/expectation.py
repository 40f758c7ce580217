"""Expectation over the defence's randomness (EOT): means over draws, sample by sample.

Source: Athalye et al. 2018, arXiv:1707.07397, section 2: the gradient of the expected loss is the
expectation of its gradient. The mean is of losses and gradients, never of logits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.base import Loss, Target
from robustcode.attacks.losses import margin
from robustcode.seeds import Streams


class Slope(NamedTuple):
    """Where samples stand and which way is up, averaged over draws."""

    loss: Tensor  # (batch,), mean over the draws
    margin: Tensor  # likewise
    scale: Tensor  # (batch,), largest |logit| seen: what rounding in the margin scales with
    gradient: Tensor  # shape of x


def slope(
    target: Target, x: Tensor, y: Tensor, loss: Loss, streams: Streams, draws: int = 1
) -> Slope:
    """Mean margin and mean gradient over ``draws`` draws, one forward and backward pass each.

    All draws of a deterministic target are the same one, and it is paid for once.
    """
    if not target.stochastic:
        draws = 1
    first = target.ascent(x, y, loss, streams.child("draw", 0))
    lead, scale = margin(first.logits, y), first.logits.abs().amax(1)
    raised, gradient = loss(first.logits, y), first.gradient
    for draw in range(1, draws):
        more = target.ascent(x, y, loss, streams.child("draw", draw))
        lead = lead + margin(more.logits, y)
        scale = scale.maximum(more.logits.abs().amax(1))
        raised = raised + loss(more.logits, y)
        gradient = gradient + more.gradient
    return Slope(raised / draws, lead / draws, scale, gradient / draws)


def mean_logits(target: Target, x: Tensor, streams: Streams, draws: int = 1) -> Tensor:
    """Scores averaged over draws, shape (batch, classes): for ranking classes, not for losses."""
    draws = draws if target.stochastic else 1
    total = target.logits(x, streams.child("draw", 0))
    for draw in range(1, draws):
        total = total + target.logits(x, streams.child("draw", draw))
    return total / draws


def standing(target: Target, x: Tensor, y: Tensor, streams: Streams, draws: int = 1) -> Tensor:
    """Mean over draws of (share of right draws, margin), shape (batch, 2): lower is more broken.

    The share comes first because it is what the judge will count; the margin breaks its ties.
    As in ``slope``, a deterministic target is asked once.
    """
    if not target.stochastic:
        draws = 1
    total = x.new_zeros(len(x), 2)
    for draw in range(draws):
        lead = margin(target.logits(x, streams.child("draw", draw)), y)
        total += torch.stack([(lead > 0).to(x.dtype), lead.to(x.dtype)], dim=1)
    return total / draws


def more_broken(candidate: Tensor, best: Tensor) -> Tensor:
    """Which rows of two ``standing`` tables the candidate wins, bool of shape (batch,)."""
    tie = candidate[:, 0] == best[:, 0]
    return (candidate[:, 0] < best[:, 0]) | (tie & (candidate[:, 1] < best[:, 1]))
