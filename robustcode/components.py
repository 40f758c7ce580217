"""A component as a person names it, ``NAME:key=value,..``, and the object it stands for."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from pathlib import PureWindowsPath
from typing import Any, TypeVar

from robustcode.errors import ConfigError, RobustcodeError
from robustcode.registry import Registry, suggestion

Scalar = bool | int | float | str
# Libraries whose components are named LIBRARY:NAME, e.g. ``foolbox:LinfPGD:steps=10``: here a
# colon does not end the name. Which of them there are is for their registry to say.
LIBRARIES = ("autoattack", "foolbox", "torchattacks")
# Code of the user's own: here the name goes to the end of that of a class or function. A file may
# start with a Windows drive. A module needs a dot: without one, ``timm:resnet18`` and
# ``digits_cnn:adversarial`` would read as code too.
CODE = re.compile(
    r"(?P<file>(?:[A-Za-z]:)?[^:]+\.py):(?P<name>[^\W\d]\w*)"
    r"|(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)+):(?P<attribute>[^\W\d]\w*)"
)
# Data whose name says nothing without that of their file.
IN_FILES = ("npz", "folder")
C = TypeVar("C")


@dataclass(frozen=True)
class Component:
    """A registered name and the settings that differ from its defaults.

    >>> str(Component.parse("pgd:steps=40,loss=margin"))
    'pgd:steps=40,loss=margin'
    >>> Component.parse("foolbox:LinfPGD:steps=40").name
    'foolbox:LinfPGD'
    """

    name: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Component:
        """Read ``NAME`` or ``NAME:key=value,..``; values stay text until their type is known.

        A name may be ``LIBRARY:NAME`` of one of ``LIBRARIES``, and ``FILE.py:NAME`` or
        ``package.module:NAME`` of the user's own.
        """
        name, _, rest = text.partition(":")
        code = CODE.match(text.strip())
        after = "" if code is None else text.strip()[code.end() :]
        if code is not None and after.lstrip()[:1] in ("", ":"):
            name, rest = code[0], after.lstrip()[1:]
        elif name.strip() in LIBRARIES and "=" not in rest.partition(":")[0]:
            short, _, rest = rest.partition(":")
            name = f"{name.strip()}:{short.strip()}".rstrip(":")
        settings: dict[str, Scalar] = {}
        for pair in filter(None, rest.split(",")):
            key, equals, value = pair.partition("=")
            if not equals:
                near = suggestion(name.strip(), LIBRARIES)
                raise ConfigError(f"{text!r}: {pair!r} is not key=value{near and '.' + near}")
            if key.strip() in settings:
                raise ConfigError(f"{text!r} sets {key.strip()!r} twice")
            settings[key.strip()] = value.strip()
        if not name.strip():
            raise ConfigError(f"{text!r} names no component; write NAME or NAME:key=value,..")
        return cls(name.strip(), settings)

    def __str__(self) -> str:
        pairs = ",".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name}:{pairs}" if pairs else self.name

    def build(self, registry: Registry[Any], path: str, **given: Any) -> Any:
        """The object this names, each setting converted to the type its field declares.

        ``given`` are values that come from the run and not from the text (a model, a pool of
        batch mates); those the class has no field for are left out. ``path`` says in an error
        where the settings were written, e.g. ``attacks[1]``.
        """
        cls = registry.get(self.name)
        where = f"{path} ({registry.kind} {self.name!r})"
        try:
            return construct(cls, self.settings, where, **given)
        except RobustcodeError:
            raise
        except Exception as cause:
            if CODE.fullmatch(self.name) is None:
                raise
            raise ConfigError(f"{where}: {type(cause).__name__}: {cause}") from cause


def construct(cls: type[C], settings: Mapping[str, Any], path: str, **given: Any) -> C:
    """A dataclass from text or TOML values; ConfigError names the path of what is wrong."""
    if not dataclasses.is_dataclass(cls):
        if settings:
            raise ConfigError(f"{path} takes no settings; got {', '.join(settings)}")
        return cls(**given)
    fields = {f.name for f in dataclasses.fields(cls) if f.init}
    known = fields - set(given)
    hints = typing.get_type_hints(cls)
    values = {key: value for key, value in given.items() if key in fields}
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(
                f"{path}: unknown key {key!r}.{suggestion(key, known)} "
                f"Known: {', '.join(sorted(known)) or 'none'}."
            )
        values[key] = convert(value, hints[key], f"{path}.{key}")
    missing = [f.name for f in dataclasses.fields(cls) if _required(f) and f.name not in values]
    if missing:
        raise ConfigError(f"{path} needs {' and '.join(missing)}; write {missing[0]}=VALUE")
    try:
        return typing.cast("C", cls(**values))
    except ConfigError as wrong:
        raise type(wrong)(f"{path}: {wrong}") from wrong


def _required(declared: dataclasses.Field[Any]) -> bool:
    defaults = (declared.default, declared.default_factory)
    return declared.init and all(default is dataclasses.MISSING for default in defaults)


def settings_of(component: object) -> dict[str, Scalar]:
    """Every plain setting of a component, defaults included, for records and reports.

    Several values are joined as ``convert`` reads them, ``.485+.456+.406``; of none at all there is
    nothing to say.
    """
    if not dataclasses.is_dataclass(component):
        return {}
    settings: dict[str, Scalar] = {}
    for f in dataclasses.fields(component):
        value = getattr(component, f.name)
        if isinstance(value, tuple) and value:
            settings[f.name] = "+".join(map(str, value))
        elif isinstance(value, bool | int | float | str | Enum):
            settings[f.name] = value.value if isinstance(value, Enum) else value
    return settings


def convert(value: Any, kind: Any, path: str) -> Any:
    """``value`` as ``kind``: text is read, numbers are checked, a fraction like 8/255 divided."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        absent = value is None or (isinstance(value, str) and value.lower() in ("none", ""))
        if absent and type(None) in typing.get_args(kind):
            return None
        return convert(value, options[0], path)
    if origin is tuple:
        parts = value.split("+") if isinstance(value, str) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        return tuple(convert(part, typing.get_args(kind)[0], path) for part in parts)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(value, kind, path)
    if kind is bool:
        return _truth(value, path)
    if kind is int:
        return _integer(value, path)
    if kind is float:
        return number(value, path)
    if kind is str:
        return str(value)
    raise ConfigError(f"{path} = {value!r} cannot be set from text; its type is {kind}")


