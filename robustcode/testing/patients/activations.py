"""Activations with jumps: their derivative is zero, or says nothing of what comes next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustcode.testing.patients.base import Patient, shipped
from robustcode.testing.patients.hidden import convolutions_of
from robustcode.testing.patients.readout import readout, training_digits


class Sign(nn.Module):
    """-1 or 1 for each value; the derivative is zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of ``x``."""
        return x.sign()


class WinnersTakeAll(nn.Module):
    """Each pixel is coded by cells that compete; the k strongest keep their value, as others do 0.

    Cell j is linear, c_j x - c_j^2 / 2 + bias, so the strongest is the one whose centre c_j is
    nearest to the pixel. A linear layer reads the pixel back from the winners, exactly where it is
    at a centre. Between two changes of the winners the read value falls as the pixel rises, and at
    each change it jumps up: the gradient points away from where the scores go.

    Attributes:
        cells: how many a pixel is coded by.
        winners: how many keep their value.
    """

    centres: Tensor

    def __init__(self, model: nn.Module, cells: int = 17, winners: int = 2) -> None:
        super().__init__()
        self.model = model
        self.winners = winners
        self.bias = -1.0  # below -1/2 every slope is negative
        self.register_buffer("centres", torch.linspace(0, 1, cells))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        height = self.bias - self.centres.square() / 2  # of each cell at a pixel of 0
        values = x[..., None] * self.centres + height
        strongest = values.topk(self.winners, dim=-1).indices
        kept = torch.zeros_like(values).scatter(-1, strongest, values.gather(-1, strongest))
        reading = self.centres / (self.centres.square() + height)
        scores: Tensor = self.model(kept @ reading / self.winners)
        return scores


def sign_activation() -> nn.Module:
    """The convolutions of the shipped digits classifier, their signs, and a head fitted to them."""
    x, y = training_digits()
    body = nn.Sequential(convolutions_of(), nn.Flatten(), Sign()).eval()
    with torch.no_grad():
        features = body(x)
    return nn.Sequential(body, readout(features, y)).eval()


def winners_take_all(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, behind a layer of cells of which the strongest win."""
    return WinnersTakeAll(shipped(model)).eval()


PATIENTS = (
    Patient(
        name="sign_activation",
        says="a hidden layer of signs, whose derivative is zero everywhere",
        source="binarised activations; shattered gradients, Athalye et al. 2018, arXiv:1802.00420",
        caught_by=("declared-differentiable", "zero-gradient"),
        model=sign_activation,
    ),
    Patient(
        name="winners_take_all",
        says="lets the strongest cells win: the slope between two changes of winners misleads",
        source="k-winners-take-all, Xiao et al. 2020, arXiv:1905.10510; broken by Tramer et al. "
        "2020, arXiv:2002.08347",
        caught_by=("gradient-free-better", "unstable-loss"),
        model=winners_take_all,
    ),
)
