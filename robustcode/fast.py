"""A copy of a model that gives the same logits and input gradients for less.

The copy serves the search alone; the judge asks the original. What it may do is exact up to
rounding: batch norm goes into the convolution before it, the normalisation and a cheaper way to
the input gradient into the first one, ReLU works in place, weights are laid out channels-last.
Every copy is held against the original before it is used.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robustcode.defenses.base import Defense
from robustcode.models.normalize import Normalize

# Rounding in another order moves logits by some 1e-6 of the largest one, in deep networks 1e-5;
# anything above this share means that the copy is another function.
LOGIT_ERROR = 1e-4
# A ReLU that rounding moves across its kink changes a gradient by about one over the root of the
# number of active units: up to 1e-2 in a small network. A wrong formula changes it by tenths.
GRADIENT_ERROR = 2e-2
# Floats in the widest vector register: output channels of a convolution come in such groups.
LANES = 16
# Below this many input channels oneDNN's input gradient wastes most of those lanes.
FEW_CHANNELS = 8


def for_search(defense: Defense, example: Tensor) -> Defense:
    """The same defence around a copy of its model that is faster to differentiate.

    ``example`` is a small batch (batch, channels, height, width): a copy whose logits or input
    gradients on it differ from the model's by more than rounding is not used. What cannot be
    traced is copied, and what cannot be copied is returned as it is; so is a model without
    convolutions, which has nothing to gain.
    """
    model = getattr(defense, "model", None)
    if not (dataclasses.is_dataclass(defense) and isinstance(model, nn.Module)):
        return defense
    modules = list(model.modules())
    if not any(isinstance(m, nn.Conv2d) for m in modules) or any(m.training for m in modules):
        return defense
    expected = _attempt(_behaviour, model, example)
    if expected is None or not expected.logits.isfinite().all():
        return defense
    for prepare in (rewritten, folded, copied):
        faster = _attempt(prepare, model)
        if faster is not None and _attempt(_agree, expected, faster, example):
            return dataclasses.replace(defense, model=faster)
    return defense


def rewritten(model: nn.Module) -> nn.Module:
    """A copy with all that this module knows; raises where the model cannot be traced."""
    traced = _traced(model)
    _fold_batch_norm(traced)
    on_cpu = all(parameter.device.type == "cpu" for parameter in traced.parameters())
    first = on_cpu and _replace_first_convolution(traced)
    _relu_in_place(traced)
    traced.graph.lint()
    traced.recompile()
    traced.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The first convolution takes images in any layout and gives the gradient in the same.
    return traced if first else ChannelsLast(traced)


def folded(model: nn.Module) -> nn.Module:
    """A copy with batch norm folded; raises where the model cannot be traced."""
    traced = _traced(model)
    _fold_batch_norm(traced)
    traced.recompile()
    return ChannelsLast(traced.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def copied(model: nn.Module) -> nn.Module:
    """A copy with its weights laid out channels-last; raises where it cannot be copied."""
    twin = copy.deepcopy(model).requires_grad_(False)
    return ChannelsLast(twin.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


class ChannelsLast(nn.Module):
    """A model fed images in the memory layout that its convolutions run fastest in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.model(x)
        return scores


class FirstConvolution(nn.Module):
    """A convolution of images, normalised on the way, with an input gradient that costs less.

    The gradient of a strided convolution scatters. Taken for blocks of input pixels at once it is
    an ordinary convolution of the outputs' gradient, with (block height x block width x channels)
    outputs of its own, which fills the vector lanes that 3 channels leave empty; the blocks are
    then put in place (depth to space). Zero padding stays exact since it is the centred image
    that is padded.
    """

    weight: Tensor
    bias: Tensor | None
    mean: Tensor | None
    taps: Tensor

    def __init__(self, conv: nn.Conv2d, normalize: Normalize | None) -> None:
        super().__init__()
        weight, mean = conv.weight.detach(), None
        if normalize is not None:
            weight, mean = weight / normalize.std, normalize.mean
        self.stride, self.padding = _pair(conv.stride), _pair(conv.padding)
        self.axes = _axes(weight, self.stride, self.padding)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.register_buffer("mean", mean)
        self.register_buffer("taps", _taps(weight, self.axes))

    def forward(self, x: Tensor) -> Tensor:
        """From images (batch, channels, height, width), as nn.Conv2d."""
        scores: Tensor = _ByBlocks.apply(x, self)  # type: ignore[no-untyped-call]
        return scores

    def outputs(self, x: Tensor) -> Tensor:
        """The convolution of the normalised images."""
        centred = x if self.mean is None else x - self.mean
        return F.conv2d(centred, self.weight, self.bias, self.stride, self.padding)

    def input_gradient(self, gradient: Tensor, height: int, width: int) -> Tensor:
        """The gradient of images of that size, given that of the outputs."""
        rows, columns = self.axes
        down, right = rows.blocks(height), columns.blocks(width)
        beyond = (
            columns.beyond(right, gradient.shape[3]),
            rows.beyond(down, gradient.shape[2]),
        )
        if any(beyond):
            gradient = F.pad(gradient, (0, beyond[0], 0, beyond[1]))
        steps, padding = (rows.step, columns.step), (rows.before, columns.before)
        blocks = F.conv2d(gradient, self.taps, None, steps, padding)[:, :, :down, :right]
        shape = (-1, rows.size, columns.size, self.weight.shape[1], down, right)
        placed = blocks.unflatten(1, shape[1:4]).permute(0, 3, 4, 1, 5, 2)
        placed = placed.reshape(len(gradient), shape[3], down * rows.size, right * columns.size)
        top, left = rows.offset, columns.offset
        return placed[:, :, top : top + height, left : left + width].contiguous()


