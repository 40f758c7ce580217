"""Samples on their way up a loss: who still moves, where each is, and the best it has been.

Written for speed: a step of a small network takes two milliseconds, and reading or moving a
batch once takes a hundredth of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Size, Tensor

from robustcode.attacks.losses import margin_and_scale
from robustcode.seeds import Streams

# The search may run on a folded copy of the model whose logits differ in the last digits. A sample
# is broken for good only by more than such rounding, relative to losses.margin_scale.
ROUNDING = 1e-4
# Samples leave together, when they are this share of the batch: a batch of a size not seen before
# costs a small network about one pass, since its convolutions are compiled for each size.
LEAVE_SHARE = 1 / 8


@dataclass(frozen=True)
class Order:
    """Samples as rows of numbers, in the order in which a target's gradient lies in memory.

    Turning layouts over at every step would cost a small network a tenth of its time.

    Attributes:
        shape: that of one sample.
        channels_last: whether its channels, and not its columns, are next to each other.
    """

    shape: Size
    channels_last: bool = False

    @classmethod
    def of(cls, gradient: Tensor) -> Order:
        """The order of a gradient of shape (batch, ...)."""
        planes = gradient.ndim == 4 and gradient.shape[1] > 1
        return cls(gradient.shape[1:], planes and gradient.stride(1) == 1)

    def rows(self, x: Tensor) -> Tensor:
        """Shape (batch, values), a view where it can be."""
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1)

    def images(self, rows: Tensor) -> Tensor:
        """The same numbers in the shape they came in, a view."""
        if not self.channels_last:
            return rows.view(-1, *self.shape)
        channels, height, width = self.shape
        return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)


@dataclass
class Best:
    """The iterate with the lowest margin of each sample, and whether that breaks it.

    Attributes:
        x_adv: the iterates, shape (batch, values).
        margin: their margins, shape (batch,).
        broken: by more than rounding, bool of shape (batch,).
        until_broken: whether what is broken is no longer to be improved.
    """

    x_adv: Tensor
    margin: Tensor
    broken: Tensor
    until_broken: bool

    @classmethod
    def of(cls, x: Tensor, until_broken: bool) -> Best:
        """Nothing reached yet, from ``x`` of shape (batch, values)."""
        unknown = x.new_full((len(x),), torch.inf)
        return cls(x.clone(), unknown, torch.zeros_like(unknown, dtype=torch.bool), until_broken)

    def open(self) -> Tensor:
        """Which samples are still to be improved, bool of shape (batch,)."""
        return ~self.broken if self.until_broken else torch.ones_like(self.broken)

    def offer(self, x_adv: Tensor, y: Tensor, logits: Tensor) -> None:
        """Compare with one iterate of every sample, given its logits. ``x_adv`` is used up."""
        # What the judge makes of scores that are not numbers: no decision, so not the right one.
        lost = logits.isnan().any(1)
        lead, scale = margin_and_scale(logits, y)
        lead = lead.to(self.margin.dtype).masked_fill(lost, -torch.inf)
        # What a broken sample is later offered depends on how long its batch keeps it.
        better = (lead < self.margin) & self.open()
        new, old = better.nonzero().squeeze(1), (~better).nonzero().squeeze(1)
        # Whichever is less is copied.
        if len(new) <= len(old):
            self.x_adv.index_copy_(0, new, x_adv.index_select(0, new))
        else:
            self.x_adv = x_adv.index_copy_(0, old, self.x_adv.index_select(0, old))
        self.margin = torch.where(better, lead, self.margin)
        self.broken = self.broken | lost | (lead < -ROUNDING * scale)

    def put(self, rows: Tensor, other: Best, order: Order) -> None:
        """Write what some samples have reached, given in ``order``, in their places, plainly."""
        self.x_adv[rows] = Order(order.shape).rows(order.images(other.x_adv))
        self.margin[rows] = other.margin
        self.broken[rows] = other.broken

    def __getitem__(self, rows: Tensor) -> Best:
        return Best(self.x_adv[rows], self.margin[rows], self.broken[rows], self.until_broken)


@dataclass
class Climb:
    """The samples that one restart still moves, each a row in all that is kept of them.

    Attributes:
        places: int64, where each sample is in the whole batch.
        y: right classes.
        streams: randomness of this restart.
        x_adv: where they are.
        region: what ThreatModel.onto has to know of where they may go.
        best: the best they have been.
        order: of the numbers in a row.
    """

    places: Tensor
    y: Tensor
    streams: Streams
    x_adv: Tensor
    region: tuple[Tensor, ...]
    best: Best
    order: Order

    @property
    def images(self) -> Tensor:
        """Where they are, in the shape that the target takes."""
        return self.order.images(self.x_adv)

    def put_in(self, order: Order) -> None:
        """Go on in another order of numbers."""
        if order == self.order:
            return
        self.x_adv = order.rows(self.order.images(self.x_adv))
        self.region = tuple(order.rows(self.order.images(part)) for part in self.region)
        self.best.x_adv = order.rows(self.order.images(self.best.x_adv))
        self.order = order

    def leave(self, going: Tensor, into: Best) -> bool:
        """Drop all but the samples that are ``going``, if enough are not; True if none is left.

        What the others have reached is written ``into`` the best of the whole batch.
        """
        left = len(going) - int(going.sum())
        if not left or left < LEAVE_SHARE * len(going):
            return False
        into.put(self.places[~going], self.best[~going], self.order)
        self.places, self.y, self.streams = self.places[going], self.y[going], self.streams[going]
        self.x_adv = _moved_up(self.x_adv, going)
        self.region = tuple(_moved_up(part, going) for part in self.region)
        kept = _moved_up(self.best.x_adv, going)
        self.best = Best(
            kept, self.best.margin[going], self.best.broken[going], self.best.until_broken
        )
        return left == len(going)


def _moved_up(rows: Tensor, going: Tensor) -> Tensor:
    """Some rows, in the memory that all of them were in: new memory would lie in holes."""
    kept = rows[going]
    return rows[: len(kept)].copy_(kept)
