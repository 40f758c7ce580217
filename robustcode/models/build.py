"""A network from its spec: a registered name, ``timm:NAME``, or a callable of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from robustcode.errors import ConfigError, RobustcodeError, UnknownNameError
from robustcode.importing import import_callable, is_import_spec, reason
from robustcode.models.base import MODELS
from robustcode.models.shipped import SHIPPED
from robustcode.registry import suggestion


def build_model(spec: str, classes: int | None = None) -> nn.Module:
    """A network for ``classes`` classes, or for as many as its author's default.

    ``spec`` is a registered name (freshly initialised weights; a variant as in
    ``digits_cnn:adversarial`` names weights, not another network), ``timm:NAME`` (likewise), or
    ``FILE.py:CALLABLE`` or ``package.module:CALLABLE``, whose result is returned as it came.
    """
    if classes is not None and classes < 2:
        raise ConfigError(f"classes = {classes}: a classifier tells at least 2 apart")
    name, colon, variant = spec.partition(":")
    if name == "timm" and colon:
        return _from_timm(variant, classes)
    if is_registered(spec):
        if colon and spec not in SHIPPED:
            known = [other for other in SHIPPED if other.startswith(f"{name}:")]
            raise UnknownNameError(
                f"model {name!r} has no variant {variant!r}.{suggestion(spec, known)} "
                f"Known: {', '.join([name, *known])}."
            )
        return MODELS.get(name)(**_given(classes))
    if is_import_spec(spec):
        return _from_callable(spec, classes)
    return MODELS.get(spec)()  # nothing is called so: this raises, with a suggestion


def is_registered(spec: str) -> bool:
    """Whether ``spec`` is a registered name, with or without a variant."""
    return spec.partition(":")[0] in MODELS


def _from_timm(name: str, classes: int | None) -> nn.Module:
    try:
        import timm  # pyright: ignore[reportMissingImports]  # an extra
    except Exception as cause:  # a broken torchvision raises far more than ImportError
        raise ConfigError(
            f"model 'timm:{name}' needs timm, which cannot be imported here "
            f"({reason(cause)}); pip install robustcode[timm]"
        ) from cause
    given: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    try:
        return timm.create_model(name, pretrained=False, **given)
    except Exception as cause:
        known = timm.list_models()
        raise ConfigError(
            f"timm cannot build a model {name!r} ({reason(cause)}).{suggestion(name, known)}"
        ) from cause


def _from_callable(spec: str, classes: int | None) -> nn.Module:
    made = import_callable(spec)
    if not isinstance(made, nn.Module):  # a module is callable too, and is what is wanted
        made = _call(spec, made, classes)
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"{spec} returned {type(made).__name__}; a model is a torch.nn.Module from images "
            "(batch, channels, height, width) in [0, 1] to logits"
        )
    return made


def _call(spec: str, function: Callable[..., Any], classes: int | None) -> Any:
    """What the callable returns, given ``classes`` if it has such a parameter and it is known."""
    parameters = _parameters(function)
    given = _given(classes) if "classes" in parameters else {}
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in given
    ]
    if needed:
        raise ConfigError(
            f"{spec} needs arguments ({', '.join(needed)}); name a callable that returns the "
            "classifier without any"
        )
    try:
        return function(**given)
    except RobustcodeError:
        raise
    except (Exception, SystemExit) as cause:
        raise ConfigError(f"{spec} could not make a model: {reason(cause)}") from cause


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # some built-ins do not tell; the call will
        return {}


def _given(classes: int | None) -> dict[str, int]:
    return {} if classes is None else {"classes": classes}
