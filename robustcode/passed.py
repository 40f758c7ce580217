"""A module that a Python caller passed instead of naming it: borrowed as a copy, told from others.

A named model is known by the file of its code and by its weights. What was passed may have any
code and any settings around the same weights, and belongs to somebody who goes on using it.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from itertools import chain
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustcode.defenses.as_found import copied
from robustcode.errors import ConfigError
from robustcode.importing import reason

# Libraries whose versions the manifest has, so that a name says what the code is.
VERSIONED = ("numpy", "robustcode", "torch")
# What torch itself keeps in each module; of that, hooks and buffers that no checkpoint has count.
# A compiled module is besides numbered by its place in memory.
OWN = frozenset({*vars(nn.Module()), "_torchdynamo_wrapper_id"})
HOOKS = ("_forward_pre_hooks", "_forward_hooks")
PLAIN = (bool, int, float, complex, str, bytes, np.generic, torch.dtype, type(None))
# Levels of lists in lists, say, that are told: Python goes down a thousand calls.
DEEPEST = 50


def lent(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the caller's module on ``device``: what is done to it is not done to the original.

    The copy has generators of its own, in the state of the original's, and costs the memory of the
    weights once more. What cannot be copied is lent itself if it is on the device already;
    ConfigError if it is elsewhere.
    """
    # The run seeds those of torch: a copy of one would go on from wherever the caller left it.
    shared = [torch.default_generator, *torch.cuda.default_generators]
    try:
        return copied(model, shared).to(device)
    except Exception as cause:
        here = torch.empty(0, device=device).device
        elsewhere = {str(t.device) for t in _tensors(model) if t.device != here}
        if elsewhere:
            raise ConfigError(
                f"the model passed in is on {', '.join(sorted(elsewhere))} and no copy of it can "
                f"be made on {here} ({reason(cause)}); move it there, or give its own device"
            ) from cause
        return model


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def settings_in(model: nn.Module) -> dict[str, str]:
    """What a module computes with besides its state dict, part by part: sha256 by place.

    That is the code of its classes, the attributes of each module in it, hooks, and buffers that
    are not saved. Code is source where that can be read, so that it is the same for another Python,
    and else what was compiled from it; functions that it calls by name are not followed. Of an
    object that is no plain value, array or code, nor made of such, the class alone counts.
    """
    told = _Told(model)
    return {
        place: hashlib.sha256(text.encode()).hexdigest() for place, text in told.parts_of(model)
    }


