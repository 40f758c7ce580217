"""A random defence with its randomness fixed for each sample, and so known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustcode.defenses.wrapper import Around
from robustcode.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class OneDraw(Around):
    """A random defence with its randomness fixed for each sample, and so known.

    Attributes:
        inner: the defence.
        seed: names the draw.
    """

    stochastic: ClassVar[bool] = False

    seed: int = 0

    def asked(self, what: str, x: Tensor, streams: Streams) -> Tensor:
        """See Around.asked."""
        batches = None if streams.together is None else streams.together.samples
        return super().asked(what, x, Streams.of(self.seed, "one draw", streams.samples, batches))
