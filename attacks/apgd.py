"""Auto-PGD: ascent whose steps need no tuning, for any number of goals of a sample at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import torch
from torch import Tensor

from robustcode.attacks.base import Attack, Loss, Target, require_counts
from robustcode.attacks.climb import LEAVE_SHARE, ROUNDING, Order
from robustcode.attacks.expectation import Slope, level, more_broken, slope, standing
from robustcode.attacks.steps import Pace, pace_for
from robustcode.errors import ConfigError
from robustcode.ranks import occurrence
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

# Croce and Hein 2021, arXiv:2103.01208, section 3.4: in l1 the search begins in larger balls, as
# multiples of eps, for these shares of the steps.
LARGER, SHARES = (3.0, 2.0, 1.0), (0.3, 0.3, 0.4)
# After this share of the steps the goals with the lowest margins are told from the others. On the
# published networks the goal that broke a sample in the end was then the lowest.
NARROWED_AFTER = 0.1

Raise = Callable[[Tensor], Loss]
"""The loss of some rows, given their goals, int64 of shape (rows,)."""


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """What all Auto-PGD attacks share: momentum, and a step that each sample's own loss controls.

    A sample that is broken leaves the batch, with all the goals it is attacked towards. Goals are
    pursued side by side: they are rows of one batch, and the first to break the sample wins,
    so that what a sample gets does not depend on the company it is in. Against a stochastic
    target nothing leaves; every goal's best points are compared on ``held_out`` draws.

    In two things it differs from the authors' code: a start in linf and l2 is drawn from all of
    the ball, theirs from its surface; and every projection is the nearest point of ball and box
    together, where theirs cuts to one after the other.

    Source: Croce and Hein 2020, arXiv:2003.01690, algorithm 1; in l1 Croce and Hein 2021,
    arXiv:2103.01208.

    Attributes:
        steps: number of ascent steps.
        restarts: independent starts; only samples still standing are started again.
        draws: draws of the defence averaged per step.
        rho: share of the steps between two checkpoints that must raise the loss; without a role
            in l1, where steps go by how sparse the best point is.
        from_larger: in l1, spend the first 60 % of the steps in balls of 3 eps and 2 eps.
        until_broken: leave a sample once it is broken; if false, its margin is lowered to the end.
        hold: average over the same draws at each step of a restart, so that its rule compares like
            with like; what is found is compared on others (a sample average approximation). If
            false, as in the authors' code, a step may look better for its draws alone.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    steps: int = 100
    restarts: int = 1
    draws: int = 1
    rho: float = 0.75
    from_larger: bool = True
    until_broken: bool = True
    hold: bool = False
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "restarts", "draws", "held_out")
        if not 0 < self.rho < 1:
            raise ConfigError(f"rho = {self.rho:g}: a share between 0 and 1 is needed")

    @abstractmethod
    def _goals(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """The classes each sample is attacked towards, (batch, goals); one unused one if none."""

    @property
    def _kept(self) -> int:
        """How many of a sample's goals are pursued beyond ``NARROWED_AFTER`` of the steps."""
        return 0

    @abstractmethod
    def _loss(self, goal: Tensor) -> Loss:
        """What is raised for rows with these goals (rows,)."""

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        if len(x) == 0 or threat.eps == 0:
            return x.clone()
        found = Found.of(x)
        goals = self._goals(target, x, y, threat, streams.child("goals"))
        if goals.shape[1] == 0:  # one class, and nothing to be taken for
            return x.clone()
        together = max(1, target.width // goals.shape[1])
        for restart in range(self.restarts):
            standing_ = found.standing(self.until_broken).nonzero().squeeze(1)
            if len(standing_) == 0:
                break
            for places in standing_.split(together):
                rows = places.repeat_interleave(goals.shape[1])
                number = torch.arange(len(rows), device=x.device) % goals.shape[1]
                self._search(
                    target,
                    Crowd(rows, y[rows], goals[places].flatten(), streams[rows].child("held out")),
                    x,
                    threat,
                    streams[rows].child("restart", restart).each(number),
                    found,
                )
        return found.x_adv

    def _search(
        self,
        target: Target,
        crowd: Crowd,
        x: Tensor,
        threat: ThreatModel,
        streams: Streams,
        found: Found,
    ) -> None:
        """One ascent of every row of ``crowd``, in l1 through larger balls."""
        staged = threat.norm is Norm.L1 and self.from_larger
        stages = list(zip(LARGER, SHARES, strict=True)) if staged else [(1.0, 1.0)]
        left, at = self.steps, None
        for number, (scale, share) in enumerate(stages):
            last = number == len(stages) - 1
            count = left if last else min(left, round(share * self.steps))
            left -= count
            ball = threat.with_eps(min(scale * threat.eps, threat.whole_box(x[0].numel())))
            ascent = _Ascent(self, target, ball, crowd, streams.child("stage", number), staged)
            rows = ascent.begin(x[crowd.places], at, count, self._loss, streams)
            at = ascent.run(rows, count, found, self._loss, within=last)


@dataclass
class Crowd:
    """Which sample each row belongs to, and what is known of it.

    Attributes:
        places: int64 (rows,), of the sample in its batch.
        y: its right class.
        goals: the class it is attacked towards.
        judged: the draws on which all of a sample's candidates are compared.
    """

    places: Tensor
    y: Tensor
    goals: Tensor
    judged: Streams


@dataclass
class Found:
    """The worst that has been found for each sample.

    Attributes:
        x_adv: the proposals.
        table: share of right draws and margin of each, (batch, 2), as expectation.standing has
            it; for a deterministic target the share is 0 once it is broken beyond rounding.
    """

    x_adv: Tensor
    table: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Found:
        """Nothing yet."""
        return cls(x.clone(), x.new_full((len(x), 2), torch.inf))

    def standing(self, until_broken: bool) -> Tensor:
        """Samples that are worth another search, bool (batch,)."""
        open_ = torch.ones(len(self.x_adv), dtype=torch.bool, device=self.x_adv.device)
        return self.table[:, 0] > 0 if until_broken else open_

    def offer(self, places: Tensor, x_adv: Tensor, table: Tensor) -> None:
        """Compare with candidates, several of which may be of one sample; the first wins a tie."""
        if len(places) == 0:
            return
        order = torch.arange(len(places), device=places.device)
        # By margin, then share, each sort keeping the order of those before it.
        for key in (table[:, 1], table[:, 0]):
            order = order[key[order].sort(stable=True).indices]
        rows = order[occurrence(places[order]) == 0]
        mine = places[rows]
        better = more_broken(table[rows], self.table[mine])
        self.x_adv[mine[better]] = x_adv[rows[better]]
        self.table[mine[better]] = table[rows[better]]


@dataclass
class _Rows:
    """All that is kept of each row on its way; every tensor has a row for each.

    Attributes:
        places, y, goals, judged: see Crowd.
        streams: its randomness.
        region: what ThreatModel.onto has to know of where it may go.
        x_adv: where it is.
        before: where it was before the last step.
        gradient: of the loss, at ``x_adv``.
        top, top_gradient, top_loss: where its loss was highest.
        lowest, margin: where its margin was lowest, and how low.
        broken: by more than rounding.
        pace: the control of its steps.
    """

    places: Tensor
    y: Tensor
    goals: Tensor
    judged: Streams
    streams: Streams
    region: tuple[Tensor, ...]
    x_adv: Tensor
    before: Tensor
    gradient: Tensor
    top: Tensor
    top_gradient: Tensor
    top_loss: Tensor
    lowest: Tensor
    margin: Tensor
    broken: Tensor
    pace: Pace

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows, bool (rows,)."""
        for f in fields(self):
            value: Any = getattr(self, f.name)
            kept = tuple(part[rows] for part in value) if f.name == "region" else value[rows]
            setattr(self, f.name, kept)


class _Ascent:
    """One ascent of some rows in one ball."""

    def __init__(
        self,
        attack: APGD,
        target: Target,
        threat: ThreatModel,
        crowd: Crowd,
        streams: Streams,
        staged: bool,
    ) -> None:
        self.attack, self.target, self.threat, self.staged = attack, target, threat, staged
        self.crowd, self.streams = crowd, streams
        self.leaves = attack.until_broken and not target.stochastic
        # Samples that are broken, and whose rows have no more to find.
        count = int(crowd.places.max()) + 1
        self.over = torch.zeros(count, dtype=torch.bool, device=crowd.places.device)

    def begin(
        self, x: Tensor, at: Tensor | None, steps: int, loss_of: Raise, streams: Streams
    ) -> _Rows:
        """Rows ready for so many steps, from inputs ``x``; ``at``: where the last ball was left.

        Apart from the climb, so that nothing but the rows is held through it.
        """
        crowd, threat = self.crowd, self.threat
        start = _start(x, threat, streams) if at is None else threat.project(at, x)
        here = self._slope(loss_of(crowd.goals), start, crowd.y, self.streams, 0)
        self.order = order = Order.of(here.gradient)
        x_adv, x = order.rows(start).contiguous(), order.rows(x).contiguous()
        gradient = order.rows(here.gradient)
        return _Rows(
            places=crowd.places,
            y=crowd.y,
            goals=crowd.goals,
            judged=crowd.judged,
            streams=self.streams,
            region=threat.region(x),
            x_adv=x_adv,
            before=x_adv,
            gradient=gradient,
            top=x_adv.clone(),
            top_gradient=gradient.clone(),
            top_loss=here.loss,
            lowest=x_adv.clone(),
            margin=here.lead,
            broken=here.lead < -ROUNDING * here.scale,
            # As the authors' code does where it is given a start.
            pace=pace_for(
                threat, x, here.loss, steps, self.attack.rho, x_adv if self.staged else None
            ),
        )

    def run(self, rows: _Rows, steps: int, found: Found, loss_of: Raise, within: bool) -> Tensor:
        """Climb; where the loss of each row that is left was highest, in the shape of inputs.

        Only with ``within`` is the ball the one that is allowed: then what is found is offered to
        ``found``, and rows leave.
        """
        self.leaves = self.leaves and within
        self._finish_broken(rows)
        for number in range(1, steps + 1):
            if self.leaves and not self._leave(rows, found):
                break
            self._step(rows, loss_of, number, last=number == steps)
            if within and self.attack._kept and number == ceil(NARROWED_AFTER * steps) < steps:
                self._narrow(rows, found)
        if within:
            self._offer(rows, found)
        return self.order.images(rows.top)

    def _step(self, rows: _Rows, loss_of: Raise, number: int, last: bool) -> None:
        moved = rows.pace.moved(rows.x_adv, rows.before, rows.gradient, rows.region)
        rows.before, rows.x_adv = rows.x_adv, moved
        images, loss = self.order.images(moved), loss_of(rows.goals)
        if last:
            here = self._level(loss, images, rows.y, rows.streams, number)
        else:
            here = self._slope(loss, images, rows.y, rows.streams, number)
            rows.gradient = self.order.rows(here.gradient)
        self._see(rows, here, last)
        if last:
            return
        back = rows.pace.checked(number, rows.top, rows.top_loss)
        if back is not None:
            where = back.nonzero().squeeze(1)
            rows.x_adv = rows.x_adv.index_copy(0, where, rows.top[where])
            rows.gradient = rows.gradient.index_copy(0, where, rows.top_gradient[where])

    def _see(self, rows: _Rows, here: Slope, last: bool) -> None:
        """Take note of what one point of every row is worth."""
        lead = here.lead
        # How long a broken sample is kept depends on its batch; what it proposes must not.
        better = (lead < rows.margin) & ~self.over[rows.places]
        lower = better.nonzero().squeeze(1)
        rows.lowest.index_copy_(0, lower, rows.x_adv.index_select(0, lower))
        rows.margin = torch.where(better, lead, rows.margin)
        rows.broken = rows.broken | (better & (lead < -ROUNDING * here.scale))
        self._finish_broken(rows)
        higher = (here.loss > rows.top_loss).nonzero().squeeze(1)
        rows.top.index_copy_(0, higher, rows.x_adv.index_select(0, higher))
        if not last:
            rows.top_gradient.index_copy_(0, higher, rows.gradient.index_select(0, higher))
        rows.top_loss = torch.where(here.loss > rows.top_loss, here.loss, rows.top_loss)
        rows.pace.saw(here.loss)

    def _finish_broken(self, rows: _Rows) -> None:
        if self.leaves:
            self.over[rows.places[rows.broken]] = True

    def _leave(self, rows: _Rows, found: Found) -> bool:
        """Let the rows of broken samples go, if they are enough; whether any is left."""
        going = ~self.over[rows.places]
        left = len(going) - int(going.sum())
        if left and left >= LEAVE_SHARE * len(going):
            self._offer(rows, found, ~going)
            rows.keep(going)
        return len(rows.places) > 0

    def _narrow(self, rows: _Rows, found: Found) -> None:
        """Go on with the goals that have brought each sample's margin down most."""
        order = rows.margin.sort(stable=True).indices
        rank = torch.empty_like(order)
        rank[order] = occurrence(rows.places[order])
        going = rank < self.attack._kept
        if not going.all():
            self._offer(rows, found, ~going)
            rows.keep(going)

    def _offer(self, rows: _Rows, found: Found, which: Tensor | None = None) -> None:
        """What some rows, or all, have found."""
        which = torch.ones_like(rows.broken) if which is None else which
        images = self.order.images(rows.lowest[which])
        if self.target.stochastic:
            for candidate in (images, self.order.images(rows.top[which])):
                judged, draws = rows.judged[which], self.attack.held_out
                table = standing(self.target, candidate, rows.y[which], judged, draws)
                found.offer(rows.places[which], candidate, table)
            return
        share = (~rows.broken[which]).to(images.dtype)
        table = torch.stack([share, rows.margin[which].to(images.dtype)], dim=1)
        found.offer(rows.places[which], images, table)

    def _slope(self, loss: Loss, x_adv: Tensor, y: Tensor, streams: Streams, number: int) -> Slope:
        at = self._draws_of(streams, number)
        return slope(self.target, x_adv, y, loss, at, self.attack.draws)

    def _level(self, loss: Loss, x_adv: Tensor, y: Tensor, streams: Streams, number: int) -> Slope:
        """The same without the gradient, for the last step."""
        at = self._draws_of(streams, number)
        return level(self.target, x_adv, y, loss, at, self.attack.draws)

    def _draws_of(self, streams: Streams, number: int) -> Streams:
        # Names of draws that nobody makes would take a small network a twentieth of a step.
        if not self.target.stochastic:
            return streams
        return streams.child("step", 0 if self.attack.hold else number)


def _start(x: Tensor, threat: ThreatModel, streams: Streams) -> Tensor:
    """Random allowed inputs; in l1 sparse ones, since a point of the ball's inside is dense."""
    start = streams.child("start")
    if threat.norm is not Norm.L1:
        return threat.random(x, start)
    return threat.project(x + start.normal(*x.shape[1:], dtype=x.dtype), x)
