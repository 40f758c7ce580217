"""Optimisation at test time, which no gradient goes through."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.testing.patients.base import Patient, shipped


class Purified(nn.Module):
    """The input is first moved to where the model is surer of its own guess.

    A few signed gradient steps lower the cross-entropy of the guessed class; the scores are those
    of where they lead. The guess is as wrong as the model's, but the steps leave no graph.

    Attributes:
        steps: how many.
        step: length of one, in linf.
    """

    def __init__(self, model: nn.Module, steps: int = 2, step: float = 0.05) -> None:
        super().__init__()
        self.model = model
        self.steps = steps
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), without a graph."""
        x = x.detach()
        with torch.enable_grad():
            guess = self.model(x).argmax(1)
            for _ in range(self.steps):
                x.requires_grad_()
                loss = F.cross_entropy(self.model(x), guess, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, x)
                x = x.detach() - self.step * gradient.sign()
        scores: Tensor = self.model(x)
        return scores


def purified(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, behind gradient steps of its own."""
    return Purified(shipped(model)).eval()


PATIENTS = (
    Patient(
        name="purified",
        says="moves its input by gradient steps of its own, which cut the graph",
        source="anti-adversaries, Alfarra et al. 2022, arXiv:2103.14347; broken by Croce et al., "
        "2022, arXiv:2202.13711",
        caught_by=("optimises-at-inference", "missing-gradient"),
        model=purified,
    ),
)
