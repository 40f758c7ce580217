"""A copy of a model that gives the same logits and input gradients for less.

The copy serves the search alone; the judge asks the original. What it may do is exact up to
rounding: batch norm goes into the convolution before it and the normalisation into the one after
it, some convolutions take their input gradient by blocks, ReLU works in place, images and weights
are laid out channels-last, and what is a mere chain of layers is differentiated in one step.
Every copy is held against the original before it is used.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robustcode.chain import LAYERS, Chain, FlatLinear
from robustcode.convolution import BlockConvolution, gains
from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import Around
from robustcode.models.normalize import Normalize

# Rounding in another order moves logits by some 1e-6 of the largest one, in deep networks 1e-5;
# anything above this share means that the copy is another function.
LOGIT_ERROR = 1e-4
# A ReLU that rounding moves across its kink changes a gradient by about one over the root of the
# number of active units: up to 1e-2 in a small network. A wrong formula changes it by tenths.
GRADIENT_ERROR = 2e-2

# On a CPU queries of more than EXACT rows for logits alone are filled up to a multiple of ROWS:
# convolutions are compiled, and kept, for every size of a batch that occurs, and Square asks about
# any number of rows. On the published CNNs 128 sizes take 40 MB.
ROWS, EXACT = 8, 32


def for_search(defense: Defense, example: Tensor) -> Defense:
    """The same defence, made quicker, around a copy of its model that is faster to differentiate.

    ``example`` is a small batch (batch, channels, height, width): a copy whose logits or input
    gradients on it differ from the model's by more than rounding is not used. What cannot be
    traced is copied, and what cannot be copied is returned as it is; so is a model without
    convolutions, which has nothing to gain. Where the engine has put something around a defence,
    it is around the quicker one.
    """
    if isinstance(defense, Around) and not defense.reaches_inside:
        return dataclasses.replace(defense, inner=for_search(defense.inner, example))
    model = getattr(defense, "model", None)
    if not (dataclasses.is_dataclass(defense) and isinstance(model, nn.Module)):
        return defense
    quicker: Any = defense.quickened()
    if quicker.reaches_inside:
        return quicker
    modules = list(model.modules())
    if not any(isinstance(m, nn.Conv2d) for m in modules) or any(m.training for m in modules):
        return quicker
    # Of a copy: a model may remember what it is asked, and is to be judged as it came.
    expected = _attempt(lambda: _behaviour(copy.deepcopy(model), example))
    if expected is None or not expected.logits.isfinite().all():
        return quicker
    for prepare in (rewritten, folded, copied):
        faster = _attempt(prepare, model)
        if faster is not None and _attempt(_agree, expected, faster, example):
            again = _attempt(functools.partial(dataclasses.replace, quicker, model=faster))
            return quicker if again is None else again
    return quicker


def rewritten(model: nn.Module) -> nn.Module:
    """A copy with all that this module knows; raises where the model cannot be traced."""
    traced = _traced(model)
    _fold_batch_norm(traced)
    if all(parameter.device.type == "cpu" for parameter in model.parameters()):
        _fold_normalization(traced)
        _take_gradients_by_blocks(traced)
    _relu_in_place(traced)
    _flatten_in_place(traced)
    chain = _as_chain(traced)
    return _laid_out(fx.GraphModule(*traced) if chain is None else chain)


def folded(model: nn.Module) -> nn.Module:
    """A copy with batch norm folded; raises where the model cannot be traced."""
    traced = _traced(model)
    _fold_batch_norm(traced)
    return _laid_out(fx.GraphModule(*traced))


def copied(model: nn.Module) -> nn.Module:
    """A copy with its weights laid out channels-last; raises where it cannot be copied."""
    return _laid_out(copy.deepcopy(model).requires_grad_(False))


def _laid_out(model: nn.Module) -> ChannelsLast:
    return ChannelsLast(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


class ChannelsLast(nn.Module):
    """A model fed images in the memory layout that its convolutions run fastest in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        if x.ndim != 4:
            scores: Tensor = self.model(x)
            return scores
        count = len(x)
        # In a chain no row depends on another.
        if isinstance(self.model, Chain) and count % ROWS and _is_worth_filling_up(x):
            x = _filled_up(x)
        scores = self.model(x.contiguous(memory_format=torch.channels_last))
        return scores[:count]


def _is_worth_filling_up(x: Tensor) -> bool:
    # What asks for gradients keeps its rows together, and so does what is laid out already.
    laid_out = x.shape[1] > 1 and x.is_contiguous(memory_format=torch.channels_last)
    return len(x) > EXACT and x.device.type == "cpu" and not x.requires_grad and not laid_out


