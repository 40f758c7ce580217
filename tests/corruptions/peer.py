"""imagecorruptions as a peer: what its last release misses in today's libraries is given to it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

NEEDED = ("imagecorruptions", "skimage", "cv2")


def load() -> Any:
    """The module that holds its corruptions and their helpers; LookupError if it is not installed.

    Release 1.1.2 imports pkg_resources, which setuptools has given up, asks NumPy 1 for float_ and
    scikit-image before 0.19 for multichannel.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise LookupError(f"needs {name} to compare with: pip install imagecorruptions")
    if "imagecorruptions.corruptions" in sys.modules:
        return sys.modules["imagecorruptions.corruptions"]
    found = importlib.util.find_spec("imagecorruptions")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    resources = types.ModuleType("pkg_resources")
    setattr(resources, "resource_filename", lambda _, name: str(folder / name))  # noqa: B010
    missing = "pkg_resources" not in sys.modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if missing:
            sys.modules["pkg_resources"] = resources
        try:
            module: Any = importlib.import_module("imagecorruptions.corruptions")
        finally:
            if missing:
                del sys.modules["pkg_resources"]
    module.resource_filename = resources.resource_filename
    smooth = module.gaussian

    def gaussian(x: Any, *others: Any, multichannel: bool = False, **named: Any) -> Any:
        return smooth(x, *others, channel_axis=-1 if multichannel else None, **named)

    module.gaussian = gaussian
    module.np = _WithFloat(np)
    return module


class _WithFloat:
    """NumPy, and the name of a type that it has no longer."""

    float_ = np.float64

    def __init__(self, library: types.ModuleType) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)
