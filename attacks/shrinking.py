"""The loop that DDN, FMN and CW share: ask, keep the nearest wrong input, move."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.base import Attack, Loss, Target, require_counts
from robustcode.attacks.climb import LEAVE_SHARE, ROUNDING
from robustcode.attacks.expectation import Slope, slope
from robustcode.attacks.losses import cross_entropy
from robustcode.attacks.nearest import Nearest, most_broken, stretched
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel

State = dict[str, Tensor]
"""What an attack keeps of each sample: tensors of shape (batch, ...), by name."""


class Step(NamedTuple):
    """What is known of some samples when they are moved.

    Attributes:
        number: of the step, from 0.
        x: their inputs, shape (batch, ...).
        x_adv: where they are, likewise; wrong or not.
        here: what the target answered there.
        wrong: whether it answered wrongly beyond rounding, bool of shape (batch,).
        streams: randomness of this step.
    """

    number: int
    x: Tensor
    x_adv: Tensor
    here: Slope
    wrong: Tensor
    streams: Streams


@dataclass(frozen=True, kw_only=True)
class Shrinking(Attack):
    """Moves to and fro across the boundary, nearer and nearer to the input.

    What it proposes is the nearest wrong input that it asked about, if that is within eps, and
    else the allowed one with the lowest margin.

    Against a stochastic target each step follows the mean gradient over ``draws`` draws, and
    wrong is what has a negative mean margin. Nothing leaves the batch; what is kept is compared
    on ``held_out`` draws that no step has seen with its own direction, and that of the last
    input, followed for the whole of eps.

    Attributes:
        steps: number of steps, each one forward and one backward pass.
        draws: draws of the defence averaged per step.
        until_broken: leave a sample once it is broken within eps, and go no further than eps
            where the norm can be chosen; if false, the distance is shortened to the end,
            whatever eps is.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    minimal: ClassVar[bool] = True
    loss: ClassVar[Loss] = staticmethod(cross_entropy)

    steps: int = 100
    draws: int = 1
    until_broken: bool = True
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "draws", "held_out")

    @property
    def total_steps(self) -> int:
        """How often a sample is asked about and moved at most."""
        return self.steps

    @abstractmethod
    def begin(self, x: Tensor, threat: ThreatModel) -> State:
        """What is kept of each sample before its first step."""

    @abstractmethod
    def move(self, step: Step, state: State, threat: ThreatModel) -> Tensor:
        """Where the samples go from here, in the box; ``state`` is brought up to date."""

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        found = Found.of(x, threat, self.until_broken and not target.stochastic)
        rows = torch.arange(len(x), device=x.device)
        state, x_adv = self.begin(x, threat), x.clone()
        for number in range(self.total_steps):
            if len(rows) == 0:
                break
            # All draws of a deterministic target are the same one.
            at = streams[rows].child("step", number if target.stochastic else 0)
            here = slope(target, x_adv, y[rows], type(self).loss, at, self.draws)
            wrong = found.offer(rows, x_adv, here.margin, here.scale)
            x_adv = self.move(Step(number, x[rows], x_adv, here, wrong, at), state, threat)
            going = found.open[rows]
            left = len(rows) - int(going.sum())
            # Together, as in climb: a batch of a size not seen before costs about a pass.
            if left and left >= LEAVE_SHARE * len(rows):
                rows, x_adv = rows[going], x_adv[going]
                state.update({name: part[going] for name, part in state.items()})
        # Where a stochastic target is concerned, no row has left.
        last = x_adv if target.stochastic else None
        return found.proposal(target, y, streams, self.held_out, last)

    def reach(self, x: Tensor, threat: ThreatModel) -> Tensor:
        """The furthest that it makes sense to go from each input, shape (batch,)."""
        corner = torch.where(x - threat.low > threat.high - x, threat.low, threat.high).to(x)
        widest = threat.distance(corner, x)
        return widest.clamp(max=threat.eps) if self.until_broken else widest


@dataclass(frozen=True)
class Found:
    """What is kept of a search that knows margins, perhaps means over draws, and not logits.

    Attributes:
        kept: the nearest wrong input of each sample, or the lowest margin.
    """

    kept: Nearest

    @classmethod
    def of(cls, x: Tensor, threat: ThreatModel, until_broken: bool = False) -> Found:
        """Nothing found yet; with ``until_broken`` a sample closes at its first wrong input."""
        # Margins come without their classes.
        nobody = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return cls(Nearest.of(x, nobody, threat, until_broken))

    @property
    def threat(self) -> ThreatModel:
        """What may be proposed."""
        return self.kept.threat

    @property
    def distance(self) -> Tensor:
        """Of the nearest wrong inputs within eps, infinite where none is known, shape (batch,)."""
        return self.kept.distance

    @property
    def open(self) -> Tensor:
        """Which samples are still to be improved, bool of shape (batch,)."""
        return self.kept.open

    def offer(self, rows: Tensor, x_adv: Tensor, margin: Tensor, scale: Tensor) -> Tensor:
        """Compare with one input of some samples; which are wrong beyond rounding.

        ``scale`` is that of the logits, see Slope. Scores that are not numbers are wrong.
        """
        lost = margin.isnan()
        wrong = lost | (margin < -ROUNDING * scale)
        lead = margin.to(x_adv.dtype).masked_fill(lost, -torch.inf)
        self.kept.keep(x_adv, lead, wrong, rows)
        return wrong

    def proposal(
        self,
        target: Target,
        y: Tensor,
        streams: Streams,
        held_out: int,
        last: Tensor | None = None,
    ) -> Tensor:
        """What to propose, shape of the inputs.

        Against a stochastic target what is kept competes, on ``held_out`` draws that no step has
        seen, with its own direction and that of the ``last`` input followed for the whole of eps.
        """
        x_adv = self.kept.proposals()
        if not target.stochastic:
            return x_adv
        ways = [x_adv] if last is None else [x_adv, last]
        candidates = [x_adv, *(stretched(way, self.kept.x, self.threat) for way in ways)]
        return most_broken(target, candidates, y, streams.child("held out"), held_out)


def unstopped(gradient: Tensor, x_adv: Tensor, threat: ThreatModel) -> Tensor:
    """The gradient without the values that the box stops, shape (batch, ...).

    A share of a step that is spent on these would be lost.
    """
    stopped = (x_adv >= threat.high) & (gradient > 0) | (x_adv <= threat.low) & (gradient < 0)
    return gradient.masked_fill(stopped, 0)


def annealed(first: float, last: float, share: float) -> float:
    """From ``first`` to ``last`` along half a cosine, as ``share`` goes from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
