"""Transfer: attack another model, offer what is found to the defence."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustcode.attacks.base import ATTACKS, Attack, Target
from robustcode.attacks.losses import LossName
from robustcode.attacks.pgd import PGD
from robustcode.checkpoint import load_classifier
from robustcode.errors import ConfigError
from robustcode.importing import reason
from robustcode.memory import is_out_of_memory
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@ATTACKS.register("transfer")
@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """PGD on another model, carried on after it is broken.

    Without ``model`` that is the undefended model inside the defence. Cheap and mandatory: a
    defence whose own gradients mislead often falls to the gradients of the model it wraps.
    Against a plain model it is PGD once more; a second network, trained apart, then shows
    whether the gradients of the first are masked.

    Source: Papernot et al. 2016, arXiv:1605.07277; as a check of adaptive attacks, Athalye et
    al. 2018, arXiv:1802.00420, section 3.

    Attributes:
        steps: number of ascent steps.
        step: length of one step as a fraction of ``threat.eps``.
        loss: what is raised on the model that is attacked.
        model: the other classifier, named as for ``checkpoint.load_classifier``; empty for the
            undefended one.
        checkpoint: file of its weights; empty for those shipped for it.
        mean: its normalisation per channel, if neither weights nor architecture name it.
        std: likewise.
    """

    steps: int = 40
    step: float = 0.2
    loss: LossName = LossName.MARGIN
    model: str = ""
    checkpoint: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self._ascent()
        if self.model:
            # A file that cannot be read is said before a run begins and not in the middle.
            self._other()
        elif self.checkpoint or self.mean or self.std:
            raise ConfigError(
                f"checkpoint = {self.checkpoint!r}, mean and std are those of another model; "
                "name it with model=NAME, or leave them out to attack the undefended model"
            )

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        attacked = target.undefended
        if self.model and len(x):
            other = self._other().to(x.device)
            _require_fit(other, x, y, self.model)
            attacked = target.beside(other)
        return self._ascent().perturb(attacked, x, y, threat, streams)

    def _ascent(self) -> PGD:
        return PGD(steps=self.steps, step=self.step, loss=self.loss, until_broken=False)

    def _other(self) -> nn.Module:
        return _loaded(self.model, self.checkpoint, self.mean, self.std)


@functools.lru_cache(maxsize=4)  # two runs beside each other and a change of mind
def _loaded(
    model: str, checkpoint: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> nn.Module:
    """The classifier, once per process: every batch of every shard asks for it."""
    path = Path(checkpoint) if checkpoint else None
    return load_classifier(model, path, mean, std).eval().requires_grad_(False)


def _require_fit(other: nn.Module, x: Tensor, y: Tensor, name: str) -> None:
    """Raise ConfigError unless the classifier takes such inputs and knows such labels.

    It is asked about a blank input, which is no query about any sample.
    """
    shape, top = tuple(x.shape[1:]), int(y.max())
    try:
        with torch.no_grad():
            scores = other(torch.zeros_like(x[:1]))
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise ConfigError(
            f"transfer from {name!r}: it does not take inputs of shape {shape} "
            f"({reason(cause)}); name a model for these data"
        ) from cause
    if scores.ndim != 2 or scores.shape[1] <= top:
        raise ConfigError(
            f"transfer from {name!r}: its scores have the shape {tuple(scores.shape)} and labels "
            f"go up to {top}; name a model for these classes"
        )
