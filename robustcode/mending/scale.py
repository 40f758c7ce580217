"""Scores so far apart that the cross-entropy of the first class is zero, brought together."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from robustcode.defenses.base import Defense
from robustcode.mending.base import Keeps, Scores, Way
from robustcode.seeds import Streams


class Scale(Way):
    """Each score by minus the logarithm of one plus what it lacks to the highest of its row.

    The order of classes is kept, a gap of 5000 becomes one of 8.5, and a small gap stays as it is.
    A division by the measured size of the scores would do for one point, but either the measure is
    that of a batch, and a sample depends on its company, or of one row, and then the loss is all
    but the same everywhere and no step rule can tell progress.

    Source: logits times a large number as a masked gradient, Carlini and Wagner 2017,
    arXiv:1608.04644, section IV (defensive distillation); this remedy is ours.
    """

    keeps: ClassVar[Keeps] = Keeps.ORDER

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        scores = follow(x, streams)
        return -(scores.amax(1, keepdim=True) - scores).log1p()
