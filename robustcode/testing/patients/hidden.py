"""The shipped digits classifier, opened between its layers."""

from __future__ import annotations

from torch import nn

from robustcode.testing.patients.base import shipped


def _layers() -> list[nn.Module]:
    """Convolution, ReLU, convolution, ReLU, flatten, linear, ReLU, linear; nothing before them."""
    network = shipped().get_submodule("network")
    return list(network.children())


def convolutions_of() -> nn.Sequential:
    """From images to what comes out of its second convolution, (batch, 32, 4, 4)."""
    return nn.Sequential(*_layers()[:3]).eval()


def rest_of() -> nn.Sequential:
    """From there to the scores."""
    return nn.Sequential(*_layers()[3:]).eval()


def hidden_of() -> nn.Sequential:
    """From images to the 64 values of its last hidden layer."""
    return nn.Sequential(*_layers()[:-1]).eval()
