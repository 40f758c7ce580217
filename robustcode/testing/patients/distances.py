"""Scores that are kernel responses to the class means, with a kernel far too narrow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustcode.testing.patients.base import Patient
from robustcode.testing.patients.hidden import hidden_of
from robustcode.testing.patients.readout import training_digits


class KernelScores(nn.Module):
    """exp(-gamma d^2) of the distance to each class mean, relative to the largest.

    The nearest mean has 1 and every other underflows to 0, here and all around.

    Attributes:
        features: from images to features (batch, features).
        means: of each class, (classes, features).
        gamma: width of the kernel, in units of one over a squared distance of features.
    """

    means: Tensor

    def __init__(self, features: nn.Module, means: Tensor, gamma: float = 1e4) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("means", means)
        self.gamma = gamma

    def square_distances(self, x: Tensor) -> Tensor:
        """Squared distances to the class means, (batch, classes)."""
        return (self.features(x)[:, None] - self.means).square().sum(2)

    def forward(self, x: Tensor) -> Tensor:
        """Responses of shape (batch, classes) in [0, 1]."""
        squares = self.square_distances(x)
        return (-self.gamma * (squares - squares.amin(1, keepdim=True))).exp()


def kernel_scores() -> nn.Module:
    """Distances in the last hidden layer of the shipped digits classifier."""
    x, y = training_digits()
    features = hidden_of()
    with torch.no_grad():
        values = features(x)
    means = torch.stack([values[y == label].mean(0) for label in range(10)])
    return KernelScores(features, means).eval()


PATIENTS = (
    Patient(
        name="kernel_scores",
        says="scores by exp(-gamma d^2) to class means; all but the nearest underflow to 0",
        source="radial basis functions as an output; the underflow is a vanishing gradient in the "
        "sense of Athalye et al. 2018, arXiv:1802.00420",
        caught_by=("zero-gradient", "low-precision"),
        model=kernel_scores,
    ),
)
