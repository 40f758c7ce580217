"""What splits, labels and pixels must be, each said in one sentence when it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustcode.errors import DataError
from robustcode.registry import suggestion

SPLITS = ("test", "train")


def require_split(split: str) -> None:
    """Raise DataError unless ``split`` is one we know."""
    if split not in SPLITS:
        raise DataError(
            f"split {split!r} is unknown.{suggestion(split, SPLITS)} Known: {', '.join(SPLITS)}."
        )


def class_numbers(labels: NDArray[Any]) -> NDArray[Any]:
    """The labels, if they are one whole number from 0 on for each of at least one sample."""
    if labels.ndim != 1:
        raise DataError(
            f"labels have shape {labels.shape}; give one class number a sample, shape (samples,)"
        )
    if len(labels) == 0:
        raise DataError("the data hold no samples; there is nothing to measure")
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}, e.g. {labels[0]}; give whole class numbers")
    negative = np.flatnonzero(labels < 0)
    if negative.size:
        raise DataError(
            f"sample {negative[0]} has label {labels[negative[0]]}; classes are numbered from 0"
        )
    return labels


def check_floats(pixels: NDArray[Any], samples: NDArray[np.int64]) -> None:
    """Raise DataError unless the pixels of these samples are numbers in [0, 1]."""
    if pixels.size == 0:
        return
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low + high):
        wrong = ~np.isfinite(pixels).all(axis=(1, 2, 3))
        raise DataError(
            f"sample {samples[wrong][0]} has pixels that are NaN or infinite; repair or drop it"
        )
    if low < 0 or high > 1:
        raise DataError(f"pixels span [{low:.9g}, {high:.9g}]; {_remedy(low, high)}")


def as_array(values: object) -> NDArray[Any]:
    """A tensor, an array or a sequence as an array, sharing memory where that is possible."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # numpy has no bfloat16; float32 holds every value of it.
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        return np.asarray(values)
    except ValueError as cause:
        raise DataError(f"a {type(values).__name__} is not one array: {cause}") from cause


def _remedy(low: float, high: float) -> str:
    if low >= -0.01 and high <= 1.01:
        return "clip them to [0, 1]"
    if low >= 0 and high <= 255:
        return "divide by 255"
    return "undo their normalisation, which belongs inside the model"
