"""Rules for functions that are flat almost everywhere: each has the gradient of a softer one.

Source: straight-through gradients, Bengio, Leonard and Courville 2013, arXiv:1308.3432, section 4;
to attack with them, Athalye et al. 2018, arXiv:1802.00420, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustcode.mending.carry import SATURATED, carried, row_size, soft_step
from robustcode.mending.integers import further
from robustcode.mending.marks import graphed
from robustcode.mending.tracing import Call, Rule

Softer = Callable[[Call, Tensor], Tensor | None]
"""What stands for the call's function at a tensor, in the same shape; None if nothing need."""


def _softened(softer: Softer) -> Rule:
    def rule(call: Call) -> Any:
        x = call.marks.soft(call.first)
        if not graphed(x) or not x.is_floating_point():
            return call.plain()
        if call.marks.of(call.first) is not None:
            return further(call)
        changed = call.name.endswith("_") and not call.name.startswith("__")
        # In place, what it was before is what is followed.
        before = x.clone() if changed else x
        guide = softer(call, before)
        value = call.plain()
        if guide is None or not isinstance(value, Tensor) or value.shape != guide.shape:
            return value
        mended = carried(value, guide)
        return value.copy_(mended) if changed else mended

    return rule


def _itself(call: Call, x: Tensor) -> Tensor:
    return x


def _both_bounds(call: Call, x: Tensor) -> Tensor | None:
    """With one bound it is the kink of a network, whose own gradient is right."""
    low, high = call.argument(1, "min"), call.argument(2, "max")
    return None if low is None or high is None else x


def _sign(call: Call, x: Tensor) -> Tensor:
    return 2 * soft_step(x)


def _step(call: Call, x: Tensor) -> Tensor:
    return soft_step(x)


def _divided(call: Call, x: Tensor) -> Tensor | None:
    if call.name in ("div", "divide", "true_divide") and call.named.get("rounding_mode") is None:
        return None
    return x / call.args[1]


def _wider(function: Callable[[Tensor], Tensor]) -> Softer:
    """A sigmoid whose inputs are far out is followed by a wider one."""

    def softer(call: Call, x: Tensor) -> Tensor | None:
        size = row_size(x) / SATURATED
        return function(x / size.clamp(min=1.0)) if bool((size > 1).any()) else None

    return softer


STEPS: dict[str, Rule] = {}
for _names, _softer in (
    ("round floor ceil trunc fix", _itself),
    ("clamp clip hardtanh", _both_bounds),
    ("sign sgn", _sign),
    ("heaviside", _step),
    ("floor_divide __floordiv__ div divide true_divide", _divided),
    ("sigmoid", _wider(torch.sigmoid)),
    ("tanh", _wider(torch.tanh)),
):
    for _name in _names.split():
        STEPS[_name] = _softened(_softer)
        if not _name.startswith("__"):
            STEPS[_name + "_"] = STEPS[_name]
