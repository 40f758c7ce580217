"""HopSkipJump: along the boundary to its nearest point, by decisions alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.climb import ROUNDING
from robustcode.attacks.losses import margin_and_scale
from robustcode.attacks.nearest import Nearest, most_broken, stretched
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel, column

# Starts that are asked about together: a constant, so that no sample's depends on its batch.
TOGETHER = 16
# Halvings of a search for the boundary, at most: float32 tells no more inputs apart.
HALVINGS = 20
# How far decisions are asked about in the first round, when distances still say little, as a share
# of the width of the box: the authors' code. Where decisions are random nearer ones hardly differ.
WIDE = 0.1


@ATTACKS.register("hopskipjump")
@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Attack):
    """To the boundary, a jump along its estimated normal, and back; again and again.

    It looks at what the target decides and not at its scores, but for two things: a decision
    counts once it is clear of rounding, and where nothing wrong was found within eps, the allowed
    input with the lowest margin is proposed. The start is noise, blended with the input by a
    random share, or a random corner of the box: no other sample is used.

    A decision of a stochastic target is the majority of ``draws`` draws. To find the boundary
    they are held fixed, or there would be none to find; for the normal each decision is on fresh
    ones and is asked as far away as in the first round. What is found is stretched to eps and
    compared on draws that no decision has seen.

    Source: Chen et al. 2020, arXiv:1904.02144, algorithms 1 and 2.

    Attributes:
        steps: rounds of the three moves.
        queries: decisions for the first estimate of the normal; times the root of the round after.
        tries: starts that are tried.
        draws: of a stochastic target for each decision.
        until_broken: leave a sample once it is broken within eps; if false, its distance is
            shortened to the end.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    norms = frozenset({Norm.LINF, Norm.L2})
    needs_gradient = False
    minimal = True

    steps: int = 20
    queries: int = 100
    tries: int = 320
    draws: int = 4
    until_broken: bool = True
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "queries", "tries", "draws", "held_out")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        if threat.eps == 0:  # whatever is found cannot be proposed
            return x.clone()
        found = Nearest.of(x, y, threat, self.until_broken and not target.stochastic)
        asked = Decisions(target, x, y, streams, found, self.draws if target.stochastic else 1)
        rows, x_adv = self._started(asked)
        last = x.clone()
        for number in range(1, self.steps + 1):
            going = found.open[rows]
            rows, x_adv = rows[going], x_adv[going]
            if len(rows) == 0:
                break
            x_adv = asked.boundary(rows, x_adv)
            last[rows] = x_adv
            distance = threat.distance(x_adv, x[rows])
            reach = distance / x[0].numel()
            if number == 1 or target.stochastic:
                reach = torch.full_like(reach, WIDE * (threat.high - threat.low))
            count = round(self.queries * math.sqrt(number))
            normal = asked.normal(rows, x_adv, reach, count, number)
            x_adv = asked.jump(rows, x_adv, normal, distance / math.sqrt(number))
        if len(rows):
            last[rows] = asked.boundary(rows, x_adv)
        there = stretched(last, x, threat)
        if target.stochastic:
            candidates = (found.proposals(), there)
            return most_broken(target, candidates, y, streams.child("held out"), self.held_out)
        rows = (~found.broken).nonzero().squeeze(1)
        asked.wrong(rows, there[rows][None])
        return found.proposals()

    def _started(self, asked: Decisions) -> tuple[Tensor, Tensor]:
        """The samples for which a wrong input is known, and one for each."""
        rows = torch.arange(len(asked.x), device=asked.x.device)
        if len(rows) == 0:
            return rows, asked.x
        x_adv = asked.x.clone()
        wrong = asked.wrong(rows, asked.x[None])[0]
        has = wrong.clone()
        for first in range(0, self.tries, TOGETHER):
            rest = (~has).nonzero().squeeze(1)
            if len(rest) == 0:
                break
            numbers = range(first, min(first + TOGETHER, self.tries))
            starts = torch.stack([asked.start(rest, number) for number in numbers])
            lost = asked.wrong(rest, starts)
            some = lost.any(0)
            chosen = starts[lost.int().argmax(0), torch.arange(len(rest), device=rest.device)]
            x_adv[rest[some]] = chosen[some]
            has[rest[some]] = True
        rows = has.nonzero().squeeze(1)
        return rows, x_adv[rows]