def number(value: Any, path: str) -> float:
    """A float from a number or from text such as ``0.5`` or ``8/255``.

    >>> number("8/255", "eps") == 8 / 255
    True
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, int | float):
            return float(value)
        numerator, slash, denominator = str(value).partition("/")
        if "/" in denominator:  # Fraction would read 8/255/2 as 8/(255/2)
            raise ValueError
        if slash:
            # A decimal numerator (125.3/255) is legal; Fraction keeps the division exact.
            return float(Fraction(numerator.strip()) / Fraction(denominator.strip()))
        return float(numerator)
    except (OverflowError, ValueError, ZeroDivisionError):
        raise ConfigError(
            f"{path} = {value!r} is not a number; write it as 0.03 or 8/255"
        ) from None


def _integer(value: Any, path: str) -> int:
    try:
        if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
            raise ValueError
        return int(value)
    except (OverflowError, TypeError, ValueError):
        raise ConfigError(f"{path} = {value!r} is not a whole number") from None


def _truth(value: Any, path: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in words:
        raise ConfigError(f"{path} = {value!r} is neither true nor false")
    return words[str(value).lower()]


def _member(value: Any, kind: type[Enum], path: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        known = [str(member.value) for member in kind]
        raise ConfigError(
            f"{path} = {value!r} is unknown.{suggestion(str(value), known)} "
            f"Known: {', '.join(known)}."
        ) from None


def code_named(named: str) -> str:
    """A component as a report names it: code of the user's own without the folder of its file.

    >>> code_named("/home/ada/net.py:make"), code_named("gaussian-noise:sigma=0.25")
    ('net.py:make', 'gaussian-noise:sigma=0.25')
    """
    code = CODE.match(named)
    if code is None or not code["file"]:
        return named
    return last_of(code["file"]) + named[code.end("file") :]


def data_named(data: str) -> str:
    """A data set as a report names it: without the folder in which it lies on one machine.

    >>> data_named("cifar10:/data/cifar"), data_named("npz:/data/mine.npz"), data_named("digits")
    ('cifar10', 'npz:mine.npz', 'digits')
    """
    if CODE.match(data):
        return code_named(data)
    name, _, where = data.partition(":")
    return f"{name}:{last_of(where)}" if name in IN_FILES and where else name


def last_of(path: str) -> str:
    """The last part of a path, of whatever system."""
    return PureWindowsPath(path).name
