"""Training against interval bounds: the loss at the worst scores that the box allows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.bounds import (
    Network,
    Region,
    interval_bounds,
    interval_margins,
    margins,
    network_of,
)
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel
from robustcode.training.ascent import evaluating
from robustcode.training.base import RECIPES, Recipe
from robustcode.training.ramp import check_share, climbed


@RECIPES.register("ibp")
@dataclass(frozen=True, kw_only=True)
class IBP(Recipe):
    """Cross-entropy blended with an upper bound on it over the ball, by interval arithmetic.

    The bound takes each margin of the label at its least, through the last layer at once (its
    elision): no point of the ball has a larger loss. It is one of the network in evaluation mode,
    as it will be certified. eps and the bound's share grow together along a ramp.

    Source: Gowal et al. 2018, arXiv:1810.12715. ``kappa`` is that of its code, which warms up for
    1/30 and ramps for 1/6 of a longer run on MNIST; the other defaults are ours.

    Attributes:
        threat: the ball at the end of the ramp, e.g. ``linf:8/255``.
        kappa: share of the plain loss at the end of the ramp; before it is 1.
        warm_up: fraction of the run with the plain loss alone.
        ramp: fraction of the run, after that, over which eps and the bound's share grow from 0.
    """

    threat: str
    kappa: float = 0.5
    warm_up: float = 0.05
    ramp: float = 0.5

    def __post_init__(self) -> None:
        ThreatModel.parse(self.threat)  # wrong settings are met here, before any training
        check_share("kappa", self.kappa, "the loss")
        check_share("warm_up", self.warm_up, "the run")
        check_share("ramp", self.ramp, "the run")
        if self.warm_up + self.ramp > 1 + 1e-9:  # .7 and .3 are the whole run
            raise ConfigError(
                f"warm_up = {self.warm_up:g} and ramp = {self.ramp:g} are longer than the run "
                "together; the ramp would end short of the threat"
            )

    def at(self, done: float) -> Self:
        """See Recipe.at."""
        height = climbed(done, self.warm_up, self.ramp)
        threat = ThreatModel.parse(self.threat)
        return dataclasses.replace(
            self,
            threat=str(threat.with_eps(threat.eps * height)),
            kappa=1 - height + height * self.kappa,
            warm_up=0,
            ramp=0,
        )

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """See Recipe.loss."""
        refuse_batch_norm(network)
        plain = F.cross_entropy(network(x), y)
        threat = ThreatModel.parse(self.threat)
        threat.fits(x[0].numel())
        with evaluating(network):
            # A warm-up needs no bounds, but a layer that has none is to be met in the first batch.
            graph = network_of(network, x[:1], dtype=None)
            if self.kappa == 1:
                return plain
            radius = torch.full_like(x[:, 0, 0, 0], threat.eps)
            region = Region(x, radius, threat.norm, threat.low, threat.high)
            lower = self.least_margins(graph, region, margins(y, graph.classes, x.dtype))
        return self.kappa * plain + (1 - self.kappa) * worst_loss(lower)

    def least_margins(self, graph: Network, region: Region, spec: Tensor) -> Tensor:
        """Lower bounds on the margins ``spec``, (batch, classes - 1, classes), of the scores."""
        return interval_margins(graph, interval_bounds(graph, region), spec)


def refuse_batch_norm(network: nn.Module) -> None:
    """Raise ConfigError if a layer of ``network`` has statistics that move in training."""
    for name, layer in network.named_modules():
        if layer.training and getattr(layer, "track_running_stats", False):
            # Bounds by the running statistics, which no gradient reaches, were tried: on the
            # digits training went well for ten epochs and then diverged.
            raise ConfigError(
                f"layer {name!r} ({type(layer).__name__}) normalises by its batch in training, so "
                "that the network trained is not the one that is bounded; choose one without "
                "batch norm"
            )


def worst_loss(lower: Tensor) -> Tensor:
    """Mean cross-entropy where each margin of the label is ``lower``, (batch, classes - 1).

    Cross-entropy is log(1 + sum exp(-margin)), which falls in every margin, so that no point
    with margins above has a larger one.
    """
    return F.pad(-lower, (1, 0)).logsumexp(1).mean()