@dataclass(frozen=True)
class Decisions:
    """What the target decides of inputs of its samples, all of which are offered as they come.

    Attributes:
        target: what is asked.
        x: the inputs, (batch, ...).
        y: right classes.
        streams: of the samples.
        found: takes what is asked about.
        draws: whose majority is the decision.
    """

    target: Target
    x: Tensor
    y: Tensor
    streams: Streams
    found: Nearest
    draws: int

    @property
    def threat(self) -> ThreatModel:
        """What is allowed, and how distance is measured."""
        return self.found.threat

    def wrong(self, rows: Tensor, points: Tensor) -> Tensor:
        """Whether the target errs on ``points`` (count, rows, ...), bool of shape (count, rows)."""
        streams = self.streams[rows].child("held") if self.target.stochastic else self.streams[rows]
        every = torch.arange(len(rows), device=rows.device).repeat(len(points))
        return self.share(rows, points, streams[every]) > 0.5

    def share(self, rows: Tensor, points: Tensor, streams: Streams) -> Tensor:
        """Share of the draws that err on ``points`` (count, rows, ...), shape (count, rows).

        ``streams`` name the draws of every point, in the order of their flattened rows.
        """
        if len(rows) == 0:
            return self.x.new_zeros(len(points), 0)
        at_once = max(1, self.target.width // len(rows))
        own = (streams[part] for part in torch.arange(len(streams)).split(at_once * len(rows)))
        parts = zip(points.split(at_once), own, strict=True)
        return torch.cat([self._share(rows, part, streams) for part, streams in parts])

    def _share(self, rows: Tensor, points: Tensor, streams: Streams) -> Tensor:
        every = rows.repeat(len(points))
        asked, y = points.flatten(0, 1), self.y[every]
        errs, lead = asked.new_zeros(len(asked)), asked.new_zeros(len(asked))
        for draw in range(self.draws):
            own = streams.child("draw", draw) if self.target.stochastic else streams
            logits = self.target.logits(asked, own)
            lead, scale = margin_and_scale(logits, y)
            lead = lead.to(asked.dtype).nan_to_num(nan=-torch.inf)
            errs += lead < -ROUNDING * scale
        if self.target.stochastic:
            # Negative where most draws err; of one draw the margin would be that of its luck.
            lead = 0.5 - errs / self.draws
        lost = errs > self.draws / 2
        shape = len(points), len(rows)
        distance = self.threat.distance(asked, self.x[every])
        # Of each sample the nearest wrong input, else the allowed one with the lowest margin.
        nearest = distance.masked_fill(~lost, torch.inf).view(shape).argmin(0)
        lowest = lead.masked_fill(distance > self.threat.eps, torch.inf).view(shape).argmin(0)
        near = (lost & (distance <= self.threat.eps)).view(shape).any(0)
        best = nearest.where(near, lowest) * len(rows) + torch.arange(len(rows), device=rows.device)
        self.found.keep(asked[best], lead[best], lost[best], rows)
        return (errs / self.draws).view(shape)

    def start(self, rows: Tensor, number: int) -> Tensor:
        """A random corner of the box, or noise blended with the inputs by a random share.

        Of shape (rows, ...). Many values of uniform noise hardly differ from their mean, and what
        is told by their sum is left as it is: a corner is nearly twice as far.
        """
        x, streams = self.x[rows], self.streams[rows].child("start", number)
        noise = streams.child("noise").uniform(*x.shape[1:], dtype=x.dtype)
        if number % 2:
            return torch.where(noise < 0.5, self.threat.low, self.threat.high).to(x)
        noise = self.threat.low + (self.threat.high - self.threat.low) * noise
        share = streams.child("share").uniform(1, dtype=x.dtype).squeeze(1)
        return x + column(share, x) * (noise - x)

    def boundary(self, rows: Tensor, x_adv: Tensor) -> Tensor:
        """The wrong input next to the boundary on the way from wrong ``x_adv`` to the inputs."""
        x, values = self.x[rows], self.x[0].numel()
        # The paper's precision, d^-3/2 in l2 and d^-2 in linf, of the distance.
        power = 2.0 if self.threat.norm is Norm.LINF else 1.5
        halvings = min(HALVINGS, math.ceil(power * math.log2(values)) + 1)
        right = x.new_zeros(len(x))
        lost = torch.ones_like(right)
        for _ in range(halvings):
            middle = (right + lost) / 2
            wrong = self.wrong(rows, self._between(x, x_adv, middle)[None])[0]
            lost, right = middle.where(wrong, lost), right.where(wrong, middle)
        nearer = column(lost < 1, x)
        return self._between(x, x_adv, lost).where(nearer, x_adv)

    def _between(self, x: Tensor, x_adv: Tensor, share: Tensor) -> Tensor:
        """The point at a share of the distance: on the line in l2, by clipping in linf."""
        move = x_adv - x
        if self.threat.norm is Norm.LINF:
            most = column(share * self.threat.distance(x_adv, x), x)
            return x + move.clamp(-most, most)
        return x + column(share, x) * move

    def normal(self, rows: Tensor, x_adv: Tensor, reach: Tensor, count: int, number: int) -> Tensor:
        """The estimated way to where the target errs, from ``count`` decisions; (rows, ...).

        Source: Chen et al. 2020, equation 16; where all decisions agree, equation 12.
        """
        fresh = self.streams[rows].child("normal", number)
        size = column(reach.clamp(min=torch.finfo(x_adv.dtype).tiny), x_adv)
        signs = x_adv.new_zeros(len(rows))
        ways, signed = torch.zeros_like(x_adv), torch.zeros_like(x_adv)
        at_once = max(1, self.target.width // len(rows))
        for numbers in torch.arange(count, device=x_adv.device).split(at_once):
            every = torch.arange(len(rows), device=rows.device).repeat(len(numbers))
            own = fresh[every].each(numbers.repeat_interleave(len(rows)))
            unit = self._units(own.child("way"), x_adv).view(len(numbers), *x_adv.shape)
            points = (x_adv + size * unit).clamp_(self.threat.low, self.threat.high)
            unit = (points - x_adv) / size
            # Of a deterministic target all draws are the same one, and need no names.
            draws = own.child("draws") if self.target.stochastic else self.streams[rows][every]
            sign = 2 * self.share(rows, points, draws) - 1
            signs += sign.sum(0)
            ways += unit.sum(0)
            signed += (sign.view(*sign.shape, *[1] * (x_adv.ndim - 1)) * unit).sum(0)
        mean = signs / count
        baseline = mean.where(mean.abs() < 1, 0)
        return signed - column(baseline, x_adv) * ways

    def _units(self, streams: Streams, x: Tensor) -> Tensor:
        """Directions of length 1 in l2: of a sphere in l2, of a cube in linf, as the authors do."""
        if self.threat.norm is Norm.LINF:
            ways = streams.uniform(*x.shape[1:], dtype=x.dtype) * 2 - 1
        else:
            ways = streams.normal(*x.shape[1:], dtype=x.dtype)
        return ways / column(ways.flatten(1).norm(dim=1), ways)

    def jump(self, rows: Tensor, x_adv: Tensor, normal: Tensor, length: Tensor) -> Tensor:
        """As far along the normal as is wrong: from ``length``, halved until it is; (rows, ...)."""
        way = self.threat.steepest(normal, x_adv)
        there = x_adv.clone()
        rest = torch.arange(len(rows), device=rows.device)
        for halving in range(HALVINGS):
            if len(rest) == 0:
                break
            step = column(length[rest] / 2**halving, x_adv) * way[rest]
            points = (x_adv[rest] + step).clamp_(self.threat.low, self.threat.high)
            wrong = self.wrong(rows[rest], points[None])[0]
            there[rest[wrong]] = points[wrong]
            rest = rest[~wrong]
        return there
