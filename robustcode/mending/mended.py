"""A defence with a gradient that it does not have itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.defenses.as_found import Among, Fresh, Generators, copied, generators
from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import Around, inside, layers
from robustcode.errors import RobustcodeError
from robustcode.importing import reason
from robustcode.memory import is_out_of_memory
from robustcode.mending.base import NotMendableError, Scores, Way
from robustcode.mending.ways import WAYS, is_stochastic, named
from robustcode.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class Mended(Around):
    """A defence as it is, with a surrogate that was made for it.

    ``logits``, ``decide`` and all that is declared are the original's, which is ``inner``. It is
    for searching alone: what is found is put to the original. A surrogate costs what the original's
    gradient does: one pass of the model each way, if in float64 a longer one.

    Attributes:
        way: how, as ``identity`` or ``through+double``.
        optional: where that does not lead through, follow the original's own face.
    """

    differentiable: ClassVar[bool] = False

    way: str
    optional: bool = False
    _follow: Scores = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        stochastic = self.inner.stochastic or is_stochastic(self.way)
        object.__setattr__(self, "stochastic", stochastic)
        object.__setattr__(self, "_follow", self._made())

    def _made(self) -> Scores:
        try:
            return _followed(self.inner, named(self.way))
        except NotMendableError:
            if not self.optional:
                raise
            return self._own

    def _own(self, x: Tensor, streams: Streams) -> Tensor:
        followed = self.inner.logits if self.inner.differentiable else self.inner.surrogate
        return followed(x, streams)

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.surrogate. NotMendableError where the way does not lead through."""
        try:
            return self._mended(x, streams)
        except NotMendableError:
            if not self.optional:
                raise
            return self._own(x, streams)

    def _mended(self, x: Tensor, streams: Streams) -> Tensor:
        try:
            with torch.enable_grad():
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
            f"{type(inside(self.inner)).__name__} cannot be mended by {self.way!r}: {why}; try "
            f"another way of {', '.join(WAYS)}"
        )


def mend(defense: Defense, way: str, optional: bool = False) -> Defense:
    """``defense`` with a surrogate made by ``way``, one of ``WAYS`` or several: ``NAME+NAME``.

    It works on a copy of the model as it is now. UnknownNameError if there is no such way;
    NotMendableError if the model cannot be copied, or, when asked for scores, run in this way;
    with ``optional`` the defence's own face is then followed.
    """
    return Mended(inner=defense, way=way, optional=optional)


def _followed(original: Defense, ways: Sequence[Way], shared: Sequence[Generators] = ()) -> Scores:
    """The scores of a copy, mended by each way in turn; it draws from the ``shared`` generators.

    Ways work within the situation that the engine puts a defence in: a batch with mates is theirs
    as a whole, and each call that is to be the first is one of a copy of its own.
    """
    if isinstance(original, Fresh):
        pristine = _copied(original.inner, shared)
        own = generators(pristine)

        def first(x: Tensor, streams: Streams) -> Tensor:
            return _followed(pristine, ways, own)(x, streams)

        return first
    if isinstance(original, Around) and _is_situated(original):
        follow = _followed(original.inner, ways, shared)
        within = _Followed(inner=original.inner, follow=follow)
        return dataclasses.replace(original, inner=within).surrogate
    defense = _prepared(_copied(original, shared), ways)
    plain = defense.differentiable or any(way.anew for way in ways)
    follow = defense.logits if plain else defense.surrogate
    for way in ways:
        follow = _around(way, defense, follow)
    return follow


def _prepared(defense: Defense, ways: Sequence[Way]) -> Defense:
    name = type(inside(defense)).__name__
    try:
        for way in ways:
            defense = way.prepared(defense)
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise NotMendableError(f"{name} cannot be mended so: {reason(cause)}") from cause
    return defense


def _is_situated(defense: Defense) -> bool:
    """Whether the engine puts it among mates, or asks it anew each time."""
    return any(isinstance(one, Among | Fresh) for one in layers(defense))


def _copied(original: Defense, shared: Sequence[Generators]) -> Defense:
    """All of it and not only the model: what the copy remembers is nothing to the original.

    But for a pool of clean images, which is large and which nobody changes.
    """
    pool = getattr(inside(original), "mates", None)
    try:
        return copied(original, [*shared, *([] if pool is None else [pool])])
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise NotMendableError(
            f"{type(inside(original)).__name__} cannot be mended: it or its model cannot be copied "
            f"({reason(cause)})"
        ) from cause


@dataclass(frozen=True, kw_only=True)
class _Followed(Around):
    """A defence of whose scores others are followed; how it refuses is as it was."""

    follow: Scores

    def asked(self, what: str, x: Tensor, streams: Streams) -> Tensor:
        """See Around.asked."""
        if what in ("logits", "surrogate"):
            return self.follow(x, streams)
        return super().asked(what, x, streams)


def _around(way: Way, defense: Defense, follow: Scores) -> Scores:
    def scores(x: Tensor, streams: Streams) -> Tensor:
        with torch.enable_grad():
            return way.scores(defense, follow, x, streams)

    return scores
