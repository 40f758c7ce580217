"""Gradients from differences of a loss between pairs of inputs, where only scores can be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import Loss, Target
from robustcode.attacks.follow import Place, View
from robustcode.attacks.losses import margin_and_scale
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel, column

Ways = Callable[[Streams, Tensor], Tensor]
"""(streams, x) -> random directions of the shape of ``x``, one for each row."""


@dataclass(frozen=True, kw_only=True)
class Differences:
    """An estimate of the gradient, ``mean of (loss(x + r u) - loss(x - r u)) u / 2 r``.

    Its mean is the gradient smoothed over steps ``r u``, if the values of ``u`` are independent
    with mean 0 and variance 1. Each pair is asked on a draw of its own, the same at both ends: the
    difference is then of the inputs and not of the draws, and the mean is over the draws too.
    Inputs are kept in the box, where alone a classifier has to answer.

    Source: Ilyas et al. 2018, arXiv:1804.08598, section 2.1 (antithetic Gaussian directions);
    Spall 1992, IEEE Trans. Automatic Control 37(3) (directions of random signs).

    Attributes:
        target: is asked for scores only.
        threat: says which of the inputs asked about may be proposed.
        loss: whose gradient it is.
        ways: of the directions ``u``.
        reach: r, in the units of the input.
        pairs: how many are asked per estimate.
    """

    target: Target
    threat: ThreatModel
    loss: Loss
    ways: Ways
    reach: float
    pairs: int

    def __call__(self, at: Place) -> View:
        """See follow.Look: ``1 + 2 pairs`` forward passes, as many in a query as fit."""
        logits = self.target.logits(at.x_adv, at.streams.child("iterate"))
        lead, scale = margin_and_scale(logits, at.y)
        view = View(torch.zeros_like(at.x_adv), lead, at.x_adv, lead, scale)
        leads = [lead[None]]
        at_once = max(1, self.target.width // max(1, 2 * len(at.x)))
        for numbers in torch.arange(self.pairs, device=at.x.device).split(at_once):
            view, more = self._with(view, at, numbers)
            leads.append(more)
        return view._replace(
            gradient=view.gradient / (2 * self.reach * self.pairs),
            here=torch.cat(leads).nanmean(0),
        )

    def _with(self, view: View, at: Place, numbers: Tensor) -> tuple[View, Tensor]:
        """What was seen, with the pairs of these numbers, and the margins (ends, batch) at them.

        Of the gradient it has sums where means are to be taken.
        """
        count, batch = len(numbers), len(at.x)
        rows = torch.arange(batch, device=at.x.device).repeat(count)
        streams = at.streams[rows].child("pair").each(numbers.repeat_interleave(batch))
        middle, both = at.x_adv[rows], torch.cat([rows, rows])
        step = self.reach * self.ways(streams.child("direction"), middle)
        asked = torch.cat([middle + step, middle - step]).clamp_(self.threat.low, self.threat.high)
        draw = streams.child("draw")
        logits = self.target.logits(asked, Streams.joined([draw, draw]))
        y = at.y[both]
        up, down = self.loss(logits, y).to(step.dtype).chunk(2)
        # An end whose score is no number says nothing of the way.
        rise = (up - down).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        gained = (column(rise, step) * step / self.reach).view(count, *at.x.shape).sum(0)
        lead, scale = margin_and_scale(logits, y)
        view = self._lowest(view, at, asked, lead, scale)
        return view._replace(gradient=view.gradient + gained), lead.view(2 * count, batch)

    def _lowest(self, view: View, at: Place, asked: Tensor, lead: Tensor, scale: Tensor) -> View:
        """The allowed input with the lowest margin, of that so far and those ``asked`` about."""
        batch = len(at.x)
        place = torch.arange(batch, device=at.x.device)
        x = at.x.repeat(len(asked) // max(1, batch), *[1] * (at.x.ndim - 1))
        outside = self.threat.distance(asked, x) > self.threat.eps + self._rounding(at.x)
        # Scores that are not numbers are no decision, so not the right one.
        ranked = lead.nan_to_num(nan=-torch.inf).masked_fill(outside, torch.inf)
        first = ranked.view(-1, batch).argmin(0) * batch + place
        lower = ranked[first] < view.margin
        return view._replace(
            x=asked[first].where(column(lower, at.x), view.x),
            margin=ranked[first].where(lower, view.margin),
            scale=scale[first].where(lower, view.scale),
        )

    def _rounding(self, x: Tensor) -> float:
        return self.threat.rounding(x) if len(x) else 0.0
