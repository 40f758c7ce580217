"""One table per kind of component: name -> entry, from decorators and entry points.

A built-in registers when its module is imported. A third party declares an entry
point, which is read as metadata and imported only when its name is asked for, so
listing never runs foreign code and a broken plug-in spoils only its own name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from robustcode.errors import PluginError, UnknownNameError

T = TypeVar("T", bound=Callable[..., Any])
K = TypeVar("K", bound=Callable[..., Any])  # the decorated object itself keeps its own type


class Registry(Generic[T]):
    """The components of one kind, by name.

    Entries are classes deriving from ``base`` or, without a base, any callable.
    """

    def __init__(self, kind: str, group: str, base: type | None = None) -> None:
        self.kind = kind
        self._base = base
        self._group = group
        self._loaded: dict[str, T] = {}

    def register(self, name: str) -> Callable[[K], K]:
        """Decorator: make the class or function available as ``name``."""

        def add(entry: K) -> K:
            self._add(name, entry)
            return entry

        return add

    def get(self, name: str) -> T:
        """The entry registered as ``name``, importing its plug-in if it has one."""
        if name in self._loaded:
            return self._loaded[name]
        point = self._entry_points().get(name)
        if point is None:
            raise UnknownNameError(
                f"no {self.kind} is called {name!r}.{suggestion(name, self)} "
                f"Known: {', '.join(self)}."
            )
        return self._load(point)

    def __contains__(self, name: object) -> bool:
        return name in self._loaded or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._loaded, *self._entry_points()}))

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self._group)}

    def _load(self, point: EntryPoint) -> T:
        origin = f"{point.value} ({point.dist.name if point.dist else 'unknown distribution'})"
        try:
            return self._add(point.name, point.load())
        except Exception as cause:
            raise PluginError(
                f"{self.kind} {point.name!r}: cannot use {origin}: {cause}"
            ) from cause

    def _add(self, name: str, entry: Any) -> T:
        if self._base is None:
            if not callable(entry):
                raise TypeError(f"{entry!r} is not callable")
        elif not (isinstance(entry, type) and issubclass(entry, self._base)):
            raise TypeError(f"{entry!r} does not subclass {self._base.__name__}")
        holder = self._loaded.setdefault(name, cast("T", entry))
        if holder is not entry:
            raise ValueError(
                f"{self.kind} {name!r} is already taken by "
                f"{holder.__module__}.{holder.__qualname__}; "
                f"{entry.__module__}.{entry.__qualname__} needs another name"
            )
        return holder


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'pgd'?`` with a leading space, or nothing if nothing is near.

    >>> suggestion("pgdd", ["fgsm", "pgd"])
    " Did you mean 'pgd'?"
    >>> suggestion("xyz", ["fgsm", "pgd"])
    ''
    """
    near = difflib.get_close_matches(name, list(map(str, known)), n=3)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
