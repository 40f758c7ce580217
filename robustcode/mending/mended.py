"""A defence with a gradient that it does not have itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustcode.adversary import Adversary
from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import with_model
from robustcode.errors import RobustcodeError
from robustcode.importing import reason
from robustcode.memory import is_out_of_memory
from robustcode.mending.base import NotMendableError, Scores, Way
from robustcode.mending.ways import WAYS, is_stochastic, named
from robustcode.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class Mended(Defense):
    """A defence as it is, with a surrogate that was made for it.

    ``logits``, ``decide`` and all that is declared are the original's. It is for searching alone:
    what is found is put to the original. A surrogate costs what the original's gradient does: one
    pass of the model each way, if in float64 a longer one.

    Attributes:
        model: the original's.
        original: the defence that is mended.
        way: how, as ``identity`` or ``through+double``.
    """

    model: nn.Module
    original: Defense
    way: str
    _follow: Scores = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        declared = {
            "stochastic": self.original.stochastic or is_stochastic(self.way),
            "batch_coupled": self.original.batch_coupled,
            "needs_mates": self.original.needs_mates,
            "differentiable": False,
            "votes": self.original.votes,
            "mean": self.original.mean,
            "_follow": _followed(self.original, named(self.way)),
        }
        for name, value in declared.items():
            object.__setattr__(self, name, value)

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        return self.original.logits(x, streams)

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.surrogate. NotMendableError where the way does not lead through."""
        try:
            scores = self._follow(x, streams)
        except (RobustcodeError, MemoryError):
            raise
        except Exception as cause:
            if is_out_of_memory(cause):
                raise
            raise self._refused(reason(cause)) from cause
        if scores.ndim != 2 or len(scores) != len(x):
            raise self._refused(f"its scores come out in the shape {tuple(scores.shape)}")
        with torch.enable_grad():
            return scores.to(x.dtype)

    def _refused(self, why: str) -> NotMendableError:
        return NotMendableError(
            f"{type(self.original).__name__} cannot be mended by {self.way!r}: {why}; try another "
            f"way of {', '.join(WAYS)}"
        )

    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.decide."""
        return self.original.decide(x, streams)

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return self.original.passes

    @property
    def reaches_inside(self) -> bool:
        """See Defense.reaches_inside."""
        return self.original.reaches_inside

    @property
    def files(self) -> tuple[str, ...]:
        """See Defense.files."""
        return self.original.files

    @property
    def batch(self) -> int:
        """See Defense.batch."""
        return self.original.batch

    @property
    def undefended(self) -> nn.Module:
        """See Defense.undefended."""
        return self.original.undefended

    def forwards(self, streams: Streams) -> Tensor | int:
        """See Defense.forwards."""
        return self.original.forwards(streams)

    def backwards(self, streams: Streams) -> Tensor | int:
        """See Defense.backwards."""
        return self.original.backwards(streams)

    def facing(self, adversary: Adversary, samples: Tensor, x: Tensor) -> Defense:
        """See Defense.facing."""
        return mend(self.original.facing(adversary, samples, x), self.way)

    def inputs(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.inputs."""
        return self.original.inputs(x, streams)


def mend(defense: Defense, way: str) -> Defense:
    """``defense`` with a surrogate made by ``way``, one of ``WAYS`` or several: ``NAME+NAME``.

    It works on a copy of the model as it is now. UnknownNameError if there is no such way;
    NotMendableError if the model cannot be copied, or, when asked for scores, run in this way.
    """
    return Mended(model=defense.model, original=defense, way=way)


def _followed(original: Defense, ways: Sequence[Way]) -> Scores:
    """The scores of a copy, mended by each way in turn."""
    try:
        replaced = with_model(original, copy.deepcopy(original.model))
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise NotMendableError(
            f"{type(original).__name__} cannot be mended: it or its model cannot be copied "
            f"({reason(cause)})"
        ) from cause
    defense = replaced
    for way in ways:
        defense = way.prepared(defense)
    plain = defense.differentiable or any(way.anew for way in ways)
    follow: Scores = defense.logits if plain else defense.surrogate
    for way in ways:
        follow = _around(way, defense, follow)
    return follow


def _around(way: Way, defense: Defense, follow: Scores) -> Scores:
    def scores(x: Tensor, streams: Streams) -> Tensor:
        with torch.enable_grad():
            return way.scores(defense, follow, x, streams)

    return scores
