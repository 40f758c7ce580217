"""One training run as a value, and the optimiser and learning rate it describes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn

from robustcode.components import Component
from robustcode.data import Dataset
from robustcode.errors import ConfigError

# Nothing learns at such a rate, and not far above it float32 overflows inside the optimiser.
MAX_LR = 1e6


class Optimizer(StrEnum):
    """How gradients become steps."""

    ADAM = "adam"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate moves over the run."""

    COSINE = "cosine"
    CONSTANT = "constant"


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Everything the trained weights depend on, besides the machine and its thread count.

    Attributes:
        recipe: a name and settings, e.g. ``adversarial:threat=linf:8/255``.
        model: a model spec, built with weights drawn from ``seed``; or a network, trained in
            place from the weights it has.
        data: a data spec, whose ``train`` split is used; or the samples themselves.
        epochs: passes over the samples.
        samples: how many samples to train on, drawn with ``seed``; all of them if None.
        batch_size: the largest batch; an epoch is cut into batches of equal size up to one.
        optimizer: Adam, or SGD with Nesterov's ``momentum``.
        lr: learning rate at the start; 1e-3 suits Adam, 0.1 is usual for SGD.
        schedule: ``cosine`` falls to zero at the end of the run.
        weight_decay: factor of the l2 penalty's gradient, on every parameter.
        augment: random crops and mirroring, for images of (3, 32, 32) only.
        mean: what is subtracted from images inside the classifier, one value a channel; if left
            out, what the architecture's published weights expect, and nothing if they say nothing.
        std: what they are divided by afterwards.
    """

    recipe: Component | str
    model: str | nn.Module
    data: str | Dataset
    epochs: int
    seed: int = 0
    samples: int | None = None
    batch_size: int = 128
    optimizer: Optimizer = Optimizer.ADAM
    lr: float = 1e-3
    schedule: Schedule = Schedule.COSINE
    momentum: float = 0.9
    weight_decay: float = 0.0
    augment: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: training needs at least 1")
        if self.samples is not None and self.samples < 1:
            raise ConfigError(f"samples = {self.samples}: training needs at least 1")
        if not 0 < self.lr <= MAX_LR:
            raise ConfigError(f"lr = {self.lr:g}: a learning rate is positive, at most {MAX_LR:g}")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay = {self.weight_decay:g}: write 0 or more")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum = {self.momentum:g} is not in [0, 1)")

    @property
    def component(self) -> Component:
        """The recipe as a name with settings."""
        return Component.parse(self.recipe) if isinstance(self.recipe, str) else self.recipe

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimiser of ``parameters``."""
        if self.optimizer is Optimizer.ADAM:
            return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )

    def rate(self, done: float) -> float:
        """The learning rate after the fraction ``done`` of the run's batches."""
        if self.schedule is Schedule.CONSTANT:
            return self.lr
        return self.lr * (1 + math.cos(math.pi * done)) / 2
