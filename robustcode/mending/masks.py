"""Rules for comparisons and choices, which have no gradient, and for what is made of them.

They stay what they are, so that they can index and branch; a mark says what each stands for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustcode.mending.carry import carried, soft_step
from robustcode.mending.marks import Chosen, graphed
from robustcode.mending.tracing import Call, Rule


def _compared(above: bool) -> Rule:
    """``a > b`` is a step of a - b, ``a < b`` of b - a."""

    def rule(call: Call) -> Any:
        hard = call.plain()
        one, other = (call.marks.soft(value) for value in (call.first, call.argument(1, "other")))
        if not (graphed(one) or graphed(other)) or not isinstance(hard, Tensor):
            return hard
        distance = one - other if above else other - one
        return call.marks.set(hard, soft_step(distance))

    return rule


def _not(call: Call) -> Any:
    mark = call.marks.of(call.first)
    hard = call.plain()
    return hard if mark is None or mark.nominal else call.marks.set(hard, 1 - mark.soft)


def _joint(both: bool) -> Rule:
    """``a & b`` is the lower of two steps, ``a | b`` the higher."""

    def rule(call: Call) -> Any:
        hard = call.plain()
        marks = call.marks
        if not marks.any_in(call.args) or not isinstance(hard, Tensor):
            return hard
        pair = [marks.soft(value) for value in call.args[:2]]
        one, other = (torch.as_tensor(value).to(hard.device, torch.float32) for value in pair)
        return marks.set(hard, torch.minimum(one, other) if both else torch.maximum(one, other))

    return rule


def _where(call: Call) -> Any:
    """Where a condition stands for a step, the way from one side to the other is followed too."""
    value = call.plain()
    name = "mask" if call.name == "masked_fill" else "condition"
    mark = call.marks.of(call.argument(1 if name == "mask" else 0, name))
    if mark is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    if name == "mask":
        chosen, other = call.argument(2, "value"), call.first
    else:
        chosen, other = call.argument(1, "input"), call.argument(2, "other")
    gap = torch.as_tensor(chosen, device=value.device) - torch.as_tensor(other, device=value.device)
    # A side that is masked by an infinity is nowhere that one could move towards.
    gap = gap.detach().nan_to_num(0.0, 0.0, 0.0)
    return carried(value, value + (mark.soft * gap).to(value.dtype))


def _top(call: Call) -> Any:
    """Indices of the largest values choose units: how far each unit is above the last of them."""
    x, result = call.first, call.plain()
    dim = call.argument(2, "dim", -1)
    if graphed(x) and isinstance(result, tuple) and call.argument(3, "largest", True):
        last = result[0].narrow(dim, result[0].shape[dim] - 1, 1)
        call.marks.chosen[id(result[1])] = Chosen(result[1], x, soft_step(x - last))
    return result


def _scattered(call: Call) -> Any:
    """Zeros but for where the largest values are: what is put there times a step for each unit."""
    chosen = call.marks.chosen.get(id(call.argument(2, "index")))
    value = call.plain()
    if chosen is None or not isinstance(value, Tensor) or value.shape != chosen.soft.shape:
        return value
    if not value.is_floating_point():
        return call.marks.set(value, chosen.soft)
    put = call.argument(3, "src", call.named.get("value", 1.0))
    # What a unit that is not chosen would have had: itself, if those that are chosen have that.
    each = chosen.of.detach() if graphed(put) else torch.as_tensor(put).to(value).mean()
    mended = carried(value, value + (chosen.soft * each).to(value.dtype))
    return value.copy_(mended) if call.name.endswith("_") else mended


MASKS: dict[str, Rule] = {
    **dict.fromkeys(("gt", "ge", "greater", "greater_equal"), _compared(True)),
    **dict.fromkeys(("lt", "le", "less", "less_equal"), _compared(False)),
    **dict.fromkeys(("__invert__", "logical_not", "bitwise_not"), _not),
    **dict.fromkeys(("__and__", "__rand__", "logical_and", "bitwise_and"), _joint(True)),
    **dict.fromkeys(("__or__", "__ror__", "logical_or", "bitwise_or"), _joint(False)),
    **dict.fromkeys(("where", "masked_fill"), _where),
    **dict.fromkeys(("scatter", "scatter_"), _scattered),
    "topk": _top,
}
"""By the name of the function; ``a > b`` is ``gt``."""
