"""Rules for integers and indices, which have no gradient, and for numbers made from them again.

A mark says what each stands for, and where one becomes a number again, the number carries the
gradient of that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcode.mending.carry import carried, row_size
from robustcode.mending.marks import Mark, flat, graphed
from robustcode.mending.tracing import Call, Rule

# A table with more entries than this is not followed: each lookup weighs all of them.
LARGEST = 4096


def _largest(call: Call) -> Any:
    """``argmax`` names the class of a softmax."""
    x, value = call.marks.soft(call.first), call.plain()
    dim = call.argument(1, "dim")
    if not graphed(x) or dim is None:
        return value
    kept = call.argument(2, "keepdim", False)
    soft = (x / row_size(x)).softmax(dim).movedim(dim, -1)
    return call.marks.set(value, soft.unsqueeze(dim) if kept else soft, nominal=True)


def _binned(call: Call) -> Any:
    """The number of the bin rises with the value, by one in each bin's mean width."""
    value = call.plain()
    x = call.argument(0, "input") if call.name == "bucketize" else call.argument(1, "input")
    edges = call.argument(1, "boundaries") if call.name == "bucketize" else call.args[0]
    if not graphed(x) or not isinstance(edges, Tensor) or edges.ndim != 1 or len(edges) < 2:
        return value
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    return call.marks.set(value, (x - edges[0]) / width)


def _one_hot(call: Call) -> Any:
    value, mark = call.plain(), call.marks.of(call.first)
    if mark is None or value.shape[-1] > LARGEST:
        return value
    return call.marks.set(value, _classes(mark, value.shape[-1]))


def _looked_up(call: Call) -> Any:
    """A row of a table is the mean of its rows, weighed by how much each is the one."""
    value = call.plain()
    index, table = call.argument(1, "index"), call.first
    if call.name == "embedding":
        index, table = call.argument(0, "input"), call.argument(1, "weight")
    mark = call.marks.of(index)
    if mark is None or not isinstance(table, Tensor) or not table.is_floating_point():
        return further(call) if mark is None and call.marks.any_in(call.args) else value
    if index.dtype is torch.bool or len(table) > LARGEST:
        return value
    weights = _classes(mark, len(table)).to(table.dtype)
    mean = weights @ table.detach().flatten(1) if table.ndim > 1 else weights @ table.detach()
    return carried(value, mean.reshape(value.shape))


def _classes(mark: Mark, count: int) -> Tensor:
    """How much each of ``count`` classes is the one that is named, in a last dimension."""
    if mark.nominal:
        return F.pad(mark.soft, (0, count - mark.soft.shape[-1]))
    away = mark.soft[..., None] - torch.arange(count, device=mark.soft.device)
    return (-away.square()).softmax(-1)


def _cast(call: Call) -> Any:
    """A number cut to an integer stands for itself."""
    value = call.plain()
    x = call.first
    if call.marks.of(x) is not None:
        return further(call, value)
    if graphed(x) and isinstance(value, Tensor) and not value.is_floating_point():
        return call.marks.set(value, x)
    return value


def further(call: Call, value: Any = None) -> Any:
    """Whatever else is done with marked tensors is done with what they stand for as well.

    Where that is not possible the result is as it would have been.
    """
    value = call.plain() if value is None else value
    marks = call.marks
    if call.name.endswith("_") or call.name.startswith("__i") or call.name == "__setitem__":
        marks.forget(call.first)
        return value
    known = [marks.of(one) for one in flat((*call.args, *call.named.values()))]
    if not isinstance(value, Tensor) or any(mark is not None and mark.nominal for mark in known):
        return value
    try:
        soft = call.func(*map(_all_soft(call), call.args), **call.named)
    except (RuntimeError, TypeError, ValueError):
        return value
    if not isinstance(soft, Tensor) or soft.shape != value.shape or not soft.requires_grad:
        return value
    if value.is_floating_point():
        return carried(value, soft)
    return marks.set(value, soft) if soft.is_floating_point() else value


def _all_soft(call: Call) -> Any:
    def softened(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(softened, value))
        mark = call.marks.of(value)
        # The value is the true one: a product with it must not be a product with its softer twin.
        return value if mark is None else carried(value.to(mark.soft.dtype), mark.soft)

    return softened


INTEGERS: dict[str, Rule] = {
    **dict.fromkeys(("bucketize", "searchsorted"), _binned),
    **dict.fromkeys(("embedding", "__getitem__", "index_select"), _looked_up),
    **dict.fromkeys(("long", "int", "byte", "short", "bool", "to", "type"), _cast),
    "argmax": _largest,
    "one_hot": _one_hot,
}
"""By the name of the function."""
