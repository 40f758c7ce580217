"""What a call in a traced model is: the layer that does the same, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.bounds.layers import (
    Convolution,
    Dense,
    Gather,
    Layer,
    MaxPool,
    ReLU,
    Reshape,
    Shape,
    Sum,
)
from robustcode.bounds.scaling import BatchNorm, Constant


@dataclass(frozen=True)
class Place:
    """A value that depends on the input: where it is made, and an instance of it."""

    index: int
    value: Tensor


class Refusal(Exception):
    """Why a call of a known kind is not one that can be bounded."""


Found = tuple[Layer, tuple[Place, ...]] | Place


def places(*given: Any) -> list[Place]:
    """All values in nested arguments that depend on the input."""
    if len(given) == 1 and isinstance(given[0], Place):
        return [given[0]]
    inner = (
        places(*(part.values() if isinstance(part, dict) else part))
        if isinstance(part, list | tuple | dict) and not isinstance(part, Place)
        else [part]
        if isinstance(part, Place)
        else []
        for part in given
    )
    return [place for part in inner for place in part]


def _same(x: Place) -> Found:
    return x


def _relu(x: Place, inplace: bool = False) -> Found:
    return ReLU(), (x,)


def _dropout(x: Place, p: float = 0.5, training: bool = True, inplace: bool = False) -> Found:
    if training:
        raise Refusal("it is in training mode; call .eval() first")
    return x


def _dropout_module(module: nn.Module, x: Place) -> Found:
    return _dropout(x, training=module.training)


def _batch_norm(module: Any, x: Place) -> Found:
    if module.training:
        raise Refusal("it is in training mode; call .eval() first")
    if module.running_mean is None:
        raise Refusal("it keeps no statistics, so that a row depends on the others")
    return BatchNorm(module, x.value.ndim - 1), (x,)


def _convolution(module: nn.Conv2d, x: Place) -> Found:
    _planes(x)
    if module.padding_mode != "zeros":
        raise Refusal(f"its padding is {module.padding_mode!r} and not zeros")
    if module.padding == "same" and not all(size % 2 for size in module.kernel_size):
        raise Refusal("its window is even, and its padding 'same' is not symmetric")
    return Convolution(module), (x,)


def _linear(module: nn.Linear, x: Place) -> Found:
    return Dense(module), (x,)


def _reshaped(x: Place, reshaped: Tensor) -> Found:
    """A node whose result on this instance is known."""
    if len(reshaped) != len(x.value):
        raise Refusal("it mixes the rows of a batch")
    return Reshape(tuple(reshaped.shape[1:])), (x,)


def _by_method(name: str) -> Callable[..., Found]:
    def read(x: Place, *args: Any, **kwargs: Any) -> Found:
        return _reshaped(x, getattr(x.value, name)(*args, **kwargs))

    return read


def _flatten_module(module: nn.Module, x: Place) -> Found:
    return _reshaped(x, module(x.value))


def _pooled(x: Place, *settings: Any, **named: Any) -> Found:
    _planes(x)
    if (named.get("divisor_override") or (settings[5:6] or (1,))[0] or 1) < 0:
        raise Refusal("its divisor is negative")
    size = settings[0] if settings else named["kernel_size"]
    area = prod(size) if isinstance(size, tuple | list) else size**2
    return Gather(lambda rows: F.avg_pool2d(rows, *settings, **named), area), (x,)


def _pool_module(module: nn.AvgPool2d, x: Place) -> Found:
    _planes(x)
    if (module.divisor_override or 1) < 0:
        raise Refusal("its divisor is negative")
    size = module.kernel_size
    area = prod(size) if isinstance(size, tuple) else size**2
    return Gather(module, area), (x,)


def _to_size(x: Place, output_size: Any) -> Found:
    return Gather(partial(F.adaptive_avg_pool2d, output_size=output_size), _plane(x)), (x,)


def _to_size_module(module: nn.AdaptiveAvgPool2d, x: Place) -> Found:
    return Gather(module, _plane(x)), (x,)


def _plane(x: Place) -> int:
    _planes(x)
    return prod(x.value.shape[2:])


def _planes(x: Place) -> None:
    """Refuse what PyTorch would take for one image whose channels are the rows of the batch."""
    if x.value.ndim != 4:
        raise Refusal(f"it reads planes, and is given rows of shape {_row(x)}")


def _max_pool(
    x: Place,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Found:
    _planes(x)
    if return_indices:
        raise Refusal("it returns indices")
    stride = stride or kernel_size
    pool = partial(
        F.max_pool2d_with_indices,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    steps, sizes, gaps = (
        (part, part) if isinstance(part, int) else tuple(part)
        for part in (stride, kernel_size, dilation)
    )
    disjoint = gaps == (1, 1) and all(a >= b for a, b in zip(steps, sizes, strict=True))
    if pool(x.value)[0].isinf().any():
        raise Refusal("a window lies in its padding alone")
    return MaxPool(pool, disjoint), (x,)


def _max_pool_module(module: nn.MaxPool2d, x: Place) -> Found:
    m = module
    return _max_pool(
        x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    )


def _mean(x: Place, dim: Any = None, keepdim: bool = False) -> Found:
    dims = (dim,) if isinstance(dim, int) else dim
    if dims is None or any(d % x.value.ndim == 0 for d in dims):
        raise Refusal("it mixes the rows of a batch")
    terms = prod(x.value.shape[d] for d in dims)
    return Gather(lambda rows: rows.mean(dims, keepdim), terms), (x,)


def _item(x: Place, index: Any) -> Found:
    index = index if isinstance(index, tuple) else (index,)
    moved = all(part is None or isinstance(part, slice | int) for part in index[1:])
    if index[0] != slice(None) or not moved:
        raise Refusal("only slices after a first ':' keep the rows of a batch")
    return Gather(lambda rows: rows[index]), (x,)


def _pad(x: Place, pad: Any, mode: str = "constant", value: float | None = None) -> Found:
    if mode != "constant" or value:
        raise Refusal(f"its padding is {mode!r} of {value or 0:g} and not of zeros")
    if len(pad) // 2 >= x.value.ndim:
        raise Refusal("it adds rows to a batch")
    return Gather(lambda rows: F.pad(rows, tuple(pad))), (x,)


def _pad_module(module: nn.ZeroPad2d, x: Place) -> Found:
    return _pad(x, module.padding)


def _added(a: Any, b: Any, sign: int = 1) -> Found:
    if isinstance(a, Place) and isinstance(b, Place):
        if a.value.shape != b.value.shape:
            raise Refusal(f"its shapes {_row(a)} and {_row(b)} differ")
        return Sum((1, sign)), (a, b)
    if isinstance(a, Place):
        return Constant(_constant(1, a), sign * _constant(b, a)), (a,)
    return Constant(_constant(sign, b), _constant(a, b)), (b,)


def _subtracted(a: Any, b: Any) -> Found:
    return _added(a, b, -1)


def _multiplied(a: Any, b: Any) -> Found:
    if isinstance(a, Place) and isinstance(b, Place):
        raise Refusal("both factors depend on the input")
    place, other = (a, b) if isinstance(a, Place) else (b, a)
    return Constant(_constant(other, place)), (place,)


def _divided(a: Any, b: Any) -> Found:
    if not isinstance(a, Place) or isinstance(b, Place):
        raise Refusal("the divisor depends on the input")
    return Constant(1 / _constant(b, a)), (a,)


def _negated(a: Place) -> Found:
    return _multiplied(a, -1)


def _constant(given: Any, beside: Place) -> Tensor:
    """A number or a tensor that a row of ``beside`` is combined with, to be broadcast on it."""
    x = beside.value
    if isinstance(given, int | float):
        return torch.tensor(float(given), dtype=x.dtype, device=x.device)
    if not isinstance(given, Tensor):
        raise Refusal(f"{type(given).__name__} is no number")
    if given.requires_grad:
        raise Refusal("its constant is a parameter in training; only those of layers can be")
    # A model's copy converts buffers only: what is divided by would else be of fewer digits.
    given = given.to(x.dtype)
    if given.ndim == x.ndim:
        if len(given) != 1:
            raise Refusal("its constant differs between the rows of a batch")
        given = given[0]
    if torch.broadcast_shapes(given.shape, x.shape) != x.shape:
        raise Refusal(f"its constant has the shape {tuple(given.shape)} on {_row(beside)}")
    return given


def _row(place: Place) -> Shape:
    return tuple(place.value.shape[1:])


ABOUT = {"size", "dim"}
# Attributes that do not depend on values; others would be taken for constants.
ATTRIBUTES = {"shape", "ndim", "dtype", "device"}
# By type, exactly: a subclass may do anything.
MODULES: dict[type[nn.Module], Callable[..., Found]] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.ReLU: lambda module, x: _relu(x),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Identity: lambda module, x: x,
    nn.Dropout: _dropout_module,
    nn.Dropout2d: _dropout_module,
    nn.Flatten: _flatten_module,
    nn.Unflatten: _flatten_module,
    nn.AvgPool2d: _pool_module,
    nn.AdaptiveAvgPool2d: _to_size_module,
    nn.MaxPool2d: _max_pool_module,
    nn.ZeroPad2d: _pad_module,
}
# Functions and methods of tensors, by name.
FUNCTIONS: dict[str, Callable[..., Found]] = {
    "relu": _relu,
    "relu_": _relu,
    "dropout": _dropout,
    "flatten": _by_method("flatten"),
    "view": _by_method("view"),
    "reshape": _by_method("reshape"),
    "squeeze": _by_method("squeeze"),
    "unsqueeze": _by_method("unsqueeze"),
    "avg_pool2d": _pooled,
    "adaptive_avg_pool2d": _to_size,
    "max_pool2d": _max_pool,
    "mean": _mean,
    "getitem": _item,
    "pad": _pad,
    "add": _added,
    "iadd": _added,
    "add_": _added,
    "sub": _subtracted,
    "mul": _multiplied,
    "truediv": _divided,
    "div": _divided,
    "neg": _negated,
    "contiguous": _same,
    "clone": _same,
}
