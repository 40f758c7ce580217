"""What a person sees while a network trains, on stderr."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """One line: epoch, batch, running loss, held-out accuracy, time left."""

    def __init__(self, *, shown: bool, epochs: int, batches: int, finished: int) -> None:
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("batch {task.fields[batch]}  loss {task.fields[loss]}"),
            TextColumn("test accuracy {task.fields[accuracy]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not shown,
        )
        self._epochs, self._batches = epochs, batches
        self._task = self._progress.add_task(
            "train",
            total=epochs * batches,
            completed=finished * batches,
            epoch=f"{finished}/{epochs}",
            batch=f"0/{batches}",
            loss="-",
            accuracy="-",
        )

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def batch(self, epoch: int, batch: int, loss: float) -> None:
        """Batch number ``batch`` of epoch ``epoch``, both from 0, is done."""
        self._progress.update(
            self._task,
            advance=1,
            epoch=f"{epoch + 1}/{self._epochs}",
            batch=f"{batch + 1}/{self._batches}",
            loss=f"{loss:.4f}",
        )

    def held_out(self, accuracy: float) -> None:
        """Show an accuracy on samples that are not trained on."""
        self._progress.update(self._task, accuracy=f"{accuracy:.3f}")
