"""The weights that come with the package, so that the demo trains and downloads nothing."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

SHIPPED = {
    "digits_cnn": "digits_cnn.safetensors",
    "digits_cnn:adversarial": "digits_cnn_adversarial.safetensors",
}
"""Model spec -> file in the folder ``weights`` beside this module."""


def shipped_weights(spec: str) -> Traversable | None:
    """The file that ships for ``spec``, which may be missing, or None if none is meant to."""
    name = SHIPPED.get(spec)
    return files("robustcode.models") / "weights" / name if name else None