def unchanged(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """One hash over the settings that are the same before a pass and after it.

    What a pass changes is what a module remembers, a counter or its last features, and does not
    make it another module.
    """
    same = sorted(f"{place}={told}" for place, told in after.items() if before.get(place) == told)
    return hashlib.sha256("\n".join(same).encode()).hexdigest()


class _Told:
    """Objects as text that is the same in every process."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {id(module) for module in model.modules()}
        self._classes: dict[type, str] = {}
        # What is being told: an object that holds itself is told once.
        self._within: set[int] = set()

    def parts_of(self, model: nn.Module) -> Iterator[tuple[str, str]]:
        """Places in a module, and what stands there."""
        for place, module in model.named_modules():
            cls = type(module)
            if cls not in self._classes:
                self._classes[cls] = self.text(cls)
            yield f"{place}:", self._classes[cls]
            for name, value in vars(module).items():
                if name not in OWN:
                    yield f"{place}:{name}", self.text(value)
            for name in module._non_persistent_buffers_set:
                yield f"{place}:{name}", self.text(module._buffers[name])
            for name in HOOKS:
                # Their keys are numbers that the whole process counts.
                yield f"{place}:{name}", self._several(vars(module)[name].values())

    def text(self, value: object) -> str:
        """One object; of kinds that are not known the name of the class alone."""
        if isinstance(value, PLAIN):
            return repr(value)
        if id(value) in self._within or id(value) in self._modules:
            return f"again {_name(value)}"
        if len(self._within) == DEEPEST:
            return _name(value)
        self._within.add(id(value))
        try:
            return self._composed(value)
        except Exception:  # whatever it is that does not let itself be read
            return _name(value)
        finally:
            self._within.discard(id(value))

    def _composed(self, value: object) -> str:
        if isinstance(value, Enum):
            return f"{_name(value)}.{value.name}"
        if isinstance(value, np.ndarray) and value.dtype.hasobject:  # places in memory
            return self._several([str(value.dtype), value.tolist()])
        if isinstance(value, Tensor | np.ndarray):
            return _array(value)
        if isinstance(value, Mapping):
            pairs = (f"{self.text(key)}: {self.text(held)}" for key, held in value.items())
            return f"{_name(value)}({', '.join(sorted(pairs))})"
        if isinstance(value, set | frozenset):
            return f"{_name(value)}({', '.join(sorted(map(self.text, value)))})"
        if isinstance(value, list | tuple):
            return f"{_name(value)}{self._several(value)}"
        if isinstance(value, nn.Module):  # in a list, say, where no state dict has its weights
            self._modules |= {id(module) for module in value.modules()}
            weights = map(self.text, value.state_dict().values())
            return self._several(chain(chain.from_iterable(self.parts_of(value)), weights))
        if isinstance(value, functools.partial):
            return self._several([value.func, value.args, value.keywords])
        if (code := self._code(value)) is not None:
            return code
        if dataclasses.is_dataclass(value):
            held = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
            return f"{_name(value)}({self.text(held)})"
        if isinstance(value, SimpleNamespace):
            return f"{_name(value)}({self.text(vars(value))})"
        return _name(value)

    def _several(self, values: Iterable[object]) -> str:
        return f"[{', '.join(map(self.text, values))}]"

    def _code(self, value: object) -> str | None:
        """A function, a class, or one of the kinds that a class makes of functions."""
        if isinstance(value, MethodType | staticmethod | classmethod):
            return self.text(value.__func__)
        if isinstance(value, property):
            return self._several([value.fget, value.fset])
        if isinstance(value, functools.cached_property):
            return self.text(value.func)
        if isinstance(value, functools._lru_cache_wrapper):
            return self.text(value.__wrapped__)
        if not isinstance(value, BuiltinFunctionType | FunctionType | type):
            return None
        name = f"{value.__module__}.{value.__qualname__}"
        builtin = getattr(builtins, value.__name__, None) is value
        if builtin or isinstance(value, BuiltinFunctionType) or name.partition(".")[0] in VERSIONED:
            return name
        return self._class(value) if isinstance(value, type) else self._function(value)

    def _class(self, cls: type) -> str:
        """What its author wrote, but for what makes an object: that shows in the object."""
        written = {
            name: value
            for name, value in vars(cls).items()
            if name == "__call__" or not name.startswith("__")
        }
        return f"{cls.__qualname__}{self._several(cls.__bases__)}{self.text(written)}"

    def _function(self, function: FunctionType) -> str:
        """Its source and what it was made with."""
        code = self._compiled(function.__code__)
        # The source of a lambda is the whole line, on which others may stand.
        if function.__name__ != "<lambda>":
            with suppress(OSError, TypeError, SyntaxError):
                code = inspect.getsource(function)
        cells = []
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not filled yet
                held = cell.cell_contents
                # The class that a method is in is told where it stands.
                cells.append(held.__qualname__ if isinstance(held, type) else held)
        return self._several([code, function.__defaults__, function.__kwdefaults__, cells])

    def _compiled(self, code: CodeType) -> str:
        inner = [self._compiled(c) if isinstance(c, CodeType) else c for c in code.co_consts]
        return self._several([code.co_code, code.co_names, inner])


def _array(value: Tensor | np.ndarray[Any, Any]) -> str:
    """Kind, shape and values; no values of a tensor that has none in memory, or not in a row."""
    said = f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided:
            return said
        there = value.detach().resolve_conj().resolve_neg().cpu()
        plain = there.contiguous().view(-1).view(torch.uint8).numpy()
    else:
        plain = np.ascontiguousarray(value)
    return f"{said} {hashlib.sha256(plain.tobytes()).hexdigest()}"


def _name(value: object) -> str:
    """The class of an object. A worker process has what is in the main script under this name."""
    cls = type(value)
    return f"{cls.__module__.replace('__mp_main__', '__main__')}.{cls.__qualname__}"
