"""DeepFool: onto the nearest linearised boundary, again and again, until across it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.climb import Order
from robustcode.attacks.fab import Rows, Starts, mean_plane, others, wrong_by
from robustcode.attacks.hyperplane import Box, onto_plane
from robustcode.attacks.nearest import Nearest, most_broken, stretched
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@ATTACKS.register("deepfool")
@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """Newton's way across the nearest of the linearised boundaries, without a way back.

    The moves stay in the box, which the paper's do not. After them a bisection between the
    sample and the nearest wrong input found shortens the overshoot, for a forward pass a time;
    bisections=0 is the paper's attack.

    Source: Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, algorithm 2 and section 3.3 for norms
    other than l2; the overshoot is that of section 4.1.

    Attributes:
        steps: linearisations at most.
        overshoot: how far beyond the boundary, as a fraction of the whole way.
        classes: other classes whose boundaries are looked at, by falling score of the sample.
        bisections: halvings of the way back; used for deterministic targets only.
        until_broken: leave a sample once a wrong input within eps is known; if false, go on to
            the first wrong input anyway and bisect.
        draws: draws of the defence averaged per step.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    minimal = True

    steps: int = 50
    overshoot: float = 0.02
    classes: int = 9
    bisections: int = 6
    until_broken: bool = True
    draws: int = 1
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "classes", "draws", "held_out")
        if self.bisections < 0:
            raise ConfigError(f"bisections = {self.bisections}: a number of halvings, 0 for none")
        if not 0 <= self.overshoot < torch.inf:
            raise ConfigError(f"overshoot = {self.overshoot:g}: a fraction of the way, 0 or more")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        if threat.eps == 0 or len(x) == 0:
            return x.clone()
        clean = target.logits(x, streams.child("clean"))
        aims = others(clean, y)[:, None, : self.classes]
        if aims.numel() == 0:
            return x.clone()
        rows = Starts(x, y, clean, aims, streams).rows()
        order = Order(x.shape[1:])
        nearest = Nearest.of(order.rows(x), y, threat, self.until_broken)
        if not target.stochastic:
            nearest.offer(nearest.x, clean)
        end, total = self._walk(target, threat, nearest, rows, order)
        if not target.stochastic:
            if self.bisections:
                self._bisect(target, nearest, rows, order, end)
            return order.images(nearest.proposals())
        found, uphill = order.images(nearest.x_adv), threat.steepest(order.images(total), x)
        candidates = [
            found,
            stretched(found, x, threat),
            stretched(order.images(end), x, threat),
            threat.project(x + threat.eps * uphill, x),
        ]
        return most_broken(target, candidates, y, streams.child("held out"), self.held_out)

    def _walk(
        self, target: Target, threat: ThreatModel, nearest: Nearest, rows: Rows, order: Order
    ) -> tuple[Tensor, Tensor]:
        """Where each row has gone, to its first wrong input or as far as the steps go.

        And the sum of the gradients on its way: what all draws of a stochastic target agree on.
        """
        total = torch.zeros_like(nearest.x)
        end, places = nearest.x.clone(), nearest.open.nonzero().squeeze(1)
        box = Box(threat.low, threat.high)
        # What has been moved in all, without the overshoot: it is not to add up.
        bare = nearest.x.clone()
        for number in range(self.steps + 1):
            own = rows.at(places)
            if target.stochastic:
                own = own.drawing(own.streams.child("step", number))
            if number == self.steps and not target.stochastic:
                logits = target.logits(order.images(end[places]), own.streams)
                nearest.offer(end[places], logits, places)
                break
            plane = mean_plane(target, order, end[places], own, threat, self.draws)
            nearest.offer(end[places], plane.logits, places)
            # A stochastic target is walked on to the end: nothing is left on luck.
            going = ~wrong_by(plane.logits, own.y)
            if target.stochastic:
                going = torch.ones_like(going)
            places, weight, lead = places[going], plane.weight[going], plane.lead[going]
            if len(places) == 0:
                break
            total[places] += weight
            ahead = (end[places] - bare[places]).mul_(weight).sum(1)
            bare[places] += onto_plane(threat.norm, bare[places], weight, ahead - lead, box).move
            way = (bare[places] - nearest.x[places]).mul_(1 + self.overshoot)
            end[places] = way.add_(nearest.x[places]).clamp_(threat.low, threat.high)
        return end, total

    def _bisect(
        self, target: Target, nearest: Nearest, rows: Rows, order: Order, end: Tensor
    ) -> None:
        """Halve the way between the sample and the end of its walk, offering every middle."""
        places = nearest.open.nonzero().squeeze(1)
        if len(places) == 0:
            return
        near, far = nearest.x[places], end[places]
        for _ in range(self.bisections):
            middle = near.lerp(far, 0.5)
            own = rows.at(places)
            logits = target.logits(order.images(middle), own.streams)
            nearest.offer(middle, logits, places)
            wrong = wrong_by(logits, own.y)[:, None]
            near, far = torch.where(wrong, near, middle), torch.where(wrong, middle, far)
