"""What a training recipe is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from robustcode.registry import Registry
from robustcode.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """The loss a network is trained to lower; the loop around it is the same for all recipes."""

    @abstractmethod
    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """The mean loss over one batch, a scalar with a graph to the network's parameters.

        ``x`` is (batch, channels, height, width) in [0, 1], ``y`` int64 of shape (batch,). The
        network comes in training mode and must be left in it. All randomness of the recipe
        comes from ``streams``, one stream a row, fresh in every epoch.
        """

    def at(self, done: float) -> Recipe:
        """The recipe as it stands after the fraction ``done`` of the run's batches, in [0, 1).

        The loop takes the loss of each batch from it. A recipe that grows harder on the way
        returns the milder one of that moment; by itself a recipe is what it grows into.
        """
        return self


RECIPES: Registry[type[Recipe]] = Registry("recipe", "robustcode.recipes", Recipe)
