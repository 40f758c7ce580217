"""Rules for calls that cut a gradient off on purpose."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from robustcode.mending.tracing import Call, Rule, real


def _detach(call: Call) -> Any:
    """A view, as ``detach`` gives, that is still in the graph."""
    x = call.first
    if not isinstance(x, Tensor) or not x.requires_grad:
        return call.plain()
    return x.view_as(x)


def _stay(call: Call) -> Any:
    """``detach_``: the tensor itself."""
    return call.first


def _grad_mode(call: Call) -> Any:
    """Gradients can be turned on and not off."""
    if call.argument(0, "enabled"):
        call.plain()


def _requires_grad(call: Call) -> Any:
    """A tensor inside the graph keeps its ``.grad`` as a leaf would."""
    x = call.first
    if not isinstance(x, Tensor) or x.grad_fn is None:
        return call.plain()
    if call.argument(1, "requires_grad", True):
        x.retain_grad()
    return x


def _own_gradient(call: Call) -> Any:
    """The model's own gradients must leave the graph to ours; theirs are now a part of it."""
    named = {**call.named, "retain_graph": True}
    # backward(gradient, retain_graph, ..) and grad(outputs, inputs, grad_outputs, retain_graph).
    place = {"backward": 2, "grad": 3}[call.name]
    args = list(call.args)
    if len(args) > place:
        args[place] = named.pop("retain_graph")
    return call.func(*args, **named)


def _leaves_torch(call: Call) -> Any:
    args = [real(value) if isinstance(value, Tensor) else value for value in call.args]
    return call.func(*args, **call.named)


def _no_hook(call: Call) -> Any:
    """A hook on the gradient is not hung up; its handle removes nothing."""
    return RemovableHandle(OrderedDict())


SEVERED: dict[str, Rule] = {
    "detach": _detach,
    "get data": _detach,
    "detach_": _stay,
    "_set_grad_enabled": _grad_mode,
    "requires_grad_": _requires_grad,
    "backward": _own_gradient,
    "grad": _own_gradient,
    "register_hook": _no_hook,
    "register_post_accumulate_grad_hook": _no_hook,
    **dict.fromkeys(
        ("numpy", "__array__", "tolist", "item", "__float__", "__int__", "__bool__", "__index__"),
        _leaves_torch,
    ),
    **dict.fromkeys(("__format__", "__repr__", "__deepcopy__"), _leaves_torch),
}
"""By the name of the function. The grad mode that a ``with torch.no_grad()`` sets is one."""


def without_hooks(model: torch.nn.Module) -> torch.nn.Module:
    """``model``, a copy that is ours, with no hook left on the gradients of its modules."""
    for module in model.modules():
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return model


def let_go(model: torch.nn.Module) -> None:
    """Cut what a model has kept of a call, such as an average, off from the call's graph."""
    for module in model.modules():
        kept = [*module._buffers.items(), *vars(module).items()]
        for name, value in kept:
            if isinstance(value, Tensor) and value.grad_fn is not None:
                held = module._buffers if name in module._buffers else vars(module)
                held[name] = value.detach()
