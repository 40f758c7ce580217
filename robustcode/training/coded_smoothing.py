"""Training by coded smoothing: cross-entropy, plain and by way of a code, in one blend."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustcode.seeds import Streams
from robustcode.training.base import RECIPES, Recipe
from robustcode.training.coded import CodedBranch, CodedTerm


@RECIPES.register("coded-smoothing")
@dataclass(frozen=True, kw_only=True)
class CodedSmoothing(CodedTerm, Recipe):
    """Cross-entropy of the network's outputs blended with that of outputs that were coded.

    The settings are those of CodedTerm. The order of the batch is the loop's shuffle, which is
    the one permutation; the recipe draws nothing itself.

    Source: as for CodedTerm.
    """

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        return CodedBranch(network, self).loss(x, y)
