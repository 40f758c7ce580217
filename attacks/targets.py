"""Which wrong classes a targeted attack goes for, and how far each seems."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from robustcode.attacks.base import Target
from robustcode.attacks.expectation import mean_logits
from robustcode.attacks.losses import targeted_margin
from robustcode.seeds import Streams
from robustcode.threat import DUAL, Norm, ThreatModel

# Candidates whose gradients are compared: Melamed et al. 2024, arXiv:2407.02240, section 4.
CANDIDATES = 100
# Gradients that are held at a time.
AT_ONCE = 10


class TargetOrder(StrEnum):
    """By what wrong classes are ranked, the most promising first."""

    LOGITS = "logits"
    MALT = "malt"


def targets_of(
    target: Target,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    streams: Streams,
    *,
    count: int,
    order: TargetOrder,
    draws: int = 1,
) -> Tensor:
    """The ``count`` most promising wrong classes of each input, int64 (batch, targets).

    ``logits`` ranks by the clean score, as AutoAttack does (Croce and Hein 2020, arXiv:2003.01690,
    section 4.2), for one forward pass. ``malt`` ranks by score gap over the dual norm of its
    gradient, the distance to the class if the classifier were linear (Melamed et al. 2024,
    arXiv:2407.02240, section 4), for a backward pass more per candidate. There are at most
    classes - 1 targets, and a tie goes to the lower class.
    """
    # Masked classes, -inf or NaN, must stay ahead of the right one, which is no goal at all.
    logits = mean_logits(target, x, streams, draws)
    least = torch.finfo(logits.dtype).min
    logits = logits.nan_to_num(nan=least, neginf=least)
    wrong = logits.scatter(1, y[:, None], -torch.inf)
    ranked = wrong.sort(dim=1, descending=True, stable=True).indices[:, : logits.shape[1] - 1]
    if order is TargetOrder.LOGITS or ranked.shape[1] <= 1:
        return ranked[:, :count]
    ranked = ranked[:, : max(CANDIDATES, count)]
    gap = logits.gather(1, y[:, None]) - logits.gather(1, ranked)
    reach = _sizes(target, x, y, ranked, threat.norm, streams, draws)
    # A class that no gradient leads to is the last to try.
    distance = (gap / reach).nan_to_num(nan=torch.inf)
    return ranked.gather(1, distance.sort(dim=1, stable=True).indices[:, :count])


def _sizes(
    target: Target,
    x: Tensor,
    y: Tensor,
    goals: Tensor,
    norm: Norm,
    streams: Streams,
    draws: int,
) -> Tensor:
    """Dual norms of the gradients of the lead of each goal, shape of ``goals``.

    They are of the sums over draws: which goal seems nearest does not depend on their number.
    """
    sizes = []
    for group in goals.split(AT_ONCE, dim=1):
        losses = [targeted_margin(goal) for goal in group.unbind(1)]
        total = [torch.zeros_like(x) for _ in losses]
        for draw in streams.parts(draws if target.stochastic else 1):
            found = target.ascents(x, y, losses, draw)
            total = [sum_ + here.gradient for sum_, here in zip(total, found, strict=True)]
        sizes += [torch.linalg.vector_norm(g.flatten(1), ord=DUAL[norm], dim=1) for g in total]
    return torch.stack(sizes, dim=1)
