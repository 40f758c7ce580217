"""Batch norm that never leaves training: what one input gets depends on the rest of its batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.testing.patients.base import Patient
from robustcode.testing.patients.hidden import convolutions_of, rest_of
from robustcode.testing.patients.readout import training_digits


class AlwaysTraining(nn.Module):
    """Batch norm by the statistics of the batch, whatever ``eval`` says.

    Attributes:
        mean: that the output has in each channel, (channels,).
        std: likewise; with those of the training data the network after it needs no change.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of ``x``, (batch, channels, height, width)."""
        return F.batch_norm(x, None, None, self.std, self.mean, training=True)


def batch_norm_in_training() -> nn.Module:
    """The shipped digits classifier with a batch norm after its second convolution."""
    body = convolutions_of()
    with torch.no_grad():
        values = body(training_digits()[0]).transpose(0, 1).flatten(1)  # (channels, all else)
    norm = AlwaysTraining(values.mean(1), values.std(1))
    return nn.Sequential(body, norm, rest_of()).eval()


PATIENTS = (
    Patient(
        name="batch_norm_in_training",
        says="normalises by its batch: mates that are wrong already drown the gradient of others",
        source="batch statistics at inference: Wu et al. 2023, arXiv:2301.12576",
        caught_by=("declared-uncoupled",),
        model=batch_norm_in_training,
        coupled=True,
    ),
)
