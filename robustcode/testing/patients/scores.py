"""Scores whose loss has no gradient left: in float32 the probabilities round to 0 and 1."""

from __future__ import annotations

from torch import Tensor, nn

from robustcode.testing.patients.base import Patient, shipped


class SaturatedSoftmax(nn.Module):
    """Probabilities at a low temperature: the best class has 1 and every other 0.

    Decisions are those of the model. Away from its boundaries the derivative p (1 - p) is zero,
    not merely small.

    Attributes:
        temperature: what logits are divided by. With .02 a lead of 2 is enough for a zero.
    """

    def __init__(self, model: nn.Module, temperature: float = 0.02) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities of shape (batch, classes)."""
        scores: Tensor = self.model(x)
        return (scores / self.temperature).softmax(1)


class ScaledLogits(nn.Module):
    """Logits times a factor: a lead of a tenth already makes the cross-entropy an exact zero."""

    def __init__(self, model: nn.Module, factor: float = 1000.0) -> None:
        super().__init__()
        self.model = model
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        scores: Tensor = self.model(x)
        return scores * self.factor


def saturated_softmax(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, that gives saturated probabilities in place of logits."""
    return SaturatedSoftmax(shipped(model)).eval()


def scaled_logits(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, with logits a thousand times as large."""
    return ScaledLogits(shipped(model)).eval()


PATIENTS = (
    Patient(
        name="saturated_softmax",
        says="returns probabilities that are exactly 0 and 1, so the loss has no gradient",
        source="defensive distillation, as broken by Carlini and Wagner 2016, arXiv:1607.04311",
        caught_by=("probabilities-as-logits", "zero-gradient"),
        model=saturated_softmax,
    ),
    Patient(
        name="scaled_logits",
        says="multiplies its logits by 1000, so the cross-entropy is 0 and so is its gradient",
        source="the scale of logits against cross-entropy: Croce and Hein 2020, arXiv:2003.01690, "
        "section 4",
        caught_by=("vanishing-loss",),
        model=scaled_logits,
    ),
)
