"""Layers in a row, differentiated with respect to their input in one step.

Autograd takes some ten microseconds for every operation it records and replays, forward and
backward. In a network of four layers that is a tenth of an attack's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Size, Tensor, nn

from robustcode.convolution import BlockConvolution


class FlatLinear(nn.Module):
    """A linear layer of flattened planes, in the order in which channels-last keeps them.

    Flattening channel by channel would turn the layout over here, and back in the gradient.
    """

    columns: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        # Transposed, which both products read the faster.
        self.register_buffer("columns", weight.t().contiguous())
        self.register_buffer("bias", bias)
        self.channels = 1  # as ``columns`` is arranged; the planes themselves tell how many

    def forward(self, x: Tensor) -> Tensor:
        """From planes (batch, channels, height, width), or what is flat, to (batch, features)."""
        if x.ndim != 4:
            return torch.addmm(self.bias, x.flatten(1), self.columns)
        if self.channels == 1 != x.shape[1]:
            self.channels = x.shape[1]
            by_channel = self.columns.unflatten(0, (self.channels, -1))
            self.columns = by_channel.transpose(0, 1).flatten(0, 1)
        return torch.addmm(self.bias, x.permute(0, 2, 3, 1).flatten(1), self.columns)

    def input_gradient(self, gradient: Tensor, shape: Size) -> Tensor:
        """The gradient of an input of that shape, given that of the output."""
        flat = gradient @ self.columns.t()
        if len(shape) != 4:
            return flat.view(shape)
        return flat.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)


class Chain(nn.Module):
    """Layers in a row, each of a kind in ``LAYERS``; their weights are constants."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """What the last layer gives."""
        scores: Tensor = _InOneStep.apply(x, list(self.layers))  # type: ignore[no-untyped-call]
        return scores


class _InOneStep(torch.autograd.Function):
    """A chain of layers and its input gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: list[nn.Module]) -> Tensor:
        ctx.trail, outputs = [], []
        for layer in layers:
            ctx.trail.append((layer, x.shape))
            x = layer.outputs(x) if isinstance(layer, BlockConvolution) else layer(x)
            if isinstance(layer, nn.ReLU):
                outputs.append(x)
        ctx.save_for_backward(*outputs)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        outputs = list(ctx.saved_tensors)
        for layer, shape in reversed(ctx.trail):
            if isinstance(layer, nn.ReLU):
                gradient = torch.ops.aten.threshold_backward(gradient, outputs.pop(), 0)
            else:
                gradient = GRADIENTS[type(layer)](layer, gradient, shape)
        return gradient, None


# The gradient of a layer's input, given that of its output and the shape of the input.
GRADIENTS: dict[type[nn.Module], Callable[[Any, Tensor, Size], Tensor]] = {
    BlockConvolution: lambda layer, gradient, shape: layer.input_gradient(gradient, *shape[2:]),
    nn.Linear: lambda layer, gradient, shape: gradient @ layer.weight,
    FlatLinear: lambda layer, gradient, shape: layer.input_gradient(gradient, shape),
}
LAYERS: tuple[type[nn.Module], ...] = (nn.ReLU, *GRADIENTS)
