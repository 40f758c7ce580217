"""Values of a spec as they stand in a file, on the command line or in a call, as their types."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustcode.components import Component, convert, number
from robustcode.errors import ConfigError
from robustcode.threat import ThreatModel


def read_indices(file: Path) -> tuple[int, ...]:
    """Sample indices from a JSON list or from whole numbers separated by white space or commas."""
    return indices_of(_listed(file, "indices"), f"indices {str(file)!r}")


def read_proved(file: Path) -> tuple[int, ...]:
    """The same, of samples that are proved robust: there may be none."""
    return distinct_of(_listed(file, "proved"), f"proved {str(file)!r}")


def _listed(file: Path, what: str) -> Any:
    try:
        text = file.read_text()
    except OSError as cause:
        raise ConfigError(f"{what} {str(file)!r} cannot be read: {cause.strerror}") from cause
    except UnicodeDecodeError as cause:
        raise ConfigError(f"{what} {str(file)!r} cannot be read: {cause}") from cause
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text.replace(",", " ").split()


def numbers(text: str, path: str) -> tuple[float, ...]:
    """``.485,.456,.406`` or ``125.3/255,..`` as floats; none for an empty text."""
    return tuple(number(part, path) for part in parted(text, path))


def parted(text: str, path: str) -> list[str]:
    """What stands between the commas of a list; ConfigError where nothing does."""
    if not text.strip():
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ConfigError(
            f"{path} = {text!r} has a comma with nothing behind or before it; take it out"
        )
    return parts


def text_of(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{path} = {value!r} is not text")
    return value


def whole_of(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{path} = {value!r} is not a whole number")
    return value


def counted_of(value: Any, path: str) -> int:
    """Whole numbers of every library as Python's own, which JSON and TOML can hold."""
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{path} = {value!r} is not a whole number") from None


def floats_of(value: Any, path: str) -> tuple[float, ...]:
    if isinstance(value, str):
        return numbers(value, path)
    if not isinstance(value, list):
        raise ConfigError(f"{path} = {value!r} is not a list of numbers")
    return tuple(number(item, f"{path}[{i}]") for i, item in enumerate(value))


def indices_of(value: Any, path: str) -> tuple[int, ...]:
    found = distinct_of(value, path)
    if not found:
        raise ConfigError(f"{path} names no sample; a run needs at least 1")
    return found


def distinct_of(value: Any, path: str) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"{path} is not a list of whole numbers")
    try:
        found = tuple(int(item) for item in value)
        if any(isinstance(v, bool) or (isinstance(v, float) and v != int(v)) for v in value):
            raise ValueError
    except (OverflowError, TypeError, ValueError):
        raise ConfigError(f"{path} is not a list of whole numbers") from None
    if len(set(found)) != len(found):
        raise ConfigError(f"{path} names a sample twice")
    return found


def threat_of(value: Any, path: str) -> ThreatModel:
    return ThreatModel.parse(text_of(value, path))


def component_of(value: Any, path: str) -> Component:
    if isinstance(value, str):
        return Component.parse(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(f"{path} is neither 'NAME:key=value,..' nor a table with a name")
    return Component(value["name"], {k: v for k, v in value.items() if k != "name"})


def components_of(value: Any, path: str) -> tuple[Component, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{path} is not a list of attacks")
    return tuple(component_of(item, f"{path}[{i}]") for i, item in enumerate(value))


def truth_of(value: Any, path: str) -> bool:
    return bool(convert(value, bool, path))
