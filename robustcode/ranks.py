"""Rows of one batch that belong to the same sample, told apart."""

from __future__ import annotations

import torch
from torch import Tensor


def occurrence(places: Tensor) -> Tensor:
    """How many earlier rows have the same place, int64 (rows,): 0, 1, .. among those of each.

    >>> occurrence(torch.tensor([4, 2, 4, 4, 2])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = places.argsort(stable=True)
    ordered = places[order]
    counted = torch.arange(len(places), device=places.device)
    return torch.empty_like(places).index_copy_(
        0, order, counted - torch.searchsorted(ordered, ordered)
    )