def _filled_up(x: Tensor) -> Tensor:
    """Images with blank ones after them, laid out channels-last."""
    shape = (-(-len(x) // ROWS) * ROWS, *x.shape[1:])
    filled = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    filled[: len(x)] = x
    filled[len(x) :] = 0
    return filled


class _Tracer(fx.Tracer):
    """Sees a normalisation as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Normalize) or super().is_leaf_module(m, module_qualified_name)


class _Traced(NamedTuple):
    """A copy of the model, and what it does as a graph."""

    root: nn.Module
    graph: fx.Graph


def _traced(model: nn.Module) -> _Traced:
    """The model as a graph, without the steps that do nothing."""
    twin = copy.deepcopy(model).requires_grad_(False)
    traced = _Traced(twin, _Tracer().trace(twin))
    for node in traced.graph.nodes:
        if _called(traced, node, nn.Identity) is not None:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    return traced


def _fold_batch_norm(traced: _Traced) -> None:
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


def _fold_normalization(traced: _Traced) -> None:
    """Put a normalisation into the convolution that alone reads what it gives."""
    for node in traced.graph.nodes:
        conv = _called(traced, node, nn.Conv2d)
        if conv is None or not gains(conv):
            continue
        before = node.args[0]
        normalize = _called(traced, before, Normalize)
        if normalize is not None and len(before.users) == 1:
            _call_instead(traced, node, BlockConvolution(conv, normalize))
            node.args = before.args
            traced.graph.erase_node(before)


def _take_gradients_by_blocks(traced: _Traced) -> None:
    for node in traced.graph.nodes:
        conv = _called(traced, node, nn.Conv2d)
        if conv is not None and gains(conv):
            _call_instead(traced, node, BlockConvolution(conv))


# What leaves a tensor of its own that no backward pass reads.
FRESH = (nn.Conv2d, nn.Linear, BlockConvolution)
SUMS = (operator.add, torch.add)
RELUS = (F.relu, torch.relu)


def _relu_in_place(traced: _Traced) -> None:
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


def _flatten_in_place(traced: _Traced) -> None:
    for node in traced.graph.nodes:
        linear = _called(traced, node, nn.Linear)
        if linear is None:
            continue
        flat = node.args[0]
        if _flattens(traced, flat) and len(flat.users) == 1:
            _call_instead(traced, node, FlatLinear(linear))
            node.args = (flat.args[0],)
            traced.graph.erase_node(flat)


def _as_chain(traced: _Traced) -> Chain | None:
    """The network as a chain of layers, if that is what it is."""
    layers: list[nn.Module] = []
    (node,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    while len(node.users) == 1:
        (after,) = node.users
        if after.op == "output":
            return Chain(layers) if after.args == (node,) else None
        known = (_called(traced, after, kind) for kind in LAYERS)
        layer = next((layer for layer in known if layer is not None), None)
        if after.op == "call_function" and after.target is torch.relu_:
            layer = nn.ReLU(inplace=True)
        if layer is None:
            return None
        layers.append(layer)
        node = after
    return None


def _flattens(traced: _Traced, node: fx.Node) -> bool:
    module = _called(traced, node, nn.Flatten)
    if module is not None:
        return (module.start_dim, module.end_dim) == (1, -1)
    function = node.op == "call_function" and node.target is torch.flatten
    method = node.op == "call_method" and node.target == "flatten"
    return (function or method) and node.args[1:] == (1,) and not node.kwargs


def _called(traced: _Traced, node: Any, kind: type[nn.Module]) -> Any:
    """The module that a node calls on one tensor, if it is of this kind and of no subclass."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = traced.root.get_submodule(str(node.target))
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    simple = len(node.args) == 1 and not node.kwargs and isinstance(node.args[0], fx.Node)
    return module if type(module) is kind and simple and not hooked else None


def _call_instead(traced: _Traced, node: fx.Node, module: nn.Module) -> None:
    # Under a name of its own: the old module may be called, or read, elsewhere.
    name = f"fast_{node.name}"
    traced.root.add_module(name, module)
    node.target = name


class _Behaviour(NamedTuple):
    """What a model says of an example, and how that changes with the example.

    ``unfollowed`` is what it says where no gradient is asked for: it may look at that.
    """

    logits: Tensor
    unfollowed: Tensor
    gradient: Tensor | None


def _behaviour(model: nn.Module, example: Tensor) -> _Behaviour:
    # Half noise: in an even image whole planes of units can sit on a ReLU's kink at once.
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(example.shape, generator=generator, dtype=torch.float64).to(example)
    x = (0.5 * example + 0.5 * noise).detach()
    with torch.no_grad():  # where a trace has forgotten that a model turns gradients on, it raises
        unfollowed = model(x.clone())
    with torch.enable_grad():
        x.requires_grad_()
        logits = model(x)
        if not logits.requires_grad:
            return _Behaviour(logits, unfollowed, None)
        # Weights of mixed sign, all different: the rows of the Jacobian cannot cancel unseen.
        weights = torch.arange(1, logits.shape[1] + 1, device=logits.device).cos().to(logits)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x, allow_unused=True)
    return _Behaviour(logits.detach(), unfollowed, gradient)


def _agree(expected: _Behaviour, faster: nn.Module, example: Tensor) -> bool:
    found = _behaviour(faster, example)
    pairs = ((expected.logits, found.logits), (expected.unfollowed, found.unfollowed))
    if not all(_close(own, other, LOGIT_ERROR) for own, other in pairs):
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
