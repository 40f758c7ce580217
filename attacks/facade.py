"""A target as the torch module that a foreign attack wants, each query charged to its sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from robustcode.attacks.base import Target
from robustcode.ranks import occurrence
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


class Facade(nn.Module):
    """A target that can be called, differentiated and put into training mode without harm.

    A foreign attack asks about any rows in any order, and each is charged to the sample that it
    belongs to, as far as that can be seen: the one in the same place where all are within eps of
    it, the nearest clean input where all are within eps of theirs, and what is most likely
    otherwise, as for an image that was resized. Where the target is stochastic every row of every
    call is a fresh draw. The model behind is out of reach: it keeps its mode, and its parameters
    get no ``.grad``.

    Attributes:
        anchor: says the device to attacks that look at a model's parameters for it.
    """

    def __init__(self, target: Target, x: Tensor, threat: ThreatModel, streams: Streams) -> None:
        super().__init__()
        self.anchor = nn.Parameter(x.new_zeros(1), requires_grad=False)
        self._target = target
        self._x = x.clone()
        self._threat = threat
        self._streams = streams
        self._last: Tensor | None = None
        self._calls = 0
        self.eval()

    def forward(self, query: Tensor) -> Tensor:
        """Scores of shape (batch, classes), with a graph back to ``query`` if one is wanted."""
        query = query.to(self._x)
        streams = self._draws(self._rows(query.detach()))
        differentiated = torch.is_grad_enabled() and query.requires_grad
        # A foreign attack may ask about thousands of rows at once.
        size = max(self._target.width, len(self._x))
        parts = []
        for part, own in zip(query.split(size), _split(streams, size), strict=True):
            if differentiated:
                parts.append(_scores(part, self._target, own))
            else:
                parts.append(self._target.logits(part.detach(), own))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _rows(self, query: Tensor) -> Tensor:
        """Whose inputs these are, int64 of shape (queries,)."""
        own = torch.arange(len(self._x), device=query.device)
        guesses = [g for g in (own, self._last) if g is not None and len(g) == len(query)]
        for guess in guesses:
            if self._within_reach(query, guess):
                return guess
        nearest = torch.cdist(query.flatten(1), self._x.flatten(1)).argmin(1)
        if guesses and not self._within_reach(query, nearest):
            return guesses[0]
        self._last = nearest
        return nearest

    def _within_reach(self, query: Tensor, rows: Tensor) -> bool:
        x = self._x[rows]
        away = self._threat.distance(query, x)
        return bool((away <= self._threat.eps + self._threat.rounding(x)).all())

    def _draws(self, rows: Tensor) -> Streams:
        """One stream a row; of a stochastic target one that no row has had."""
        if not self._target.stochastic:
            return self._streams[rows]
        self._calls += 1
        return self._streams.child("call", self._calls)[rows].each(occurrence(rows))


def _split(streams: Streams, size: int) -> list[Streams]:
    return [streams[slice(at, at + size)] for at in range(0, max(len(streams), 1), size)]


def _scores(query: Tensor, target: Target, streams: Streams) -> Tensor:
    scores: Tensor = _Apart.apply(query, target, streams)  # type: ignore[no-untyped-call]
    return scores


class _Apart(torch.autograd.Function):
    """Scores whose graph is kept aside: ``backward`` reaches the input and nothing else."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, target: Target, streams: Streams) -> Tensor:
        ctx.x = query.detach().requires_grad_()
        ctx.scores = target.scores(ctx.x, streams)
        # A copy: foreign attacks write into scores, which the graph may need as they were.
        return ctx.scores.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = None
        if ctx.scores.requires_grad:
            # Some attacks go back through the same scores once for each class.
            (gradient,) = torch.autograd.grad(
                ctx.scores, ctx.x, upstream[0], retain_graph=True, allow_unused=True
            )
        if gradient is None:  # as DefendedTarget.ascent has it, for attacks of our own
            return torch.zeros_like(ctx.x), None, None
        return torch.nan_to_num(gradient, nan=0.0), None, None