class _ByBlocks(torch.autograd.Function):
    """A first convolution and its input gradient by blocks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FirstConvolution) -> Tensor:
        ctx.layer, ctx.size = layer, x.shape[2:]
        return layer.outputs(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.input_gradient(gradients[0], *ctx.size), None


class Axis(NamedTuple):
    """One axis of an input gradient taken by blocks.

    Block t holds the input positions t size - offset, .., and needs the outputs' gradient at
    t step - before, .., one position for each column of ``reads``.
    """

    size: int  # input positions in a block, a multiple of the stride
    step: int  # output positions from one block to the next
    offset: int  # positions of the first block that lie before the input
    before: int  # zeros that the outputs' gradient needs in front
    reads: tuple[tuple[int, ...], ...]  # (size, reach): which kernel position; -1 for none

    @property
    def reach(self) -> int:
        """Output positions that one block depends on."""
        return len(self.reads[0])

    def blocks(self, length: int) -> int:
        """Blocks that cover an input of ``length``."""
        return -(-(length + self.offset) // self.size)

    def beyond(self, blocks: int, length: int) -> int:
        """Zeros needed behind a gradient of ``length``, besides ``before`` on either side."""
        return max(0, self.step * (blocks - 1) + self.reach - length - 2 * self.before)


def _axis(kernel: int, stride: int, padding: int, step: int) -> Axis:
    """The blocks of step x stride positions that depend on the fewest outputs.

    Output v reads input u at kernel position u + padding - stride v.
    """
    size = step * stride
    found = []
    for offset in range(size):
        first = -((kernel - 1 + offset - padding) // stride)
        last = (size - 1 - offset + padding) // stride
        reads = tuple(
            tuple(
                q if 0 <= (q := i - offset + padding - stride * v) < kernel else -1
                for v in range(first, last + 1)
            )
            for i in range(size)
        )
        found.append(Axis(size, step, offset, -first, reads))
    return min(found, key=lambda axis: (axis.reach, axis.offset))


def _axes(weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> tuple[Axis, Axis]:
    """Blocks of the shape that costs the fewest multiplications per pixel on full lanes."""
    channels, kernel = weight.shape[1], weight.shape[2:]
    rows, columns = (
        [_axis(kernel[d], stride[d], padding[d], step) for step in range(1, 5)] for d in (0, 1)
    )

    def cost(axes: tuple[Axis, Axis]) -> float:
        pixels = axes[0].size * axes[1].size
        lanes = LANES * math.ceil(channels * pixels / LANES)
        return lanes * axes[0].reach * axes[1].reach / pixels

    return min(((one, other) for one in rows for other in columns), key=cost)


def _taps(weight: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """Weights of the convolution by blocks, (block rows x columns x channels, outputs, ..)."""
    rows, columns = (torch.tensor(axis.reads) for axis in axes)
    with_zero = F.pad(weight, (0, 1, 0, 1))  # index -1, the last, is the zero
    taps = with_zero[:, :, rows][:, :, :, :, columns]  # (o, c, size, reach, size, reach)
    return taps.permute(2, 4, 1, 0, 3, 5).flatten(0, 2).contiguous()


class _Tracer(fx.Tracer):
    """Sees a normalisation as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Normalize) or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module) -> fx.GraphModule:
    """A copy of the model as a graph, without the steps that do nothing."""
    twin = copy.deepcopy(model).requires_grad_(False)
    traced = fx.GraphModule(twin, _Tracer().trace(twin))
    for node in traced.graph.nodes:
        if _called(traced, node, nn.Identity) is not None:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    return traced


