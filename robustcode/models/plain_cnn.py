"""Two convolutions and two linear layers, with ReLU: networks small enough to be verified."""

from __future__ import annotations

from torch import nn

from robustcode.models.base import MODELS, Inputs

# The values of the files named cifar_cnn_a_*: published on the scale 0..255.
CNN_A_CIFAR = Inputs(
    shape=(3, 32, 32),
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
)


class PlainCNN(nn.Sequential):
    """Convolutions, ReLUs, flatten and linear layers in a row, numbered from 0."""

    def __init__(self, inputs: Inputs, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.inputs = inputs


@MODELS.register("digits_cnn")
def digits_cnn(classes: int = 10) -> nn.Module:
    """A network for scikit-learn's 8x8 digits: 38,282 parameters, weights in the package."""
    return PlainCNN(
        Inputs(shape=(1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


@MODELS.register("cifar_cnn_a")
def cifar_cnn_a(classes: int = 10) -> nn.Module:
    """CNN-A for CIFAR-10; normalises as its published checkpoints expect.

    Source: Dathathri et al. 2020, arXiv:2010.11645; checkpoints by alpha-beta-CROWN.
    """
    return _cnn_a(CNN_A_CIFAR, classes)


@MODELS.register("mnist_cnn_a")
def mnist_cnn_a(classes: int = 10) -> nn.Module:
    """CNN-A for MNIST: also the network of Wong and Kolter 2018, arXiv:1711.00851."""
    return _cnn_a(Inputs(shape=(1, 28, 28)), classes)


def _cnn_a(inputs: Inputs, classes: int) -> PlainCNN:
    channels, height, width = inputs.shape
    return PlainCNN(
        inputs,
        nn.Conv2d(channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )
