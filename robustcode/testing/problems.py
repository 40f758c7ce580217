"""Classifiers whose smallest adversarial perturbation is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from robustcode.seeds import Streams
from robustcode.threat import DUAL, Norm

# The smallest critical eps of a problem in each norm, and those of its other samples relative to
# it. The largest moves no value as far as the box, so that only the wall problem meets it.
CRITICAL = {Norm.LINF: 0.02, Norm.L2: 0.1, Norm.L1: 0.1}
SPREAD = torch.tensor([1.0, 1.3, 1.7, 2.2])
# Samples are not numbered by their place in the batch, so that a place is not taken for a number.
STRIDE = 7


class Linear(nn.Module):
    """Scores ``(x - 1/2) @ weight + bias``: classes are cells between hyperplanes."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # (values, classes)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), in the precision of ``x``."""
        return (x - 0.5).flatten(1) @ self.weight.to(x) + self.bias.to(x)

    @torch.no_grad()
    def critical_eps(self, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
        """Distance of each input to the nearest other cell within the box, shape (batch,).

        It is the lead over a class over the dual norm of the difference of their weights; a value
        on a wall of the box that would have to cross it counts as no weight. Exact for inputs
        whose values are on a wall or further from the walls than the answer.
        """
        scores, flat = self(x), x.flatten(1)
        distance = torch.full_like(scores, torch.inf)
        for other in range(scores.shape[1]):
            uphill = (self.weight[:, other, None] - self.weight[:, y]).T.to(x)
            walled = ((flat >= 1) & (uphill > 0)) | ((flat <= 0) & (uphill < 0))
            dual = torch.linalg.vector_norm(uphill.masked_fill(walled, 0), ord=DUAL[norm], dim=1)
            lead = scores.gather(1, y[:, None]).squeeze(1) - scores[:, other]
            distance[:, other] = torch.where(y == other, torch.inf, lead / dual)
        return distance.amin(1)


class Bowl(nn.Module):
    """The lead of class 0 is ``|x - bottom|^2 / width^2 + floor``, times five.

    With a negative ``floor`` it is lost within ``width sqrt(-floor)`` of the bottom, with a
    positive one nowhere.
    """

    def __init__(self, width: float, floor: float) -> None:
        super().__init__()
        self.bottom = nn.Parameter(torch.tensor([0.5, 0.5]))
        self.width = width
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, 3); the third class is never near."""
        square = (x.flatten(1) - self.bottom.to(x)).square().sum(1)
        lead = 5 * (square / self.width**2 + self.floor)
        zero = torch.zeros_like(lead)
        return torch.stack([lead, zero, zero - 5], dim=1)


@dataclass(frozen=True)
class Problem:
    """A classifier and samples it gets right.

    Attributes:
        name: completes "on ...".
        model: from ``x`` to scores.
        x: inputs of shape (batch, ...).
        y: their labels, int64 of shape (batch,).
    """

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor

    @property
    def samples(self) -> Tensor:
        """The numbers of the samples, ascending."""
        return torch.arange(len(self.x)) * STRIDE + 3


@dataclass(frozen=True)
class LinearProblem(Problem):
    """A problem whose critical eps are known in one norm.

    Attributes:
        norm: where they are spread as ``SPREAD`` says.
    """

    model: Linear
    norm: Norm

    @property
    def critical(self) -> Tensor:
        """The critical eps of each sample, shape (batch,)."""
        return self.model.critical_eps(self.x, self.y, self.norm)


@cache
def open_problems(norm: Norm) -> tuple[LinearProblem, ...]:
    """Linear problems in which the box is out of reach."""
    return (
        two_cells("two classes of vectors", norm, (12,), scale=1.0),
        two_cells("two classes of images", norm, (3, 4, 4), scale=1.0),
        # A gradient that is used without being made a unit would hardly move here.
        two_cells("two classes with faint scores", norm, (3, 4, 4), scale=0.01),
        three_cells("three classes of images", norm, (3, 4, 4)),
    )


def two_cells(name: str, norm: Norm, shape: tuple[int, ...], scale: float) -> LinearProblem:
    """Samples alternately on either side of one plane, at known distances."""
    values = torch.Size(shape).numel()
    direction = _numbers("plane", values)[0]
    x = 0.5 + 0.03 * _numbers("inputs", values, len(SPREAD))
    y = torch.arange(len(SPREAD)) % 2
    distance = CRITICAL[norm] * SPREAD * torch.linalg.vector_norm(direction, ord=DUAL[norm])
    missing = distance * (1 - 2 * y) - (x - 0.5) @ direction
    x = x + missing[:, None] * direction / direction.square().sum()
    return LinearProblem(name, _two_classes(direction, scale), x.view(-1, *shape), y, norm)


def three_cells(name: str, norm: Norm, shape: tuple[int, ...]) -> LinearProblem:
    """Samples near the edge between two of three cells, a different pair from each to the next."""
    values = torch.Size(shape).numel()
    # Of a size at which the third class has no part in the gradient of any loss.
    weight = 3 * _numbers("cells", values, 3).T
    y = torch.arange(len(SPREAD)) % 3
    rival = (y + 1 + torch.arange(len(SPREAD)) // 3) % 3
    dual = torch.linalg.vector_norm((weight[:, y] - weight[:, rival]).T, ord=DUAL[norm], dim=1)
    scores = torch.full((len(SPREAD), 3), -10.0)
    scores[torch.arange(len(y)), y] = CRITICAL[norm] * SPREAD * dual
    scores[torch.arange(len(y)), rival] = 0.0
    x = 0.5 + scores @ torch.linalg.pinv(weight)
    return LinearProblem(name, Linear(weight, torch.zeros(3)), x.view(-1, *shape), y, norm)


@cache
def walled_problem(norm: Norm) -> LinearProblem:
    """A third of the values can do no harm: the box is in their way."""
    values = 24
    direction = _numbers("walled plane", values)[0]
    y = torch.arange(len(SPREAD)) % 2
    downhill = -direction.sign() * (1 - 2 * y[:, None])  # towards the other class
    walled = torch.arange(values) % 3 == 0
    free = direction.masked_fill(walled, 0)
    distance = CRITICAL[norm] * SPREAD * torch.linalg.vector_norm(free, ord=DUAL[norm])
    # The walled values lean towards the other class by |w| / 2 each; the free ones, set back by
    # the same share of their room, make up for it and leave the distance.
    lean = 0.5 * direction.masked_fill(~walled, 0).abs().sum()
    back = (distance + lean) / free.abs().sum()
    x = torch.where(walled, 0.5 + 0.5 * downhill, 0.5 - back[:, None] * downhill)
    model = _two_classes(direction, scale=1.0)
    return LinearProblem("a wall in the way", model, x.view(-1, 1, 4, 6), y, norm)


def bowl(eps: float, reachable: bool) -> Problem:
    """Two values and a curved boundary around a point within ``eps`` of every sample.

    If ``reachable``, inputs within .25 eps of the point are wrong; else none is.
    """
    offsets = [(0.4, 0.2), (-0.3, 0.35), (0.15, -0.5), (-0.25, -0.4)]
    offsets += [(0.05, 0.6), (-0.6, 0.1), (0.33, -0.31), (0.22, 0.27)]
    x = 0.5 + eps * torch.tensor(offsets)
    # Steps of a tenth of eps, to and fro around the point, come as near as .25 eps in every norm.
    floor = -(0.25**2) if reachable else 0.05
    model = Bowl(eps, floor)
    name = "a curved boundary" if reachable else "a curved score that is never lost"
    return Problem(name, model, x.view(-1, 1, 1, 2), torch.zeros(len(x), dtype=torch.int64))


def _two_classes(direction: Tensor, scale: float) -> Linear:
    """Leads ``scale * direction``; a third class, which no loss that wants three notices."""
    weight = torch.stack([direction / 2, -direction / 2, torch.zeros_like(direction)], dim=1)
    return Linear(scale * weight, scale * torch.tensor([0.0, 0.0, -30.0]))


def _numbers(purpose: str, values: int, rows: int = 1) -> Tensor:
    """Standard normal numbers of shape (rows, values), the same every time."""
    return Streams.of(0, purpose, torch.arange(rows)).normal(values)
