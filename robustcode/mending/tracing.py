"""Every call of torch that a model makes, with a rule for those that would stop a gradient.

Source: ``torch.overrides.TorchFunctionMode``, PyTorch's documentation of torch.overrides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from robustcode.mending.marks import Marks


@dataclass(frozen=True)
class Call:
    """One call of a function of torch, to be made or replaced.

    Attributes:
        func: the function.
        name: what it is called, as ``__and__`` or ``round_``.
        args, named: what it was given.
        marks: what is known of tensors without a gradient.
    """

    func: Callable[..., Any]
    name: str
    args: Sequence[Any]
    named: Mapping[str, Any]
    marks: Marks

    def plain(self) -> Any:
        """What it gives by itself."""
        return self.func(*self.args, **self.named)

    @property
    def first(self) -> Any:
        """The tensor it is a method of."""
        return self.args[0] if self.args else self.named.get("input")

    def argument(self, place: int, name: str, otherwise: Any = None) -> Any:
        """An argument that may be given by its place or its name."""
        if len(self.args) > place:
            return self.args[place]
        return self.named.get(name, otherwise)


Rule = Callable[[Call], Any]
"""The result of a call, its gradient mended."""


class Tracing(TorchFunctionMode):
    """Answers each call of a name in ``rules`` by its rule, and ``otherwise`` where it is marked.

    Inside a rule calls are not traced.
    """

    def __init__(self, rules: Mapping[str, Rule], otherwise: Rule) -> None:
        super().__init__()
        self._rules = rules
        self._otherwise = otherwise
        self._marks = Marks()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":  # that of an attribute, such as Tensor.data
            name = "get " + getattr(getattr(func, "__self__", None), "__name__", "")
        rule = self._rules.get(name)
        if rule is not None:
            return rule(Call(func, name, args, named, self._marks))
        if not name.startswith("get ") and self._marks.any_in((*args, *named.values())):
            return self._otherwise(Call(func, name, args, named, self._marks))
        return func(*args, **named)


def real(x: Tensor) -> Tensor:
    """``x`` without its graph, for what leaves torch."""
    with torch._C.DisableTorchFunction():
        return x.detach()
