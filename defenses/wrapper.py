"""A defence seen through another, which changes one thing about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustcode.adversary import Adversary
from robustcode.defenses.base import Defense
from robustcode.seeds import Streams

# What a defence says of itself; Defense has them as attributes of the class or as fields.
SAID = (
    "model",
    "votes",
    "mean",
    "stochastic",
    "batch_coupled",
    "needs_mates",
    "differentiable",
    "detector",
)


@dataclass(frozen=True, kw_only=True)
class Around(Defense):
    """All that ``inner`` is, says and does, but for what a subclass changes.

    A subclass that says something else, e.g. ``stochastic: ClassVar[bool] = False``, is believed.
    Such a defence has no name: the engine puts it around one that was asked for.

    Attributes:
        inner: the defence.
    """

    inner: Defense = field(repr=False)

    def __post_init__(self) -> None:
        classes = type(self).__mro__
        own = {name for cls in classes[: classes.index(Around)] for name in vars(cls)}
        for name in SAID:
            if name not in own:
                object.__setattr__(self, name, getattr(self.inner, name))
        super().__post_init__()

    def asked(self, what: str, x: Tensor, streams: Streams) -> Tensor:
        """What the method ``what`` of ``inner`` answers; all that takes inputs comes through here.

        One of logits, surrogate, rejection, rejection_surrogate and decide.
        """
        answer: Tensor = getattr(self.inner, what)(x, streams)
        return answer

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        return self.asked("logits", x, streams)

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.surrogate."""
        return self.asked("surrogate", x, streams)

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.rejection."""
        return self.asked("rejection", x, streams)

    def rejection_surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.rejection_surrogate."""
        return self.asked("rejection_surrogate", x, streams)

    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.decide. The rule of ``inner``, of the draws that ``inner`` makes."""
        return self.asked("decide", x, streams)

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return self.inner.passes

    def forwards(self, streams: Streams) -> Tensor | int:
        """See Defense.forwards."""
        return self.inner.forwards(streams)

    def backwards(self, streams: Streams) -> Tensor | int:
        """See Defense.backwards."""
        return self.inner.backwards(streams)

    @property
    def reaches_inside(self) -> bool:
        """See Defense.reaches_inside."""
        return self.inner.reaches_inside

    def quickened(self) -> Defense:
        """See Defense.quickened."""
        return dataclasses.replace(self, inner=self.inner.quickened())

    @property
    def files(self) -> tuple[str, ...]:
        """See Defense.files."""
        return self.inner.files

    @property
    def batch(self) -> int:
        """See Defense.batch."""
        return self.inner.batch

    @property
    def undefended(self) -> nn.Module:
        """See Defense.undefended."""
        return self.inner.undefended

    def facing(self, adversary: Adversary, samples: Tensor, x: Tensor) -> Defense:
        """See Defense.facing."""
        return dataclasses.replace(self, inner=self.inner.facing(adversary, samples, x))

    def inputs(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.inputs."""
        return self.inner.inputs(x, streams)


def inside(defense: Defense) -> Defense:
    """The defence that was asked for, without what the engine put around it."""
    return layers(defense)[-1]


def layers(defense: Defense) -> list[Defense]:
    """A defence and all that it is around, from outside; the last is the one asked for."""
    found = [defense]
    while isinstance(found[-1], Around):
        found.append(found[-1].inner)
    return found


def with_model(defense: Defense, model: nn.Module) -> Defense:
    """The same defence around another model, whatever the engine has put around it.

    TypeError where it is no dataclass with a field for its model.
    """
    if isinstance(defense, Around):
        return dataclasses.replace(defense, inner=with_model(defense.inner, model))
    replaced: Defense = dataclasses.replace(cast("Any", defense), model=model)
    return replaced
