"""From a module to its layers: what each call in a traced model is, or that it is not known."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from robustcode.bounds.calls import ABOUT, ATTRIBUTES, FUNCTIONS, MODULES, Place, Refusal, places
from robustcode.bounds.layers import Input, Layer, Shape
from robustcode.errors import ConfigError

SUPPORTED = (
    "convolutions, linear layers, ReLU, batch norm, residual sums, average and max pooling, "
    "means, reshapes, slices, padding with zeros and scaling by constants"
)


IN_PLACE = {"relu_", "add_", "iadd"}


class Step(NamedTuple):
    """One layer in the order of the model's calls; ``shape`` is without the batch."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    shape: Shape


def steps_of(model: nn.Module, example: Tensor) -> list[Step]:
    """The layers that one input, ``example`` (1, ...), passes; ConfigError for an unknown one."""
    if _altered(model):
        raise ConfigError(
            f"the model itself ({type(model).__name__}) has hooks, or a forward that its class "
            "does not have, which a trace does not show; take them off, or write a module"
        )
    try:
        graph = fx.Tracer().trace(model)
    except Exception as cause:  # foreign code may do anything with what stands for its input
        raise ConfigError(
            f"the model's forward cannot be traced, so that nothing can be bounded ({cause}); "
            "a network without branches on its data can"
        ) from cause
    # Two rows: what is a size of the batch cannot be mistaken for one of 1 that is broadcast.
    return _Reader(model, graph).read(torch.cat([example, example]))


def _altered(module: nn.Module) -> bool:
    """Whether a call of the module does something else than its class does."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return bool(hooks) or "forward" in vars(module)


class _Reader(fx.Interpreter):
    """Runs the graph once and notes the layers."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(fx.GraphModule(model, graph), garbage_collect_values=False)
        self.model = model
        self.steps: list[Step] = []
        self.name = ""

    def read(self, x: Tensor) -> list[Step]:
        out = self.run(x)
        if not isinstance(out, Place):
            raise ConfigError(
                f"the model returns {type(out).__name__} and not one tensor of logits made from "
                "its input; it cannot be bounded"
            )
        if out.index != len(self.steps) - 1:  # what comes after the logits is not read
            del self.steps[out.index + 1 :]
        return self.steps

    def run_node(self, n: fx.Node) -> Any:
        self.name = str(n.target) if n.op == "call_module" else n.name
        if self._in_place(n):
            self._refuse_reread(n)
        return super().run_node(n)

    def _in_place(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return bool(getattr(self.model.get_submodule(str(n.target)), "inplace", False))
        if n.op not in ("call_function", "call_method"):
            return False
        called = getattr(n.target, "__name__", str(n.target))
        settings = [*n.args[1:], n.kwargs.get("inplace")] if called == "relu" else []
        return called in IN_PLACE or any(settings)

    def _refuse_reread(self, n: fx.Node) -> None:
        """Of what is changed in place no old value may be read later, by this name or another."""
        changed = self.env.get(n.args[0]) if n.args and isinstance(n.args[0], fx.Node) else None
        if not isinstance(changed, Place):
            return
        memory = changed.value.untyped_storage().data_ptr()
        order = {node: k for k, node in enumerate(n.graph.nodes)}
        for node, value in self.env.items():
            same = isinstance(value, Place) and value.value.untyped_storage().data_ptr() == memory
            if same and any(order[user] > order[n] for user in node.users):
                called = getattr(n.target, "__name__", str(n.target))
                raise self._unknown(
                    called, f"it changes {node.name!r} in place, which is read later"
                )

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().placeholder(target, args, kwargs)
        if not isinstance(value, Tensor):
            return value
        return self._add(Input(), (), value)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not places(args, kwargs):
            return super().call_module(target, args, kwargs)
        module = self.model.get_submodule(str(target))
        known = MODULES.get(type(module))
        hooked = _altered(module)
        if known is None or hooked or kwargs or len(args) != 1:
            raise self._unknown(f"{type(module).__name__}{' with hooks' * bool(hooked)}")
        return self._noted(known, (module, args[0]), {}, type(module).__name__)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not places(args, kwargs):
            return super().call_function(target, args, kwargs)
        return self._called(getattr(target, "__name__", str(target)), args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not places(args, kwargs):
            return super().call_method(target, args, kwargs)
        return self._called(str(target), args, kwargs)

    def _called(self, called: str, args: Any, kwargs: Any) -> Any:
        if called in ABOUT:  # of the shape alone
            return getattr(args[0].value, called)(*args[1:], **kwargs)
        if called == "getattr":
            if args[1] not in ATTRIBUTES:
                raise self._unknown(f"attribute {args[1]!r}")
            return getattr(args[0].value, args[1])
        known = FUNCTIONS.get(called)
        if known is None:
            raise self._unknown(called)
        return self._noted(known, args, kwargs, called)

    def _noted(self, known: Any, args: Any, kwargs: Any, called: str) -> Any:
        try:
            found = known(*args, **kwargs)
        except (Refusal, TypeError) as cause:
            raise self._unknown(called, str(cause)) from cause
        if isinstance(found, Place):
            return found
        layer, places = found
        value = layer.value(*(place.value for place in places))
        return self._add(layer, tuple(place.index for place in places), value)

    def _add(self, layer: Layer, inputs: tuple[int, ...], value: Tensor) -> Place:
        name = self.name
        self.steps.append(Step(name, layer, inputs, tuple(value.shape[1:])))
        return Place(len(self.steps) - 1, value)

    def _unknown(self, what: str, why: str = "") -> ConfigError:
        return ConfigError(
            f"layer {self.name!r} ({what}) cannot be bounded{': ' * bool(why)}{why}; known are "
            f"{SUPPORTED}"
        )
