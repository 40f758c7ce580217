"""Steps that a model brings its own backward pass for: autograd.Function, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from robustcode.mending.carry import carried

# Whose backward passes are not doubted.
TRUSTED = ("torch.", "robustcode.mending.", "robustcode.chain", "robustcode.convolution")


@contextmanager
def forward_differentiated() -> Iterator[None]:
    """Meanwhile the gradient of a custom Function is that of what its forward pass does.

    Its own backward pass is not asked. Where the forward pass has no gradient, as it may have left
    torch, that of its first input of the same shape is passed on.
    """
    native = Function.__dict__["apply"]

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        if cls.__module__.startswith(TRUSTED) or not torch.is_grad_enabled():
            return native.__func__(cls, *args, **kwargs)
        return _applied(cls, args, lambda: native.__func__(cls, *args, **kwargs))

    Function.apply = classmethod(apply)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Function.apply = native  # type: ignore[method-assign]


def _applied(cls: type[Function], args: tuple[Any, ...], native: Callable[[], Any]) -> Any:
    forward: Any = cls.forward
    inputs = [value for value in args if isinstance(value, Tensor) and value.requires_grad]
    if not inputs:
        return native()
    try:
        plain = cls.setup_context is not Function.setup_context
        result = forward(*args) if plain else forward(_Context(args), *args)
    except RuntimeError:  # it writes where a graph forbids it
        return native()
    if not isinstance(result, Tensor):
        return result
    same = [value for value in inputs if value.shape == result.shape]
    if not result.requires_grad and result.is_floating_point() and same:
        return carried(result, same[0])
    return result


class _Context:
    """Takes whatever a forward pass hands to the backward pass, which is not asked."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _nothing


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def passed_on(scores: Tensor) -> Tensor:
    """``scores`` whose graph passes gradients by the custom Functions that stop them.

    For those that were called by a name that was bound before, and so ran as they are: where all of
    the gradient of an input of the result's shape is zero, the result's is passed on.
    """
    seen: set[Any] = set()
    waiting = [scores.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [further for further, _ in node.next_functions]
        owner = getattr(node, "_forward_cls", None)
        if owner is not None and not owner.__module__.startswith(TRUSTED):
            node.register_hook(_pass_on)
    return scores


def _pass_on(inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    first, upstream = inputs[0], outputs[0]
    if first is None or upstream is None or first.shape != upstream.shape or first.any():
        return None
    return (upstream, *inputs[1:])
