"""What a search asks of a model: images forward and backward, and the time inside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from robustcode.attacks import Ascent, Loss
from robustcode.nearby import Nearby
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget


class Passes:
    """Images carried forward and backward through a model by whoever calls it."""

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards = 0

    def hook(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Count a call, and every time that it is differentiated."""
        self.forwards += len(output)
        if output.requires_grad:
            output.register_hook(self._back)

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    @property
    def sum(self) -> int:
        """Both together."""
        return self.forwards + self.backwards


class Clock:
    """CPU seconds between its starts and its stops."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def start(self, *_: object) -> None:
        self.seconds -= time.process_time()

    def stop(self, *_: object) -> None:
        self.seconds += time.process_time()

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, on the clock."""

        def timed(*given: Any, **named: Any) -> Any:
            self.start()
            try:
                return work(*given, **named)
            finally:
                self.stop()

        return timed

    @contextmanager
    def over(self, model: nn.Module) -> Iterator[None]:
        """On whenever ``model`` is called or anything is differentiated."""
        handles = (
            model.register_forward_pre_hook(self.start),
            model.register_forward_hook(self.stop),
        )
        with (
            patch.object(torch.autograd, "grad", self.around(torch.autograd.grad)),
            patch.object(Tensor, "backward", self.around(Tensor.backward)),
        ):
            yield
        for handle in handles:
            handle.remove()


class TimedTarget(DefendedTarget):
    """A target whose queries are on the clock."""

    clock: Clock

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Target.logits."""
        return self.clock.around(super().logits)(x, streams)

    def nearby(self, x: Tensor, streams: Streams, size: tuple[int, int]) -> Nearby | None:
        """See Target.nearby."""
        known = self.clock.around(super().nearby)(x, streams, size)
        if known is not None:
            known.changed = self.clock.around(known.changed)
        return known

    def ascents(
        self, x: Tensor, y: Tensor, losses: Sequence[Loss], streams: Streams
    ) -> list[Ascent]:
        """See Target.ascents."""
        return self.clock.around(super().ascents)(x, y, losses, streams)


class Stage(NamedTuple):
    """Where a tool stands after one of the attacks it is made of."""

    name: str
    left: int  # samples still right
    passes: int  # of the attacks so far, forward and backward; not the checks', nor the judge's
    seconds: float  # of wall-clock time, of this attack alone


class Watch:
    """Notes what each attack of a peer's cascade was given, and what it took."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._seen: list[tuple[str, int, int, float]] = []

    def over(self, name: str, search: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same search, noted."""

        def noted(x: Tensor, y: Tensor) -> Tensor:
            before, started = self._passes.sum, time.perf_counter()
            x_adv = search(x, y)
            taken = time.perf_counter() - started
            self._seen.append((name, len(x), self._passes.sum - before, taken))
            return x_adv

        return noted

    def stages(self, left: int) -> list[Stage]:
        """One for each attack: what it left is what the next one was given, ``left`` at last."""
        afterwards = [*(given for _, given, _, _ in self._seen[1:]), left]
        stages, passes = [], 0
        for (name, _, spent, seconds), after in zip(self._seen, afterwards, strict=True):
            passes += spent
            stages.append(Stage(name, after, passes, seconds))
        return stages
