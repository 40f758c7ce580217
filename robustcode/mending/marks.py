"""What tensors without a gradient stand for while a model is traced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor


class Mark(NamedTuple):
    """What a tensor that can have no gradient stands for: a softer one that has.

    Attributes:
        soft: its values, in the same shape; or, if ``nominal``, with one dimension more at the end,
            how much each class is the one that its values number.
        nominal: whether values are names of classes and not quantities.
    """

    soft: Tensor
    nominal: bool = False


class Chosen(NamedTuple):
    """Indices of the largest values of a tensor.

    Attributes:
        indices: these.
        of: the tensor.
        soft: a step for each of its values, of how far it is above the last that was chosen.
    """

    indices: Tensor
    of: Tensor
    soft: Tensor


class Marks:
    """The marks of tensors, which are kept: otherwise their ids would be given away again."""

    def __init__(self) -> None:
        self._marks: dict[int, tuple[Tensor, Mark]] = {}
        self.chosen: dict[int, Chosen] = {}  # by the ids of the indices

    def set(self, tensor: Any, soft: Tensor, nominal: bool = False) -> Any:
        """Remember what ``tensor`` stands for; it is returned."""
        if isinstance(tensor, Tensor) and soft.requires_grad:
            self._marks[id(tensor)] = (tensor, Mark(soft, nominal))
        return tensor

    def of(self, tensor: Any) -> Mark | None:
        """What ``tensor`` stands for, if it is anything but itself."""
        held = self._marks.get(id(tensor)) if isinstance(tensor, Tensor) else None
        return None if held is None else held[1]

    def soft(self, value: Any) -> Any:
        """``value`` as a quantity with a gradient where it has one."""
        mark = self.of(value)
        return value if mark is None or mark.nominal else mark.soft

    def forget(self, tensor: Any) -> None:
        """``tensor`` has been overwritten."""
        self._marks.pop(id(tensor), None)

    def any_in(self, values: Any) -> bool:
        """Whether any of them, or of the lists among them, is marked."""
        if not self._marks:
            return False
        return any(self.of(value) is not None for value in flat(values))


def flat(values: Any) -> Iterator[Any]:
    """All that is in lists and tuples, however deep."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from flat(value)
        else:
            yield value


def graphed(value: Any) -> bool:
    """Whether it is a tensor with a gradient to follow."""
    return isinstance(value, Tensor) and value.requires_grad
