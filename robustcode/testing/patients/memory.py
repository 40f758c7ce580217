"""Models that remember what they were asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustcode.testing.patients.base import Patient, shipped
from robustcode.testing.patients.hidden import hidden_of
from robustcode.testing.patients.readout import training_digits


class CachedAnswers(nn.Module):
    """An input that is near one seen before gets the answer that was given then.

    Attributes:
        radius: what is near, in linf.
        capacity: answers that are kept; later ones are not.
    """

    def __init__(self, model: nn.Module, radius: float = 0.45, capacity: int = 4096) -> None:
        super().__init__()
        self.model = model
        self.radius = radius
        self.capacity = capacity
        self.seen: Tensor | None = None  # (answers, values)
        self.answers: Tensor | None = None  # (answers, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes); old answers have no graph."""
        scores: Tensor = self.model(x)
        flat = x.detach().flatten(1)
        if self.seen is None or self.answers is None:
            self.seen, self.answers = flat[:0], scores.detach()[:0]
        known = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if len(self.seen):
            distance, nearest = torch.cdist(flat, self.seen, p=torch.inf).min(1)
            known = distance <= self.radius
            scores = torch.where(known[:, None], self.answers[nearest], scores)
        new = (~known).nonzero().squeeze(1)[: self.capacity - len(self.seen)]
        self.seen = torch.cat([self.seen, flat[new]])
        self.answers = torch.cat([self.answers, scores.detach()[new]])
        return scores


class GrowingExemplars(nn.Module):
    """The class of the nearest exemplar; what is shown becomes one, of what it was taken for.

    An attack that starts from what is right and moves by small steps finds its last step, and the
    right class, always nearest: it is learnt on its way.

    Attributes:
        features: from images to features (batch, features).
        capacity: exemplars that are kept, the first ones included; later ones are not.
        exemplars: features (exemplars, features).
        labels: int64 (exemplars,).
    """

    exemplars: Tensor
    labels: Tensor

    def __init__(
        self, features: nn.Module, exemplars: Tensor, labels: Tensor, capacity: int = 8192
    ) -> None:
        super().__init__()
        self.features = features
        self.capacity = capacity
        self.classes = int(labels.max()) + 1
        self.register_buffer("exemplars", exemplars)
        self.register_buffer("labels", labels)

    def scores_of(self, features: Tensor) -> Tensor:
        """Minus the distance to the nearest exemplar of each class, (batch, classes)."""
        distance = torch.cdist(features, self.exemplars)
        far = features.new_full((len(features), self.classes), torch.inf)
        # A tenth: such a lead is one that cross-entropy can still follow.
        return -far.scatter_reduce(1, self.labels.expand_as(distance), distance, "amin") / 10

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), from before this call."""
        features = self.features(x)
        scores = self.scores_of(features)
        room = max(0, self.capacity - len(self.labels))
        # New tensors: a graph may still hold the old ones.
        self.exemplars = torch.cat([self.exemplars, features.detach()[:room]])
        self.labels = torch.cat([self.labels, scores.detach().argmax(1)[:room]])
        return scores


def cached_answers(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, with a memory."""
    return CachedAnswers(shipped(model)).eval()


def growing_exemplars() -> nn.Module:
    """Nearest training digits in the last hidden layer of the shipped classifier, to begin with."""
    x, y = training_digits()
    features = hidden_of()
    with torch.no_grad():
        return GrowingExemplars(features, features(x), y).eval()


PATIENTS = (
    Patient(
        name="cached_answers",
        says="answers what is near to an input seen before as it answered that one",
        source="state between calls: an attack is not asked what the judge is asked",
        caught_by=("state-changed",),
        model=cached_answers,
        stateful=True,
    ),
    Patient(
        name="growing_exemplars",
        says="learns from what it is shown: an attack by small steps teaches it the right answer",
        source="adaptive test-time defences: Croce et al. 2022, arXiv:2202.13711",
        caught_by=("state-changed",),
        model=growing_exemplars,
        stateful=True,
    ),
)
