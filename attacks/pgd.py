"""Projected gradient descent, with expectation over the defence's randomness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Ascent, Attack, Target, require_counts
from robustcode.attacks.climb import Best, Climb, Order
from robustcode.attacks.expectation import more_broken, slope, standing
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel, column

# Looking for samples that no longer move reads the whole batch; doing so at every step would cost
# a small network 5 % and save little.
SETTLED_EVERY = 10


@ATTACKS.register("pgd")
@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Ascent on a loss from a random start, projected after every step; best iterate by margin.

    With ``draws`` > 1 each step follows the mean gradient over that many independent draws of
    the defence (EOT-PGD). Against a deterministic target a sample leaves the batch as soon as it
    is broken, or when a step no longer moves it: every later step would be the same. Against a
    stochastic one nothing leaves on a lucky draw, and the best and the last iterate of every
    restart are compared on ``held_out`` draws that no step has seen.

    Source: Madry et al. 2018, arXiv:1706.06083, section 2.1; for the expectation,
    Athalye et al. 2018, arXiv:1707.07397; l1 steps, Tramer and Boneh 2019, arXiv:1904.13000.

    Attributes:
        steps: number of ascent steps.
        step: length of one step as a fraction of ``threat.eps``. On the published CIFAR-10 and
            MNIST networks .2 left 1 to 2 points fewer right than .1 after 20 steps.
        draws: draws of the defence averaged per step; 1 is plain PGD.
        restarts: independent starts; only samples still standing are started again.
        loss: what is raised: ce, margin, dlr or pm.
        random_start: start at a random allowed input rather than at the sample itself.
        until_broken: leave a sample once it is broken; if false, its margin is lowered to the end.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    steps: int = 40
    step: float = 0.2
    draws: int = 1
    restarts: int = 1
    loss: LossName = LossName.CE
    random_start: bool = True
    until_broken: bool = True
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "draws", "restarts", "held_out")
        if not 0 < self.step < torch.inf:
            raise ConfigError(f"step = {self.step:g}: a step is a positive fraction of eps")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        search = self._search_stochastic if target.stochastic else self._search
        return search(target, x, y, threat, streams)

    def _search(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """The search on a deterministic target, whose draws are all the same one."""
        plain = Order(x.shape[1:])
        best = Best.of(plain.rows(x), self.until_broken)
        for restart in range(self.restarts):
            rows = best.open().nonzero().squeeze(1)
            if len(rows) == 0:
                break
            start = streams[rows].child("restart", restart)
            climb = Climb(
                places=rows,
                y=y[rows],
                streams=start,
                x_adv=plain.rows(self._start(x[rows], threat, start)),
                region=threat.region(plain.rows(x[rows])),
                best=best[rows],
                order=plain,
            )
            self._climb(target, threat, climb, best)
        return plain.images(best.x_adv)

    def _climb(self, target: Target, threat: ThreatModel, climb: Climb, best: Best) -> None:
        """Move the samples of ``climb``, and write the best they reach to ``best``."""
        loss = LOSSES[self.loss]
        for number in range(1, self.steps + 1):
            # An ascent has no name here: its memory is free for the next one.
            going = self._step(
                climb,
                target.ascent(climb.images, climb.y, loss, climb.streams),
                threat,
                look=number % SETTLED_EVERY == 0,
            )
            if climb.leave(going, into=best):
                return
        climb.best.offer(climb.x_adv, climb.y, target.logits(climb.images, climb.streams))
        best.put(climb.places, climb.best, climb.order)

    def _step(self, climb: Climb, here: Ascent, threat: ThreatModel, look: bool) -> Tensor:
        """Move every sample once; which ones have further to go, bool of shape (batch,).

        Samples that no longer move are only seen with ``look``.
        """
        climb.put_in(Order.of(here.gradient))
        before = climb.x_adv
        ascent = climb.order.rows(threat.steepest(here.gradient, climb.images))
        climb.x_adv = threat.onto(climb.region, self._moved(before, ascent, threat))
        # A fixed point: the same input gives the same gradient for ever after.
        moving = (climb.x_adv - before).abs_().amax(1) > 0 if look else None
        climb.best.offer(before, climb.y, here.logits)
        going = climb.best.open()
        return going if moving is None else going & moving

    def _search_stochastic(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        best, record = x, x.new_full((len(x), 2), torch.inf)
        judged = streams.child("held out")
        for restart in range(self.restarts):
            stream = streams.child("restart", restart)
            x_adv = self._start(x, threat, stream)
            seen, lowest = x_adv, x.new_full((len(x),), torch.inf)
            for number in range(self.steps):
                at = stream.child("step", number)
                here = slope(target, x_adv, y, LOSSES[self.loss], at, self.draws)
                lower = here.lead < lowest
                seen = torch.where(column(lower, x), x_adv, seen)
                lowest = torch.where(lower, here.lead, lowest)
                ascent = threat.steepest(here.gradient, x_adv)
                x_adv = threat.project(self._moved(x_adv, ascent, threat), x)
            for candidate in (x_adv, seen):
                table = standing(target, candidate, y, judged, self.held_out)
                better = more_broken(table, record)
                best = torch.where(column(better, x), candidate, best)
                record = torch.where(better[:, None], table, record)
        return best

    def _start(self, x: Tensor, threat: ThreatModel, streams: Streams) -> Tensor:
        return threat.random(x, streams.child("start")) if self.random_start else x.clone()

    def _moved(self, x_adv: Tensor, ascent: Tensor, threat: ThreatModel) -> Tensor:
        """One step along unit perturbations, which are used up, wherever that leads."""
        return ascent.mul_(self.step * threat.eps).add_(x_adv)
