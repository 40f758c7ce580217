"""What an attack is put into: problems with a budget and a defence that show how it behaves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustcode.attacks.losses import margin
from robustcode.defenses.base import Defense
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.seeds import Streams
from robustcode.testing.problems import (
    CRITICAL,
    LinearProblem,
    Problem,
    bowl,
    open_problems,
    two_cells,
)
from robustcode.threat import Norm, ThreatModel

# Accuracy without attack of the samples of the stochastic problem: most draws are right and one
# in ten is wrong, so that an attack which stops at the first wrong draw stops soon.
CLEAN = 0.9


@dataclass(frozen=True, kw_only=True)
class NoisySlope(Defense):
    """Scores on a plane that leans in another direction at every draw: the mean is the model's."""

    stochastic: ClassVar[bool] = True

    model: nn.Module
    sigma: float

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        slope = self.sigma * streams.normal(x[0].numel(), dtype=x.dtype)
        lead = ((x - 0.5).flatten(1) * slope).sum(1)
        scores: Tensor = self.model(x)
        return scores + torch.stack([lead / 2, -lead / 2, torch.zeros_like(lead)], dim=1)


def rounded(norm: Norm, eps: float) -> ThreatModel:
    """With an eps that reads well; the rounding is a thousandth of it."""
    return ThreatModel(norm, round(eps, 5))


def half_broken(norm: Norm) -> tuple[LinearProblem, ThreatModel]:
    """Two samples fall soon and leave, and two stay."""
    problem = open_problems(norm)[1]
    low, high = problem.critical.sort().values[1:3].tolist()
    return problem, rounded(norm, math.sqrt(low * high))


def noisy(norm: Norm) -> tuple[LinearProblem, GaussianNoise]:
    """Samples as far from a plane as each other, with noise that takes them over it at times."""
    problem = two_cells("a plane with noisy inputs", norm, (12,), scale=1.0)
    with torch.no_grad():
        lead = margin(problem.model(problem.x), problem.y)
        weight = problem.model.weight[:, 0] - problem.model.weight[:, 1]
        # All at the distance of the first.
        shift = (lead[0] - lead) * (1 - 2 * problem.y) / weight.square().sum()
        x = problem.x + shift[:, None] * weight
        sigma = lead[0] / weight.norm() / torch.special.ndtri(torch.tensor(CLEAN))
    even = dataclasses.replace(problem, x=x)
    return even, GaussianNoise(model=even.model, sigma=sigma.item())


def unsaturated(norms: Sequence[Norm]) -> Iterator[tuple[Problem, ThreatModel, Defense | None]]:
    """Problems on which what is proposed shows the way there, in float64."""
    for norm in norms:
        problem, threat = half_broken(norm)
        yield _double(problem), threat, None
        curved = ThreatModel(norm, 0.2)
        yield _double(bowl(curved.eps, reachable=True)), curved, None
    # Draws have no norm.
    problem, defense = noisy(norms[0])
    yield _double(problem), ThreatModel(problem.norm, CRITICAL[problem.norm] / 2), defense


def _double(problem: Problem) -> Problem:
    return dataclasses.replace(problem, x=problem.x.double())
