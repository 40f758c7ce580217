"""Which ReLU to split."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.bounds.slopes import Dual, Start

# Weight of the better half's gain beside the worse one's, which decides how deep a search goes.
BETTER = 0.1


def chosen(dual: Dual, start: Start, numbers: Tensor, signs: Tensor, tried: int) -> Tensor:
    """The ReLU to split in each column, (columns,): of the best by an estimate, by trying them.

    It is -1 where every sign is supposed already.

    Source: filtered smart branching, De Palma et al. 2021, arXiv:2104.06718.
    """
    found = dual.evaluate(start, numbers, signs, gradient=False)
    scores = gaps(dual, found.coefficients, numbers).masked_fill_(signs != 0, -1)
    best = scores.topk(min(tried, len(scores)), dim=0)
    if tried == 1:
        return torch.where(best.values[0] < 0, -1, best.indices[0])
    gains = []
    for place, score in zip(best.indices, best.values, strict=True):
        tries = [
            dual.evaluate(start, own, supposed, gradient=False).lower
            for supposed, own in zip(*_parts(signs, numbers, place), strict=True)
        ]
        gain = torch.stack(tries).clamp(max=0) - found.lower
        total = gain.amin(0) + BETTER * gain.amax(0)
        gains.append(total.masked_fill(score < 0, -torch.inf))
    which = torch.stack(gains).argmax(0, keepdim=True)
    return torch.where(best.values[0] < 0, -1, best.indices.gather(0, which).squeeze(0))


def halves(signs: Tensor, numbers: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Signs and numbers of each column with either sign at its place, (open, 2 * columns)."""
    parts = _parts(signs, numbers, places)
    return torch.cat(parts[0], 1), torch.cat(parts[1], 1)


def gaps(dual: Dual, coefficients: Tensor, numbers: Tensor) -> Tensor:
    """How much the lines of each open ReLU cost, by an estimate, (open, columns).

    With a negative coefficient it is what the line above costs at 0, where it is the furthest from
    the ReLU; with a positive one, about what the line below does, where its slope is undecided.

    Source: in the manner of BaBSR, Bunel et al. 2020, arXiv:1909.06588.
    """
    below = torch.minimum(dual.upper, -dual.lower) * torch.minimum(numbers, 1 - numbers)
    return coefficients.clamp(max=0).neg() * dual.height + 0.5 * coefficients.clamp(min=0) * below


def _parts(
    signs: Tensor, numbers: Tensor, places: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    columns = torch.arange(len(places))
    # A new multiplier begins at 0, where it changes nothing.
    numbers = numbers.index_put((places, columns), numbers.new_zeros(()))
    both = [signs.index_put((places, columns), signs.new_tensor(sign)) for sign in (1, -1)]
    return (both[0], both[1]), (numbers, numbers)
