"""The logits that a model has and does not show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from robustcode.defenses.base import Defense
from robustcode.mending.base import Keeps, NotMendableError, Scores, Way
from robustcode.seeds import Streams

# Last steps that change no row's order, where their argument is what is followed: of each value by
# itself, and of a row as a whole.
EACH = {"exp", "expm1", "sigmoid", "tanh", "round", "clamp", "clip", "log", "log1p", "clone"}
EACH |= {
    "contiguous",
    "float",
    "double",
    "to",
    "exp_",
    "sigmoid_",
    "softsign",
    "atan",
    "nan_to_num",
}
ROW = {"softmax", "log_softmax"}
# Steps with a second argument: a number, or one for each row.
WITH = {"mul": True, "div": True, "true_divide": True, "add": False, "sub": False}


class BeforeSoftmax(Way):
    """What goes into the softmax, exponential or other rising function that the model ends in.

    Where these have saturated, what goes in has not. So that this is seen the model's last steps
    must be functions of torch; those of a compiled or scripted model are not.

    Source: attacking logits rather than the softmax's output, Carlini and Wagner 2017,
    arXiv:1608.04644, section V.
    """

    keeps: ClassVar[Keeps] = Keeps.ORDER

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        seen = _Seen()
        with seen:
            scores = follow(x, streams)
        before = seen.before(scores)
        if before is scores:
            raise NotMendableError(
                "'presoftmax' finds no softmax or other rising function at the end of the model; "
                "try 'double' or 'scale'"
            )
        return before


class _Seen(TorchFunctionMode):
    """Remembers of each result that keeps the order of rows what it was made from."""

    def __init__(self) -> None:
        super().__init__()
        # Results are kept too, for otherwise their ids would be given away again.
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        first = args[0] if args else named.get("input")
        name = getattr(func, "__name__", "")
        # In place, the argument itself is changed.
        if name.endswith("_") and isinstance(first, Tensor) and not name.startswith("__"):
            self._made.pop(id(first), None)
            first = first.clone() if name in EACH else None
        result = func(*args, **named)
        if not (isinstance(first, Tensor) and _is_of(result, first)):
            return result
        if _keeps_order(name, first, args, named):
            self._made[id(result)] = (result, first)
        return result

    def before(self, scores: Tensor) -> Tensor:
        """What ``scores`` of shape (batch, classes) were made from, as far back as is known."""
        while id(scores) in self._made:
            scores = self._made[id(scores)][1]
        return scores


def _is_of(result: Any, x: Tensor) -> bool:
    return isinstance(result, Tensor) and result is not x and result.shape == x.shape


def _keeps_order(name: str, x: Tensor, args: Sequence[Any], named: Mapping[str, Any]) -> bool:
    if x.ndim != 2 or not x.is_floating_point():
        return False
    if name in EACH:
        return True
    if name in ROW:
        dim = named.get("dim", args[1] if len(args) > 1 else None)
        return dim in (1, -1)
    if name in WITH and len(args) > 1:
        with torch.no_grad():
            other = torch.as_tensor(args[1], device=x.device)
            whole = other.ndim == 0 or (other.ndim == 2 and other.shape[1] == 1)
            return whole and (not WITH[name] or bool((other > 0).all()))
    return False
