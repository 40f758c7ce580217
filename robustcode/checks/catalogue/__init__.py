"""The checks, one module each. Importing the package registers them."""

from __future__ import annotations

import importlib
import pkgutil

from robustcode.checks.base import CHECKS, Check, Group

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def every() -> list[Check]:
    """One of each, in the order of a page: by what they look at, then by name."""
    groups = list(Group)
    return sorted(
        (CHECKS.get(name)() for name in CHECKS),
        key=lambda check: (groups.index(check.group), check.code),
    )
