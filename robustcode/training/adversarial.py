"""Adversarial training: cross-entropy at the worst point found around each sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.seeds import Streams
from robustcode.threat import ThreatModel
from robustcode.training.ascent import Adversary
from robustcode.training.base import RECIPES, Recipe


@RECIPES.register("adversarial")
@dataclass(frozen=True, kw_only=True)
class Adversarial(Recipe):
    """Train on projected ascent's last iterate from a random start in the ball.

    The inner adversary sees the network in evaluation mode (see Adversary).

    Source: Madry et al. 2018, arXiv:1706.06083, section 2.1; the default steps are those of its
    CIFAR-10 experiments (seven steps of 2/255 in a ball of 8/255).

    Attributes:
        threat: the ball, e.g. ``linf:8/255``.
        steps: number of ascent steps.
        step: length of one step as a fraction of eps.
    """

    threat: str
    steps: int = 7
    step: float = 0.25

    def __post_init__(self) -> None:
        _ = self.adversary  # wrong settings are met here, before any training

    @property
    def adversary(self) -> Adversary:
        """The inner maximisation."""
        return Adversary(threat=ThreatModel.parse(self.threat), steps=self.steps, step=self.step)

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        adversary = self.adversary
        start = adversary.threat.random(x, streams.child("start"))
        wrongness = partial(F.cross_entropy, target=y, reduction="none")
        return F.cross_entropy(network(adversary.worsen(network, x, start, wrongness)), y)
