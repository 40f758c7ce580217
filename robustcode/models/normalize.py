"""Normalisation inside the classifier, so that every budget is in the units of the image."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustcode.errors import ConfigError
from robustcode.models.base import inputs_of


class Normalize(nn.Module):
    """``(x - mean) / std`` per channel, for x of shape (batch, channels, height, width).

    Mean and std are buffers outside the state dict: weights of the bare network load as they
    are, and a checkpoint cannot change the units that eps is measured in.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ConfigError(
                f"a mean of {len(mean)} values and a std of {len(std)} do not make a "
                "normalisation; give one value of each per channel"
            )
        if not all(map(math.isfinite, mean)):
            raise ConfigError(f"mean = {_values(mean)} has a value that is not a finite number")
        if not all(0 < value < math.inf for value in std):
            raise ConfigError(f"std = {_values(std)} has a value that is not positive and finite")
        shape = (-1, 1, 1)
        self.register_buffer("mean", torch.tensor(list(mean)).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(shape), persistent=False)
        self.values = tuple(map(float, mean)), tuple(map(float, std))

    def forward(self, x: Tensor) -> Tensor:
        """The normalised batch, of the same shape."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """See nn.Module."""
        return f"mean={self.values[0]}, std={self.values[1]}"


class Classifier(nn.Sequential):
    """Images (batch, channels, height, width) in [0, 1] -> logits (batch, classes).

    Attributes:
        normalize: a Normalize, or nn.Identity for a network that takes the image as it is.
        network: the plain logits network.
    """

    normalize: nn.Module
    network: nn.Module

    def __init__(self, normalize: nn.Module, network: nn.Module) -> None:
        super().__init__(OrderedDict(normalize=normalize, network=network))
        # A network in the wrong mode must be seen as such, and is not put right here.
        for module in (self, normalize):
            module.training = network.training

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std per channel; both empty if the image is taken as it is."""
        return self.normalize.values if isinstance(self.normalize, Normalize) else ((), ())


def as_classifier(
    network: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Classifier:
    """``network`` behind a normalisation, in the mode it came in.

    Without ``mean`` and ``std`` it is the one that the network's ``inputs`` name; if they name
    none, or both are given but empty, the network takes the image as it is.
    """
    if isinstance(network, Classifier) and mean is None and std is None:
        return network
    inputs = inputs_of(network)
    if mean is None and std is None and inputs is not None:
        mean, std = inputs.mean, inputs.std
    mean, std = mean or (), std or ()
    if not mean and not std:
        return Classifier(nn.Identity(), network)
    normalize = Normalize(mean, std)
    channels = inputs.shape[0] if inputs is not None else _first_channels(network)
    if channels is not None and channels != len(mean):
        raise ConfigError(
            f"mean = {_values(mean)} and std = {_values(std)} are for {len(mean)} "
            f"channel{'s' * (len(mean) > 1)}, but the network takes {channels}; "
            "give one value per channel"
        )
    return Classifier(normalize, network)


def _first_channels(network: nn.Module) -> int | None:
    """Channels that the first convolution takes, or None without one."""
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    return first.in_channels if first is not None else None


def _values(numbers: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in numbers)
