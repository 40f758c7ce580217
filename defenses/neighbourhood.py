"""Which coded images and which batch mates matter to one place of a coded batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from robustcode.coding import Code

# What weighs less than this share of the heaviest weight moves a score as little as summing in
# another order does in float32.
NEGLIGIBLE = 1e-6
# For a search: scores are off by a hundredth or so, its gradients by a thousandth.
SEARCHED = 1e-3


@dataclass(frozen=True)
class Neighbourhood:
    """What a sample's decoded output depends on, for each place that the sample may have.

    The weights of a spline code fall off exponentially, by .27 from one sample to the next, so
    that an output depends on some 20 coded images and these on some 40 samples, however many there
    are in the batch. What weighs less than a given share of the heaviest is left out.

    Attributes:
        encoder: float64 (k, rows, 1 + mates), what the sample, first, and its mates give to each
            of the coded images that matter, heaviest first by the part of the gradient they carry.
        decoder: float64 (k, rows), what those give to the sample's output.
        members: int64 (k, 1 + mates), the places of the sample, first, and of its mates, the
            nearest first.
        rows: coded images that are run.
        followed: how many of them, from the first, carry a gradient of the sample.
        mates: batch mates that matter.
    """

    encoder: Tensor
    decoder: Tensor
    members: Tensor
    rows: int
    followed: int
    mates: int


@lru_cache(maxsize=32)
def neighbourhood(code: Code, negligible: float = NEGLIGIBLE) -> Neighbourhood:
    """The neighbourhoods of a code, without what weighs less than this share of the heaviest."""
    encoder, decoder = code.encoder, code.decoder
    carried = np.abs(encoder.T * decoder)  # (k, n), the gain of a sample's output by coded image
    # What matters to the value, then what carries the gradient, which is part of it.
    rows = code.support(negligible)
    followed = int((carried > negligible * carried.max(1, keepdims=True)).sum(1).max())
    order = np.argsort(-np.take_along_axis(carried, rows, 1), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, 1)
    given = encoder[rows]  # (k, rows, k)
    reached = np.abs(given).max(1)
    np.fill_diagonal(reached, 0)
    # The nearest first, whatever is negligible: fewer mates are the first of more.
    apart = np.abs(np.subtract.outer(np.arange(code.k), np.arange(code.k)))
    members = np.argsort(apart, axis=1, kind="stable")
    heavy = reached > negligible * reached.max(1, keepdims=True)
    last = np.take_along_axis(heavy, members, 1).cumsum(1).argmax(1)  # the furthest that matters
    members = members[:, : 1 + last.max()]
    return Neighbourhood(
        encoder=torch.from_numpy(np.take_along_axis(given, members[:, None, :], 2)),
        decoder=torch.from_numpy(np.take_along_axis(decoder, rows, 1)),
        members=torch.from_numpy(members.copy()),
        rows=rows.shape[1],
        followed=min(followed, rows.shape[1]),
        mates=members.shape[1] - 1,
    )
