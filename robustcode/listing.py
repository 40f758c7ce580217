"""What is registered under each kind, each with the first line it says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from robustcode.errors import PluginError, UnknownNameError
from robustcode.registry import Registry, suggestion

Table = Registry[Any] | Mapping[str, Any]


def listing(what: str) -> list[dict[str, str]]:
    """Name and summary of every component of a kind, sorted by name."""
    kinds: dict[str, Callable[[], Table]] = {
        "attacks": _attacks,
        "defenses": _defenses,
        "models": _models,
        "data": _data,
        "recipes": _recipes,
        "methods": _methods,
        "suites": _suites,
    }
    if what not in kinds:
        raise UnknownNameError(
            f"nothing called {what!r} can be listed.{suggestion(what, kinds)} "
            f"Known: {', '.join(kinds)}."
        )
    table = kinds[what]()
    names: Iterable[str] = table
    return [{"name": name, "summary": _summary(table, name)} for name in names]


def _summary(table: Table, name: str) -> str:
    if isinstance(table, Mapping):
        entry = table[name]
    else:
        try:
            entry = table.get(name)
        except PluginError as broken:  # a broken plug-in spoils only its own line
            return str(broken)
    text = inspect.getdoc(entry) or ""
    return text.partition("\n")[0]


def _attacks() -> Table:
    from robustcode.attacks import ATTACKS

    return ATTACKS


def _defenses() -> Table:
    from robustcode.defenses import DEFENSES

    return DEFENSES


def _models() -> Table:
    from robustcode.models import MODELS

    return MODELS


def _data() -> Table:
    from robustcode.data import DATA

    return DATA


def _recipes() -> Table:
    from robustcode.training import RECIPES

    return RECIPES


def _methods() -> Table:
    """Certification methods: none is registered yet."""
    return {}


def _suites() -> Table:
    from robustcode.suites import SUITES

    return SUITES
