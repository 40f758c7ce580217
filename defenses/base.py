"""What a defence is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.adversary import Adversary, Solo
from robustcode.errors import ConfigError
from robustcode.importing import named_code
from robustcode.registry import Registry
from robustcode.seeds import Streams

ABSTAIN = -1
"""What ``decide`` writes where votes are tied or it refuses; records show it as null."""


class Defense(ABC):
    """A trained classifier together with the randomness it is defended by.

    A defence has two faces. ``logits`` is one draw, which an adversary may query and
    differentiate; ``decide`` is the inference rule that is deployed. Subclasses are frozen
    dataclasses with a field ``model``. What they declare below is tested by the engine.

    Attributes:
        model: from (batch, channels, height, width) in [0, 1] to logits (batch, classes).
        stochastic: two draws can differ.
        batch_coupled: a prediction depends on other inputs in its batch.
        needs_mates: scores depend on a pool of clean images, the field ``mates``; one that is
            batch-coupled is given the pool too.
        differentiable: ``logits`` has a useful gradient; if not, ``surrogate`` has one.
        detector: it may refuse to decide; ``rejection`` is positive where it does. That it refuses
            an input which somebody perturbed counts as held, a clean one as wrong.
        votes: draws that one deployed decision is made of; a field where it can be set.
        mean: a decision is the class of the highest mean score of its draws, instead of the class
            that most of them are for.
    """

    stochastic: ClassVar[bool] = False
    batch_coupled: ClassVar[bool] = False
    needs_mates: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    detector: ClassVar[bool] = False

    model: nn.Module
    votes: int = 1
    mean: bool = False

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

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        """How far each input is from being accepted in that draw, shape (batch,).

        Positive where a detector refuses, 0 or less where it accepts, in units of its own. Equal
        streams name the same draw as in ``logits``. Nobody asks it of what is no detector.
        """
        return x.new_full((len(x),), -math.inf)

    def rejection_surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """The same numbers with a gradient an attack can follow, where ``rejection`` has none."""
        return self.rejection(x, streams)

    @property
    def passes(self) -> int:
        """Forward passes of ``model`` that one row of ``logits`` costs, and of ``rejection``.

        Those of both together where it is a detector.
        """
        return 1

    @property
    def reaches_inside(self) -> bool:
        """Whether it calls for parts of ``model`` by their names, which a copy must keep."""
        return False

    def quickened(self) -> Defense:
        """The same defence for less, near enough to be searched; the judge asks the original."""
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Files that it reads besides the model's own, whose content is part of what it is."""
        return ()

    @property
    def batch(self) -> int:
        """Inputs that are classified together; 1 where each is by itself."""
        return 1

    @property
    def undefended(self) -> nn.Module:
        """The plain model, of the inputs that an adversary sends."""
        return self.model

    def forwards(self, streams: Streams) -> Tensor | int:
        """Forward passes that each row of a call of ``logits`` costs, int64 of shape (batch,).

        One number if they all cost the same.
        """
        return self.passes

    def backwards(self, streams: Streams) -> Tensor | int:
        """Backward passes that a gradient of each row's scores costs, likewise."""
        return self.forwards(streams)

    def facing(self, adversary: Adversary, samples: Tensor, x: Tensor) -> Defense:
        """The same defence as an adversary meets it who controls more than one sample.

        ``samples``, ascending, are the numbers of those under attack and ``x`` their images.
        ConfigError where inputs of a batch do not act on each other.
        """
        if isinstance(adversary, Solo):
            return self
        raise ConfigError(
            "inputs of one batch do not act on each other in this defence, so an adversary gains "
            "nothing by controlling several; take the adversary solo"
        )

    def inputs(self, x: Tensor, streams: Streams) -> Tensor:
        """What the adversary may perturb for each sample, given its images, (batch, ...)."""
        return x

    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        """The deployed decision for each input, int64 of shape (batch,); ABSTAIN if none.

        The class with the most of ``votes`` draws; a tie, or scores that are not numbers, is an
        abstention. By ``mean``, the class of the highest mean score. Memory is that of one draw.

        A detector's draw that refuses is a vote for abstaining in place of one for a class, so as
        many refusals as the top class has votes are enough. By ``mean`` it abstains where the mean
        ``rejection`` is positive. A rejection that is not a number refuses.
        """
        if self.mean:
            scores = self._total(self.logits, x, streams)
            label = torch.where(scores.isnan().any(1), ABSTAIN, scores.nan_to_num().argmax(1))
            if not self.detector:
                return label
            return label.where(self._total(self.rejection, x, streams) <= 0, ABSTAIN)
        counts = self._total(self._ballot, x, streams)
        most = counts.max(1)
        unique = (counts == most.values[:, None]).sum(1) == 1
        label = torch.where(unique, most.indices, ABSTAIN)
        return label.where(label < counts.shape[1] - 1, ABSTAIN) if self.detector else label

    def _total(
        self, of: Callable[[Tensor, Streams], Tensor], x: Tensor, streams: Streams
    ) -> Tensor:
        """The sum over the draws of one decision."""
        total = sum(of(x, streams.child("vote", vote)) for vote in range(self.votes))
        assert isinstance(total, Tensor)
        return total

    def _ballot(self, x: Tensor, streams: Streams) -> Tensor:
        """The vote of one draw, (batch, classes); a detector's last column is for abstaining."""
        scores = self.logits(x, streams)
        valid = ~scores.isnan().any(1, keepdim=True)
        ballot = F.one_hot(scores.nan_to_num().argmax(1), scores.shape[1]) * valid
        if not self.detector:
            return ballot
        refused = ~(self.rejection(x, streams) <= 0)[:, None]
        return torch.cat([ballot * ~refused, refused.to(ballot)], dim=1)


DEFENSES: Registry[type[Defense]] = Registry("defence", "robustcode.defenses", Defense, named_code)
