"""Twice the precision, where what underflows in float32 does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import with_model
from robustcode.mending.base import Keeps, Scores, Way
from robustcode.mending.log import of_probabilities
from robustcode.seeds import Streams


class Double(Way):
    """The model in float64; rows that are probabilities come as log-probabilities.

    A softmax is exactly 0 or 1 in float32 from gaps of 104 or 17 on, in float64 from 745 and 37.
    The logarithm is taken before the scores are float32 again. Draws of the defence are made in
    float32, so that they are the same ones.

    Source: gradients that vanish for want of precision, Carlini and Wagner 2017, arXiv:1608.04644,
    section IV.
    """

    keeps: ClassVar[Keeps] = Keeps.ORDER

    def prepared(self, defense: Defense) -> Defense:
        """See Way.prepared."""
        return with_model(defense, Precise(defense.model))

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        with _Doubled():
            scores = follow(x, streams)
        return of_probabilities(scores)


class Precise(nn.Module):
    """A model in float64 for inputs of any precision."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.double()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), float64."""
        scores: Tensor = self.model(x.double())
        return scores


class _Doubled(TorchFunctionMode):
    """Where float32 is asked for by name, float64 is meant."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        named = {key: _doubled(value) for key, value in (kwargs or {}).items()}
        return func(*map(_doubled, args), **named)


def _doubled(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
