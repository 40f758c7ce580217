"""Joint linear bounds of all coded images that one sample is in: its least margin."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.bounds import (
    Interval,
    Network,
    Region,
    crown_bounds,
    linear_bounds,
    margins,
    relaxed,
    sizes_of,
)
from robustcode.bounds.rounding import gamma
from robustcode.certify.coded_mixing import Mixing
from robustcode.certify.ibp import PASSES
from robustcode.threat import ROUNDINGS, Norm, ThreatModel


class Least(NamedTuple):
    """What bounds show of the members of some tasks, each (tasks, members).

    Attributes:
        margin: a lower bound on the least margin, float64; -inf where nothing was asked.
        forwards: forward passes that it took, int64, those for coded images in equal parts; see
            Certificate.
        backwards: backward passes, likewise.
    """

    margin: Tensor
    forwards: Tensor
    backwards: Tensor


@dataclass(frozen=True)
class Joint:
    """Theorem A: bounds that know that one perturbation enters every coded image.

    Coded image j is ``z_j + E_ji delta``. A linear bound ``a_j^T v + b_j`` from below of its part
    of the margin, for the ``v = E_ji delta`` that can be, gives ``sum_j b_j`` plus the least of
    ``(sum_j E_ji a_j)^T delta`` over the ball. Coefficients are added up before the least is
    taken: the coded images cannot each have their own worst perturbation. With several members
    each has its own delta, and a sum of coefficients.

    What coding and decoding in the precision of ``dtype`` may round away is taken off, and so is
    what the bounds themselves do. Of the model, it is the function of real numbers that is bounded.

    Source: the research notes on certification, section 6.2, derived there.

    Attributes:
        network: the model's graph, in float64.
        threat: the norm and the box.
        dtype: what the defence computes in.
        rows: inputs of the model in memory at once; or one task, if that has more.
    """

    network: Network
    threat: ThreatModel
    dtype: torch.dtype
    rows: int

    @torch.no_grad()
    def margins(
        self, mixing: Mixing, x: Tensor, classes: Tensor, wanted: Tensor, eps: float
    ) -> Least:
        """The least margin of each member's class over any other if all members move by ``eps``.

        ``x`` is (tasks, members, ...), ``classes`` int64 and ``wanted``, which members it is asked
        of, a mask of (tasks, members).
        """
        found = torch.full(wanted.shape, -torch.inf, dtype=torch.float64, device=x.device)
        forwards, backwards = torch.zeros_like(classes), torch.zeros_like(classes)
        size = max(1, self.rows // mixing.encoder.shape[1])
        for tasks in torch.arange(len(x), device=x.device).split(size):
            if not wanted[tasks].any():
                continue
            batch = _Batch(self, mixing.of(tasks), x[tasks].double(), eps)
            pairs = wanted[tasks].nonzero()
            each = mixing.encoder.shape[1] * (self.network.classes - 1)
            for part in pairs.split(max(1, self.rows // each)):
                task, member = part.unbind(1)
                least = batch.margins(task, member, classes[tasks][task, member])
                found[tasks[task], member] = least
                backwards[tasks[task], member] += each
            asked = wanted[tasks].long()
            sharing = asked.sum(1, keepdim=True).clamp(min=1)
            forwards[tasks] += asked * batch.forwards // sharing
            backwards[tasks] += asked * batch.backwards[:, None] // sharing
        return Least(found, forwards, backwards)


class _Batch:
    """Bounds of the coded images of some tasks, from which each member's margin is found."""

    def __init__(self, joint: Joint, mixing: Mixing, x: Tensor, eps: float) -> None:
        self.joint, self.mixing, self.x, self.eps = joint, mixing, x, eps
        self.shape = x.shape[2:]
        self.rounded = self._rounding()
        self.region = self._region()
        carried = torch.zeros(len(self.region.x), dtype=torch.int64, device=x.device)
        self.bounds = crown_bounds(joint.network, self.region, rows=joint.rows, carried=carried)
        # Of a task; intervals come first, and what they leave open is carried back.
        tasks, rows = mixing.encoder.shape[:2]
        self.forwards = PASSES * rows
        self.backwards = carried.view(tasks, rows).sum(1)
        self.erring = self._errors()

    def margins(self, task: Tensor, member: Tensor, label: Tensor) -> Tensor:
        """The least margin of ``label`` over any other class for some members, (pairs,)."""
        network, mixing = self.joint.network, self.mixing
        decoder = mixing.decoder[task, member]  # (pairs, rows)
        pairs, rows = decoder.shape
        spec = margins(label, network.classes)  # (pairs, specs, classes)
        weighted = (decoder[:, :, None, None] * spec[:, None]).flatten(0, 1)
        first = task[:, None] * rows + torch.arange(rows, device=task.device)
        images = first.flatten()
        bounds = [one.rows(images) for one in self.bounds]
        linear = linear_bounds(
            network,
            self.region.rows(images),
            relaxed(network, bounds),
            weighted,
            sizes=sizes_of(network, bounds),
        )
        # (pairs, rows, specs, ...)
        slopes = linear.coefficients.unflatten(0, (pairs, rows))
        bias = (linear.bias - linear.slack).unflatten(0, (pairs, rows)).sum(1)
        clean = torch.einsum("pjsd,pjd->ps", slopes.flatten(3), mixing.clean[task].flatten(2))
        lost = torch.einsum("pjs,pj->ps", slopes.flatten(3).abs().sum(3), self.rounded[task])
        errors = (decoder.abs()[:, None] @ self.erring[task]).squeeze(1)  # (pairs, classes)
        lost = lost + (spec.abs() @ errors[:, :, None]).squeeze(2)
        return (bias + clean + self._moved(slopes, task) - lost).amin(1)

    def _moved(self, slopes: Tensor, task: Tensor) -> Tensor:
        """The least that the members' parts of the coded images give, (pairs, specs)."""
        joined = torch.einsum("pjm,pjsd->pmsd", self.mixing.encoder[task], slopes.flatten(3))
        x = self.x[task]
        pairs, members = x.shape[:2]
        threat = self.joint.threat
        ball = Region(
            x.flatten(0, 1),
            torch.full((pairs * members,), self.eps, dtype=x.dtype, device=x.device),
            threat.norm,
            threat.low,
            threat.high,
        )
        least = ball.least(joined.flatten(0, 1).unflatten(2, self.shape))
        return least.unflatten(0, (pairs, members)).sum(1)

    def _region(self) -> Region:
        """Where the coded images may be, one after the other, roundings included."""
        mixing, x, threat = self.mixing, self.x, self.joint.threat
        images = mixing.images(x).flatten(0, 1)
        reach = self.eps * mixing.encoder.abs().sum(2).flatten()
        if threat.norm is not Norm.LINF:
            values = math.prod(self.shape)
            longest = math.sqrt(values) if threat.norm is Norm.L2 else values
            # No box: coded images leave the one of images.
            return Region(images, reach + longest * self.rounded.flatten(), threat.norm)
        # What is cut off by the box of images is cut off from coded images as well.
        below = (x - self.eps).clamp(min=threat.low)
        above = (x + self.eps).clamp(max=threat.high)
        gains, losses = mixing.encoder.clamp(min=0), mixing.encoder.clamp(max=0)
        slack = self.rounded.flatten().view(-1, *[1] * len(self.shape))

        def end(low: Tensor, high: Tensor) -> Tensor:
            moved = torch.einsum("tjm,tm...->tj...", gains, low)
            moved = moved + torch.einsum("tjm,tm...->tj...", losses, high)
            return (mixing.clean + moved).flatten(0, 1)

        lower, upper = end(below, above) - slack, end(above, below) + slack
        centre = (lower + upper) / 2
        radius = (upper - centre).flatten(1).amax(1)
        return _Box(centre, radius, threat.norm, sides=Interval(lower, upper))

    def _rounding(self) -> Tensor:
        """By how much a value of a coded image may be off, (tasks, rows).

        An attack's input may be some roundings out of the ball, see ``threat.ROUNDINGS``. The sums
        of this proof round too, in float64.
        """
        threat, mixing = self.joint.threat, self.mixing
        largest = max(abs(threat.low), abs(threat.high)) * mixing.weight
        values = math.prod(self.shape)
        own = gamma(mixing.terms + ROUNDINGS, self.joint.dtype)
        return largest * (own + gamma(len(mixing.encoder[0]) * values, torch.float64))

    def _errors(self) -> Tensor:
        """What decoding may round away of a score, a unit of weight, (tasks, rows, classes)."""
        share = gamma(self.mixing.terms + 1, self.joint.dtype)
        return (share * self.bounds[-1].size).unflatten(0, self.mixing.encoder.shape[:2])


@dataclass(frozen=True, eq=False)
class _Box(Region):
    """Where coded images may be in linf: their own box in each value, which no ball has."""

    sides: Interval | None = None

    def box(self) -> Interval:
        """See Region.box."""
        assert self.sides is not None
        return self.sides

    def rows(self, index: Tensor) -> _Box:
        """See Region.rows."""
        assert self.sides is not None
        return replace(
            self, x=self.x[index], radius=self.radius[index], sides=self.sides.rows(index)
        )

    def on(self, part: Callable[[Tensor], Tensor]) -> _Box:
        """See Region.on."""
        assert self.sides is not None
        return replace(self, x=part(self.x), sides=Interval(*map(part, self.sides)))
