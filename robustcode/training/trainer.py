"""One network, its samples and its optimiser, and one pass over the samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustcode.data import Dataset
from robustcode.errors import EngineError
from robustcode.seeds import Streams, seed_of
from robustcode.training.ascent import evaluating
from robustcode.training.augment import crop_and_flip
from robustcode.training.base import Recipe
from robustcode.training.spec import TrainSpec
from robustcode.training.state import State


@dataclass(kw_only=True)
class Trainer:
    """What is trained, on what, and how.

    Attributes:
        spec: the settings.
        recipe: the loss.
        network: on ``device``, changed in place.
        data: the training split.
        samples: indices in ``data`` of the samples trained on, int64.
        device: where the network runs.
        losses: the mean training loss of every finished epoch.
    """

    spec: TrainSpec
    recipe: Recipe
    network: nn.Module
    data: Dataset
    samples: Tensor
    device: torch.device

    def __post_init__(self) -> None:
        self.network.to(self.device)
        self.optimizer = self.spec.build_optimizer(self.network.parameters())
        self.losses: list[float] = []

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.samples) / self.spec.batch_size)

    def state(self, identity: Mapping[str, Any]) -> State:
        """Everything ``restore`` needs, as the state of the run ``identity``."""
        return State(
            identity=identity,
            losses=self.losses,
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )

    def restore(self, state: State) -> None:
        """Go back to where ``state`` was taken; a state of no epochs changes nothing."""
        if state.losses:
            self.losses = state.losses
            self.network.load_state_dict(state.network)
            self.optimizer.load_state_dict(state.optimizer)

    def run_epoch(self, seen: Callable[[int, float], None]) -> float:
        """Train on every sample once; the mean loss. EngineError if it is not a number.

        ``seen`` is told of each batch: its number in the epoch, from 0, and the mean loss so far.
        """
        epoch = len(self.losses)
        order = Streams.of(self.spec.seed, "order", torch.tensor([epoch]))
        shuffled = self.samples[order.permutation(len(self.samples))[0]]
        self.network.train()
        total, count = 0.0, 0
        # Layers that draw for themselves (dropout) draw from torch's global generator.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(self.spec.seed, "layers", epoch))
            # Equal batches: a small last one would be poor statistics for batch norm.
            for number, indices in enumerate(shuffled.tensor_split(self.batches)):
                done = (epoch + number / self.batches) / self.spec.epochs
                total += self._step(indices, epoch, done) * len(indices)
                count += len(indices)
                if not math.isfinite(total):
                    raise self._diverged(f"the loss is {total}")
                seen(number, total / count)
        if not all(value.isfinite().all() for value in self.network.parameters()):
            raise self._diverged("a weight is not finite")
        self.losses = [*self.losses, total / count]
        return self.losses[-1]

    def accuracy(self, data: Dataset, indices: Tensor) -> float:
        """Fraction of these samples of ``data`` that are classified right, as they are."""
        right = 0
        with evaluating(self.network), torch.no_grad():
            for rows in torch.split(indices, self.spec.batch_size):
                guess = self.network(data.images(rows).to(self.device)).argmax(1).cpu()
                right += int((guess == data.targets(rows)).sum())
        return right / len(indices)

    def _step(self, indices: Tensor, epoch: int, done: float) -> float:
        streams = Streams.of(self.spec.seed, "train", indices).child(epoch).to(self.device)
        x = self.data.images(indices).to(self.device)
        y = self.data.targets(indices).to(self.device)
        if self.spec.augment:
            x = crop_and_flip(x, streams.child("augment"))
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.rate(done)
        self.optimizer.zero_grad()
        recipe = self.recipe.at(done)
        loss = recipe.loss(self.network, x, y, streams.child("recipe"))
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.item()

    def _diverged(self, symptom: str) -> EngineError:
        return EngineError(
            f"training diverged in epoch {len(self.losses) + 1}: {symptom}; "
            f"lower lr, which is {self.spec.lr:g}"
        )
