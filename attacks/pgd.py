"""Projected gradient descent, with expectation over the defence's randomness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target
from robustcode.attacks.expectation import more_broken, slope, standing
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel

# The search may run on a folded copy of the model whose logits differ in the last digits. A sample
# leaves only when it is broken by more than such rounding, relative to its largest logit.
ROUNDING = 1e-4


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
        step: length of one step as a fraction of ``threat.eps``.
        draws: draws of the defence averaged per step; 1 is plain PGD.
        restarts: independent starts; only samples still standing are started again.
        loss: what is raised: ce, margin or dlr.
        random_start: start at a random allowed input rather than at the sample itself.
        until_broken: leave a sample once it is broken; if false, its margin is lowered to the end.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    steps: int = 40
    step: float = 0.1
    draws: int = 1
    restarts: int = 1
    loss: LossName = LossName.CE
    random_start: bool = True
    until_broken: bool = True
    held_out: int = 16

    def __post_init__(self) -> None:
        for name in ("steps", "draws", "restarts", "held_out"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: at least 1 is needed")
        if not self.step > 0:
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
        best = _Best(x)
        for restart in range(self.restarts):
            rows = best.standing(self.until_broken)
            if len(rows) == 0:
                break
            stream = streams[rows].child("restart", restart)
            x_adv = self._start(x[rows], threat, stream)
            for number in range(self.steps):
                # All draws of a deterministic target are the same one.
                loss, at = LOSSES[self.loss], stream.child("step", number)
                here = slope(target, x_adv, y[rows], loss, at)
                best.offer(rows, x_adv, here.margin, here.scale)
                ahead = self._step(x_adv, x[rows], here.gradient, threat)
                # A fixed point: the same input gives the same gradient for ever after.
                going = (ahead != x_adv).flatten(1).any(1)
                if self.until_broken:
                    going &= ~best.broken[rows]
                if not going.all():
                    rows, stream, ahead = rows[going], stream[going], ahead[going]
                x_adv = ahead
                if len(rows) == 0:
                    break
            if len(rows):
                lead = standing(target, x_adv, y[rows], stream.child("end"))[:, 1]
                best.offer(rows, x_adv, lead, torch.zeros_like(lead))
        return best.x_adv

    def _search_stochastic(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        best, record = x, None
        judged = streams.child("held out")
        for restart in range(self.restarts):
            stream = streams.child("restart", restart)
            x_adv = self._start(x, threat, stream)
            seen = _Best(x_adv)
            everyone = torch.arange(len(x), device=x.device)
            for number in range(self.steps):
                here = slope(
                    target, x_adv, y, LOSSES[self.loss], stream.child("step", number), self.draws
                )
                seen.offer(everyone, x_adv, here.margin, here.scale)
                x_adv = self._step(x_adv, x, here.gradient, threat)
            for candidate in (x_adv, seen.x_adv):
                table = standing(target, candidate, y, judged, self.held_out)
                better = (
                    torch.ones_like(y, dtype=torch.bool)
                    if record is None
                    else more_broken(table, record)
                )
                best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), candidate, best)
                record = table if record is None else torch.where(better[:, None], table, record)
        return best

    def _start(self, x: Tensor, threat: ThreatModel, streams: Streams) -> Tensor:
        return threat.random(x, streams.child("start")) if self.random_start else x

    def _step(self, x_adv: Tensor, x: Tensor, gradient: Tensor, threat: ThreatModel) -> Tensor:
        ascent = threat.steepest(gradient, x_adv)
        return threat.project(x_adv + self.step * threat.eps * ascent, x)


class _Best:
    """The iterate with the lowest margin of each sample."""

    def __init__(self, x: Tensor) -> None:
        self.x_adv = x.clone()
        self.margin = x.new_full((len(x),), torch.inf)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def offer(self, rows: Tensor, x_adv: Tensor, margin: Tensor, scale: Tensor) -> None:
        better = margin < self.margin[rows]
        self.x_adv[rows[better]] = x_adv[better]
        self.margin[rows[better]] = margin[better].to(self.margin.dtype)
        self.broken[rows] |= margin < -ROUNDING * scale

    def standing(self, until_broken: bool) -> Tensor:
        return (~self.broken | (not until_broken)).nonzero().squeeze(1)
