"""Training with Gaussian noise on the images, for a network that is to be smoothed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.training.base import RECIPES, Recipe


@RECIPES.register("gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian(Recipe):
    """Cross-entropy on noisy samples: what randomized smoothing will ask of the network.

    The noise comes before any normalisation inside the network, so ``sigma`` is in the units of
    the input, and noisy images are not clipped to [0, 1]: as in certification.

    Source: Cohen et al. 2019, arXiv:1902.02918, section 3.3.

    Attributes:
        sigma: standard deviation of the noise in each input value; that of certification.
        draws: noisy copies of each sample in a batch; the paper uses one.
    """

    sigma: float = 0.25
    draws: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise ConfigError(f"sigma = {self.sigma}: a standard deviation is finite and >= 0")
        if self.draws < 1:
            raise ConfigError(f"draws = {self.draws}: a sample needs at least one noisy copy")

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        return self.noisy_loss(network, x, y, self.noise(x, streams))

    def noise(self, x: Tensor, streams: Streams) -> Tensor:
        """Noise for each copy of each row, (draws, batch, ...)."""
        draws = [
            streams.child("noise", number).normal(*x.shape[1:], dtype=x.dtype)
            for number in range(self.draws)
        ]
        return self.sigma * torch.stack(draws)

    def noisy_loss(self, network: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """Mean cross-entropy of the copies ``x + noise``, which go through in one batch."""
        return F.cross_entropy(network((x + noise).flatten(0, 1)), y.repeat(len(noise)))
