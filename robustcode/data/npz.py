"""A data set in one .npz file of arrays ``images`` and ``labels``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from robustcode.data.arrays import Arrays, axes_of, in_memory
from robustcode.data.dataset import DATA, Dataset
from robustcode.data.files import Files
from robustcode.errors import DataError

# What numpy and zipfile raise for files that are cut, altered, encrypted or of another kind.
DAMAGE = (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@DATA.register("npz")
def npz(path: str | None, split: str) -> Dataset:
    """Arrays ``images`` and ``labels``, for either split; see from_arrays for what they may be.

    An array ``classes``, if there is one, holds the names of the classes or their number.
    """
    if not path:
        raise DataError("npz is read from a file; write npz:FILE")
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a folder, not a file" if file.exists() else "does not exist"
        raise DataError(f"npz: {path!r} {what}; it would hold the arrays images and labels")
    files = Files(file.parent)
    arrays = read_npz(files, file.name, ("images", "labels"), ("classes",))
    images, labels = arrays["images"], arrays["labels"]
    classes = _classes(arrays["classes"]) if "classes" in arrays else None
    split_arrays = Arrays(images, labels, axes_of(images), classes)
    return in_memory(split_arrays, f"npz:{path}", split, files.sha256)


def read_npz(
    files: Files, name: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Those arrays of the file. Arrays of objects are refused: they would be unpickled."""
    with files.open(name) as handle:
        try:
            content = np.load(handle, allow_pickle=False)
            if not isinstance(content, NpzFile):
                raise files.damaged(name, "it is no .npz file")
            missing = [key for key in needed if key not in content]
            if missing:
                raise DataError(
                    f"{name!r} has no array {' and no '.join(map(repr, missing))}; "
                    f"it has {', '.join(content) or 'none'}"
                )
            wanted = [*needed, *(key for key in optional if key in content)]
            return {key: content[key] for key in wanted}
        except DataError:
            raise
        except DAMAGE as cause:
            raise files.damaged(name, cause) from cause


def _classes(array: NDArray[Any]) -> Sequence[str] | int:
    if array.ndim == 0 and array.dtype.kind in "iu" and array > 0:
        return int(array)
    if array.ndim == 1 and array.dtype.kind == "U":
        return [str(name) for name in array]
    raise DataError(
        f"classes is {array.dtype} of shape {array.shape}; give one number, or a list of names"
    )
