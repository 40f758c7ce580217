"""CIFAR-10 and CIFAR-100 in the layouts they are distributed in.

Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustcode.data.arrays import Arrays, Axes
from robustcode.data.dataset import DATA, Dataset
from robustcode.data.files import Files, Layout, load_layouts
from robustcode.data.npz import read_npz
from robustcode.data.pickled import ByteArray, read_pickle
from robustcode.errors import DataError

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PIXELS = 3 * 32 * 32  # a plane each of red, green and blue, row by row

Part = Callable[[Files, str], tuple[NDArray[Any], NDArray[Any]]]


def _packed(files: Files, names: Sequence[str]) -> Arrays:
    return _joined(_packed_part, files, names, Axes.NHWC, CIFAR10_CLASSES)


def _packed_part(files: Files, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    arrays = read_npz(files, name, ("images", "labels"))
    images = arrays["images"]
    if images.shape[1:] != (32, 32, 3) or images.dtype != np.uint8:
        raise files.damaged(
            name, f"images are {images.dtype} {images.shape}, not uint8 (n, 32, 32, 3)"
        )
    return images, arrays["labels"]


def _pickled10(files: Files, names: Sequence[str]) -> Arrays:
    part = partial(_pickled_part, key="labels")
    return _joined(part, files, names, Axes.NCHW, CIFAR10_CLASSES)


def _pickled100(files: Files, names: Sequence[str]) -> Arrays:
    meta = _beside(names[0], "meta")
    classes: Sequence[str] | int = 100
    if files.has(meta):
        with files.open(meta) as handle:
            fine = read_pickle(handle, meta).get("fine_label_names")
        if not isinstance(fine, list) or len(fine) != 100:
            raise files.damaged(meta, "it does not list 100 fine_label_names")
        classes = [str(name) for name in fine]
    part = partial(_pickled_part, key="fine_labels")
    return _joined(part, files, names, Axes.NCHW, classes)


def _pickled_part(files: Files, name: str, key: str) -> tuple[NDArray[Any], NDArray[Any]]:
    with files.open(name) as handle:
        content = read_pickle(handle, name)
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, ByteArray) or not isinstance(labels, list):
        raise files.damaged(name, f"it needs an array 'data' and a list {key!r}")
    try:
        return data.array().reshape(-1, 3, 32, 32), np.array(labels)
    except (ValueError, TypeError, OverflowError) as cause:
        raise files.damaged(name, cause) from cause


def _binary10(files: Files, names: Sequence[str]) -> Arrays:
    part = partial(_binary_part, heads=1)
    return _joined(part, files, names, Axes.NCHW, CIFAR10_CLASSES)


def _binary100(files: Files, names: Sequence[str]) -> Arrays:
    listed = _beside(names[0], "fine_label_names.txt")
    classes: Sequence[str] | int = 100
    if files.has(listed):
        classes = files.read(listed).decode(errors="replace").split()
    part = partial(_binary_part, heads=2)
    return _joined(part, files, names, Axes.NCHW, classes)


def _binary_part(files: Files, name: str, heads: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Records of ``heads`` label bytes, of which the last is the (fine) class, and the pixels."""
    raw = np.frombuffer(files.read(name), np.uint8)
    if raw.size % (heads + PIXELS):
        raise files.damaged(
            name, f"{raw.size} bytes are no whole number of records of {heads + PIXELS}"
        )
    records = raw.reshape(-1, heads + PIXELS)
    return records[:, heads:].reshape(-1, 3, 32, 32), records[:, heads - 1]


def _joined(
    part: Part, files: Files, names: Sequence[str], axes: Axes, classes: Sequence[str] | int
) -> Arrays:
    parts = [part(files, name) for name in names]
    for name, (images, labels) in zip(names, parts, strict=True):
        if len(images) != len(labels):
            raise DataError(f"{name!r} holds {len(images)} images but {len(labels)} labels")
    images, labels = (
        only[0] if len(only) == 1 else np.concatenate(only) for only in zip(*parts, strict=True)
    )
    return Arrays(images, labels, axes, classes)


def _beside(name: str, other: str) -> str:
    return name.rpartition("/")[0] + "/" + other if "/" in name else other


CIFAR10 = (
    Layout(
        "packed npz",
        ("",),
        {"test": ("test.npz",), "train": tuple(f"train_{part}.npz" for part in range(1, 6))},
        _packed,
    ),
    Layout(
        "python batches",
        ("", "cifar-10-batches-py"),
        {"test": ("test_batch",), "train": tuple(f"data_batch_{part}" for part in range(1, 6))},
        _pickled10,
    ),
    Layout(
        "binary batches",
        ("", "cifar-10-batches-bin"),
        {
            "test": ("test_batch.bin",),
            "train": tuple(f"data_batch_{part}.bin" for part in range(1, 6)),
        },
        _binary10,
    ),
)

CIFAR100 = (
    Layout(
        "python", ("", "cifar-100-python"), {"test": ("test",), "train": ("train",)}, _pickled100
    ),
    Layout(
        "binary",
        ("", "cifar-100-binary"),
        {"test": ("test.bin",), "train": ("train.bin",)},
        _binary100,
    ),
)


@DATA.register("cifar10")
def cifar10(path: str | None, split: str) -> Dataset:
    """CIFAR-10, images (3, 32, 32), 10 classes."""
    return load_layouts("cifar10", CIFAR10, path, split)


@DATA.register("cifar100")
def cifar100(path: str | None, split: str) -> Dataset:
    """CIFAR-100 with its fine labels, images (3, 32, 32), 100 classes."""
    return load_layouts("cifar100", CIFAR100, path, split)
