"""Randomness that belongs to a sample, not to its place in a batch.

A draw is named by (run seed, purpose, sample, attack, draw). Streams are values: the same
name always gives the same numbers, whatever batch the sample is in, on whatever device and in
whatever process, so a batch may shrink, be halved or be shared out without changing a verdict.
torch.Generator cannot do this: it hands out numbers by position.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# The constants of SplitMix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
# generators", figure 17 (variant 13 of Stafford's mixers), as signed 64-bit integers.
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
MIX_2 = 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True)
class Streams:
    """One random stream per row of a batch.

    Attributes:
        keys: int64 of shape (batch,), the name of each stream as a number.
        samples: int64 of shape (batch,), the sample each stream belongs to.
        together: for samples that are classified in one batch, the stream of that batch, row by
            row: rows of one batch have equal keys here, and ``together.samples`` are the numbers of
            the batches. None where nobody says who else is in a sample's batch.
        part: which of several draws this is that stand for all randomness together; see ``parts``.
    """

    keys: Tensor
    samples: Tensor
    together: Streams | None = None
    part: Part | None = None

    @classmethod
    def of(cls, seed: int, purpose: str, samples: Tensor, batches: Tensor | None = None) -> Streams:
        """The streams of ``samples`` (indices in the split) for one purpose of one run.

        ``batches``, int64 of shape (batch,), are the numbers of the batches they are in.
        """
        start = torch.full_like(samples, _signed(seed))
        streams = cls(start, samples).child(purpose)._mixed_with(samples)
        if batches is None:
            return streams
        return dataclasses.replace(streams, together=cls.of(seed, f"{purpose} batch", batches))

    def child(self, *names: int | str) -> Streams:
        """Streams of their own for each name, e.g. ``child("restart", 2)``; order matters."""
        streams = self
        for name in names:
            number = name if isinstance(name, int) else _hash(name)
            streams = streams._mixed_with(torch.full_like(self.keys, _signed(number)))
        return streams

    def each(self, numbers: Tensor) -> Streams:
        """Streams of their own for a number of each row, int64 of shape (batch,).

        With equal numbers it is ``child`` of that number.
        """
        return self._mixed_with(numbers)

    def parts(self, count: int) -> list[Streams]:
        """``count`` draws that stand for all randomness better than independent ones would.

        They are ``child("draw", number)``, and what is drawn by ``even`` is spread evenly over
        them. Each by itself is a draw like any other. Those of a judge, whose interval supposes
        that draws are independent, are not to be made so.
        """
        return [
            dataclasses.replace(self.child("draw", number), part=Part(number, count, self))
            for number in range(count)
        ]

    def even(self) -> Tensor:
        """Uniform in [0, 1), float64 of shape (batch,), evenly spread over ``parts``.

        The parts of a row lie 1 / count apart, from a random start.

        Source: the shifted lattice in one dimension, Cranley and Patterson 1976, SIAM Journal on
        Numerical Analysis 13(6).
        """
        if self.part is None:
            return self.child("even").uniform(1, dtype=torch.float64)[:, 0]
        start = self.part.of.child("even").uniform(1, dtype=torch.float64)[:, 0]
        return (start + self.part.number / self.part.size) % 1

    def __getitem__(self, rows: Tensor | slice) -> Streams:
        """The streams of some rows, chosen by a mask, by indices or by a slice."""
        part = None if self.part is None else self.part._replace(of=self.part.of[rows])
        together = None if self.together is None else self.together[rows]
        return Streams(self.keys[rows], self.samples[rows], together, part)

    @classmethod
    def joined(cls, streams: Sequence[Streams]) -> Streams:
        """The rows of several, one after the other; of no ``part``."""
        together = [one.together for one in streams if one.together is not None]
        return cls(
            torch.cat([one.keys for one in streams]),
            torch.cat([one.samples for one in streams]),
            cls.joined(together) if together else None,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> Streams:
        """The same streams on another device; they give the same numbers there."""
        part = None if self.part is None else self.part._replace(of=self.part.of.to(device))
        together = None if self.together is None else self.together.to(device)
        return Streams(self.keys.to(device), self.samples.to(device), together, part)

    def bits(self, count: int) -> Tensor:
        """Uniform int64 of shape (batch, count): the outputs of SplitMix64 seeded by each key."""
        steps = torch.arange(1, count + 1, device=self.keys.device) * GOLDEN
        return _mix(self.keys[:, None] + steps)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform in [0, 1), shape (batch, *shape)."""
        count = math.prod(shape)
        if dtype == torch.float64:
            digits, top = 53, _shifted(self.bits(count), 11)
        else:  # 24 bits fill a float32, so each 64-bit output serves two values
            bits = self.bits((count + 1) // 2)
            digits, top = 24, torch.cat([_shifted(bits, 40), bits & 0xFFFFFF], dim=1)[:, :count]
        return top.to(dtype).mul_(2.0**-digits).reshape(len(self), *shape)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal, shape (batch, *shape), by Box and Muller; tails to 6.7 sigma."""
        count = math.prod(shape)
        bits = self.bits((count + 1) // 2)
        # Half a unit keeps the logarithm finite; 32 bits each for radius and angle.
        radius = _shifted(bits, 32).to(dtype).add_(0.5).mul_(2.0**-32).clamp_(max=1.0)
        radius = radius.log_().mul_(-2).sqrt_()
        angle = (bits & 0xFFFFFFFF).to(dtype).mul_(2.0**-32 * 2 * math.pi)
        pair = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return pair[:, :count].reshape(-1, *shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform in 0 .. high - 1, shape (batch, *shape); bias below high / 2^53."""
        return (_shifted(self.bits(math.prod(shape)), 11) % high).view(-1, *shape)

    def permutation(self, count: int) -> Tensor:
        """A uniform permutation of 0 .. count - 1 for each row, shape (batch, count)."""
        return self.bits(count).argsort(dim=1)

    def _mixed_with(self, numbers: Tensor) -> Streams:
        together = None if self.together is None else self.together._mixed_with(numbers)
        return Streams(_mix(_mix(self.keys + GOLDEN) + numbers), self.samples, together)


class Part(NamedTuple):
    """One of several draws that were made together."""

    number: int
    size: int
    of: Streams  # which all of them are drawn from


def seed_of(seed: int, *names: int | str) -> int:
    """A number below 2^63 for libraries that want one seed, named as a stream is."""
    streams = Streams(torch.tensor([_signed(seed)]), torch.zeros(1, dtype=torch.int64))
    return int(streams.child(*names).keys) & ((1 << 63) - 1)


def _mix(state: Tensor) -> Tensor:
    """Scramble ``state``, which must be a fresh tensor: it is changed in place."""
    state.bitwise_xor_(_shifted(state, 30)).mul_(MIX_1)
    state.bitwise_xor_(_shifted(state, 27)).mul_(MIX_2)
    return state.bitwise_xor_(_shifted(state, 31))


def _shifted(state: Tensor, by: int) -> Tensor:
    # torch shifts signed integers arithmetically; the mask makes it the logical shift.
    return (state >> by).bitwise_and_((1 << (64 - by)) - 1)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _signed(number: int) -> int:
    number %= 1 << 64
    return number - (1 << 64) if number >> 63 else number
