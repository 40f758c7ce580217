"""A detector that refuses what it is not sure of, for which every refusal counts as robust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustcode.defenses.base import Defense
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.testing.patients.base import Patient


@dataclass(frozen=True, kw_only=True)
class SureOrSilent(Defense):
    """Refuse an image unless the model is sure of it, and still so once faint ink is taken away.

    An attack that stops where the class changes stops where the model is least sure: it is
    refused. One that goes on is accepted.

    Attributes:
        sure: least probability of the decided class, of the image and of what is left of it.
        faint: what is subtracted from every value; the rest is stretched to the old range.
    """

    detector: ClassVar[bool] = True

    model: nn.Module
    sure: float = 0.8
    faint: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.faint < 1:
            raise ConfigError(f"faint = {self.faint}: what is taken from a value is in [0, 1)")
        super().__post_init__()

    @property
    def passes(self) -> int:
        """One for the scores, two for the rejection."""
        return 3

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        scores: Tensor = self.model(x)
        return scores

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        """What is missing of ``sure``, as a probability, where it is least."""
        scores = self.model(x)
        rest = (x - self.faint).clamp(min=0) / (1 - self.faint)
        label = scores.argmax(1, keepdim=True)
        least = torch.minimum(scores.softmax(1), self.model(rest).softmax(1))
        return self.sure - least.gather(1, label).squeeze(1)


PATIENTS = (
    Patient(
        name="SureOrSilent",
        says="refuses what it is not sure of: an attack that stops at the boundary is refused",
        source="detectors, as broken by Carlini and Wagner 2017, arXiv:1705.07263, and Tramer et "
        "al. 2020, arXiv:2002.08347",
        caught_by=("detector-unseen",),
        defense=SureOrSilent,
    ),
)
