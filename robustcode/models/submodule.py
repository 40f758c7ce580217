"""One module of a model, done otherwise for the length of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from robustcode.errors import ConfigError, ContractError
from robustcode.models.normalize import Classifier
from robustcode.registry import suggestion

Layer = Callable[[Tensor], Tensor]
Change = Callable[[Tensor, Layer], Tensor]
"""(what the module is given, the module) -> what is taken for its output."""


def find(model: nn.Module, name: str) -> nn.Module:
    """The module of this dotted name, the model itself if it is empty; ConfigError if none is."""
    known = dict(model.named_modules())
    if name not in known:
        near = suggestion(name, [other for other in known if other])
        first = ", ".join(key for key, _ in model.named_children())
        raise ConfigError(f"the model has no module {name!r}.{near} Its own are: {first}.")
    return known[name]


def path_of(model: nn.Module, name: str) -> str:
    """The module's dotted name in ``model``; in a Classifier it may be that in the network inside.

    ConfigError if there is none.
    """
    inside = isinstance(model, Classifier) and name not in dict(model.named_modules())
    find(model.get_submodule("network") if inside else model, name)
    return f"network.{name}" if inside else name


def changed(model: nn.Module, name: str, x: Tensor, change: Change) -> Tensor:
    """What ``model`` gives for ``x`` with the module ``name`` done by ``change``.

    The module must be called once, with one tensor; ContractError otherwise.
    """
    if not name:
        return change(x, model)
    calls = []

    def once(given: Tensor, layer: Layer) -> Tensor:
        calls.append(given)
        return change(given, layer)

    with _replaced(find(model, name), name, once):
        scores: Tensor = model(x)
    if len(calls) != 1:
        raise ContractError(
            f"module {name!r} is called {len(calls)} times in a pass of the model, and what is "
            "done with it supposes one; name another module"
        )
    return scores


def entering(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """What the module ``name`` is given when the model is given ``x``; what follows is not run."""
    if not name:
        return x
    try:
        with _replaced(find(model, name), name, _stop):
            model(x)
    except _Reached as here:
        return here.given
    raise ContractError(f"module {name!r} is not called in a pass of the model; name another one")


class _Reached(Exception):
    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given


def _stop(given: Tensor, layer: Layer) -> Tensor:
    raise _Reached(given)


@contextmanager
def _replaced(module: nn.Module, name: str, change: Change) -> Iterator[None]:
    """The module's ``forward`` as ``change`` of itself; its hooks and its place stay."""
    own, set_by_another = module.forward, vars(module).get("forward")

    def forward(*given: object, **named: object) -> Tensor:
        if len(given) != 1 or named or not isinstance(given[0], Tensor):
            raise ContractError(
                f"module {name!r} takes more than one tensor, so that it cannot be coded; name "
                "another module"
            )
        return change(given[0], own)

    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if set_by_another is not None:
            module.forward = set_by_another
