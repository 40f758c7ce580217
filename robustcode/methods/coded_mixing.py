"""How a coded defence mixes its inputs and its model's outputs in one draw, asked of itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.defenses import CodedSmoothing
from robustcode.seeds import Streams


@dataclass(frozen=True)
class Mixing:
    """Coded images, and the part of each sample in them, in one draw of a coded defence.

    A task is what is decided together: a sample among clean mates, or all samples of one coded
    batch. Coded image j of a task is ``clean[j] + sum_m encoder[j, m] x_m`` over its members m,
    the samples that may be perturbed; the scores of member i are
    ``sum_j decoder[i, j] f(coded image j)``.

    Attributes:
        encoder: float64 (tasks, rows, members).
        clean: float64 (tasks, rows, channels, height, width), what the clean mates give.
        weight: float64 (tasks, rows), the sum of all absolute weights of a coded image.
        decoder: float64 (tasks, members, rows).
        terms: the most products that one sum of the defence adds up.
    """

    encoder: Tensor
    clean: Tensor
    weight: Tensor
    decoder: Tensor
    terms: int

    @classmethod
    def joined(cls, mixings: list[Mixing]) -> Mixing:
        """One whose scores are the sums of those of several draws of the same tasks."""
        return cls(
            torch.cat([one.encoder for one in mixings], dim=1),
            torch.cat([one.clean for one in mixings], dim=1),
            torch.cat([one.weight for one in mixings], dim=1),
            torch.cat([one.decoder for one in mixings], dim=2),
            sum(one.terms for one in mixings),
        )

    def of(self, tasks: Tensor) -> Mixing:
        """That of some tasks."""
        return Mixing(
            self.encoder[tasks],
            self.clean[tasks],
            self.weight[tasks],
            self.decoder[tasks],
            self.terms,
        )

    def images(self, x: Tensor) -> Tensor:
        """The coded images of members (tasks, members, ...), (tasks, rows, ...)."""
        return self.clean + torch.einsum("tjm,tm...->tj...", self.encoder, x.double())


@torch.no_grad()
def mixing(defense: CodedSmoothing, like: Tensor, streams: Streams) -> Mixing:
    """What the defence does to inputs of the type of ``like`` in the draw that ``streams`` names.

    Rows are of one coded batch if the streams say that they are together, or else each a task. The
    defence is given unit vectors for images and a model that numbers what it is given: its own
    coded images are then the encoder's weights, and its own scores the decoder's. So this is the
    very draw, with the weights as the defence rounds them and the rows that it runs.
    """
    count, pool = len(streams), len(defense.mates)
    together = streams.together is not None
    rows = defense.code.n if together else defense.passes
    units = torch.eye(count + pool, dtype=like.dtype, device=like.device)[:, None, None]
    numbering = _Numbering(rows)
    probe = dataclasses.replace(defense, model=numbering, mates=units[count:])
    decoder = probe.logits(units[:count], streams).double()
    weights = torch.cat(numbering.given).double()
    own = weights[:, :count]
    if together:
        encoder, decoder = own[None], decoder[None]
    else:
        # A row of its own batch has no weight in those of others.
        mine = torch.arange(count, device=like.device).repeat_interleave(rows)
        encoder = own.gather(1, mine[:, None]).unflatten(0, (count, rows))
        decoder = decoder[:, None]
    tasks = len(encoder)
    mates = defense.mates.to(like).double()
    clean = (weights[:, count:] @ mates.flatten(1)).unflatten(1, mates.shape[1:])
    return Mixing(
        encoder,
        clean.unflatten(0, (tasks, rows)),
        weights.abs().sum(1).unflatten(0, (tasks, rows)),
        decoder,
        max(rows, defense.k),
    )


class _Numbering(nn.Module):
    """Gives the number of each coded image as a unit vector, and keeps the images."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.given: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        seen = sum(map(len, self.given))
        self.given.append(images.flatten(1).clone())
        numbers = torch.arange(seen, seen + len(images), device=images.device) % self.rows
        return F.one_hot(numbers, self.rows).to(images)
