"""What a data set is: numbered images in [0, 1] with their labels, converted batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustcode.data.checks import as_array, check_floats, class_numbers, require_split
from robustcode.errors import DataError
from robustcode.registry import Registry

Indices = Sequence[int] | Tensor | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set.

    Memory is that of the pixels as they are stored, or of one batch where they stay on disk. A
    data set can be pickled; its files must then be where they were.

    Attributes:
        name: the spec it was loaded from, e.g. ``cifar10:../shared/data/cifar10``.
        split: ``test`` or ``train``.
        labels: int64 of shape (samples,), each in 0 .. classes - 1.
        classes: number of classes.
        class_names: a name for each class, or ``("0", "1", ...)``.
        shape: channels, height, width of every image.
        sha256: of what was read, by file name within the folder; for data that come in
            memory, of the arrays.
    """

    name: str
    split: str
    labels: NDArray[np.int64] = field(repr=False)
    classes: int
    class_names: tuple[str, ...] = field(repr=False)
    shape: tuple[int, int, int]
    sha256: Mapping[str, str] = field(repr=False)
    # From int64 indices to pixels (n, channels, height, width): uint8 as 0..255 or float32.
    _read: Callable[[NDArray[np.int64]], NDArray[Any]] = field(repr=False)

    def __post_init__(self) -> None:
        require_split(self.split)
        labels = class_numbers(self.labels)
        outside = np.flatnonzero(labels >= self.classes)
        if outside.size:
            raise DataError(
                f"sample {outside[0]} has label {labels[outside[0]]}, but there are "
                f"{self.classes} classes, 0 to {self.classes - 1}"
            )
        if len(self.class_names) != self.classes:
            raise DataError(
                f"{len(self.class_names)} names for {self.classes} classes; give one each"
            )
        object.__setattr__(self, "labels", labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Indices) -> Tensor:
        """Those samples as float32 of shape (n, channels, height, width) in [0, 1]."""
        samples = self._samples(indices)
        pixels = self._read(samples)
        if pixels.shape != (len(samples), *self.shape):
            raise DataError(
                f"{self.name} gave pixels of shape {pixels.shape} "
                f"where {(len(samples), *self.shape)} was promised"
            )
        if pixels.dtype == np.uint8:
            return torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(255)
        check_floats(pixels, samples)
        return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))

    def targets(self, indices: Indices) -> Tensor:
        """The labels of those samples, int64 of shape (n,)."""
        return torch.from_numpy(self.labels[self._samples(indices)])

    def _samples(self, indices: Indices) -> NDArray[np.int64]:
        given = as_array(indices)
        if given.size == 0:
            return np.empty(0, dtype=np.int64)
        if given.dtype.kind not in "iu" or given.ndim != 1:
            raise DataError(
                f"samples are asked for by a list of indices; "
                f"got {given.dtype} of shape {given.shape}"
            )
        outside = given[(given < 0) | (given >= len(self))]
        if outside.size:
            raise DataError(
                f"there is no sample {outside[0]} in the {self.split} split of {self.name}, "
                f"which has samples 0 to {len(self) - 1}"
            )
        return given.astype(np.int64)


DATA: Registry[Callable[[str | None, str], Dataset]] = Registry("data set", "robustcode.data")
"""Loaders: what stands after the colon of the spec (or None), and the split."""
