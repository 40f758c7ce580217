"""Randomized coded inference with a spline code."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from robustcode.coding import Code
from robustcode.defenses.base import DEFENSES, Defense
from robustcode.errors import ConfigError, DataError
from robustcode.seeds import Streams

# Coded images that go through the model at once. Without a graph it bounds the memory of a call;
# measured on a CPU with small CNNs, 200 to 400 is fastest: more leave the cache (1024 images of
# 32x32 take twice as long each), fewer cost more calls than they save.
CHUNK = 256


class Draw(NamedTuple):
    """One realisation for each row: whom it is coded with, and in which order."""

    mates: Tensor  # indices into the pool, (batch, k - 1)
    permutation: Tensor  # permutation[i] is the member at point i, (batch, k); member 0 is the row

    def rows(self, rows: slice) -> Draw:
        """The draws of some rows."""
        return Draw(self.mates[rows], self.permutation[rows])


@DEFENSES.register("coded-smoothing")
@dataclass(frozen=True, kw_only=True)
class CodedSmoothing(Defense):
    """Encode a batch by a spline, run the model on the coded images, decode its outputs.

    The threat is the solo one: each row of ``x`` is in a coded batch of its own, with k - 1
    clean mates from a pool and in an order of its own, both fresh at each draw. So a row's
    gradient is that of its own scores alone, exactly, and never a neighbour's.

    Coded images leave [0, 1] and are not clipped, since that would end the linearity that
    decoding relies on. A permutation and its reverse give the same scores. With a graph, all
    n coded images of every row are held until the backward pass, whatever the chunk.

    Source: coded smoothing, Moradi et al. 2025, arXiv:2510.00253v1, its randomized coded
    inference. Their attack and threat differ: there the whole batch is attacked.

    Attributes:
        mates: clean images that batches are filled up from, (pool, channels, height, width) in
            [0, 1]. It must not hold the images under attack.
        k: images in a coded batch.
        ratio: coded images per image; n = ratio k, rounded to a whole number.
        c: smoothing of both splines, lambda = c / k^4; 0 is interpolation.
        votes: draws that one deployed decision is made of; a tie is an abstention.
    """

    stochastic: ClassVar[bool] = True
    batch_coupled: ClassVar[bool] = True

    model: nn.Module
    mates: Tensor = field(repr=False, compare=False)
    k: int = 16
    ratio: float = 1.5
    c: float = 0.0
    votes: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.ratio < float("inf"):
            raise ConfigError(f"ratio = {self.ratio}: coded images per image are above 0")
        super().__post_init__()
        if self.mates.ndim != 4 or not self.mates.is_floating_point():
            raise DataError(
                "batch mates are images of shape (pool, channels, height, width) in [0, 1]; "
                f"got {self.mates.dtype} of shape {tuple(self.mates.shape)}"
            )
        if len(self.mates) < self.code.k - 1:
            raise ConfigError(
                f"a coded batch of k = {self.k} needs {self.k - 1} mates; "
                f"the pool has {len(self.mates)}"
            )
        if not ((self.mates >= 0) & (self.mates <= 1)).all():
            raise DataError("batch mates are not images in [0, 1]; scale them first")

    @cached_property
    def code(self) -> Code:
        """The codec, which refuses what cannot be coded."""
        return Code(self.k, round(self.ratio * self.k), self.c)

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return self.code.n

    def draw(self, streams: Streams) -> Draw:
        """The mates and the order of each row."""
        return Draw(
            _subset(streams.child("mates"), self.k - 1, len(self.mates)),
            streams.child("order").permutation(self.k),
        )

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        if x.shape[1:] != self.mates.shape[1:]:
            raise ConfigError(
                f"inputs of shape {tuple(x.shape[1:])} cannot share a coded batch with mates of "
                f"shape {tuple(self.mates.shape[1:])}"
            )
        draw = self.draw(streams)
        size = max(1, CHUNK // self.code.n)
        chunks = [slice(start, start + size) for start in range(0, max(1, len(x)), size)]
        return torch.cat([self._decoded(x[rows], draw.rows(rows)) for rows in chunks])

    def _decoded(self, x: Tensor, draw: Draw) -> Tensor:
        """The scores of each row of ``x`` in its own coded batch."""
        encoder, decoder = _codec(self.code, x)
        position = draw.permutation.argsort(dim=1)  # of each member: where in the order it is
        weights = encoder.T[position]  # (rows, k, n): what each member gives each coded image
        mates = self.mates.to(x)[draw.mates].flatten(2)
        coded = torch.baddbmm(
            weights[:, 0, :, None] * x.flatten(1)[:, None, :],
            weights[:, 1:].transpose(1, 2),
            mates,
        )
        scores = self.model(coded.view(-1, *x.shape[1:])).unflatten(0, (len(x), self.code.n))
        # Only the row's own output is asked for, so only that is decoded.
        return (decoder[position[:, 0], :, None] * scores).sum(1)


def coded_inference(model: nn.Module, x: Tensor, code: Code, permutation: Tensor) -> Tensor:
    """Scores of a whole batch of k images coded together, shape (k, classes).

    ``permutation``, int64 of shape (k,), puts image ``permutation[i]`` at point i.

    Source: as for CodedSmoothing, which gives each row such a batch of its own.
    """
    if len(x) != code.k or sorted(permutation.tolist()) != list(range(code.k)):
        raise ConfigError(
            f"a code of k = {code.k} takes {code.k} images and a permutation of them; "
            f"got {len(x)} and {permutation.tolist()}"
        )
    encoder, decoder = _codec(code, x)
    coded = (encoder @ x[permutation].flatten(1)).view(code.n, *x.shape[1:])
    return (decoder @ model(coded))[permutation.argsort()]


def _codec(code: Code, like: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder (n, k) and decoder (k, n) in the precision and on the device of ``like``."""
    return torch.tensor(code.encoder).to(like), torch.tensor(code.decoder).to(like)


def _subset(streams: Streams, count: int, pool: int) -> Tensor:
    """``count`` distinct indices below ``pool`` for each row, in no uniform order.

    Source: Floyd's algorithm, Bentley and Floyd 1987, Communications of the ACM 30(9); it costs
    the subset's size and not the pool's.
    """
    uniform = streams.uniform(count, dtype=torch.float64)
    chosen = torch.empty(uniform.shape, dtype=torch.int64, device=uniform.device)
    for i, last in enumerate(range(pool - count, pool)):
        pick = (uniform[:, i] * (last + 1)).long()
        taken = (chosen[:, :i] == pick[:, None]).any(1)
        chosen[:, i] = torch.where(taken, last, pick)
    return chosen
