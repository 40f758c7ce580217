"""Adversarial training of a smoothed network: the worst point for the mean over the noise."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.seeds import Streams
from robustcode.threat import ThreatModel
from robustcode.training.ascent import Adversary
from robustcode.training.base import RECIPES
from robustcode.training.gaussian import Gaussian
from robustcode.training.ramp import check_share, climbed


@RECIPES.register("smoothadv")
@dataclass(frozen=True, kw_only=True)
class SmoothAdv(Gaussian):
    """Noisy copies of the point near each sample at which their mean softmax is most wrong.

    Ascent starts at the sample and follows the cross-entropy of the mean softmax of ``draws``
    noisy copies; all steps see the same noise, and so does the loss, which is the mean over the
    copies. Unlike the authors' code the ball is projected onto exactly, together with the box.

    Source: Salman et al. 2019, arXiv:1906.04584; where the ascent starts and the default steps
    are those of its code, Hadisalman/smoothing-adversarial. The other defaults are ours.

    Attributes:
        threat: the ball; the certificate that Gaussian noise gives is one in ``l2``.
        steps: number of ascent steps.
        step: length of one step as a fraction of eps; 2 / ``steps`` if left out.
        ramp: fraction of the run over which eps grows from 0.
    """

    threat: str
    draws: int = 2
    steps: int = 10
    step: float | None = None
    ramp: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("ramp", self.ramp, "the run")
        _ = self.adversary  # wrong settings are met here, before any training

    @property
    def adversary(self) -> Adversary:
        """The inner maximisation."""
        step = 2 / max(self.steps, 1) if self.step is None else self.step
        return Adversary(threat=ThreatModel.parse(self.threat), steps=self.steps, step=step)

    def at(self, done: float) -> Self:
        """See Recipe.at."""
        threat = ThreatModel.parse(self.threat)
        threat = threat.with_eps(threat.eps * climbed(done, 0, self.ramp))
        return dataclasses.replace(self, threat=str(threat), ramp=0)

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        noise = self.noise(x, streams)
        wrongness = partial(F.nll_loss, target=y, reduction="none")
        x_adv = self.adversary.worsen(_Smoothed(network, noise), x, x, wrongness)
        return self.noisy_loss(network, x_adv, y, noise)


class _Smoothed(nn.Module):
    """The logarithm of the mean softmax over fixed noise, (batch, classes)."""

    def __init__(self, network: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.network = network
        self._noise = noise

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network((x + self._noise).flatten(0, 1))
        each = scores.log_softmax(1).unflatten(0, self._noise.shape[:2])
        return each.logsumexp(0) - math.log(len(self._noise))
