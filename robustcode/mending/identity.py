"""Identity backward: what a defence makes of its input is taken for the input."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.defenses.base import Defense
from robustcode.mending.base import Scores, Way
from robustcode.mending.carry import carried
from robustcode.seeds import Streams
from robustcode.threat import column

# Inside a model, what differs from the input by less than this (root mean square, in the units of
# images in [0, 1]) is taken for the input with changes: fewer levels or a file's losses are well
# within it, and what was normalised or resized is not as a rule.
NEAR = 0.1


class IdentityBackward(Way):
    """Processed inputs pass gradients on as if they were the inputs themselves.

    The defence's model is called with some z in place of x: there the identity stands for all that
    was done. Inside the model it stands for what leads to the input of a module, row by row, if
    that has the shape of x and either no gradient leads back from it or it is ``NEAR`` x; any other
    gradient is left as it is. A z of another size is followed by x resized to it, bilinearly.

    Source: Athalye et al. 2018, arXiv:1802.00420, section 4.1.
    """

    anew: ClassVar[bool] = True

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        bridge = _Bridge(x, defense.model)
        handles = [module.register_forward_pre_hook(bridge) for module in defense.model.modules()]
        try:
            return follow(x, streams)
        finally:
            for handle in handles:
                handle.remove()


class _Bridge:
    """The hook that sees what every module is called with."""

    def __init__(self, x: Tensor, model: nn.Module) -> None:
        self._x = x
        self._model = model
        self._linked: Tensor | None = None  # what was put in place of an input last

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        z = args[0] if args else None
        if not isinstance(z, Tensor) or not torch.is_grad_enabled():
            return None
        if z is self._x or z is self._linked:
            return None
        # Traced functions are for the model's own calls: see tracing.py.
        with torch._C.DisableTorchFunction():
            guide = guide_for(self._x, z)
            if guide is None:
                return None
            if not _has_derivative(z):
                z = z.detach()
            rows = self._rows(module, z, guide)
            if not rows.any():
                return None
            self._linked = _linked(z, guide, rows)
            return (self._linked, *args[1:])

    def _rows(self, module: nn.Module, z: Tensor, guide: Tensor) -> Tensor:
        """Which rows of ``z`` are to be followed as the input, bool of shape (rows,)."""
        if module is self._model:
            return torch.ones(len(z), dtype=torch.bool, device=z.device)
        if self._linked is not None and torch.equal(z, self._linked):
            # A copy, such as one in another precision: its way back is short, and as a rule whole.
            return _dead(z, self._linked)
        close = near(z, guide)
        return close if close.all() else close | _dead(z, self._x)


def _linked(z: Tensor, guide: Tensor, rows: Tensor) -> Tensor:
    """``z`` with the gradient of ``guide`` in some rows, in place of what it was made from.

    It stays in the graph, for the model may ask for a gradient at z of its own.
    """
    if z.grad_fn is not None:

        def cut(inputs: tuple[Any, ...], upstream: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(g if g is None else _without(g, rows) for g in inputs)

        # After the step and not before it, where a gradient that the model asked for is taken.
        z.grad_fn.register_hook(cut)
    return z + carried(torch.zeros_like(z), guide * column(rows, z))


def _without(gradient: Tensor, rows: Tensor) -> Tensor:
    if rows.all():
        return torch.zeros_like(gradient)
    if len(gradient) != len(rows):  # of something that all rows were made from
        return gradient
    return gradient.masked_fill(column(rows, gradient), 0.0)


def guide_for(x: Tensor, z: Tensor) -> Tensor | None:
    """The inputs in the shape and order of ``z``, which may hold them several times; else None."""
    if not z.is_floating_point() or z.ndim != x.ndim or z.shape[1:2] != x.shape[1:2]:
        return None
    if len(x) == 0 or len(z) == 0 or len(z) % len(x):
        return None
    if z.shape[2:] != x.shape[2:]:
        if x.ndim != 4 or 1 in z.shape[2:]:
            return None
        x = F.interpolate(x, size=z.shape[2:], mode="bilinear", align_corners=False)
    times = len(z) // len(x)
    if times == 1:
        return x
    orders = (x.repeat(times, *[1] * (x.ndim - 1)), x.repeat_interleave(times, 0))
    return min(orders, key=lambda order: float((order - z).detach().square().sum()))


def _has_derivative(z: Tensor) -> bool:
    """Whether a way back from ``z`` can be gone at all; through ``//`` torch raises an error."""
    seen: set[Any] = set()
    waiting: list[Any] = [z.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("NotImplemented"):
            return False
        seen.add(node)
        waiting += [further for further, _ in node.next_functions]
    return True


def near(z: Tensor, guide: Tensor) -> Tensor:
    """Rows of ``z`` that are all but the inputs, bool of shape (rows,)."""
    return (z - guide).detach().flatten(1).square().mean(1).sqrt() < NEAR


def _dead(z: Tensor, x: Tensor) -> Tensor:
    """Rows of ``z`` from which no gradient leads back to ``x``, bool of shape (rows,)."""
    none = torch.ones(len(z), dtype=torch.bool, device=z.device)
    if not z.requires_grad:
        return none
    # Weights without a pattern: a map from x to z that they miss would be made for it.
    weights = torch.arange(1, z[0].numel() + 1, device=z.device, dtype=z.dtype).mul(0.7548).frac()
    probe = (z * (weights.view(1, *z.shape[1:]) + 0.5)).sum()
    (gradient,) = torch.autograd.grad(probe, x, retain_graph=True, allow_unused=True)
    if gradient is None:
        return none
    zero = (gradient == 0).flatten(1).all(1)
    return zero if len(zero) == len(z) else zero.all().expand(len(z))
