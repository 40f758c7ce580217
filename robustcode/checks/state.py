"""Whether a defence remembers what it was asked: its scores before and after other queries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from robustcode.attacks.losses import cross_entropy
from robustcode.checks.calls import check_shape, differ
from robustcode.defenses.as_found import Generators, copied, generators
from robustcode.defenses.base import Defense
from robustcode.importing import reason
from robustcode.seeds import Streams
from robustcode.target import Ledger

# Pilot samples that are asked about again: whoever remembers does so on more than a few.
SAMPLES = 16
# How far queries are from a sample that a memory may take for the same, in linf on [0, 1].
NEAR = (1 / 255, 8 / 255)


@dataclass(frozen=True)
class Memory:
    """What became of a defence's answers, and of what it is made of, once it had been asked.

    Attributes:
        rows: how many of the pilot were asked about, the first ones.
        changed: of these, those whose scores, or a detector's rejection, differ after other
            queries, though all random numbers are the same; bool (rows,).
        tensors: names of parameters and buffers of the model that calls have changed.
        uncopied: why the defence cannot be copied, so that it was itself asked; None if it can.
    """

    rows: int
    changed: Tensor
    tensors: tuple[str, ...]
    uncopied: str | None = None

    @property
    def stateful(self) -> bool:
        """Whether calls see each other."""
        return bool(self.changed.any()) or bool(self.tensors)


def memory_of(defense: Defense, x: Tensor, streams: Streams, ledger: Ledger) -> Memory:
    """Ask ``defense`` about pilot inputs, then about others, then again.

    ``x`` are pilot inputs, (batch, ...), with their ``streams``. It is asked in copies, and stays
    as it is. A sample that is tested costs about 8 forward and one backward pass.

    Two copies that are asked the same thing first, all generators that can be found at the same
    place, tell what is random beyond those: such a sample is no sign of memory. A third copy is
    asked about noise, other samples, near ones and gradients before it is asked about the samples,
    and the second is asked twice.
    """
    x, streams = x[:SAMPLES], streams[: min(SAMPLES, len(x))]
    own = streams.child("memory")
    try:
        asked = [copied(defense) for _ in range(2)]
        uncopied = None
    except Exception as cause:
        asked, uncopied = [defense, defense], reason(cause)
    ask = _Asking(x, own, ledger)
    with _rewinding(defense) as rewind:
        tensors = {} if uncopied is None else {k: v.clone() for k, v in _tensors(defense).items()}
        first = ask(asked[0], rewind)
        again = ask(asked[1], rewind)
        repeated = ask(asked[1], rewind)
        del asked
        last = defense if uncopied is not None else copied(defense)
        _ask_others(last, x, own.child("others"), ledger)
        after = ask(last, rewind)
    changed = ~_apart(first, again) & (_apart(first, repeated) | _apart(first, after))
    before = tensors or _tensors(defense)
    return Memory(len(x), changed, _changed(before, _tensors(last)), uncopied)


@dataclass(frozen=True)
class _Asking:
    """The same question every time."""

    x: Tensor
    streams: Streams
    ledger: Ledger

    @torch.no_grad()
    def __call__(self, defense: Defense, rewind: Callable[[], None]) -> list[Tensor]:
        """Scores, and a detector's rejection as one column."""
        rewind()
        self.ledger.charge(self.streams.samples, defense.forwards(self.streams))
        answers = [defense.logits(self.x, self.streams).clone()]
        check_shape(answers[0], self.x)
        if defense.detector:
            answers.append(defense.rejection(self.x, self.streams)[:, None].clone())
        return answers


def _apart(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Rows of which some answer is another, bool of shape (rows,)."""
    return torch.stack([differ(a, b) for a, b in zip(first, second, strict=True)]).any(0)


def _ask_others(defense: Defense, x: Tensor, streams: Streams, ledger: Ledger) -> None:
    """Queries of every kind that an attack may make before it asks about a sample."""
    size = x[0].numel()
    moves = [(2 * streams.child("near", n).uniform(size) - 1) * near for n, near in enumerate(NEAR)]
    others = [(x + move.view_as(x)).clamp(0, 1) for move in moves]
    others += [x.flip(0), streams.child("noise").uniform(size).view_as(x)]
    for number, other in enumerate(others):
        own = streams.child("query", number)
        ledger.charge(own.samples, defense.forwards(own))
        with torch.no_grad():
            defense.logits(other, own)
            if defense.detector:
                defense.rejection(other, own)
    own = streams.child("gradient")
    ledger.charge(own.samples, defense.forwards(own), defense.backwards(own))
    with torch.enable_grad():
        leaf = others[0].detach().clone().requires_grad_()
        scores = defense.logits(leaf, own)
        if scores.requires_grad:
            torch.autograd.grad(
                cross_entropy(scores, scores.detach().argmax(1)).sum(), leaf, allow_unused=True
            )


@contextmanager
def _rewinding(defense: Defense) -> Iterator[Callable[[], None]]:
    """What puts all generators of random numbers back to where they are now, as leaving does."""
    returns = [_return(generator) for generator in generators(defense)]
    returns.append(partial(random.setstate, random.getstate()))
    returns.append(partial(np.random.set_state, np.random.get_state()))
    returns.append(partial(torch.set_rng_state, torch.get_rng_state()))
    if torch.cuda.is_initialized():
        returns.append(partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))

    def rewind() -> None:
        for back in returns:
            back()

    try:
        yield rewind
    finally:
        rewind()


def _return(generator: Generators) -> Callable[[], object]:
    """What brings a generator back to where it is."""
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return partial(setattr, bits, "state", bits.state)
    if isinstance(generator, torch.Generator):
        return partial(generator.set_state, generator.get_state())
    return partial(generator.set_state, generator.get_state())


def _tensors(defense: Defense) -> dict[str, Tensor]:
    model: nn.Module = defense.model
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of tensors that are others, or are there on one side only."""
    same = {name for name in before.keys() & after.keys() if _same(before[name], after[name])}
    return tuple(sorted((before.keys() | after.keys()) - same))


def _same(before: Tensor, after: Tensor) -> bool:
    if before.shape != after.shape:
        return False
    return bool(((before == after) | ((before != before) & (after != after))).all())
