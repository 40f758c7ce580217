"""What a way of mending is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar

from torch import Tensor

from robustcode.defenses.base import Defense
from robustcode.errors import ConfigError
from robustcode.seeds import Streams

Scores = Callable[[Tensor, Streams], Tensor]
"""(x, streams) -> scores (batch, classes) with a graph back to x."""


class NotMendableError(ConfigError):
    """A way of mending does not apply to a defence; another one may."""


class Keeps(StrEnum):
    """What mended scores have in common with the defence's own."""

    VALUES = "values"  # all of them, up to rounding
    ORDER = "order"  # which class comes first, second and so on, up to rounding
    NOTHING = "nothing"  # they are those of inputs nearby, or of a part of the model


class Way(ABC):
    """One idea of where a gradient can come from that a defence does not give.

    Ways work on a copy of the defence's model, which is theirs: the defence itself is out of reach.

    Attributes:
        keeps: what the scores have in common with the defence's own.
        stochastic: two draws of the scores can differ where the defence's own do not, or what they
            get wrong need not be what the defence does.
        anew: it makes a gradient of the plain scores, not of a surrogate that is declared.
    """

    keeps: ClassVar[Keeps] = Keeps.VALUES
    stochastic: ClassVar[bool] = False
    anew: ClassVar[bool] = False

    def prepared(self, defense: Defense) -> Defense:
        """The defence, around a copy of its model already, as this way wants to run it."""
        return defense

    @abstractmethod
    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """What ``follow`` gives, with a better gradient; ``defense`` is the prepared one."""
