"""mixup: straight lines between samples, and the same lines between their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import column
from robustcode.training.base import RECIPES, Recipe


@RECIPES.register("mixup")
@dataclass(frozen=True, kw_only=True)
class Mixup(Recipe):
    """Mix each sample with another of its batch, in shares drawn from Beta(alpha, alpha).

    Shares are drawn for each pair, as in equation 2 of the paper; its code draws one share a
    batch.

    Source: Zhang et al. 2018, arXiv:1710.09412, section 2.

    Attributes:
        alpha: how evenly samples are mixed: near 0 hardly at all, 1 uniformly (the paper's
            choice for CIFAR-10), large ones by halves.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise ConfigError(f"alpha = {self.alpha:g}: a Beta distribution needs a positive one")

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        share = beta_draws(self.alpha, streams.child("share")).to(x.dtype)
        partner = streams.child("partner").uniform(1, dtype=torch.float64)[:, 0].argsort()
        return mixed_loss(network, x, y, share, partner)


def mixed_loss(network: nn.Module, x: Tensor, y: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """Mean cross-entropy of ``share`` of each sample with the rest of its ``partner``'s.

    ``share`` in [0, 1] and the row numbers ``partner`` are both of shape (batch,).
    """
    weight = column(share, x)
    scores = network(weight * x + (1 - weight) * x[partner])
    own = F.cross_entropy(scores, y, reduction="none")
    other = F.cross_entropy(scores, y[partner], reduction="none")
    return (share * own + (1 - share) * other).mean()


def beta_draws(alpha: float, streams: Streams) -> Tensor:
    """One draw of Beta(alpha, alpha) for each row, float64 of shape (batch,), by inversion."""
    uniform = streams.uniform(1, dtype=torch.float64)[:, 0]
    draws = betaincinv(alpha, alpha, uniform.cpu().numpy())
    return torch.from_numpy(np.asarray(draws)).to(uniform.device)
