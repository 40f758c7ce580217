"""A pool of clean images that a defence mixes its inputs with."""

from __future__ import annotations

from torch import Tensor

from robustcode.errors import ConfigError, DataError


def require_images(mates: Tensor) -> None:
    """Raise DataError unless ``mates`` are images in [0, 1]."""
    if mates.ndim != 4 or not mates.is_floating_point():
        raise DataError(
            "batch mates are images of shape (pool, channels, height, width) in [0, 1]; "
            f"got {mates.dtype} of shape {tuple(mates.shape)}"
        )
    if not ((mates >= 0) & (mates <= 1)).all():
        raise DataError("batch mates are not images in [0, 1]; scale them first")


def require_fit(x: Tensor, mates: Tensor) -> None:
    """Raise ConfigError unless inputs and pool hold images of one shape."""
    if x.shape[1:] != mates.shape[1:]:
        raise ConfigError(
            f"inputs of shape {tuple(x.shape[1:])} cannot be mixed with mates of shape "
            f"{tuple(mates.shape[1:])}; give a pool of the same data"
        )
