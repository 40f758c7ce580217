"""Which ReLU to split."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.bounds.slopes import Dual


def gaps(dual: Dual, coefficients: Tensor, numbers: Tensor) -> Tensor:
    """How much the lines of each open ReLU cost, by an estimate, (open, columns).

    With a negative coefficient it is what the line above costs at 0, where it is the furthest from
    the ReLU; with a positive one, about what the line below does, where its slope is undecided.

    Source: in the manner of BaBSR, Bunel et al. 2020, arXiv:1909.06588, section 5.3.
    """
    below = torch.minimum(dual.upper, -dual.lower) * torch.minimum(numbers, 1 - numbers)
    return coefficients.clamp(max=0).neg() * dual.height + 0.5 * coefficients.clamp(min=0) * below
