"""What an attack is, and what it may ask of its target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from robustcode.errors import ConfigError
from robustcode.importing import named_code
from robustcode.registry import Registry
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (batch, classes), y (batch,)) -> loss per sample, shape (batch,), to be raised."""


class Ascent(NamedTuple):
    """One forward and one backward pass: where a sample stands, and which way is up."""

    logits: Tensor  # (batch, classes), detached
    gradient: Tensor  # of each sample's own loss, shape of x


class Edit(NamedTuple):
    """Known inputs with a window of new values: rectangles of one size, one in each input.

    Attributes:
        rows: which of the known inputs, int64 (batch,).
        size: height and width of the windows.
        top, left: where they begin, int64 (batch,).
        values: what stands in them, (batch, channels, pixels).
    """

    rows: Tensor
    size: tuple[int, int]
    top: Tensor
    left: Tensor
    values: Tensor

    def at(self, places: Tensor) -> Edit:
        """Some of them, int64."""
        rows, top, left = (part[places] for part in (self.rows, self.top, self.left))
        return Edit(rows, self.size, top, left, self.values.index_select(0, places))


class Nearby(Protocol):
    """Inputs that a target knows so well that it answers for less about others near them."""

    def changed(self, edit: Edit) -> Tensor:
        """Scores (batch, classes) with one window changed, a pass of the samples concerned."""
        ...

    def take(self, places: Tensor) -> None:
        """Know from now on some of what was asked about last, by its places, no input twice."""
        ...


class Target(Protocol):
    """A defended model as the adversary sees it: any number of draws, each with its gradient.

    ``streams`` names one draw of the defence's randomness for each row of ``x``: equal streams
    give the same realisation, so an attack may hold a draw fixed or ask for a fresh one.
    """

    @property
    def stochastic(self) -> bool:
        """Whether two draws can differ."""
        ...

    @property
    def undefended(self) -> Target:
        """The plain model inside the defence, as a target of its own."""
        ...

    def beside(self, model: nn.Module) -> Target:
        """Another classifier as a plain target, whose passes are charged to the same samples."""
        ...

    def mended(self, way: str, optional: bool = False) -> Target:
        """The same defence followed by a surrogate made for it, paid for by the same samples.

        ``way`` is one of ``robustcode.mending.WAYS`` or several, as ``through+double``. ``logits``
        stay the defence's own; scores that come with a gradient may be on another scale or, of a
        stochastic way, of inputs nearby or of a part of the model. NotMendableError where a way
        does not lead through the defence, but for one that is ``optional``.
        """
        ...

    @property
    def width(self) -> int:
        """Rows that fit into one query: targets and restarts of a few samples may share one."""
        ...

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """Scores of shape (batch, classes) from one draw, without a graph."""
        ...

    def ascent(self, x: Tensor, y: Tensor, loss: Loss, streams: Streams) -> Ascent:
        """Scores from one draw and the gradient of each sample's loss with respect to it."""
        ...

    def ascents(
        self, x: Tensor, y: Tensor, losses: Sequence[Loss], streams: Streams
    ) -> list[Ascent]:
        """An ascent for each loss from one forward pass: all on the same draw."""
        ...

    def nearby(self, x: Tensor, streams: Streams, size: tuple[int, int]) -> Nearby | None:
        """``x`` as what is known, for a pass of each, to ask about windows of ``size`` in it.

        None where that would save nothing.
        """
        ...

    def scores(self, x: Tensor, streams: Streams) -> Tensor:
        """``logits`` with a graph back to ``x``, for foreign attacks that differentiate it."""
        ...


def require_counts(attack: object, *names: str) -> None:
    """Raise ConfigError unless these settings of an attack are at least 1."""
    for name in names:
        if getattr(attack, name) < 1:
            raise ConfigError(f"{name} = {getattr(attack, name)}: at least 1 is needed")


class Attack(ABC):
    """Looks for allowed inputs that the target gets wrong.

    An attack only proposes. Whether a proposal is allowed is checked by the engine, and
    whether it succeeds is judged by the defence on draws the attack never sees.

    Attributes:
        norms: the norms it can attack in.
        needs_gradient: it asks for ascents.
        control: it is there to be beaten, and need not find what can be found.
        minimal: it looks for the nearest wrong input, and eps decides which of what it finds it
            may propose. Where its ``until_broken`` is set it may look no further than eps, and stop
            at the first wrong input within it.
        coarse: it tries inputs of a few forms only, such as corners of the ball, and may need twice
            the eps that the nearest wrong input has.
        one_step: it takes a single step, which is exact on linear models of two classes only.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)
    needs_gradient: ClassVar[bool] = True
    control: ClassVar[bool] = False
    minimal: ClassVar[bool] = False
    coarse: ClassVar[bool] = False
    one_step: ClassVar[bool] = False

    @abstractmethod
    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """Proposals of shape (batch, ...), one per input.

        Promises: every proposal is allowed by ``threat``; ``x`` and ``y`` are unchanged; what a
        sample gets depends on its own stream and not on the batch it is in.
        """


ATTACKS: Registry[type[Attack]] = Registry("attack", "robustcode.attacks", Attack, named_code)
