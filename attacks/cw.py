"""CW: the square of the distance plus a constant times the margin, lowered by Adam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Loss
from robustcode.attacks.losses import negative_margin
from robustcode.attacks.shrinking import Shrinking, State, Step, annealed
from robustcode.errors import ConfigError
from robustcode.threat import Norm, ThreatModel, column

# Inputs are brought this share of the way to the middle of the box first: on the wall itself the
# tangent is flat, and what Adam would need to leave it grows with the logarithm of the rest.
INSIDE = 1e-3
# The averages and the guard of Adam: Kingma and Ba 2015, arXiv:1412.6980, section 2.
MEAN, SQUARE, GUARD = 0.9, 0.999, 1e-8
# Between the first step of a search and its last.
LAST_STEP = 0.01
# What the first step of a search is at most, as a multiple of the distance that the first gradient
# promises. On a CIFAR-10 ResNet-20 with 240 steps a learning rate of .1, which a small network
# needs, ends a fifth further away than .03.
LONGEST = 8.0
# A constant that failed is multiplied by this until one succeeds: the authors' code.
RAISE = 10.0


@ATTACKS.register("cw")
@dataclass(frozen=True, kw_only=True)
class CW(Shrinking):
    """The attack of Carlini and Wagner, in l2.

    With x_adv = (tanh(w) + 1) / 2 in the box, Adam lowers |x_adv - x|^2 + c max(margin, 0) over
    w. Each sample has its own constant c: halfway between the largest that failed and the
    smallest that succeeded, ten times the last while none has.

    The paper has 20 constants with up to 10,000 steps each, from a constant of .001 and with a
    constant step length. Here the first constant is twice what a linear classifier would need,
    and steps shorten along a cosine to a hundredth, with which far fewer do.

    Source: Carlini and Wagner 2017, arXiv:1608.04644, sections 5 and 6.1.

    Attributes:
        steps: number of steps for each constant.
        searches: constants that are tried for each sample.
        step: learning rate of Adam at the start of each search; less where the boundary is near.
    """

    norms = frozenset({Norm.L2})
    loss: ClassVar[Loss] = staticmethod(negative_margin)

    steps: int = 60
    searches: int = 4
    step: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2:
            raise ConfigError(
                f"steps = {self.steps}: at least 2 are needed, the first at the start"
            )
        if self.searches < 1:
            raise ConfigError(f"searches = {self.searches}: at least 1 is needed")
        if not 0 < self.step < torch.inf:
            raise ConfigError(f"step = {self.step:g}: a step is a positive length")

    @property
    def total_steps(self) -> int:
        """See Shrinking.total_steps."""
        return self.steps * self.searches

    def begin(self, x: Tensor, threat: ThreatModel) -> State:
        """See Shrinking.begin."""
        middle, half = _box(threat)
        origin = ((x - middle) / half * (1 - INSIDE)).atanh()
        return {
            "origin": origin,
            "w": origin.clone(),
            "mean": torch.zeros_like(x),
            "square": torch.zeros_like(x),
            "c": x.new_zeros(len(x)),
            "length": x.new_zeros(len(x)),
            "failed": x.new_zeros(len(x)),
            "succeeded": x.new_full((len(x),), torch.inf),
            "broken": x.new_zeros(len(x), dtype=torch.bool),
        }

    def move(self, step: Step, state: State, threat: ThreatModel) -> Tensor:
        """See Shrinking.move."""
        middle, half = _box(threat)
        if step.number == 0:
            state["c"] = _linear_constant(step)
            state["length"] = self._length(step, half)
        state["broken"] = state["broken"] | step.wrong
        age = step.number % self.steps + 1
        # The last search is left where it ended.
        if age == self.steps and step.number + 1 < self.total_steps:
            _search_again(state)
        else:
            tangent = half * (1 - ((step.x_adv - middle) / half).square())
            pull = state["c"].masked_fill(step.wrong, 0)
            downhill = 2 * (step.x_adv - step.x) - column(pull, step.x) * step.here.gradient
            shortened = annealed(1.0, LAST_STEP, age / self.steps)
            _adam(state, downhill * tangent, age, column(shortened * state["length"], step.x))
        return (state["w"].tanh() * half + middle).clamp(threat.low, threat.high)

    def _length(self, step: Step, half: float) -> Tensor:
        """The learning rate of each sample, shape (batch,)."""
        slope = step.here.gradient.flatten(1).norm(dim=1)
        promised = step.here.margin.to(slope).abs() / slope
        # The first step of Adam moves every value alike.
        longest = LONGEST * promised / (half * math.sqrt(step.x[0].numel()))
        return torch.where(slope > 0, longest, self.step).clamp(max=self.step)


def _box(threat: ThreatModel) -> tuple[float, float]:
    """The middle of the box and half its width."""
    return (threat.low + threat.high) / 2, (threat.high - threat.low) / 2


def _linear_constant(step: Step) -> Tensor:
    """Twice the constant with which the boundary of a linear classifier is reached, (batch,).

    |d|^2 + c max(m - g d, 0) is least at d = c g / 2 while that is short of the boundary, and the
    boundary is m / |g| away.
    """
    square = step.here.gradient.flatten(1).square().sum(1)
    constant = 4 * step.here.margin.to(square) / square
    # Without a gradient nothing is known.
    usable = constant.isfinite() & (constant > 0)
    return torch.where(usable, constant, 1.0)


def _search_again(state: State) -> None:
    """Choose the next constant of each sample and go back to its start."""
    c, broken = state["c"], state["broken"]
    state["succeeded"] = torch.where(broken, c, state["succeeded"])
    state["failed"] = torch.where(broken, state["failed"], c)
    between = (state["failed"] + state["succeeded"]) / 2
    state["c"] = torch.where(state["succeeded"].isfinite(), between, RAISE * c)
    state["broken"] = torch.zeros_like(broken)
    state["w"] = state["origin"].clone()
    state["mean"], state["square"] = torch.zeros_like(state["w"]), torch.zeros_like(state["w"])


def _adam(state: State, downhill: Tensor, age: int, length: Tensor) -> None:
    """Step ``age``, from 1, of Adam."""
    state["mean"] = MEAN * state["mean"] + (1 - MEAN) * downhill
    state["square"] = SQUARE * state["square"] + (1 - SQUARE) * downhill.square()
    mean = state["mean"] / (1 - MEAN**age)
    spread = (state["square"] / (1 - SQUARE**age)).sqrt()
    state["w"] = state["w"] - length * mean / (spread + GUARD)
