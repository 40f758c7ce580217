"""What happens inside a defence while it answers: gradients it takes, and passes of its model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustcode.defenses.as_found import copied
from robustcode.defenses.base import Defense
from robustcode.seeds import Streams
from robustcode.target import Ledger, total

# The name of the function by which torch enters its engine, in both places that have it.
ENTRY = "_engine_run_backward"


@dataclass
class Inside:
    """What was seen.

    Attributes:
        rows: samples that were asked about.
        declared: passes of the model that the questions were to cost, all rows together.
        passes: rows that went through the model.
        gradients: backward passes that were begun.
    """

    rows: int
    declared: int
    passes: int = 0
    gradients: int = 0


def inside_of(defense: Defense, x: Tensor, streams: Streams, ledger: Ledger) -> Inside:
    """What one draw, and after it one decision, does on inputs (batch, ...).

    A copy is asked where one can be made, so that nothing is left behind.
    """
    with suppress(Exception):  # that it cannot be copied is no finding of this measure
        defense = copied(defense)
    forwards = defense.forwards(streams)
    inside = Inside(rows=len(x), declared=total(forwards, len(x)))
    with torch.no_grad(), _gradients_counted(inside):
        ledger.charge(streams.samples, forwards)
        with _passes_counted(defense.model, inside):
            defense.logits(x, streams)
            if defense.detector:  # what is declared is for both
                defense.rejection(x, streams)
        # A decision may be a rule of its own.
        ledger.charge(streams.samples, forwards * defense.votes)
        defense.decide(x, streams)
    return inside


@contextmanager
def _passes_counted(model: nn.Module, inside: Inside) -> Iterator[None]:
    """Count the rows of what the model is called with."""

    def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        inside.passes += 0 if first is None or first.ndim == 0 else len(first)

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _gradients_counted(inside: Inside) -> Iterator[None]:
    """Count backward passes, by whichever way they are asked for.

    ``Tensor.backward``, ``torch.autograd.backward``, ``torch.autograd.grad`` and ``torch.func`` all
    enter the engine by one function, under two names: those are replaced for as long as this
    lasts. So a function that was imported under another name is seen too.
    """
    places = [place for place in (torch.autograd, torch.autograd.graph) if hasattr(place, ENTRY)]
    known = [getattr(place, ENTRY) for place in places]

    def entered(*args: Any, **kwargs: Any) -> Any:
        inside.gradients += 1
        return known[0](*args, **kwargs)

    for place in places:
        setattr(place, ENTRY, entered)
    try:
        yield
    finally:
        for place, own in zip(places, known, strict=True):
            setattr(place, ENTRY, own)
