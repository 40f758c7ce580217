"""What a defence is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.errors import ConfigError
from robustcode.registry import Registry
from robustcode.seeds import Streams

ABSTAIN = -1
"""What ``decide`` writes where votes are tied; records show it as null."""


class Defense(ABC):
    """A trained classifier together with the randomness it is defended by.

    A defence has two faces. ``logits`` is one draw, which an adversary may query and
    differentiate; ``decide`` is the inference rule that is deployed. Subclasses are frozen
    dataclasses with a field ``model``. What they declare below is tested by the engine.

    Attributes:
        model: from (batch, channels, height, width) in [0, 1] to logits (batch, classes).
        stochastic: two draws can differ.
        batch_coupled: a prediction depends on other inputs in its batch.
        differentiable: ``logits`` has a useful gradient; if not, ``surrogate`` has one.
        votes: draws that one deployed decision is made of; a field where it can be set.
    """

    stochastic: ClassVar[bool] = False
    batch_coupled: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    model: nn.Module
    votes: int = 1

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise ConfigError(f"votes = {self.votes}: a decision is made of 1 draw or more")

    @abstractmethod
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """Scores of shape (batch, classes) in the draw that ``streams`` names, row by row.

        All randomness comes from ``streams``: equal streams give equal scores.
        """

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """The same scores with a gradient an attack can follow (BPDA)."""
        return self.logits(x, streams)

    @property
    def passes(self) -> int:
        """Forward passes of ``model`` that one row of ``logits`` costs."""
        return 1

    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        """The deployed decision for each input, int64 of shape (batch,); ABSTAIN if none.

        The class with the most of ``votes`` draws; a tie, or scores that are not numbers, is an
        abstention. Memory is that of one draw.
        """
        counts = sum(
            self._ballot(self.logits(x, streams.child("vote", vote))) for vote in range(self.votes)
        )
        assert isinstance(counts, Tensor)
        most = counts.max(1)
        unique = (counts == most.values[:, None]).sum(1) == 1
        return torch.where(unique, most.indices, ABSTAIN)

    @staticmethod
    def _ballot(scores: Tensor) -> Tensor:
        valid = ~scores.isnan().any(1, keepdim=True)
        return F.one_hot(scores.nan_to_num().argmax(1), scores.shape[1]) * valid


DEFENSES: Registry[type[Defense]] = Registry("defence", "robustcode.defenses", Defense)
