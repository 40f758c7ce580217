"""How much of one draw's gradient is noise: it sets the draws of attacks on random defences."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustcode.attacks.losses import negative_margin
from robustcode.seeds import Streams

# Gradients of each pilot sample. The ratio of two samples' worth of it is known within a third
# or so, and draws are only ever wanted to that accuracy.
PILOT_DRAWS = 16
# Of a mean of n draws the share 1 / (1 + noise / n) of its square is signal: with as many draws as
# the noise of one the mean points within 45 degrees of the true direction.
WANTED = 1.0
MOST_DRAWS = 64
# Of a defence whose noise could not be measured: asks for the 20 draws that AutoAttack's version
# for random defences takes, Croce and Hein 2020, arXiv:2003.01690, section 4.
UNKNOWN = 20.0


def gradient_noise(
    scores_of: Callable[[Tensor, Streams], Tensor],
    x: Tensor,
    streams: Streams,
    at_once: int | None = None,
    pay: Callable[[Streams, int], None] = lambda streams, gradients: None,
) -> float:
    """The variance of one draw's margin gradient over the square of its mean, a median over rows.

    ``x`` are pilot inputs (batch, ...); the margin is that of each draw's own prediction at first.
    ``at_once`` rows are differentiated together, all of them if None.
    Infinity if half of the rows show no mean at all, ``UNKNOWN`` without a row. Costs
    ``PILOT_DRAWS`` forward and backward passes a sample, plus one forward; ``pay`` is told of them.
    """
    if len(x) == 0:
        return UNKNOWN
    pay(streams, 0)
    with torch.no_grad():
        y = scores_of(x, streams.child("label")).argmax(1)
    total, squares = torch.zeros_like(x, dtype=torch.float64), x.new_zeros(len(x)).double()
    for draw in range(PILOT_DRAWS):
        own = streams.child("draw", draw)
        for rows in torch.arange(len(x), device=x.device).split(at_once or len(x)):
            leaf = x[rows].detach().clone().requires_grad_()
            pay(own[rows], 1)
            with torch.enable_grad():
                scores = scores_of(leaf, own[rows])
                if not scores.requires_grad:
                    return math.inf
                loss = negative_margin(scores, y[rows]).sum()
            (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True)
            if gradient is None:
                return math.inf
            gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).double()
            total[rows] += gradient
            squares[rows] += gradient.flatten(1).square().sum(1)
    mean = (total / PILOT_DRAWS).flatten(1).square().sum(1)
    # Of two terms, each unbiased: the square of the mean still holds a share of the noise.
    noise = (squares / PILOT_DRAWS - mean) * PILOT_DRAWS / (PILOT_DRAWS - 1)
    signal = mean - noise / PILOT_DRAWS
    ratio = torch.where(signal > 0, noise / signal, torch.inf)
    return max(0.0, float(ratio.median()))


def draws_for(noise: float) -> int:
    """Draws to average per step where one draw's gradient has this much noise.

    >>> draws_for(0.3), draws_for(11.2), draws_for(math.inf)
    (1, 12, 64)
    """
    return max(1, min(MOST_DRAWS, math.ceil(min(noise / WANTED, MOST_DRAWS))))
