"""Scout: a short search on every sample, longer ones on those that it brought near the boundary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.apgd_ce import APGDCE
from robustcode.attacks.apgd_pm import APGDPM
from robustcode.attacks.apgd_t import APGDT
from robustcode.attacks.base import ATTACKS, Attack, Target
from robustcode.attacks.climb import ROUNDING
from robustcode.attacks.losses import LossName, margin_and_scale
from robustcode.attacks.square import Square
from robustcode.attacks.started import StartedPGD
from robustcode.attacks.targets import TargetOrder
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


class Hunt(NamedTuple):
    """Some samples, and what they are attacked with."""

    target: Target
    x: Tensor
    y: Tensor
    threat: ThreatModel
    streams: Streams


Search = Callable[[Hunt], Tensor]


@ATTACKS.register("scout")
@dataclass(frozen=True, kw_only=True)
class Scout(Attack):
    """The most verdicts per pass: who is far from the boundary after a short search is left there.

    Three short Auto-PGD runs meet every sample. Those whose margin they bring below the share
    ``near`` of the clean one are attacked towards every class, from new starts, and by random
    search followed by ascent from where it ends; those below ``close`` once more, for longer. On
    six published networks every sample that AutoAttack breaks was below .23 after the first search.
    A sample that no gradient moves is not attacked further: where gradients are masked altogether
    (see findings) use a suite that attacks without them.

    Source: the searches, see apgd-pm, apgd-t, apgd-ce and square; leaving hard samples early is
    the idea of Liu et al. 2022, arXiv:2203.05154 (adaptive auto attack); the rule is ours.

    Attributes:
        near: share of the clean margin below which a sample is worth more.
        close: below which it is worth still more.
        draws: draws of the defence averaged per step. A random defence is only searched
            briefly, since one draw's margin says little of who is near.
    """

    near: float = 0.25
    close: float = 0.12
    draws: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.close <= self.near <= 1:
            raise ConfigError(
                f"near = {self.near:g}, close = {self.close:g}: shares with close <= near <= 1"
            )
        if self.draws < 1:
            raise ConfigError(f"draws = {self.draws}: at least 1 is needed")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        first = APGDPM(steps=20, restarts=3, draws=self.draws)
        best = first.perturb(target, x, y, threat, streams.child("scout"))
        if target.stochastic or threat.eps == 0 or len(x) == 0:
            return best
        clean = self._lead(target, x, y, streams)
        lowest = self._lead(target, best, y, streams)
        for share, searches in ((self.near, NEAR), (self.close, CLOSE)):
            rows = (lowest.margin < share * clean.margin).nonzero().squeeze(1)
            for number, search in enumerate(searches):
                rows = rows[~lowest.broken()[rows]]
                if len(rows) == 0:
                    break
                own = streams[rows].child("near" if searches is NEAR else "close", number)
                found = search(Hunt(target, x[rows], y[rows], threat, own))
                lead = self._lead(target, found, y[rows], streams[rows])
                better = lead.margin < lowest.margin[rows]
                best[rows[better]] = found[better]
                lowest.margin[rows[better]] = lead.margin[better]
                lowest.scale[rows[better]] = lead.scale[better]
        return best

    def _lead(self, target: Target, x: Tensor, y: Tensor, streams: Streams) -> Lead:
        lead, scale = margin_and_scale(target.logits(x, streams), y)
        # What is no number leads nothing.
        return Lead(lead.nan_to_num(nan=-torch.inf), scale)


class Lead(NamedTuple):
    """How far the right classes lead, and the size of the two logits whose rounding blurs it."""

    margin: Tensor  # (batch,)
    scale: Tensor  # (batch,)

    def broken(self) -> Tensor:
        """By more than rounding, bool (batch,)."""
        return self.margin < -ROUNDING * self.scale


def _attacked(attack: Attack) -> Search:
    def search(hunt: Hunt) -> Tensor:
        return attack.perturb(hunt.target, hunt.x, hunt.y, hunt.threat, hunt.streams)

    return search


def _blind_then_up(queries: int, steps: int) -> Search:
    """Random search, which no masked gradient misleads, and ascent from where it ends.

    On a network whose gradients mislead, ascent from there broke as many again as the search.
    """

    def search(hunt: Hunt) -> Tensor:
        blind = Square(queries=queries, rescale=True)
        start = blind.perturb(hunt.target, hunt.x, hunt.y, hunt.threat, hunt.streams)
        samples = hunt.streams.samples
        ascent = StartedPGD(
            steps=steps, step=0.1, loss=LossName.MARGIN, samples=samples, starts=start
        )
        up = hunt.streams.child("up")
        return ascent.perturb(hunt.target, hunt.x, hunt.y, hunt.threat, up)

    return search


NEAR: tuple[Search, ...] = (
    _attacked(APGDT(keep=1, steps=50)),
    _attacked(APGDCE(steps=20, restarts=4)),
    _blind_then_up(queries=500, steps=20),
)
CLOSE: tuple[Search, ...] = (
    _attacked(APGDT(keep=1)),
    _attacked(APGDT(targets=3, steps=20, restarts=2, order=TargetOrder.MALT)),
    _blind_then_up(queries=1500, steps=40),
)
