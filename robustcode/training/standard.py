"""Plain training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.seeds import Streams
from robustcode.training.base import RECIPES, Recipe


@RECIPES.register("standard")
@dataclass(frozen=True, kw_only=True)
class Standard(Recipe):
    """Cross-entropy on the samples as they are."""

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        return F.cross_entropy(network(x), y)
