"""Work in batches that halve when memory runs out, and go on."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from robustcode.errors import EngineError

T = TypeVar("T")

# What torch says on the CPU, where it raises a plain RuntimeError.
CPU_WORDS = ("out of memory", "can't allocate memory", "not enough memory")

ONE_ALONE = (
    "one sample alone, or one batch that is judged as a whole, runs out of memory; use a smaller "
    "model, fewer draws, or a machine with more"
)


# Inputs of a model whose graphs are held at a time where a defence runs many for each row: on a CPU
# those of a ResNet-20 and 32x32 images then take up 600 MB.
HELD = {"cpu": 256, "cuda": 8192}


def rows_at_once(rows: int, passes: int, device: torch.device) -> int:
    """Of ``rows`` that cost so many passes each, those whose gradients are taken at a time.

    >>> rows_at_once(128, 1, torch.device("cpu")), rows_at_once(128, 16, torch.device("cpu"))
    (128, 16)
    """
    return rows if passes == 1 else max(1, min(rows, HELD[device.type] // passes))


@dataclass
class BatchLimit:
    """The largest batch that memory has been enough for; it only ever shrinks.

    Attributes:
        size: its rows.
        together: rows that are only done together, so that it is a multiple of them.
    """

    size: int
    together: int = 1

    def map(
        self,
        work: Callable[[slice], T],
        count: int,
        undo: Callable[[slice], None] = lambda rows: None,
        most: int | None = None,
    ) -> list[T]:
        """``work`` on consecutive slices of ``count`` rows, each within the limit.

        No slice has more than ``most`` rows, where that is given.

        When a slice runs out of memory, ``undo`` takes back what it has left behind and the
        slice is done again in halves. What does not fit and cannot be halved is an EngineError.
        """
        results: list[T] = []
        start = 0
        while start < count:
            size = self.size if most is None else min(most, self.size)
            rows = slice(start, min(count, start + size))
            try:
                results.append(work(rows))
            except (MemoryError, RuntimeError) as cause:
                if not is_out_of_memory(cause):
                    raise
                undo(rows)
                size = rows.stop - rows.start
                if size <= self.together:
                    raise EngineError(ONE_ALONE) from cause
                self.size = max(1, size // 2 // self.together) * self.together
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            start = rows.stop
        return results


def give_back() -> None:
    """Let the system have what is no longer used; only glibc has to be told.

    What an attack frees lies between blocks that live on, and glibc keeps it, where the next
    attack's batches, of other sizes, do not fit in. On the published CNNs the peak of a run falls
    by 3 to 10 %.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def is_out_of_memory(cause: BaseException) -> bool:
    """Whether an exception says that memory ran out, on either kind of device."""
    if isinstance(cause, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(cause).lower() for words in CPU_WORDS)
