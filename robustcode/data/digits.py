"""scikit-learn's 8x8 digits, embedded, in a split of our own that no version changes."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from robustcode.data.arrays import Arrays, Axes, array_sha256, in_memory
from robustcode.data.dataset import DATA, Dataset
from robustcode.errors import DataError

TEST_SAMPLES = 500  # the other 1,297 of 1,797 are the train split

# Of pixels (1797, 8, 8) and labels as uint8, so that a version with other digits is noticed.
DIGITS_SHA256 = "a0eefbf832eeb7ea75a1a45c52243bbc2d087f0dd1c5f270cf3b72c968e83a36"


@DATA.register("digits")
def digits(path: str | None, split: str) -> Dataset:
    """Images (1, 8, 8) of pixel / 16, so the levels are 0, 1/16, ..., 1.

    Every index of the original has a rank, the sha256 of the text ``robustcode digits INDEX``.
    Of each class the lowest ranks are the test split, as many as its share of 500 rounded by
    largest remainders. Both splits are numbered in order of rank: the first n samples are then a
    random part of their split.
    """
    if path:
        raise DataError(f"digits is embedded and takes no path; got {path!r}")
    # Here and not above: scikit-learn takes a second to import.
    from sklearn.datasets import load_digits

    values, target = load_digits(return_X_y=True)
    pixels = np.asarray(values, dtype=np.uint8).reshape(-1, 8, 8)
    labels = np.asarray(target, dtype=np.uint8)
    if array_sha256(pixels, labels) != DIGITS_SHA256:
        raise DataError("scikit-learn's digits have changed; install scikit-learn 1.4 to 1.9")
    chosen = _split(labels.astype(np.int64))[split]
    images = pixels[chosen].astype(np.float32) / 16
    arrays = Arrays(images, labels[chosen], Axes.NHW, 10)
    sha256 = {"digits": array_sha256(images, arrays.labels)}
    return in_memory(arrays, "digits", split, sha256)


def _split(labels: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    names = [f"robustcode digits {index}" for index in range(len(labels))]
    ranks = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    order = np.array(sorted(range(len(labels)), key=ranks.__getitem__))
    share = np.bincount(labels) * TEST_SAMPLES / len(labels)
    counts = np.floor(share).astype(np.int64)
    remainders = share - counts
    # A stable sort: of equal remainders the lower class gains.
    counts[np.argsort(-remainders, kind="stable")[: TEST_SAMPLES - counts.sum()]] += 1
    test = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(counts):
        test[order[labels[order] == label][:count]] = True
    return {"test": order[test[order]], "train": order[~test[order]]}
