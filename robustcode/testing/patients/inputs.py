"""Inputs that are rewritten by steps: they keep what is seen and lose the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustcode.defenses.jpeg import JPEG
from robustcode.seeds import Streams
from robustcode.testing.patients.base import Patient, shipped


class Quantised(nn.Module):
    """Every value is rounded to one of ``levels``, evenly spaced from 0 to 1."""

    def __init__(self, model: nn.Module, levels: int = 9) -> None:
        super().__init__()
        self.model = model
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes); the gradient of rounding is zero."""
        steps = self.levels - 1
        scores: Tensor = self.model((x * steps).round() / steps)
        return scores


class Thermometer(nn.Module):
    """Every value becomes a row of bits, one for each level that it exceeds.

    The network is asked about the value that the bits spell, so that it need not be trained anew.
    Bits are comparisons: they have no graph at all.
    """

    levels: Tensor

    def __init__(self, model: nn.Module, bits: int = 10) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("levels", (torch.arange(bits) + 0.5) / bits)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        code = (x[..., None] > self.levels).to(x.dtype)  # (batch, channels, height, width, bits)
        scores: Tensor = self.model(code.mean(-1))
        return scores


@dataclass(frozen=True, kw_only=True)
class JPEGWithoutSurrogate(JPEG):
    """JPEG compression that claims to be differentiable, and offers nothing to follow."""

    differentiable: ClassVar[bool] = True

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """The scores themselves, which have no graph."""
        return self.logits(x, streams)


def quantised(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, behind a rounding of its input."""
    return Quantised(shipped(model)).eval()


def thermometer(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, behind a thermometer code of its input."""
    return Thermometer(shipped(model)).eval()


PATIENTS = (
    Patient(
        name="quantised",
        says="rounds its input, which has a zero gradient, and says it is differentiable",
        source="feature squeezing, Xu et al. 2018, arXiv:1704.01155, section III-A; shattered "
        "gradients, Athalye et al. 2018, arXiv:1802.00420",
        caught_by=("declared-differentiable", "zero-gradient"),
        model=quantised,
    ),
    Patient(
        name="thermometer",
        says="compares its input with levels: the code has no graph behind it",
        source="thermometer encoding, Buckman et al. 2018; broken by Athalye et al. 2018, "
        "arXiv:1802.00420",
        caught_by=("declared-differentiable", "missing-gradient"),
        model=thermometer,
    ),
    Patient(
        name="JPEGWithoutSurrogate",
        says="writes its input to a JPEG file and reads it back, and says it is differentiable",
        source="Dziugaite et al. 2016, arXiv:1608.00853; Guo et al. 2018, arXiv:1711.00117",
        caught_by=("declared-differentiable", "missing-gradient"),
        defense=JPEGWithoutSurrogate,
    ),
)
