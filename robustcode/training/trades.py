"""TRADES: clean cross-entropy plus a price on how far predictions move inside the ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel
from robustcode.training.ascent import Adversary, evaluating
from robustcode.training.base import RECIPES, Recipe

# At x itself the divergence is zero and so is its gradient; the search starts this far off, as
# in section 5 of the paper (algorithm 1, line 5), in the units of the input.
OFFSET = 1e-3


@RECIPES.register("trades")
@dataclass(frozen=True, kw_only=True)
class Trades(Recipe):
    """Cross-entropy at x plus ``beta`` times the largest KL(f(x) || f(x')) found around it.

    The inner adversary sees the network in evaluation mode (see Adversary) and predictions at x
    that are held fixed; in the outer loss both predictions have a gradient.

    Source: Zhang et al. 2019, arXiv:1901.08573, equation 5 and algorithm 1; ``beta`` is its
    1/lambda.

    Attributes:
        threat: the ball, e.g. ``linf:8/255``.
        beta: price of the divergence; 0 is cross-entropy alone, the paper uses 1 and 6.
        steps: number of ascent steps.
        step: length of one step as a fraction of eps.
    """

    threat: str
    beta: float = 6.0
    steps: int = 10
    step: float = 0.25

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise ConfigError(f"beta = {self.beta:g}: the price of robustness is 0 or more")
        _ = self.adversary  # wrong settings are met here, before any training

    @property
    def adversary(self) -> Adversary:
        """The inner maximisation."""
        return Adversary(threat=ThreatModel.parse(self.threat), steps=self.steps, step=self.step)

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        x_adv = self._furthest(network, x, streams)
        scores = network(x)
        apart = divergence(scores, network(x_adv)).mean()
        return F.cross_entropy(scores, y) + self.beta * apart

    def _furthest(self, network: nn.Module, x: Tensor, streams: Streams) -> Tensor:
        adversary = self.adversary
        with evaluating(network), torch.no_grad():
            scores = network(x)
        offset = OFFSET * streams.child("start").normal(*x.shape[1:], dtype=x.dtype)
        start = adversary.threat.project(x + offset, x)
        return adversary.worsen(network, x, start, lambda moved: divergence(scores, moved))


def divergence(scores: Tensor, moved: Tensor) -> Tensor:
    """KL(softmax(scores) || softmax(moved)) of each row in nats, shape (batch,)."""
    return F.kl_div(
        moved.log_softmax(1), scores.log_softmax(1), reduction="none", log_target=True
    ).sum(1)
