"""A data set over arrays in memory: the order of their axes, their range and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustcode.data.checks import as_array, check_floats, class_numbers
from robustcode.data.dataset import Dataset
from robustcode.errors import DataError

# Pixels are checked this many samples at a time, so that a check takes no dataset of memory.
CHUNK = 256

# Labels beyond this are identifiers and not class numbers; a name for each would fill memory.
MAX_CLASSES = 1_000_000


class Axes(StrEnum):
    """The order of samples N, channels C, height H and width W in an array of images."""

    NCHW = "NCHW"
    NHWC = "NHWC"
    NHW = "NHW"


class Arrays(NamedTuple):
    """A split in memory, as a file holds it."""

    images: NDArray[Any]  # uint8, or floats in [0, 1]
    labels: NDArray[Any]  # (samples,)
    axes: Axes
    classes: Sequence[str] | int | None  # names, number, or the largest label and one


def from_arrays(
    images: object,
    labels: object,
    name: str = "arrays",
    split: str = "test",
    classes: Sequence[str] | int | None = None,
    axes: str | None = None,
) -> Dataset:
    """A data set from numpy arrays or tensors, which are shared and not copied if they can be.

    Images are uint8 (0 to 255) or floats in [0, 1]. Without ``axes``, three axes are NHW, and of
    four the one of length 1 or 3 holds the channels; if the second and the last both have such a
    length, or neither, the order must be said. ``classes`` gives names or a number; without it
    the largest label is the last class.
    """
    pixels, numbers = as_array(images), as_array(labels)
    arrays = Arrays(pixels, numbers, axes_of(pixels, axes), classes)
    dataset = in_memory(arrays, name, split, {})
    # Only now: an array of objects, which is refused above, would be hashed by its addresses.
    sha256 = {"images": array_sha256(pixels), "labels": array_sha256(numbers)}
    return replace(dataset, sha256=sha256)


def in_memory(arrays: Arrays, name: str, split: str, sha256: Mapping[str, str]) -> Dataset:
    """A data set over arrays, every pixel of which is checked here."""
    labels = class_numbers(arrays.labels)
    if len(arrays.images) != len(labels):
        raise DataError(f"there are {len(arrays.images)} images but {len(labels)} labels")
    pixels = _pixels(arrays.images, arrays.axes)
    _, channels, height, width = pixels.shape
    classes = arrays.classes
    if classes is None:
        classes = int(labels.max()) + 1
        if classes > MAX_CLASSES:
            raise DataError(f"label {classes - 1} is no class number; number the classes from 0")
    names = tuple(map(str, range(classes) if isinstance(classes, int | np.integer) else classes))
    return Dataset(
        name=name,
        split=split,
        labels=labels,
        classes=len(names),
        class_names=names,
        shape=(channels, height, width),
        sha256=dict(sha256),
        _read=Stored(pixels),
    )


def axes_of(images: NDArray[Any], axes: str | None = None) -> Axes:
    """The order of the axes, from what is said or from the shape alone; see from_arrays."""
    if axes is not None and axes not in list(Axes):
        raise DataError(f"axes = {axes!r} is unknown; write one of {', '.join(Axes)}")
    if axes is None and images.ndim == 4:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        if first == last:
            raise DataError(
                f"images of shape {images.shape} can be read as neither NCHW nor NHWC"
                if not first
                else f"images of shape {images.shape} can be read as NCHW and as NHWC; "
                "say which by from_arrays(..., axes='NCHW')"
            )
        axes = "NCHW" if first else "NHWC"
    found = Axes(axes or "NHW")
    if images.ndim != len(found):
        raise DataError(
            f"images have shape {images.shape}, which is not {found}; "
            "give samples, channels, height and width"
        )
    return found


@dataclass(frozen=True, eq=False)
class Stored:
    """Pixel access to an array of shape (samples, channels, height, width)."""

    pixels: NDArray[Any]

    def __call__(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        """A copy of those samples."""
        return self.pixels[samples]


def array_sha256(*arrays: NDArray[Any]) -> str:
    """One hash of arrays: of type and shape as text, then the values in C order, little-endian."""
    digest = hashlib.sha256()
    for array in arrays:
        plain = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{plain.dtype.str} {plain.shape};".encode())
        digest.update(np.ascontiguousarray(plain).data)
    return digest.hexdigest()


def _pixels(images: NDArray[Any], axes: Axes) -> NDArray[Any]:
    """A view as (samples, channels, height, width), uint8 or float32, checked."""
    if axes is Axes.NHW:
        images = images[:, None]
    elif axes is Axes.NHWC:
        images = images.transpose(0, 3, 1, 2)
    if 0 in images.shape[1:]:
        raise DataError(f"images of shape {images.shape[1:]} have no pixels")
    if images.dtype == np.uint8:
        # An image scaled to [0, 1] and then stored as bytes is black but for its maxima.
        if images.max() == 1:
            raise DataError("uint8 pixels span [0, 1] but are read as 0..255; store them as floats")
        return images
    if images.dtype.kind != "f":
        raise DataError(f"images are {images.dtype}; give uint8 (0 to 255) or floats in [0, 1]")
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        check_floats(chunk, np.arange(start, start + len(chunk)))
    return images.astype(np.float32, copy=False)
