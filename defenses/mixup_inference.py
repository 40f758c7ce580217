"""Mixup inference: the mean prediction over mixtures with clean images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustcode.defenses.base import DEFENSES, Defense
from robustcode.defenses.pool import require_fit, require_images
from robustcode.errors import ConfigError
from robustcode.importing import reason
from robustcode.memory import is_out_of_memory
from robustcode.seeds import Streams

# Mixtures that go through the model at once; it bounds the memory of a call without a graph.
CHUNK = 256


class Partner(StrEnum):
    """Which clean images an input is mixed with, by the label that the model gives it."""

    OTHER = "ol"
    PREDICTED = "pl"


@DEFENSES.register("mixup-inference")
@dataclass(frozen=True, kw_only=True)
class MixupInference(Defense):
    """Classify mixtures of ``x`` with clean images from a pool, and average the probabilities.

    The model first predicts a label for ``x`` as it comes, attacked or not. Then each execution
    classifies ``lam x + (1 - lam) x_s`` with a partner x_s drawn anew, with replacement: of
    another label (``ol``: first the label, uniform among the others, then one of its images) or
    of the predicted one (``pl``). The prediction is the class of the largest mean probability.

    That mean is one draw, so the scores are its logarithm and an adversary differentiates what
    is deployed; with ``executions = 1`` it sees single mixtures. The label has no gradient: it
    is constant around almost every x. Partners come from the pool and never from the caller's
    batch.

    Source: Pang et al. 2020, arXiv:1909.11515, MI-OL and MI-PL, as the authors' scripts have it
    (github.com/P2333/Mixup-Inference): lam = 0.5 for both; 30 executions for MI-OL and 10 for
    MI-PL. Departures: they label the pool by its true labels, where this takes the model's
    predictions and passes over a label that no image of the pool got; their pools hold 10,000
    and 1,000 images of the test split, where a run of ours gives images it does not evaluate,
    and fewer. Their MI-Combined, which switches between the two, is not here. It is meant
    for networks trained with mixup; others may lose much accuracy on mixtures.

    Attributes:
        mates: the pool, (pool, channels, height, width) in [0, 1]. It must not hold the images
            under attack.
        kind: ``ol`` or ``pl``. In ``pl``, a predicted label that no image of the pool has is
            mixed with any of them.
        lam: share of the input in each mixture, in (0, 1].
        executions: mixtures that one draw is the mean of.
        votes: draws that one deployed decision is made of; a tie is an abstention. The authors'
            rule is 1.
    """

    stochastic: ClassVar[bool] = True
    needs_mates: ClassVar[bool] = True

    model: nn.Module
    mates: Tensor = field(repr=False, compare=False)
    kind: Partner = Partner.OTHER
    lam: float = 0.5
    executions: int = 30
    votes: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.lam <= 1:
            raise ConfigError(f"lam = {self.lam}: the input's share of a mixture is in (0, 1]")
        if self.executions < 1:
            raise ConfigError(f"executions = {self.executions}: a mean is of 1 mixture or more")
        super().__post_init__()
        require_images(self.mates)
        if len(self.mates) == 0:
            raise ConfigError("the pool has no image to mix inputs with; evaluate fewer samples")
        # Here and not at the first query: the labels of the pool are no query about any sample.
        labels = self.labels
        if self.kind is Partner.OTHER and bool((labels == labels[0]).all()):
            raise ConfigError(
                f"kind = {self.kind}: the model predicts class {int(labels[0])} for all "
                f"{len(labels)} images of the pool, so none has another label; use kind=pl"
            )

    @property
    def passes(self) -> int:
        """See Defense.passes. One more than mixtures, for the label of the input itself."""
        return 1 + self.executions

    def backwards(self, streams: Streams) -> Tensor:
        """See Defense.backwards. The label of the input is not differentiated."""
        return torch.full_like(streams.samples, self.executions)

    @property
    def labels(self) -> Tensor:
        """The model's prediction for each image of the pool, int64 of shape (pool,)."""
        return self._pool_scores.argmax(1)

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits. Logarithms of probabilities."""
        require_fit(x, self.mates)
        partners = self.partners(x, streams)
        size = max(1, CHUNK // self.executions)
        starts = range(0, max(1, len(x)), size)
        return torch.cat([self._mean(x[s : s + size], partners[s : s + size]) for s in starts])

    @torch.no_grad()
    def partners(self, x: Tensor, streams: Streams) -> Tensor:
        """Indices into the pool of whom each row is mixed with, (batch, executions)."""
        predicted = self.model(x).argmax(1)
        uniform = streams.child("partners").uniform(self.executions, dtype=torch.float64)
        upto = self._upto.to(x.device)[predicted]
        return torch.searchsorted(upto, uniform, right=True)

    def _mean(self, x: Tensor, partners: Tensor) -> Tensor:
        """Logarithm of each row's mean probabilities over its mixtures."""
        mixed = self.lam * x[:, None] + (1 - self.lam) * self.mates.to(x)[partners]
        scores = self.model(mixed.flatten(0, 1)).unflatten(0, partners.shape)
        return scores.log_softmax(2).logsumexp(1) - math.log(self.executions)

    @cached_property
    def _upto(self) -> Tensor:
        """Chance of a partner up to each image, by predicted label: (classes, pool), float64."""
        classes = self._pool_scores.shape[1]
        of_label = torch.eye(classes).to(self.labels.device).double()[self.labels]
        share = of_label / of_label.sum(0).clamp(min=1)  # (pool, classes): uniform in each label
        if self.kind is Partner.PREDICTED:
            chance = share.T
        else:
            present = of_label.amax(0)
            others = present * (1 - torch.eye(classes).to(present))  # (predicted, its others)
            chance = others @ share.T
        missing = chance.sum(1, keepdim=True) == 0
        upto = (chance + missing).cumsum(1)
        # Divided, the last image of any chance ends at exactly 1, above every uniform number.
        return upto / upto[:, -1:]

    @cached_property
    def _pool_scores(self) -> Tensor:
        """The model's scores of the pool in eval mode, (pool, classes)."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.no_grad():
                scores = torch.cat([self.model(part) for part in self.mates.split(CHUNK)])
        except Exception as cause:
            if is_out_of_memory(cause):
                raise
            raise ConfigError(
                f"the model cannot label a pool of images of shape {tuple(self.mates.shape[1:])}: "
                f"{reason(cause)}; name a model for these data"
            ) from cause
        finally:
            for module, training in modes:
                module.training = training
        return scores
