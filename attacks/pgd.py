"""Projected gradient descent, with expectation over the defence's randomness."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target
from robustcode.attacks.expectation import more_broken, slope, standing
from robustcode.attacks.losses import LOSSES, LossName, margin
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel, column

# The search may run on a folded copy of the model whose logits differ in the last digits. A sample
# leaves only when it is broken by more than such rounding, relative to its largest logit.
ROUNDING = 1e-4
# Samples leave together, when they are this share of the batch: a batch of a size not seen before
# costs a small network about one pass, since its convolutions are compiled for each size.
LEAVE_SHARE = 1 / 8
# Looking for samples that no longer move reads the whole batch; doing so at every step would cost
# a small network 5 % and save little.
SETTLED_EVERY = 5


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
        loss: what is raised: ce, margin or dlr.
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
        for name in ("steps", "draws", "restarts", "held_out"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: at least 1 is needed")
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
        best = _Best.of(x)
        for restart in range(self.restarts):
            rows = best.open(self.until_broken).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            start = streams[rows].child("restart", restart)
            climb = _Climb(rows, x[rows], y[rows], start, best[rows])
            x_adv = self._start(climb.x, threat, start)
            self._climb(target, threat, climb, x_adv, best)
        return best.x_adv

    def _climb(
        self, target: Target, threat: ThreatModel, climb: _Climb, x_adv: Tensor, best: _Best
    ) -> None:
        """Move the samples of ``climb`` from ``x_adv``, and write what they reach to ``best``."""
        loss = LOSSES[self.loss]
        for number in range(1, self.steps + 1):
            here = target.ascent(x_adv, climb.y, loss, climb.streams)
            if number == 1:
                climb.x, x_adv = (_like(here.gradient, part) for part in (climb.x, x_adv))
            ahead = self._step(x_adv, climb.x, here.gradient, threat)
            # A fixed point: the same input gives the same gradient for ever after.
            moved = _moved(x_adv, ahead) if number % SETTLED_EVERY == 0 else None
            climb.best.offer(x_adv, climb.y, here.logits, self.until_broken)
            x_adv = ahead
            going = climb.best.open(self.until_broken)
            if moved is not None:
                going &= moved
            left = len(going) - int(going.sum())
            if left and left >= LEAVE_SHARE * len(going):
                best.put(climb.rows[~going], climb.best[~going])
                climb, x_adv = climb[going], x_adv[going]
                if len(x_adv) == 0:
                    return
        logits = target.logits(x_adv, climb.streams)
        climb.best.offer(x_adv, climb.y, logits, self.until_broken)
        best.put(climb.rows, climb.best)

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
                lower = here.margin < lowest
                seen = torch.where(column(lower, x), x_adv, seen)
                lowest = torch.where(lower, here.margin, lowest)
                x_adv = self._step(x_adv, x, here.gradient, threat)
            for candidate in (x_adv, seen):
                table = standing(target, candidate, y, judged, self.held_out)
                better = more_broken(table, record)
                best = torch.where(column(better, x), candidate, best)
                record = torch.where(better[:, None], table, record)
        return best

    def _start(self, x: Tensor, threat: ThreatModel, streams: Streams) -> Tensor:
        return threat.random(x, streams.child("start")) if self.random_start else x.clone()

    def _step(self, x_adv: Tensor, x: Tensor, gradient: Tensor, threat: ThreatModel) -> Tensor:
        ascent = threat.steepest(gradient, x_adv)
        return threat.project(ascent.mul_(self.step * threat.eps).add_(x_adv), x)


@dataclass
class _Best:
    """The iterate with the lowest margin of each sample, and whether that breaks it."""

    x_adv: Tensor
    margin: Tensor
    broken: Tensor

    @classmethod
    def of(cls, x: Tensor) -> _Best:
        margin = x.new_full((len(x),), torch.inf)
        return cls(x.clone(), margin, torch.zeros_like(margin, dtype=torch.bool))

    def open(self, until_broken: bool) -> Tensor:
        """Which samples are still to be improved, bool of shape (batch,)."""
        return ~self.broken if until_broken else torch.ones_like(self.broken)

    def offer(self, x_adv: Tensor, y: Tensor, logits: Tensor, until_broken: bool) -> None:
        """Compare with one iterate of every sample, given its logits. ``x_adv`` is used up."""
        # What the judge makes of scores that are not numbers: no decision, so not the right one.
        lost = logits.isnan().any(1)
        lead = margin(logits, y).to(self.margin.dtype).masked_fill(lost, -torch.inf)
        # What a broken sample is later offered depends on how long its batch keeps it.
        better = (lead < self.margin) & self.open(until_broken)
        new, old = better.nonzero().squeeze(1), (~better).nonzero().squeeze(1)
        if len(new) <= len(old):
            self.x_adv.index_copy_(0, new, x_adv.index_select(0, new))
        else:
            self.x_adv = x_adv.index_copy_(0, old, self.x_adv.index_select(0, old))
        self.margin = torch.where(better, lead, self.margin)
        self.broken = self.broken | lost | (lead < -ROUNDING * logits.abs().amax(1))

    def put(self, rows: Tensor, other: _Best) -> None:
        """Write what ``other`` holds over these rows."""
        self.x_adv[rows] = other.x_adv
        self.margin[rows] = other.margin
        self.broken[rows] = other.broken

    def __getitem__(self, rows: Tensor) -> _Best:
        return _Best(self.x_adv[rows], self.margin[rows], self.broken[rows])


@dataclass
class _Climb:
    """The samples that one restart still moves, row by row."""

    rows: Tensor  # int64, where each sample is in the whole batch
    x: Tensor
    y: Tensor
    streams: Streams
    best: _Best

    def __getitem__(self, chosen: Tensor) -> _Climb:
        return _Climb(*(getattr(self, field.name)[chosen] for field in fields(self)))


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    """``x`` in the memory layout of its gradient, in which every later step is cheaper."""
    channels_last = x.ndim == 4 and x.shape[1] > 1 and gradient.stride(1) == 1
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def _moved(x_adv: Tensor, ahead: Tensor) -> Tensor:
    return (ahead - x_adv).abs_().flatten(1).amax(1) > 0
