"""One of several classifiers, drawn at random for each input."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustcode.checkpoint import read_metadata, read_state_dict
from robustcode.defenses.base import DEFENSES, Defense
from robustcode.errors import CheckpointError, ConfigError
from robustcode.models import Classifier, as_classifier
from robustcode.models.fit import load_weights
from robustcode.seeds import Streams

# Chances written as decimals, such as .333 + .333 + .334, are rounded in the last place written.
SUM_ERROR = 1e-3


@DEFENSES.register("random-ensemble")
@dataclass(frozen=True, kw_only=True)
class RandomEnsemble(Defense):
    """Classify each input by one member of an ensemble, drawn anew for every row and call.

    The members are the model itself and others: the same architecture with the weights of other
    files, ``checkpoints=a.safetensors+b.safetensors``, or in Python any classifiers of the same
    classes. With one vote the expected accuracy is exactly the mean of the members', weighted by
    their chances; with more it is that of their majority.

    Beware of attacks on the mean loss of the members, which expectation over draws is: they need
    not find an input that the members fail on where there is one, and so overrate such ensembles
    (Dbouk and Shanbhag 2022, arXiv:2206.06737).

    Source: Pinot et al. 2020, arXiv:2002.11565, as Dbouk and Shanbhag (above) evaluate it. Their
    members come from boosted adversarial training, which is not here: these may come from any
    training, and are equally likely unless chances are given.

    Attributes:
        checkpoints: files of weights of the other members, read as data. Their normalisation is
            the one that they name, else the model's.
        members: the other members as modules in eval mode, in place of checkpoints.
        chances: of each member, the model first, summing to 1; equal if none is given.
        votes: draws that one deployed decision is made of; a tie is an abstention.
    """

    stochastic: ClassVar[bool] = True

    model: nn.Module
    checkpoints: tuple[str, ...] = ()
    members: Sequence[nn.Module] = field(default=(), repr=False, compare=False)
    chances: tuple[float, ...] = ()
    votes: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        # A copy of this around another model brings the members along, around their own.
        if self.checkpoints != tuple(getattr(m, "file", None) for m in self.members):
            if self.checkpoints and self.members:
                raise ConfigError("the other members are checkpoints or modules; give one of them")
            if self.checkpoints:
                others = [Reweighted(self.model, file) for file in self.checkpoints]
                object.__setattr__(self, "members", others)
        # A list, for a tuple is a setting that records would spell out.
        object.__setattr__(self, "members", list(self.members))
        if not self.members:
            raise ConfigError(
                "a random ensemble has two members or more; name files of weights for the same "
                "architecture, checkpoints=FILE+FILE"
            )
        if any(module.training for member in self.members for module in member.modules()):
            raise ConfigError("a member is in training mode; call its eval() first")
        _require_chances(self.chances, 1 + len(self.members))

    @property
    def files(self) -> tuple[str, ...]:
        """See Defense.files."""
        return self.checkpoints

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits. Rows with the same member share its forward pass."""
        drawn = self.draw(streams)
        members = (self.model, *self.members)
        chosen = [(drawn == member).nonzero().squeeze(1) for member in range(len(members))]
        scores = [
            member(x[rows])
            for member, rows in zip(members, chosen, strict=True)
            if len(rows) or len(x) == 0
        ]
        classes = {part.shape[1] for part in scores}
        if len(classes) > 1:
            raise ConfigError(
                f"members tell {' and '.join(map(str, sorted(classes)))} classes apart; an "
                "ensemble is of classifiers of the same classes"
            )
        return torch.cat(scores)[torch.cat(chosen).argsort()]

    def draw(self, streams: Streams) -> Tensor:
        """Which member classifies each row, int64 of shape (batch,); 0 is ``model``."""
        uniform = streams.child("member").uniform(1, dtype=torch.float64)[:, 0]
        chances = self.chances or (1.0,) * (1 + len(self.members))
        upto = torch.tensor(chances, dtype=torch.float64, device=uniform.device).cumsum(0)
        # Divided, the last member of any chance ends at exactly 1, above every uniform number.
        return torch.searchsorted(upto / upto[-1], uniform, right=True)


class Reweighted(nn.Module):
    """A network with the weights of a file in place of its own, in its mode and precision.

    Attributes:
        file: where the weights came from.
    """

    def __init__(self, model: nn.Module, file: str) -> None:
        super().__init__()
        self.file = file
        network = model.network if isinstance(model, Classifier) else model
        twin = copy.deepcopy(network)
        load_weights(twin, read_state_dict(Path(file)), file, type(network).__name__, None)
        own = model.normalization if isinstance(model, Classifier) else ((), ())
        normalize = as_classifier(network, *(_normalization(Path(file)) or own)).normalize
        self.normalize = normalize.to(next(iter(_tensors(twin).values())).device)
        # Within a tuple: the network stays the model's, and is no part of this module.
        self._network = (network,)
        self._weights = {name: value.detach() for name, value in _tensors(twin).items()}
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        (network,) = self._network
        own = _tensors(network)
        weights = {name: value.to(own[name]) for name, value in self._weights.items()}
        scores: Tensor = functional_call(network, weights, (self.normalize(x),))
        return scores


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _normalization(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std that a file says its weights were trained with, if it says so."""
    said = read_metadata(path)
    if "mean" not in said:
        return None
    try:
        mean, std = (
            tuple(float(value) for value in said.get(key, "").split(",") if value)
            for key in ("mean", "std")
        )
    except ValueError:
        raise CheckpointError(
            f"{path} says mean = {said['mean']!r} and std = {said.get('std')!r}, which are not "
            "numbers; save it again with save_checkpoint"
        ) from None
    return mean, std


def _require_chances(chances: tuple[float, ...], members: int) -> None:
    if not chances:
        return
    if len(chances) != members:
        raise ConfigError(
            f"{len(chances)} chances for {members} members; give one of each, the model's first"
        )
    possible = all(math.isfinite(chance) and chance >= 0 for chance in chances)
    if not possible or abs(sum(chances) - 1) > SUM_ERROR:
        raise ConfigError(
            f"chances = {'+'.join(f'{chance:g}' for chance in chances)}: they are 0 or more and "
            "sum to 1"
        )
