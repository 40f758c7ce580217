"""Gradients that are thrown away: the scores are the model's, and nothing leads back."""

from __future__ import annotations

from torch import Tensor, nn

from robustcode.testing.patients.base import Patient, shipped


class ClippedGradient(nn.Module):
    """The model, with the gradient in its input clipped to zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        passed = x.view_as(x)
        if passed.requires_grad:
            passed.register_hook(_clipped)
        scores: Tensor = self.model(passed)
        return scores


class DetachedInput(nn.Module):
    """The model of a copy of its input that no gradient reaches."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), without a graph."""
        scores: Tensor = self.model(x.detach())
        return scores


def _clipped(gradient: Tensor) -> Tensor:
    """The gradient clipped to a range of no width."""
    return gradient.clamp(0.0, 0.0)


def clipped_gradient(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, with its input gradient clipped to zero."""
    return ClippedGradient(shipped(model)).eval()


def detached_input(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, of a detached input."""
    return DetachedInput(shipped(model)).eval()


PATIENTS = (
    Patient(
        name="clipped_gradient",
        says="clips the gradient to zero on its way back to the input",
        source="gradient masking: Athalye et al. 2018, arXiv:1802.00420; the indicator of "
        "unavailable gradients, Pintor et al. 2022, arXiv:2106.09947",
        caught_by=("declared-differentiable", "zero-gradient"),
        model=clipped_gradient,
    ),
    Patient(
        name="detached_input",
        says="detaches its input from the graph",
        source="the indicator of unavailable gradients, Pintor et al. 2022, arXiv:2106.09947",
        caught_by=("declared-differentiable", "missing-gradient"),
        model=detached_input,
    ),
)