def _fold_batch_norm(traced: fx.GraphModule) -> None:
    for node in traced.graph.nodes:
        norm = _called(traced, node, nn.BatchNorm2d)
        if norm is None or norm.running_mean is None:
            continue
        before = node.args[0]
        conv = _called(traced, before, nn.Conv2d)
        if conv is not None and len(before.users) == 1:
            _call_instead(traced, before, fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()


def _replace_first_convolution(traced: fx.GraphModule) -> bool:
    """Put a FirstConvolution where images meet the network, if that is what they meet."""
    images, *others = (node for node in traced.graph.nodes if node.op == "placeholder")
    if others or len(images.users) != 1:
        return False
    node = next(iter(images.users))
    normalize = _called(traced, node, Normalize)
    if normalize is not None:
        if len(node.users) != 1:
            return False
        node = next(iter(node.users))
    conv = _called(traced, node, nn.Conv2d)
    if conv is None or not _suits(conv):
        return False
    _call_instead(traced, node, FirstConvolution(conv, normalize))
    if normalize is not None:
        unused = node.args[0]
        node.args = (images,)
        traced.graph.erase_node(unused)
    return True


def _suits(conv: nn.Conv2d) -> bool:
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return False
    # An output that reads padding alone would make blocks begin before the gradient does.
    within = all(p < k for p, k in zip(conv.padding, conv.kernel_size, strict=True))
    dense = conv.groups == 1 and conv.dilation == (1, 1)
    return within and dense and conv.in_channels < FEW_CHANNELS


# What leaves a tensor of its own that no backward pass reads.
FRESH = (nn.Conv2d, nn.Linear, FirstConvolution)
SUMS = (operator.add, torch.add)
RELUS = (F.relu, torch.relu)


def _relu_in_place(traced: fx.GraphModule) -> None:
    for node in traced.graph.nodes:
        if _called(traced, node, nn.ReLU) is None and not (
            node.op == "call_function" and node.target in RELUS and len(node.args) == 1
        ):
            continue
        before = node.args[0]
        fresh = any(_called(traced, before, kind) is not None for kind in FRESH)
        added = before.op == "call_function" and before.target in SUMS
        if (fresh or added) and len(before.users) == 1:
            with traced.graph.inserting_before(node):
                instead = traced.graph.call_function(torch.relu_, (before,))
            node.replace_all_uses_with(instead)
            traced.graph.erase_node(node)


def _called(traced: fx.GraphModule, node: Any, kind: type[nn.Module]) -> Any:
    """The module that a node calls on one tensor, if it is of this kind and of no subclass."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = traced.get_submodule(str(node.target))
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    simple = len(node.args) == 1 and not node.kwargs and isinstance(node.args[0], fx.Node)
    return module if type(module) is kind and simple and not hooked else None


def _call_instead(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    # Under a name of its own: the old module may be called, or read, elsewhere.
    name = f"fast_{node.name}"
    traced.add_submodule(name, module)
    node.target = name


def _pair(values: Any) -> tuple[int, int]:
    return (int(values[0]), int(values[1]))


class _Behaviour(NamedTuple):
    """What a model says of an example, and how that changes with the example."""

    logits: Tensor
    gradient: Tensor | None


def _behaviour(model: nn.Module, example: Tensor) -> _Behaviour:
    # Half noise: in an even image whole planes of units can sit on a ReLU's kink at once.
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(example.shape, generator=generator, dtype=torch.float64).to(example)
    with torch.enable_grad():
        x = (0.5 * example + 0.5 * noise).detach().requires_grad_()
        logits = model(x)
        if not logits.requires_grad:
            return _Behaviour(logits, None)
        # Weights of mixed sign, all different: the rows of the Jacobian cannot cancel unseen.
        weights = torch.arange(1, logits.shape[1] + 1, device=logits.device).cos().to(logits)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x, allow_unused=True)
    return _Behaviour(logits.detach(), gradient)


def _agree(expected: _Behaviour, faster: nn.Module, example: Tensor) -> bool:
    found = _behaviour(faster, example)
    if not _close(expected.logits, found.logits, LOGIT_ERROR):
        return False
    if expected.gradient is None or found.gradient is None:
        return expected.gradient is found.gradient
    return _close(expected.gradient, found.gradient, GRADIENT_ERROR)


def _close(expected: Tensor, found: Tensor, share: float) -> bool:
    size = expected.norm().clamp(min=torch.finfo(expected.dtype).tiny)
    return expected.shape == found.shape and bool((expected - found).norm() <= share * size)


def _attempt(work: Callable[..., Any], *given: Any) -> Any:
    """What ``work`` gives, or None: foreign models may refuse to be traced or copied in any way."""
    try:
        return work(*given)
    except Exception:
        return None
