"""A target that keeps the course of an attack: each sample's loss at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.base import Ascent, Loss
from robustcode.attacks.losses import cross_entropy, margin
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget


class Course(NamedTuple):
    """Where an attack led each of its samples, by queries; NaN where one had left the batch.

    ``loss`` is cross-entropy and ``margin`` the true class's logit less the largest other, of
    shape (queries, samples) each.
    """

    loss: Tensor
    margin: Tensor

    @property
    def right(self) -> Tensor:
        """Share of samples that no query so far got wrong, float64 of shape (queries,)."""
        wrong = (self.margin <= 0).cummax(0).values  # NaN compares as right, as it was before
        return 1 - wrong.double().mean(1)


class WatchedTarget(DefendedTarget):
    """A defence as attacks meet it, whose ascents can be kept."""

    _kept: list[tuple[Tensor, Tensor, Tensor]] | None = None

    def ascents(
        self, x: Tensor, y: Tensor, losses: Sequence[Loss], streams: Streams
    ) -> list[Ascent]:
        """See Target.ascents."""
        found = super().ascents(x, y, losses, streams)
        if self._kept is not None and len(found):
            scores = found[0].logits
            seen = streams.samples, cross_entropy(scores, y), margin(scores, y)
            self._kept.append(seen)
        return found

    @contextmanager
    def watched(self) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
        """Keep the ascents made inside, as (samples, loss, margin) of each query."""
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self._kept = kept
        try:
            yield kept
        finally:
            self._kept = None


def course_of(kept: Sequence[tuple[Tensor, Tensor, Tensor]], samples: Tensor, draws: int) -> Course:
    """The course of ``samples``; ``draws`` queries in a row make one step."""
    count, order = len(kept) // draws, samples.argsort()
    loss, lead = (
        torch.full((count, len(samples)), torch.nan, dtype=torch.float64) for _ in range(2)
    )
    for number in range(count):
        part = kept[number * draws : (number + 1) * draws]
        rows = order[torch.searchsorted(samples[order], part[0][0].cpu())]
        for place, into in ((1, loss), (2, lead)):
            # A step's draws ask about the same samples in the same order.
            values = torch.stack([query[place].double().cpu() for query in part])
            into[number, rows] = values.mean(0)
    return Course(loss, lead)
