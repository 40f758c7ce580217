"""Expectation over the defence's randomness (EOT): means over draws, sample by sample.

Source: Athalye et al. 2018, arXiv:1707.07397, section 2: the gradient of the expected loss is the
expectation of its gradient. The mean is of losses and gradients, never of logits. A draw whose
scores are not numbers, as of a defence that abstains, is no decision and has no gradient: means
are over the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.base import Loss, Target
from robustcode.attacks.losses import margin, margin_and_scale
from robustcode.seeds import Streams
from robustcode.threat import column


class Slope(NamedTuple):
    """Where samples stand and which way is up, averaged over draws."""

    loss: Tensor  # (batch,), mean over the draws; -inf where no draw gives a number
    margin: Tensor  # likewise, but NaN where no draw gives a number
    scale: Tensor  # (batch,), largest losses.margin_scale seen
    gradient: Tensor  # shape of x

    @property
    def lost(self) -> Tensor:
        """Which rows no draw decides, bool of shape (batch,): the judge counts them as wrong."""
        return self.margin.isnan()

    @property
    def lead(self) -> Tensor:
        """The margin, -inf where a row is lost, shape (batch,)."""
        return self.margin.masked_fill(self.lost, -torch.inf)


def slope(
    target: Target, x: Tensor, y: Tensor, loss: Loss, streams: Streams, draws: int = 1
) -> Slope:
    """Mean margin and mean gradient over ``draws`` draws, one forward and backward pass each.

    All draws of a deterministic target are the same one, and it is paid for once.
    """
    draws = draws if target.stochastic else 1
    first, *others = _parts(target, streams, draws)
    here = target.ascent(x, y, loss, first)
    logits, gradient = [here.logits], here.gradient
    for draw in others:
        more = target.ascent(x, y, loss, draw)
        logits.append(more.logits)
        # Where scores are not numbers the target gives zeros.
        gradient = gradient + more.gradient
    if draws > 1:
        told = torch.stack([~scores.isnan().any(1) for scores in logits]).sum(0)
        gradient = gradient / column(told.clamp(min=1), x)
    return _seen(logits, y, loss, gradient)


def level(
    target: Target, x: Tensor, y: Tensor, loss: Loss, streams: Streams, draws: int = 1
) -> Slope:
    """``slope`` where no way up is wanted: by forward passes alone, its gradient is zero."""
    draws = draws if target.stochastic else 1
    logits = [target.logits(x, draw) for draw in _parts(target, streams, draws)]
    return _seen(logits, y, loss, torch.zeros_like(x))


def _parts(target: Target, streams: Streams, draws: int) -> list[Streams]:
    """The streams of each draw; to name those that nobody makes takes longer than it seems."""
    return streams.parts(draws) if target.stochastic else [streams]


def _seen(logits: Sequence[Tensor], y: Tensor, loss: Loss, gradient: Tensor) -> Slope:
    """Means over draws, given the scores (batch, classes) of each."""
    leads, scales = zip(*(margin_and_scale(scores, y) for scores in logits), strict=True)
    raised = mean_of_numbers([loss(scores, y) for scores in logits])
    raised = raised.masked_fill(raised.isnan(), -torch.inf)
    return Slope(raised, mean_of_numbers(leads), torch.stack(scales).amax(0), gradient)


def mean_of_numbers(values: Sequence[Tensor]) -> Tensor:
    """Entry by entry the mean over ``values`` of those that are numbers; NaN where none is."""
    return values[0] if len(values) == 1 else torch.stack(tuple(values)).nanmean(0)


def mean_logits(target: Target, x: Tensor, streams: Streams, draws: int = 1) -> Tensor:
    """Scores averaged over draws, shape (batch, classes): for ranking classes, not for losses."""
    draws = draws if target.stochastic else 1
    return mean_of_numbers([target.logits(x, draw) for draw in streams.parts(draws)])


def standing(target: Target, x: Tensor, y: Tensor, streams: Streams, draws: int = 1) -> Tensor:
    """Mean over draws of (share of right draws, margin), shape (batch, 2): lower is more broken.

    The share comes first because it is what the judge will count; the margin breaks its ties.
    As in ``slope``, a deterministic target is asked once.
    """
    if not target.stochastic:
        draws = 1
    right, leads = x.new_zeros(len(x)), []
    for draw in streams.parts(draws):
        lead = margin(target.logits(x, draw), y)
        right += lead > 0
        leads.append(lead.to(x.dtype))
    lead = mean_of_numbers(leads)
    return torch.stack([right / draws, lead.masked_fill(lead.isnan(), -torch.inf)], dim=1)


def more_broken(candidate: Tensor, best: Tensor) -> Tensor:
    """Which rows of two ``standing`` tables the candidate wins, bool of shape (batch,)."""
    tie = candidate[:, 0] == best[:, 0]
    return (candidate[:, 0] < best[:, 0]) | (tie & (candidate[:, 1] < best[:, 1]))
