"""One table per kind of component: name -> entry, from decorators and entry points.

A built-in registers when its module is imported. A third party declares an entry
point, which is read as metadata and imported only when its name is asked for, so
listing never runs foreign code and a broken plug-in spoils only its own name.

A family stands for all that another library has of the kind, as ``foolbox:LinfPGD``:
its entries are made when their names are asked for, and a registry does not count them
among its own.

Where a registry allows it, a name may also be code of the user's own, ``FILE.py:NAME``.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from robustcode.errors import ConfigError, PluginError, UnknownNameError

T = TypeVar("T", bound=Callable[..., Any])
K = TypeVar("K", bound=Callable[..., Any])  # the decorated object itself keeps its own type


@dataclass(frozen=True)
class Family:
    """What a library that need not be installed offers to a registry.

    Attributes:
        says: one line for listings.
        package: the library's name when it is imported.
        install: the command that installs it.
        example: the name of one entry.
        names: those of all entries; imports the library.
        make: the entry of a name; imports the library.
    """

    says: str
    package: str
    install: str
    example: str
    names: Callable[[], Iterable[str]]
    make: Callable[[str], Any]

    @property
    def installed(self) -> bool:
        """Whether the library can be found; it is not imported."""
        if self.package in sys.modules:
            return sys.modules[self.package] is not None
        return importlib.util.find_spec(self.package) is not None


class Registry(Generic[T]):
    """The components of one kind, by name.

    Entries are classes deriving from ``base`` or, without a base, any callable.

    ``code`` finds what a name such as ``FILE.py:NAME`` stands for that the user wrote down, or None
    if it is no such name; see importing.named_code. Without it no name runs code of the user's.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        base: type | None = None,
        code: Callable[[str], Any] | None = None,
    ) -> None:
        self.kind = kind
        self._base = base
        self._code = code
        self._group = group
        self._loaded: dict[str, T] = {}
        self._families: dict[str, Family] = {}
        self._made: dict[str, T] = {}

    def register(self, name: str) -> Callable[[K], K]:
        """Decorator: make the class or function available as ``name``."""

        def add(entry: K) -> K:
            self._add(name, entry)
            return entry

        return add

    def family(self, prefix: str, family: Family) -> None:
        """Make each entry of another library available as ``PREFIX:NAME``."""
        self._families[prefix] = family

    @property
    def families(self) -> Mapping[str, Family]:
        """Those of other libraries by prefix; their entries are not iterated over."""
        return MappingProxyType(self._families)

    def get(self, name: str) -> T:
        """The entry registered as ``name``, importing its plug-in or library if it has one."""
        if name in self._loaded:
            return self._loaded[name]
        prefix, _, short = name.partition(":")
        if prefix in self._families:
            return self._of_family(prefix, short)
        point = self._entry_points().get(name)
        if point is None and self._code is not None:
            named = self._code(name)
            if named is not None:
                return self._of_user(name, named)
        if point is None:
            raise UnknownNameError(
                f"no {self.kind} is called {name!r}.{suggestion(name, self)} "
                f"Known: {', '.join(self)}."
            )
        return self._load(point)

    def _of_family(self, prefix: str, short: str) -> T:
        name, family = f"{prefix}:{short}", self._families[prefix]
        if name not in self._made:
            if not family.installed:
                raise ConfigError(
                    f"{self.kind} {name.rstrip(':')!r} needs {family.package}, which is not "
                    f"installed; {family.install}"
                )
            try:
                known = list(family.names())
            except Exception as cause:
                raise PluginError(
                    f"{self.kind} {name!r}: cannot use {family.package}: {cause}"
                ) from cause
            if short not in known:
                raise UnknownNameError(
                    f"{family.package} has no {self.kind} {short!r}."
                    f"{suggestion(short, known, prefix)} Known: {', '.join(known)}."
                    if short
                    else f"{prefix!r} is no {self.kind} by itself; name one of {family.package}, "
                    f"as {prefix}:{family.example}. Known: {', '.join(known)}."
                )
            self._made[name] = family.make(short)
        return self._made[name]

    def _of_user(self, name: str, entry: Any) -> T:
        """Each time anew: an edited file holds another class."""
        base = self._base
        if base is not None and not (isinstance(entry, type) and issubclass(entry, base)):
            raise ConfigError(
                f"{self.kind} {name!r} is no subclass of {base.__module__}.{base.__qualname__}; "
                "name a class that is"
            )
        if inspect.isabstract(entry):
            missing = ", ".join(sorted(entry.__abstractmethods__))
            raise ConfigError(f"{self.kind} {name!r} lacks {missing}; write what is missing")
        if base is not None and not is_dataclass(entry):
            raise ConfigError(
                f"{self.kind} {name!r} is no dataclass; put @dataclass(frozen=True, kw_only=True) "
                "above it"
            )
        return cast("T", entry)

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


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`` Did you mean 'pgd'?`` with a leading space, or nothing if nothing is near.

    Names are shown as ``PREFIX:NAME`` if there is a ``prefix``.

    >>> suggestion("pgdd", ["fgsm", "pgd"])
    " Did you mean 'pgd'?"
    >>> suggestion("xyz", ["fgsm", "pgd"])
    ''
    """
    near = difflib.get_close_matches(name, list(map(str, known)), n=3)
    near = [f"{prefix}:{word}" if prefix else word for word in near]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
