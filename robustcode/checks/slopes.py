"""How large the gradients of the losses are that attacks will follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.losses import cross_entropy, negative_margin
from robustcode.seeds import Streams

Scores = Callable[[Tensor, Streams], Tensor]


class Slopes(NamedTuple):
    """Sizes of loss gradients at each sample's own prediction, the largest over some draws."""

    reached: bool  # a graph leads from the scores to the input
    finite: Tensor  # bool (batch,)
    cross_entropy: Tensor  # (batch,), largest absolute entry
    margin: Tensor  # likewise

    @property
    def useful(self) -> Tensor:
        """Samples on which some loss has a gradient, bool of shape (batch,)."""
        return alive(self.cross_entropy) | alive(self.margin)


def slopes_of(
    scores_of: Scores,
    x: Tensor,
    streams: Streams,
    draws: int,
    at_once: int,
    pay: Callable[[Streams, bool], None],
) -> Slopes:
    """Over ``draws`` draws, of ``at_once`` rows at a time; ``pay`` is told of each call."""
    finite = torch.ones(len(x), dtype=torch.bool, device=x.device)
    sizes = [x.new_zeros(len(x)), x.new_zeros(len(x))]
    reached = False
    for draw in range(draws):
        own = streams.child("gradient", draw)
        for rows in torch.arange(len(x), device=x.device).split(at_once):
            leaf = x[rows].detach().clone().requires_grad_()
            with torch.enable_grad():
                scores = scores_of(leaf, own[rows])
                pay(own[rows], scores.requires_grad)
                if not scores.requires_grad:
                    continue
                y = scores.detach().argmax(1)
                losses = [cross_entropy(scores, y).sum(), negative_margin(scores, y).sum()]
            for number, loss in enumerate(losses):
                (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)
                if gradient is None:
                    continue
                reached = True
                finite[rows] &= gradient.isfinite().flatten(1).all(1)
                # As the target does: what is NaN is not followed.
                size = gradient.nan_to_num(nan=0.0).abs().flatten(1).amax(1)
                sizes[number][rows] = sizes[number][rows].maximum(size)
    return Slopes(reached, finite, *sizes)


def alive(size: Tensor) -> Tensor:
    """Where a gradient of this size still has a direction, bool of the same shape."""
    # Below this the smaller entries of a gradient have underflowed, and with them its direction.
    info = torch.finfo(size.dtype)
    return size > info.tiny / info.eps
