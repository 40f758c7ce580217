"""SPSA: Adam on gradients estimated from scores, by directions of random signs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.attacks.differences import Differences
from robustcode.attacks.follow import Search
from robustcode.attacks.losses import negative_margin
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

# Kingma and Ba 2015, arXiv:1412.6980, algorithm 1: weights of the past in both moments.
FIRST, SECOND = 0.9, 0.999


@ATTACKS.register("spsa")
@dataclass(frozen=True, kw_only=True)
class SPSA(Attack):
    """Projected Adam up the margin loss, on gradients estimated from scores.

    Against a stochastic defence every pair of queries is on a draw of its own, so an estimate
    averages over ``pairs`` draws.

    Source: Uesato et al. 2018, arXiv:1802.05666, section 4; in linf. In l2 Adam's second moment
    is that of all values of a sample together, so that the direction is kept.

    Attributes:
        steps: number of steps.
        pairs: pairs of queries per step; a step costs ``2 pairs + 1`` forward passes.
        step: length of one step as a fraction of ``threat.eps``.
        reach: by how much a query moves each value, in the units of the input.
        held_out: draws on which iterates are compared; used for stochastic targets only.
    """

    norms = frozenset({Norm.LINF, Norm.L2})
    needs_gradient = False

    steps: int = 100
    pairs: int = 25
    step: float = 0.1
    reach: float = 0.01
    held_out: int = 16

    def __post_init__(self) -> None:
        require_counts(self, "steps", "pairs", "held_out")
        for name in ("step", "reach"):
            if not 0 < getattr(self, name) < torch.inf:
                raise ConfigError(f"{name} = {getattr(self, name):g}: a length is positive")

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        look = Differences(
            target=target,
            threat=threat,
            loss=negative_margin,
            ways=_signs,
            reach=self.reach,
            pairs=self.pairs,
        )
        sizes = (self.step,) * self.steps
        memory = Adam(x, per_value=threat.norm is Norm.LINF)
        return Search(target, threat, look, memory, sizes, self.held_out).run(x, y, x, streams)


class Adam:
    """The direction of Adam, see follow.Memory: of size about one, less where gradients disagree.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    def __init__(self, x: Tensor, per_value: bool) -> None:
        self._per_value = per_value
        self._mean = torch.zeros_like(x)
        self._square = torch.zeros_like(x)

    def direction(self, rows: Tensor, gradient: Tensor, x_adv: Tensor, number: int) -> Tensor:
        """See Memory.direction."""
        square = gradient.square()
        if not self._per_value:
            # Of the length of the whole gradient: the direction is then of unit length in l2.
            inner = tuple(range(1, square.ndim))
            square = square.sum(inner, keepdim=True).expand_as(square)
        mean = FIRST * self._mean[rows] + (1 - FIRST) * gradient
        square = SECOND * self._square[rows] + (1 - SECOND) * square
        self._mean[rows], self._square[rows] = mean, square
        size = (square / (1 - SECOND**number)).sqrt_()
        # The authors' guard of 1e-8 would stop a sample with faint scores.
        return mean / (1 - FIRST**number) / size.clamp_(min=torch.finfo(size.dtype).tiny)


def _signs(streams: Streams, x: Tensor) -> Tensor:
    return (streams.integers(2, *x.shape[1:]) * 2 - 1).to(x.dtype)
