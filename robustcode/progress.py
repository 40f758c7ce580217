"""What long work tells the person who waits: on stderr, attack, samples, passes, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar

from robustcode.wording import counted

# How often a worker reports its passes; more often would cost more than it tells.
REPORT_SECONDS = 0.25
# How often a line is written where nobody watches a bar.
LINE_SECONDS = 10.0


class Progress(Protocol):
    """Whoever wants to know how far the work is."""

    def attack(self, name: str, standing: int) -> None:
        """An attack begins on a shard of which so many samples stand."""
        ...

    def passes(self, count: int) -> None:
        """So many more passes of the model, forward or backward, of single samples."""
        ...

    def proof(self, name: str, left: int) -> None:
        """A method goes on with a shard of which so many samples are left."""
        ...


class Silent:
    """Tells nobody."""

    def proof(self, name: str, left: int) -> None:
        """See Progress.proof."""

    def attack(self, name: str, standing: int) -> None:
        """See Progress.attack."""

    def passes(self, count: int) -> None:
        """See Progress.passes."""


class Reporter:
    """Sends progress as plain messages, few enough to cross a process boundary."""

    def __init__(self, send: Callable[[tuple[Any, ...]], None]) -> None:
        self._send = send
        self._unsent = 0
        self._last = 0.0

    def attack(self, name: str, standing: int) -> None:
        """See Progress.attack."""
        self._flush()
        self._send(("attack", name, f"{counted(standing, 'sample')} standing"))

    def proof(self, name: str, left: int) -> None:
        """See Progress.proof."""
        self._flush()
        self._send(("attack", name, f"{counted(left, 'sample')} left"))

    def passes(self, count: int) -> None:
        """See Progress.passes."""
        self._unsent += count
        if time.monotonic() - self._last > REPORT_SECONDS:
            self._flush()

    def _flush(self) -> None:
        self._send(("passes", self._unsent))
        self._unsent, self._last = 0, time.monotonic()


class Bar:
    """A Rich bar whose steps are (shard, attack) pairs."""

    def __init__(self, bar: RichBar, steps: int) -> None:
        self._bar = bar
        self._passes = 0
        self._task = bar.add_task("starting", total=steps, standing="", passes="")

    def receive(self, message: tuple[Any, ...]) -> None:
        """Take a message of a Reporter."""
        kind, *rest = message
        if kind == "attack":
            name, standing = rest
            self._bar.update(self._task, description=name, standing=standing)
        elif kind == "passes":
            self._passes += rest[0]
            self._bar.update(self._task, passes=f"{self._passes:,} passes")
        elif kind == "done":
            self._bar.update(self._task, advance=rest[0])


class Lines:
    """A line now and then, for a stderr that is a file or a pipe."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._passes = 0
        self._last = -float("inf")

    def receive(self, message: tuple[Any, ...]) -> None:
        """Take a message of a Reporter."""
        kind, *rest = message
        if kind == "passes":
            self._passes += rest[0]
        elif kind == "done":
            self._done += rest[0]
        elif kind == "attack" and time.monotonic() - self._last > LINE_SECONDS:
            self._last = time.monotonic()
            name, standing = rest
            print(
                f"{self._done} of {counted(self._steps, 'step')} done, {self._passes:,} passes so "
                f"far; now {name}, {standing}",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def status(text: str, shown: bool) -> Iterator[None]:
    """Say on stderr what is being done while it lasts, on a terminal only."""
    if not shown or not sys.stderr.isatty():
        yield
        return
    with Console(file=sys.stderr).status(text):
        yield


@contextmanager
def bar(steps: int, shown: bool) -> Iterator[Callable[[tuple[Any, ...]], None]]:
    """A function that takes messages and shows them on stderr, or drops them if not ``shown``."""
    if not shown:
        yield lambda message: None
        return
    if not sys.stderr.isatty():
        yield Lines(steps).receive
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[standing]}"),
        TextColumn("{task.fields[passes]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichBar(*columns, console=Console(file=sys.stderr), transient=True) as shown_bar:
        yield Bar(shown_bar, steps).receive
