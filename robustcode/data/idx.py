"""MNIST and Fashion-MNIST in idx files.

Source: the format is described at http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustcode.data.arrays import Arrays, Axes
from robustcode.data.dataset import DATA, Dataset
from robustcode.data.files import Files, Layout, load_layouts

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


@DATA.register("mnist")
def mnist(path: str | None, split: str) -> Dataset:
    """MNIST, images (1, 28, 28), 10 classes."""
    return load_layouts("mnist", _layouts("MNIST/raw", 10), path, split)


@DATA.register("fashion_mnist")
def fashion_mnist(path: str | None, split: str) -> Dataset:
    """Fashion-MNIST, images (1, 28, 28), 10 classes."""
    layouts = _layouts("FashionMNIST/raw", FASHION_CLASSES)
    return load_layouts("fashion_mnist", layouts, path, split)


def _layouts(place: str, classes: Sequence[str] | int) -> tuple[Layout, ...]:
    """Files with .gz and without, as first published and as torchvision keeps them."""

    def read(files: Files, names: Sequence[str]) -> Arrays:
        images, labels = (
            read_idx(files, name, axes) for name, axes in zip(names, (3, 1), strict=True)
        )
        return Arrays(images, labels, Axes.NHW, classes)

    def names(part: str, end: str) -> tuple[str, str]:
        return f"{part}-images-idx3-ubyte{end}", f"{part}-labels-idx1-ubyte{end}"

    return tuple(
        Layout(title, ("", place), {"test": names("t10k", end), "train": names("train", end)}, read)
        for title, end in (("idx.gz", ".gz"), ("idx", ""))
    )


def read_idx(files: Files, name: str, axes: int) -> NDArray[Any]:
    """The bytes of an idx file as an array with that many axes, header and size checked."""
    content = files.read(name)
    if name.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as cause:
            raise files.damaged(name, cause) from cause
    # Two zero bytes, 8 for unsigned bytes, the number of axes; then the length of each.
    magic = struct.pack(">HBB", 0, 8, axes)
    start = 4 * (1 + axes)
    if content[:4] != magic or len(content) < start:
        raise files.damaged(
            name, f"it begins with {content[:4].hex() or 'nothing'} where {magic.hex()} was due"
        )
    shape = struct.unpack(f">{axes}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != math.prod(shape):
        raise files.damaged(name, f"it announces {shape} values and holds {values.size}")
    return values.reshape(shape)
