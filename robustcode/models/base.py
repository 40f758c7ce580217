"""What a registered architecture is: a factory of networks that know what they are fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from robustcode.registry import Registry

MODELS: Registry[Callable[..., nn.Module]] = Registry("model", "robustcode.models")
"""Name -> factory ``(classes=10)`` of a freshly initialised network without normalisation.

The network maps (batch, channels, height, width) to logits (batch, classes). Its attribute
names are those of the published checkpoints, so that these load.
"""


@dataclass(frozen=True)
class Inputs:
    """What a network was made for; its factory leaves it on the network as ``inputs``.

    Attributes:
        shape: (channels, height, width) of one image.
        mean: what the published weights expect to be subtracted from an image in [0, 1], one
            value a channel; empty if they take the image as it is.
        std: what they expect it to be divided by afterwards.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def inputs_of(network: nn.Module) -> Inputs | None:
    """What ``network`` was made for, or None where its author did not say."""
    inputs = getattr(network, "inputs", None)
    return inputs if isinstance(inputs, Inputs) else None
