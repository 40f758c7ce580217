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
from robustcode.methods.coded_mixing import Mixing
from robustcode.methods.ibp import PASSES
from robustcode.threat import ROUNDINGS, Norm, ThreatModel

# Coded images that weigh less than this share of the heaviest in a score are bounded by intervals:
# of a large batch each sample's score has some 30 that weigh more, and the others change its margin
# less than the rounding of float32 does.
LIGHT = 1e-8


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
            each = batch.heavy * (self.network.classes - 1)
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
        self.region = reach(mixing, x, joint.threat, eps, self.rounded)
        carried = torch.zeros(len(self.region.x), dtype=torch.int64, device=x.device)
        self.bounds = crown_bounds(joint.network, self.region, rows=joint.rows, carried=carried)
        # Of a task; intervals come first, and what they leave open is carried back.
        tasks, rows, members = mixing.encoder.shape
        self.forwards = PASSES * rows
        self.backwards = carried.view(tasks, rows).sum(1)
        # The size of scores, and what decoding may round away of them, a unit of weight.
        self.sizes = self.bounds[-1].size.view(tasks, rows, -1)
        self.erring = self.sizes * gamma(mixing.terms + 1, joint.dtype)
        # Of a sample by itself the defence runs no others, and a number that depended on what else
        # is in memory would change its bound.
        self.heavy = rows if members == 1 else _heavy(mixing.decoder)

    def margins(self, task: Tensor, member: Tensor, label: Tensor) -> Tensor:
        """The least margin of ``label`` over any other class for some members, (pairs,)."""
        network, mixing = self.joint.network, self.mixing
        weights = mixing.decoder[task, member]  # (pairs, rows)
        heavy = weights.abs().argsort(dim=1, descending=True, stable=True)[:, : self.heavy]
        decoder, at = weights.gather(1, heavy), (task[:, None], heavy)
        spec = margins(label, network.classes)  # (pairs, specs, classes)
        images = (task[:, None] * weights.shape[1] + heavy).flatten()
        bounds = [one.rows(images) for one in self.bounds]
        linear = linear_bounds(
            network,
            self.region.rows(images),
            relaxed(network, bounds),
            (decoder[:, :, None, None] * spec[:, None]).flatten(0, 1),
            sizes=sizes_of(network, bounds),
        )
        slopes = linear.coefficients.unflatten(0, decoder.shape).flatten(3)
        bias = (linear.bias - linear.slack).unflatten(0, decoder.shape).sum(1)
        clean = torch.einsum("pjsd,pjd->ps", slopes, mixing.clean[at].flatten(2))
        moved = self._moved(torch.einsum("pjm,pjsd->pmsd", mixing.encoder[at], slopes), task)
        rounded = torch.einsum("pjs,pj->ps", slopes.abs().sum(3), self.rounded[at])
        # What is left of a score without the heavy coded images, and what decoding rounds.
        rest = weights.scatter(1, heavy, 0).abs()[:, :, None] * self.sizes[task]
        lost = rest.sum(1) + (weights.abs()[:, :, None] * self.erring[task]).sum(1)
        other = torch.einsum("psc,pc->ps", spec.abs(), lost)
        return (bias + clean + moved - rounded - other).amin(1)

    def _moved(self, slopes: Tensor, task: Tensor) -> Tensor:
        """The least over the members' balls, (pairs, specs), of (pairs, members, specs, values)."""
        x, threat = self.x[task], self.joint.threat
        pairs, members = x.shape[:2]
        radius = torch.full((pairs * members,), self.eps, dtype=x.dtype, device=x.device)
        ball = Region(x.flatten(0, 1), radius, threat.norm, threat.low, threat.high)
        least = ball.least(slopes.flatten(0, 1).unflatten(2, self.shape))
        return least.unflatten(0, (pairs, members)).sum(1)

    def _rounding(self) -> Tensor:
        """By how much a value of a coded image may be off, (tasks, rows).

        An attack's input may be some roundings out of the ball, see ``threat.ROUNDINGS``. The sums
        of this proof round too, in float64.
        """
        threat, mixing = self.joint.threat, self.mixing
        largest = max(abs(threat.low), abs(threat.high)) * mixing.weight
        summed = sum(mixing.encoder.shape[1:]) * math.prod(self.shape)
        own = gamma(mixing.terms + ROUNDINGS, self.joint.dtype)
        return largest * (own + gamma(summed, torch.float64))


def reach(mixing: Mixing, x: Tensor, threat: ThreatModel, eps: float, rounded: Tensor) -> Region:
    """Where the coded images of tasks may be, one after the other, if all members move by ``eps``.

    ``x`` is (tasks, members, ...) and ``rounded``, (tasks, rows), by how much each value may be off
    besides.
    """
    shape = x.shape[2:]
    if threat.norm is not Norm.LINF:
        values = math.prod(shape)
        length = math.sqrt(values) if threat.norm is Norm.L2 else values
        radius = eps * mixing.encoder.abs().sum(2) + rounded * length
        # No box: coded images leave the one of images.
        return Region(mixing.images(x).flatten(0, 1), radius.flatten(), threat.norm)
    # What is cut off by the box of images is cut off from coded images as well.
    below, above = (x - eps).clamp(min=threat.low), (x + eps).clamp(max=threat.high)
    rising = replace(mixing, encoder=mixing.encoder.clamp(min=0))
    falling = replace(mixing, encoder=mixing.encoder.clamp(max=0), clean=0 * mixing.clean)
    slack = rounded.view(*rounded.shape, *[1] * len(shape))
    lower = (rising.images(below) + falling.images(above) - slack).flatten(0, 1)
    upper = (rising.images(above) + falling.images(below) + slack).flatten(0, 1)
    centre = (lower + upper) / 2
    radius = (upper - centre).flatten(1).amax(1)
    return _Box(centre, radius, threat.norm, sides=Interval(lower, upper))


def _heavy(decoder: Tensor) -> int:
    """The most coded images that are not light for any score."""
    size = decoder.abs()
    return int((size > LIGHT * size.amax(2, keepdim=True)).sum(2).max())


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
