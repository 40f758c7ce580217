"""From the text after ``--data`` to a data set."""

from __future__ import annotations

import inspect
from dataclasses import replace

from robustcode.data.arrays import from_arrays
from robustcode.data.checks import require_split
from robustcode.data.dataset import DATA, Dataset
from robustcode.errors import DataError, RobustcodeError
from robustcode.importing import import_callable, is_import_spec, reason


def load_data(spec: str, split: str = "test") -> Dataset:
    """The data set that ``spec`` names: ``NAME``, ``NAME:PATH`` or a callable.

    A callable is called with ``split=`` if it has a parameter of that name, else without
    arguments, and returns (images, labels) as from_arrays takes them, or a Dataset.
    """
    require_split(split)
    name, _, path = spec.partition(":")
    if name not in DATA and (is_import_spec(spec) or name.endswith(".py")):
        dataset = _from_callable(spec, split)
    else:
        dataset = DATA.get(name)(path or None, split)
    if not isinstance(dataset, Dataset):
        raise DataError(f"data set {name!r} gave a {type(dataset).__name__}, not a Dataset")
    return replace(dataset, name=spec, split=split)


def _from_callable(spec: str, split: str) -> Dataset:
    function = import_callable(spec)
    try:
        takes_split = "split" in inspect.signature(function).parameters
        made = function(split=split) if takes_split else function()
    except RobustcodeError:
        raise
    except (Exception, SystemExit) as cause:
        raise DataError(f"{spec!r} failed with {reason(cause)}") from cause
    if isinstance(made, Dataset):
        return made
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise DataError(
            f"{spec!r} returned a {type(made).__name__}; return (images, labels) or a Dataset"
        )
    images, labels = made
    return from_arrays(images, labels, name=spec, split=split)
