"""Defences that say of themselves what is not so, made into ones that an evaluation can measure.

A verdict must depend on the sample and its streams alone: not on who else is in the batch, nor on
what was asked before. Where a defence breaks this unsaid, these put it into one fixed situation,
which is one that a user of it meets.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from types import ModuleType, NoneType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import Around
from robustcode.seeds import Streams

# Clean images that stand in each batch beside the sample.
MATES = 15

# What holds no generator, or is not copied.
LEAVES = (Tensor, np.ndarray, str, bytes, int, float, type, ModuleType, NoneType)

T = TypeVar("T")
Generators = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


@dataclass(frozen=True, kw_only=True)
class Among(Around):
    """Each input is classified in a batch of its own, with the same clean images every time.

    For a model whose prediction depends on its batch without saying so, such as one with batch
    norm in training mode. The verdict on a sample then depends neither on the batch size nor on
    other samples, and a gradient is that of its own scores. A row costs its whole batch.

    Attributes:
        mates: clean images, (pool, channels, height, width). Beside each input stand the first
            ``MATES`` that are not its own, or as many as there are.
        numbers: int64 (pool,), the sample each mate is; -1 where it is none of the split.
    """

    mates: Tensor = field(repr=False, compare=False)
    numbers: Tensor = field(repr=False, compare=False)

    def asked(self, what: str, x: Tensor, streams: Streams) -> Tensor:
        """See Around.asked."""
        ask = partial(super().asked, what)
        if len(x) == 0:
            return ask(x, streams)
        # One by one: rows that share a pass share its statistics. torch.vmap over rows, where it
        # takes the model at all, was no quicker (38 ms against 31 for 128 rows of a small one).
        return torch.cat([ask(*batch)[:1] for batch in self.batches(x, streams)])

    def batches(self, x: Tensor, streams: Streams) -> Iterator[tuple[Tensor, Streams]]:
        """Each input with its mates after it, (1 + mates, ...), and the streams of all of them."""
        beside = [self.beside(sample) for sample in streams.samples.tolist()]
        everyone, mates = _everyone(streams, list(map(len, beside))), self.mates.to(x)
        start = 0
        for row, places in zip(x.split(1), beside, strict=True):
            end = start + 1 + len(places)
            yield torch.cat([row, mates[places]]), everyone[start:end]
            start = end

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return self.inner.passes * (1 + min(MATES, len(self.mates)))

    def forwards(self, streams: Streams) -> Tensor | int:
        """See Defense.forwards."""
        return self._cost(self.inner.forwards, streams)

    def backwards(self, streams: Streams) -> Tensor | int:
        """See Defense.backwards. A gradient goes back through the whole batch."""
        return self._cost(self.inner.backwards, streams)

    def beside(self, sample: int) -> list[int]:
        """Places of a sample's mates in the pool."""
        others = (place for place, number in enumerate(self._numbers) if number != sample)
        return list(islice(others, MATES))

    @cached_property
    def _numbers(self) -> list[int]:
        return list(map(int, self.numbers))

    @property
    def undefended(self) -> nn.Module:
        """See Defense.undefended. It is not told whose images it gets: its mates are the first."""
        return AmongModule(self.inner.undefended, self.mates[:MATES])

    def _cost(self, cost: Callable[[Streams], Tensor | int], streams: Streams) -> Tensor | int:
        counts = [len(self.beside(sample)) for sample in streams.samples.tolist()]
        spent = cost(_everyone(streams, counts))
        sizes = torch.tensor([1 + count for count in counts], dtype=torch.int64)
        if not isinstance(spent, Tensor):
            return spent * sizes.to(streams.samples)
        batch = torch.arange(len(streams)).repeat_interleave(sizes).to(spent.device)
        return spent.new_zeros(len(streams)).index_add_(0, batch, spent)


class AmongModule(nn.Module):
    """A model that is asked about each input in a batch of its own, beside the same images."""

    def __init__(self, model: nn.Module, mates: Tensor) -> None:
        super().__init__()
        self.model = model
        self.mates = mates

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        if len(x) == 0:
            empty: Tensor = self.model(x)
            return empty
        mates = self.mates.to(x)
        return torch.cat([self.model(torch.cat([row, mates]))[:1] for row in x.split(1)])


def _everyone(streams: Streams, counts: Sequence[int]) -> Streams:
    """Each row's stream, followed by those of so many batch mates."""
    device = streams.keys.device
    sizes = torch.tensor([1 + count for count in counts], dtype=torch.int64, device=device)
    rows = torch.arange(len(counts), device=device).repeat_interleave(sizes)
    places = torch.arange(len(rows), device=device) - (sizes.cumsum(0) - sizes)[rows]
    mates = streams.child("mate")[rows].each(places)
    return Streams(streams.keys[rows].where(places == 0, mates.keys), mates.samples)


@dataclass(frozen=True, kw_only=True)
class Fresh(Around):
    """Every call is the first: it is made on a copy of the defence as it was when this was made.

    For a defence that remembers its calls, in a cache, a counter or running statistics. Calls
    then do not see each other, so that verdicts do not depend on their order. Its generators of
    random numbers are no memory, and go on from call to call.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", copied(self.inner))
        super().__post_init__()

    def asked(self, what: str, x: Tensor, streams: Streams) -> Tensor:
        """See Around.asked."""
        answer: Tensor = getattr(copied(self.inner, self._shared), what)(x, streams)
        return answer

    @cached_property
    def _shared(self) -> list[Generators]:
        return generators(self.inner)

    @property
    def undefended(self) -> nn.Module:
        """See Defense.undefended."""
        return FreshModule(self.inner.undefended)

    @property
    def reaches_inside(self) -> bool:
        """See Defense.reaches_inside. A faster copy could remember something else."""
        return True

    def quickened(self) -> Defense:
        """See Defense.quickened."""
        return self


class FreshModule(nn.Module):
    """A model of which every call is the first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        pristine = copied(model)
        # In a tuple: it is no part of this module, whose weights nobody is to fold.
        self._pristine = (pristine, generators(pristine))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        scores: Tensor = copied(*self._pristine)(x)
        return scores


def copied(thing: T, shared: Sequence[object] | None = None) -> T:
    """A deep copy in the same modes that draws from the same generators as the original.

    ``shared`` are those generators, where they are known, and whatever else is not to be copied.
    """
    shared = generators(thing) if shared is None else shared
    return copy.deepcopy(thing, {id(one): one for one in shared})


def generators(thing: object) -> list[Generators]:
    """The generators of random numbers that can be reached from a defence or a model."""
    found: list[Generators] = []
    seen: set[int] = set()
    left: list[Any] = [thing]
    while left:
        part = left.pop()
        if id(part) in seen or isinstance(part, LEAVES):
            continue
        seen.add(id(part))
        if isinstance(part, Generators):
            found.append(part)
        elif isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            left += part
        else:
            left += getattr(part, "__dict__", {}).values()
            left.append(getattr(part, "__self__", None))  # of a method
    return found
