"""Refuse where the model is not confident."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustcode.defenses.base import DEFENSES, Defense
from robustcode.errors import ConfigError
from robustcode.seeds import Streams


@DEFENSES.register("confidence")
@dataclass(frozen=True, kw_only=True)
class Confidence(Defense):
    """Refuse every input whose highest softmax probability is below ``threshold``.

    A rejection is by how much the logarithm of that probability's odds falls short, in the units of
    the logits: that has a gradient where the probability is so near to 1 that it has none itself.

    Source: the baseline of Hendrycks and Gimpel 2017, arXiv:1610.02136, for telling wrong and
    foreign inputs from right ones.

    Attributes:
        threshold: a probability; up to 1 / classes nothing is refused.
    """

    detector: ClassVar[bool] = True

    model: nn.Module
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(
                f"threshold = {self.threshold:g}: a probability has to be above 0 and below 1"
            )

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return 2

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        scores: Tensor = self.model(x)
        return scores

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.rejection. A pass of its own."""
        scores = self.logits(x, streams)
        top = scores.max(1, keepdim=True)
        others = scores.scatter(1, top.indices, -torch.inf).logsumexp(1)
        needed = math.log(self.threshold / (1 - self.threshold))
        return needed - (top.values.squeeze(1) - others)
