"""Attacks of other libraries behind our own interface: one class for each, made when asked for.

A library registers a family, ``torchattacks:`` for example, and imports nothing before one of its
attacks is named. Budget and norm come from the threat model, randomness from the streams, and
what is proposed is checked by us: a peer that leaves what is allowed breaks its contract.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import random
import re
import sys
import types
import typing
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, redirect_stdout
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from robustcode.attacks.base import Attack, Target
from robustcode.attacks.facade import Facade
from robustcode.errors import ConfigError, ContractError
from robustcode.importing import reason
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel, column

# Share of eps by which float32 arithmetic of another library may overshoot; what is within it is
# taken back to eps, what is beyond it is a fault of the library.
SLACK = 1e-5
PLAIN = (bool, int, float, str)


class Peer(Attack):
    """An attack of another library.

    Randomness is keyed to the first sample of a batch: the library draws from global generators,
    by place in the batch, so what a sample gets depends on the batch it is in.

    Attributes:
        name: what it is asked for by, e.g. ``torchattacks:PGD``.
        kind: the library's own class.
        bounded: the library says that it keeps within eps. What others find is taken back to the
            nearest allowed input, and may break nothing there.
    """

    name: ClassVar[str]
    bounded: ClassVar[bool]
    kind: ClassVar[Any]

    def settings(self) -> dict[str, Any]:
        """What the library's constructor is given: what differs from its defaults."""
        # The class is a dataclass once peer_class has made it.
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {f.name: getattr(self, f.name) for f in fields}
        chosen = {f.name: values[f.name] for f in fields if values[f.name] != f.default}
        defaults = inspect.signature(self.kind.__init__).parameters
        for name, value in chosen.items():
            # Documentation calls some counts float.
            if type(defaults[name].default) is int and value == int(value):
                chosen[name] = int(value)
        return chosen

    @abstractmethod
    def search(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, seed: int
    ) -> Tensor:
        """What the library returns for inputs (batch, ...) and labels (batch,); ``seed`` < 2^31."""

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb; what a sample gets may depend on its batch."""
        if len(x) == 0 or threat.eps == 0:
            return x.clone()
        seed = int(streams.child("peer").keys[0]) & 0x7FFFFFFF
        model = Facade(target, x, threat, streams)
        with undisturbed(seed):
            found = self.search(model, x.clone(), y.clone(), threat, seed)
        return self._settled(found, x, threat)

    def _settled(self, found: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
        """Proposals that are allowed; ContractError for what is further out than rounding."""
        if not isinstance(found, Tensor):
            raise ContractError(f"{self.name} returned {type(found).__name__}, not a tensor")
        found = found.detach().to(x)
        if found.shape != x.shape or not found.isfinite().all():
            threat.check(found, x, self.name)
        rounding = threat.rounding(x)
        box = torch.maximum(threat.low - found, found - threat.high).flatten(1).amax(1)
        beyond = threat.distance(found, x) - threat.eps
        if bool((box > rounding).any()):
            raise ContractError(
                f"{self.name} left [{threat.low:g}, {threat.high:g}] by {box.max():g}"
            )
        if self.bounded and bool((beyond > SLACK * threat.eps + rounding).any()):
            raise ContractError(
                f"{self.name} moved {int((beyond > 0).sum())} of {len(x)} inputs by up to "
                f"{threat.eps + beyond.max():g} in {threat.norm}; eps = {threat.eps:g}"
            )
        # Rounding can be what breaks a sample: what is allowed stays as it is to the last bit.
        return torch.where(column((box <= 0) & (beyond <= 0), x), found, threat.project(found, x))


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Run foreign code on generators of its own; what it prints or warns of is not shown.

    torch's, numpy's and Python's global generators, gradient mode and tracing function are
    afterwards what they were.
    """
    python, numbers, tracing = random.getstate(), np.random.get_state(), sys.gettrace()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        warnings.catch_warnings(record=True),
        redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
            sys.settrace(tracing)  # the official AutoAttack takes it away


def imported(package: str) -> Any:
    """A library as a module, whatever it prints or warns of on the way."""
    with undisturbed(0):
        return importlib.import_module(package)


def peer_class(base: type[Peer], name: str, settings: list[Any], **facts: Any) -> type[Peer]:
    """A frozen dataclass named ``name`` with ``settings`` as fields and ``facts`` as its own."""
    made = dataclasses.make_dataclass(
        name,
        settings,
        bases=(base,),
        namespace={**facts, "name": name, "__module__": base.__module__},
        frozen=True,
        kw_only=True,
    )
    return typing.cast("type[Peer]", made)


def settings_of_constructor(kind: Callable[..., Any], given: Set[str], name: str) -> list[Any]:
    """Fields for the parameters that text can set, but for those ``given`` by the run.

    Types are those of the annotations; without any, those of the defaults, where a whole number
    may stand for a float that the documentation states, as ``decay (float): ..``.
    """
    constructor = vars(kind).get("__init__", kind.__init__)
    hints = typing.get_type_hints(constructor)
    fields: list[Any] = []
    for parameter in list(inspect.signature(constructor).parameters.values())[1:]:
        if parameter.name in given or parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            continue
        required = parameter.default is inspect.Parameter.empty
        hint = hints.get(parameter.name, type(parameter.default))
        if hint is int and _stated_float(kind, parameter.name):
            hint = float
        told = _type(hint, parameter)
        if told is None:
            if required:
                raise ConfigError(f"{name} needs {parameter.name}, which no text can give")
            continue  # it stays as the library has it
        if required:
            fields.append((parameter.name, told))
        else:
            default = parameter.default
            default = float(default) if told is float else default
            fields.append((parameter.name, told, dataclasses.field(default=default)))
    return fields


def _stated_float(kind: object, parameter: str) -> bool:
    text = inspect.getdoc(kind) or ""
    return re.search(rf"^\s*{parameter} \(float\)", text, re.MULTILINE) is not None


def _type(hint: Any, parameter: inspect.Parameter) -> Any:
    """The type of a setting, or None where text cannot set it."""
    if hint in PLAIN:
        default = parameter.default
        plain = default is inspect.Parameter.empty or isinstance(default, PLAIN)
        return hint if plain else None
    if typing.get_origin(hint) is Literal:
        return str if all(isinstance(value, str) for value in typing.get_args(hint)) else None
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return None
    options = {_type(o, parameter) for o in typing.get_args(hint) if o is not type(None)}
    if len(options) != 1:
        return None
    (only,) = options
    absent = parameter.default is None
    if only is None and absent:  # _type looked at the default too
        kinds = [o for o in typing.get_args(hint) if o in PLAIN]
        only = kinds[0] if len(kinds) == 1 else None
    return None if only is None else (only | None if absent else only)


@contextmanager
def settings_tried(name: str) -> Iterator[None]:
    """What the library says against settings when it is constructed, as the caller's mistake."""
    try:
        with undisturbed(0):
            yield
    except ModuleNotFoundError as cause:
        raise ConfigError(
            f"{name} needs {cause.name}, which is not installed; pip install {cause.name}"
        ) from cause
    except Exception as cause:
        raise ConfigError(f"{name} refuses these settings: {reason(cause)}") from cause


def first_line(kind: object, library: str) -> str:
    """What a class says of itself, and where it is from."""
    said = (inspect.getdoc(kind) or "").strip().partition("\n")[0].strip()
    return f"{said.rstrip('.')} ({library})" if said else f"An attack of {library}"


NORMS = {"Linf": Norm.LINF, "L2": Norm.L2, "L1": Norm.L1}
NAMES = {norm: name for name, norm in NORMS.items()}
