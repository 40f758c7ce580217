"""Fast adaptive boundary attack: to and fro across the boundary, each time nearer the sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Loss, Target, require_counts
from robustcode.attacks.climb import LEAVE_SHARE, Order
from robustcode.attacks.hyperplane import Box, onto_plane
from robustcode.attacks.losses import margin
from robustcode.attacks.nearest import Nearest, most_broken, stretched
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import DUAL, Norm, ThreatModel

# The authors' guards against dividing by nothing.
FLAT = 1e-12
STILL = 1e-8
# With more wrong rows than this share a second forward pass of all costs less than a gradient of
# those to no effect: it takes 1.7 times as long on the published CNNs.
WARY = 3 / 8
# Gradients that are held at a time, as a multiple of the rows of a query: each is an input's size.
HELD = 10


@ATTACKS.register("fab")
@dataclass(frozen=True, kw_only=True)
class FAB(Attack):
    """Steps onto the nearest linearised boundary, drawn towards the sample, pulled back if wrong.

    Each step linearises the lead of every other class, goes a little beyond the nearest of these
    planes, both from where it is and from the sample, and mixes the two. The iterates are those
    of the published code; passes are saved by taking one for both questions it asks of a point,
    whether it is wrong and where the boundary lies: only a wrong point is left for another one.
    Where most were wrong last time scores are asked for first, as they mostly are again.

    Against a stochastic target all is told by means over ``draws`` draws, and what is proposed is
    chosen on ``held_out`` draws that no step has seen, among the nearest input found, its
    direction and the mean gradient's followed for all of eps.

    Source: Croce and Hein 2020, arXiv:1907.02044, algorithm 1; the defaults are those of
    AutoAttack, arXiv:2003.01690.

    Attributes:
        steps: linearisations.
        restarts: the first starts at the sample, others at random half an eps away.
        alpha_max: largest share of the step from the sample.
        eta: how far beyond the plane a step goes, 1 being onto it.
        beta: what is left of a wrong input's way from the sample when it is pulled back.
        until_broken: leave a sample once a wrong input within eps is known; if false, nearer ones
            are looked for to the end.
        draws: draws of the defence averaged per step.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    minimal = True

    steps: int = 100
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    until_broken: bool = True
    draws: int = 1
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "restarts", "draws", "held_out")
        for name in ("alpha_max", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name):g}: a share is within 0 and 1")
        if not 1 <= self.eta < torch.inf:
            raise ConfigError(f"eta = {self.eta:g}: a step that falls short needs no eta below 1")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        if threat.eps == 0 or len(x) == 0:
            return x.clone()
        clean = target.logits(x, streams.child("clean"))
        aims = self._aims(clean, y)
        if aims.numel() == 0:
            return x.clone()
        search = self._search_stochastic if target.stochastic else self._search
        gradients = aims[0].numel()
        count = max(1, min(target.width // aims.shape[1], HELD * target.width // gradients))
        found = [
            search(target, Starts(x[part], y[part], clean[part], aims[part], streams[part]), threat)
            for part in _slices(len(x), count)
        ]
        return torch.cat(found)

    def _aims(self, clean: Tensor, y: Tensor) -> Tensor:
        """Classes, int64 of shape (batch, rows of each sample, classes that a row looks at)."""
        return others(clean, y)[:, None, :]

    def _search(self, target: Target, starts: Starts, threat: ThreatModel) -> Tensor:
        """The search on a deterministic target: all rows of some samples side by side."""
        order, each = Order(starts.x.shape[1:]), starts.aims.shape[1]
        rows = starts.rows()
        x = order.rows(rows.x)
        nearest = Nearest.of(x, rows.y, threat, self.until_broken)
        nearest.offer(x, rows.clean)
        for restart in range(self.restarts):
            nearest.open = torch.ones_like(nearest.open)
            _close(nearest, each)
            places = nearest.open.nonzero().squeeze(1)
            if len(places) == 0:
                break
            begin = nearest.x
            if restart:
                own = rows.streams.child("restart", restart)
                begin = order.rows(self._start(order.images(begin), threat, own))
            walk = Walk(places, begin[places], nearest.x[places])
            order = self._walk(target, threat, walk, nearest, rows, order)
        return order.images(best_of_each(nearest, each)).contiguous()

    def _walk(
        self,
        target: Target,
        threat: ThreatModel,
        walk: Walk,
        nearest: Nearest,
        rows: Rows,
        order: Order,
    ) -> Order:
        """Move the rows of ``walk``, all of them at a time; the order they end up in."""
        wary = False
        for number in range(self.steps):
            # Where a walk begins it does not matter whether it is wrong.
            looks = number > 0 and wary
            if looks:
                wrong = self._look(target, walk, nearest, rows, order)
                walk.pull(wrong, self.beta)
                wary = bool(wrong.float().mean() > WARY)
            _close(nearest, rows.each)
            if walk.leave(nearest.open):
                return order
            plane = _plane(target, order, walk.x_adv, rows, walk.places, threat)
            if plane.order != order:
                walk, order = walk.put_in(order, plane.order), _put_in(nearest, order, plane.order)
            nearest.offer(walk.x_adv, plane.logits, walk.places)
            if number and not looks:
                wrong = wrong_by(plane.logits, rows.y[walk.places])
                walk.pull(wrong, self.beta)
                wary = bool(wrong.float().mean() > WARY)
                some = wrong.nonzero().squeeze(1)
                if len(some):
                    x_adv, places = walk.x_adv[some], walk.places[some]
                    again = _plane(target, order, x_adv, rows, places, threat)
                    nearest.offer(x_adv, again.logits, places)
                    plane.lead[some] = again.lead
                    plane.weight[some] = order.rows(again.order.images(again.weight))
            self._step(walk.x_adv, walk.x, plane.weight, plane.lead, threat)
        self._look(target, walk, nearest, rows, order)
        return order

    def _look(
        self, target: Target, walk: Walk, nearest: Nearest, rows: Rows, order: Order
    ) -> Tensor:
        """Ask about where the rows of ``walk`` are; which are wrong there, bool (rows,)."""
        logits = target.logits(order.images(walk.x_adv), rows.streams[walk.places])
        nearest.offer(walk.x_adv, logits, walk.places)
        return wrong_by(logits, rows.y[walk.places])

    def _step(
        self, x_adv: Tensor, x: Tensor, weight: Tensor, lead: Tensor, threat: ThreatModel
    ) -> None:
        """Move ``x_adv`` (batch, values) beyond the planes, in place."""
        box = Box(threat.low, threat.high)
        from_here = onto_plane(threat.norm, x_adv, weight, -lead, box)
        ahead = (x_adv - x).mul_(weight).sum(1)
        from_x = onto_plane(threat.norm, x, weight, ahead - lead, box)
        near, far = from_here.size.clamp(min=STILL), from_x.size.clamp(min=STILL)
        share = (near / (near + far)).clamp(max=self.alpha_max)
        back = from_x.move.mul_(self.eta).add_(x)
        x_adv.add_(from_here.move, alpha=self.eta).lerp_(back, share[:, None])
        x_adv.clamp_(threat.low, threat.high)

    def _start(self, x: Tensor, threat: ThreatModel, streams: Streams) -> Tensor:
        """Half an eps away, as the published code starts again."""
        if threat.norm is Norm.LINF:
            way = streams.uniform(*x.shape[1:], dtype=x.dtype).mul_(2).sub_(1)
        else:
            way = streams.normal(*x.shape[1:], dtype=x.dtype)
        half = ThreatModel(threat.norm, threat.eps / 2, threat.low, threat.high)
        return stretched(x + way, x, half)

    def _search_stochastic(self, target: Target, starts: Starts, threat: ThreatModel) -> Tensor:
        """Every step on the mean of its draws; a pull back takes a step's draws of its own."""
        plain, rows = Order(starts.x.shape[1:]), starts.rows()
        candidates: list[Tensor] = []
        for restart in range(self.restarts):
            own = rows.streams.child("restart", restart)
            begin = self._start(rows.x, threat, own) if restart else rows.x.clone()
            x = plain.rows(rows.x)
            walk = Walk(torch.arange(len(x), device=x.device), plain.rows(begin), x)
            nearest = Nearest.of(x, rows.y, threat, until_broken=False)
            total = torch.zeros_like(x)
            pulled = torch.ones_like(rows.y, dtype=torch.bool)
            for number in range(self.steps):
                at = own.child("step", number)
                drawn = rows.drawing(at)
                planes = mean_plane(target, plain, walk.x_adv, drawn, threat, self.draws)
                nearest.offer(walk.x_adv, planes.logits)
                total += planes.weight
                # What has just been pulled back goes on from there, wrong or not.
                pulled = wrong_by(planes.logits, rows.y) & ~pulled
                moved = walk.x_adv.clone()
                self._step(moved, x, planes.weight, planes.lead, threat)
                walk.pull(pulled, self.beta)
                walk.x_adv = torch.where(pulled[:, None], walk.x_adv, moved)
            uphill = threat.steepest(plain.images(total), rows.x)
            ends = [
                plain.images(nearest.x_adv),
                stretched(plain.images(nearest.x_adv), rows.x, threat),
                stretched(plain.images(walk.x_adv), rows.x, threat),
                threat.project(rows.x + threat.eps * uphill, rows.x),
            ]
            candidates += [end[row :: rows.each] for end in ends for row in range(rows.each)]
        held_out = starts.streams.child("held out")
        return most_broken(target, candidates, starts.y, held_out, self.held_out)


class Starts(NamedTuple):
    """Some samples, and the classes that each is attacked towards."""

    x: Tensor  # (batch, ...)
    y: Tensor
    clean: Tensor  # (batch, classes)
    aims: Tensor  # (batch, rows of each sample, classes that a row looks at)
    streams: Streams

    def rows(self) -> Rows:
        """Each sample as often as it has rows, one after the other."""
        each = self.aims.shape[1]
        places = torch.arange(len(self.x), device=self.x.device).repeat_interleave(each)
        rank = torch.arange(len(places), device=self.x.device) % each
        return Rows(
            self.x[places],
            self.y[places],
            self.clean[places],
            self.aims.flatten(0, 1),
            self.streams[places].each(rank),
            each,
        )


class Rows(NamedTuple):
    """What rows of a search are told apart by."""

    x: Tensor  # (rows, ...)
    y: Tensor
    clean: Tensor  # (rows, classes)
    aims: Tensor  # (rows, classes that a row looks at)
    streams: Streams
    each: int  # rows of one sample

    def at(self, places: Tensor) -> Rows:
        """Some of the rows."""
        x, y, clean, aims = (part[places] for part in self[:4])
        return Rows(x, y, clean, aims, self.streams[places], self.each)

    def drawing(self, streams: Streams) -> Rows:
        """The same rows with other draws."""
        return self._replace(streams=streams)


@dataclass
class Walk:
    """The rows that still move.

    Attributes:
        places: int64, which rows they are.
        x_adv: where they are, shape (rows, values).
        x: where their samples are.
    """

    places: Tensor
    x_adv: Tensor
    x: Tensor

    def pull(self, wrong: Tensor, left: float) -> None:
        """Take wrong rows, bool (rows,), back: ``left`` of their way is what is left of it."""
        share = torch.where(wrong, left, 1.0).to(self.x)
        self.x_adv = torch.lerp(self.x, self.x_adv, share[:, None])

    def leave(self, still: Tensor) -> bool:
        """Drop closed rows if they are many; True if none is left. ``still``: which are open."""
        going = still[self.places]
        left = len(going) - int(going.sum())
        if not left or left < LEAVE_SHARE * len(going):
            return False
        self.places = self.places[going]
        self.x_adv, self.x = self.x_adv[going], self.x[going]
        return left == len(going)

    def put_in(self, old: Order, new: Order) -> Walk:
        """Go on in another order of numbers."""
        self.x_adv, self.x = (new.rows(old.images(part)) for part in (self.x_adv, self.x))
        return self


class Plane(NamedTuple):
    """The boundary as it looks from each row: lead + weight . (z - x_adv) = 0."""

    logits: Tensor  # (rows, classes)
    lead: Tensor  # (rows,), of the class aimed at over the right one
    weight: Tensor  # (rows, values)
    order: Order  # of those values


def others(clean: Tensor, y: Tensor) -> Tensor:
    """Every class but the right one by falling score, int64 of shape (batch, classes - 1)."""
    # NaN has no order; stable, so that ties fall in the same way in every batch.
    masked = clean.nan_to_num(nan=0.0).scatter(1, y[:, None], -torch.inf)
    return masked.argsort(dim=1, descending=True, stable=True)[:, :-1]


def best_of_each(nearest: Nearest, each: int) -> Tensor:
    """The nearest wrong input of all rows of a sample, or the lowest margin, (samples, values)."""
    broken = nearest.broken.view(-1, each)
    distance, lead = nearest.distance.view(-1, each), nearest.margin.view(-1, each)
    row = torch.where(broken.any(1), distance.argmin(1), lead.argmin(1))
    return nearest.proposals()[torch.arange(len(row), device=row.device) * each + row]


def _close(nearest: Nearest, each: int) -> None:
    """A sample is left with all its rows when one of them has broken it."""
    if nearest.until_broken:
        nearest.open &= ~nearest.broken.view(-1, each).any(1).repeat_interleave(each)


def _put_in(nearest: Nearest, old: Order, new: Order) -> Order:
    nearest.x, nearest.x_adv = (new.rows(old.images(p)) for p in (nearest.x, nearest.x_adv))
    return new


def mean_plane(
    target: Target, order: Order, x_adv: Tensor, rows: Rows, threat: ThreatModel, draws: int
) -> Plane:
    """Of the mean lead over ``draws`` draws; ``x_adv`` and ``rows`` are the same rows.

    The plane's numbers are in ``order``. A deterministic target is asked once.
    """
    places = torch.arange(len(x_adv), device=x_adv.device)
    logits, weights = [], []
    for draw in range(draws if target.stochastic else 1):
        own = rows.drawing(rows.streams.child("draw", draw)) if target.stochastic else rows
        scores, gradients, given = _slopes(target, order, x_adv, own, places)
        logits.append(scores)
        weights.append(torch.stack([order.rows(given.images(g)) for g in gradients]))
    mean, slope = torch.stack(logits).mean(0), torch.stack(weights).mean(0)
    return _nearest_plane(mean, list(slope), rows, places, threat, order)


def wrong_by(logits: Tensor, y: Tensor) -> Tensor:
    """Which rows these scores decide wrongly, or not at all, bool of shape (batch,)."""
    return (margin(logits, y) < 0) | logits.isnan().any(1)


def _plane(
    target: Target, order: Order, x_adv: Tensor, rows: Rows, places: Tensor, threat: ThreatModel
) -> Plane:
    logits, gradients, new = _slopes(target, order, x_adv, rows, places)
    return _nearest_plane(logits, gradients, rows, places, threat, new)


def _slopes(
    target: Target, order: Order, x_adv: Tensor, rows: Rows, places: Tensor
) -> tuple[Tensor, list[Tensor], Order]:
    """Scores, and the gradient of each aim's lead in rows of numbers, with their order."""
    aims = rows.aims[places]
    losses = [_lead_of(aims[:, number]) for number in range(aims.shape[1])]
    found = target.ascents(order.images(x_adv), rows.y[places], losses, rows.streams[places])
    new = order if target.stochastic else Order.of(found[0].gradient)
    return found[0].logits, [new.rows(ascent.gradient) for ascent in found], new


def _nearest_plane(
    logits: Tensor,
    gradients: list[Tensor],
    rows: Rows,
    places: Tensor,
    threat: ThreatModel,
    order: Order,
) -> Plane:
    """Of the planes of a row's aims the one that seems nearest without a box."""
    aims, y = rows.aims[places], rows.y[places]
    leads = (logits.gather(1, aims) - logits.gather(1, y[:, None])).to(gradients[0].dtype)
    leads = leads.nan_to_num(nan=0.0)
    if len(gradients) == 1:
        return Plane(logits, leads[:, 0], gradients[0], order)
    size = [torch.linalg.vector_norm(g, ord=DUAL[threat.norm], dim=1) for g in gradients]
    distance = leads.abs() / (torch.stack(size, dim=1) + FLAT)
    chosen = distance.argmin(1)
    weight = torch.empty_like(gradients[0])
    for number, gradient in enumerate(gradients):
        mine = (chosen == number).nonzero().squeeze(1)
        weight[mine] = gradient[mine]
    return Plane(logits, leads.gather(1, chosen[:, None]).squeeze(1), weight, order)


def _lead_of(aim: Tensor) -> Loss:
    """The lead of a class of each row over the right one."""

    def lead(logits: Tensor, y: Tensor) -> Tensor:
        return (logits.gather(1, aim[:, None]) - logits.gather(1, y[:, None])).squeeze(1)

    return lead


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
