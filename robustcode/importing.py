"""Code that the user names: ``FILE.py:NAME`` or ``package.module:NAME``.

This is the one place where the project runs code it did not bring, and only because the user
wrote down which.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from robustcode.components import CODE
from robustcode.errors import ConfigError
from robustcode.registry import suggestion


def is_import_spec(spec: str) -> bool:
    """Whether ``spec`` has the form ``FILE.py:NAME`` or ``package.module:NAME``.

    Ask a registry first: a registered name goes before an import of the same form.

    >>> [is_import_spec(s) for s in ("nets.py:make", "acme.nets:make", "digits_cnn:adversarial")]
    [True, True, False]
    """
    return CODE.fullmatch(spec) is not None


def named_code(spec: str) -> Callable[..., Any] | None:
    """What ``spec`` names, imported; None if it does not have the form of code."""
    return import_callable(spec) if is_import_spec(spec) else None


def file_of(spec: str) -> Path | None:
    """The file that ``spec`` names code of; None if it names none."""
    match = CODE.fullmatch(spec)
    return Path(match["file"]).expanduser() if match and match["file"] else None


def import_callable(spec: str) -> Callable[..., Any]:
    """What ``spec`` names, imported.

    The folder of a file, or the working folder for a module, joins the end of ``sys.path``, so
    the code finds its neighbours and hides nothing that is installed.
    """
    match = CODE.fullmatch(spec)
    if match is None:
        raise ConfigError(f"{spec!r} names no code; write FILE.py:NAME or package.module:NAME")
    name, file = match["name"] or match["attribute"], file_of(spec)
    try:
        module = _package_module(match["module"]) if file is None else _module_of(file)
    except ConfigError:
        raise
    except (Exception, SystemExit) as cause:
        raise ConfigError(f"{spec!r} cannot be imported: {reason(cause)}") from cause
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigError(
            f"{spec!r}: {match['file'] or match['module']} defines no {name!r}."
            f"{suggestion(name, known)}"
        )
    found = getattr(module, name)
    if not callable(found):
        raise ConfigError(
            f"{spec!r} is {found!r}, which cannot be called; name a function or class"
        )
    return found


def reason(cause: BaseException) -> str:
    """An exception of somebody else's code in one line: its type and the first line it says."""
    first = str(cause).strip().partition("\n")[0]
    return f"{type(cause).__name__}: {first}" if first else type(cause).__name__


def _package_module(name: str) -> ModuleType:
    _search_also(Path.cwd())
    importlib.invalidate_caches()
    return importlib.import_module(name)


def _module_of(file: Path) -> ModuleType:
    """The module in ``file``, run once for each content the file has had."""
    if not file.is_file():
        raise ConfigError(f"there is no file {str(file)!r}")
    # The name holds place and content: an edited file is run again, an unchanged one is not, so
    # its classes keep their identity and can be pickled.
    content = str(file.resolve()).encode() + b"\0" + file.read_bytes()
    name = f"robustcode_user_{file.stem}_{hashlib.sha256(content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # its name ends with .py
    assert spec.loader is not None
    _search_also(file.resolve().parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search_also(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
