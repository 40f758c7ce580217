"""What is registered under each kind, each with the first line it says of itself."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from robustcode.components import LIBRARIES
from robustcode.errors import ConfigError, PluginError, UnknownNameError
from robustcode.registry import Family, Registry, suggestion

Table = Registry[Any] | Mapping[str, Any]

# Fields that the run fills in, and no text can.
GIVEN = {"model", "mates", "members", "adversary", "targets", "negligible"}


def listing(what: str) -> list[dict[str, Any]]:
    """Name, summary and settings (with defaults) of every component of a kind, by name.

    Checks come by what they look at, and have that as ``group``.
    """
    if what in LIBRARIES:
        return _library(what)
    if what == "checks":
        return _checks()
    tables = _tables()
    if what not in tables:
        raise UnknownNameError(
            f"nothing called {what!r} can be listed.{suggestion(what, kinds())} "
            f"Known: {', '.join(kinds())}."
        )
    table = tables[what]()
    names: Iterable[str] = table
    entries = [_entry(table, name) for name in names]
    if isinstance(table, Registry):
        entries += [_line(prefix, family) for prefix, family in table.families.items()]
    return entries


def kinds() -> list[str]:
    """What can be listed."""
    return [*_tables(), "checks", *LIBRARIES]


def _tables() -> dict[str, Callable[[], Table]]:
    return {
        "attacks": _attacks,
        "defenses": _defenses,
        "adversaries": _adversaries,
        "models": _models,
        "data": _data,
        "recipes": _recipes,
        "methods": _methods,
        "corruptions": _corruptions,
        "rules": _rules,
        "suites": _suites,
    }


def _line(prefix: str, family: Family) -> dict[str, Any]:
    """A library's attacks in one line, without importing it."""
    there = f"`list {prefix}` names them" if family.installed else f"not here: {family.install}"
    return {
        "name": f"{prefix}:{family.example}",
        "summary": f"{family.says} ({there})",
        "settings": {},
    }


def _entry(table: Table, name: str) -> dict[str, Any]:
    try:
        entry = table[name] if isinstance(table, Mapping) else table.get(name)
    except (ConfigError, PluginError) as broken:  # what is broken spoils only its own line
        return {"name": name, "summary": str(broken), "settings": {}}
    text = inspect.getdoc(entry) or ""
    return {"name": name, "summary": text.partition("\n")[0], "settings": _settings(entry)}


def _settings(entry: object) -> dict[str, Any]:
    """What may be set by ``NAME:key=value``, with its default; None where there is none."""
    if not dataclasses.is_dataclass(entry):
        return {}
    settings = {}
    for f in dataclasses.fields(entry):
        # A classifier that is named in text (transfer's) is a setting like any other.
        if not f.init or (f.name in GIVEN and not isinstance(f.default, str)):
            continue
        settings[f.name] = None if f.default is dataclasses.MISSING else f.default
        if settings[f.name] == ():
            settings[f.name] = ""
    return settings


def _library(prefix: str) -> list[dict[str, Any]]:
    """Every attack of a library; an error says what to install."""
    attacks = _attacks()
    assert isinstance(attacks, Registry)
    family = attacks.families[prefix]
    if not family.installed:
        attacks.get(prefix)  # says so
    return [_entry(attacks, f"{prefix}:{name}") for name in family.names()]


def _checks() -> list[dict[str, Any]]:
    """Every check of an evaluation, in the order of a page, with what it looks at."""
    from robustcode.checks.catalogue import every

    return [
        {
            "name": check.code,
            "summary": f"{check.group}: {check.page().title}",
            "settings": {},
            "group": str(check.group),
            "also": list(check.also),
        }
        for check in every()
    ]


def _attacks() -> Table:
    from robustcode.attacks import ATTACKS

    return ATTACKS


def _defenses() -> Table:
    from robustcode.defenses import DEFENSES

    return DEFENSES


def _adversaries() -> Table:
    from robustcode.adversary import ADVERSARIES

    return ADVERSARIES


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
    from robustcode.methods import METHODS

    return METHODS


def _corruptions() -> Table:
    from robustcode.corruptions import CORRUPTIONS

    return CORRUPTIONS


def _rules() -> Table:
    from robustcode.stopping.audit import RULES

    return RULES


def _suites() -> Table:
    from robustcode.suites import SUITES

    return SUITES
