"""The inputs that a run has kept, read one at a time: a sample, and what an attack made of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from robustcode.errors import StoreError
from robustcode.intact import file_hash
from robustcode.store import Run

Image3 = NDArray[np.float32]


class Place(NamedTuple):
    """Where a sample lies: its file, its row there, and its row among the samples it holds."""

    file: str
    row: int
    kept: int


@dataclass(frozen=True)
class Inputs:
    """The samples of a run that were moved, and where they lie.

    Memory is that of the pictures that are asked for, however large the files are.

    Attributes:
        run: whose they are.
        places: of each sample whose proposal is not the sample itself, by its index in the split.
        files: how many files of inputs there are.
        without: how many of them are of an earlier make and hold proposals, but no samples.
    """

    run: Run
    places: dict[int, Place]
    files: int
    without: int
    _read: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def of(cls, run: Run) -> Inputs:
        """What the files of a run hold; only their lists of samples are read."""
        places: dict[int, Place] = {}
        without = 0
        for name in _listed(run):
            with _opened(run.path / name) as file:
                if "x" not in file.keys():  # noqa: SIM118 - it has no __contains__
                    without += 1
                    continue
                rows = np.flatnonzero(file.get_tensor("moved")).tolist()
                samples = file.get_tensor("sample").tolist()
                places |= {samples[row]: Place(name, row, k) for k, row in enumerate(rows)}
        return cls(run, places, len(_listed(run)), without)

    def pair(self, sample: int) -> tuple[Image3, Image3]:
        """A sample and its worst proposal, each of shape (channels, height, width) in [0, 1].

        StoreError if their file is not as it was written.
        """
        place = self.places[sample]
        path = self.run.path / place.file
        if place.file not in self._read:
            if file_hash(path) != _listed(self.run)[place.file]:
                raise StoreError(_altered(path))
            self._read.add(place.file)
        with _opened(path) as file:
            x = file.get_slice("x")[place.kept : place.kept + 1]
            scale = np.float32(file.get_tensor("scale")[0])
            x_adv = file.get_slice("x_adv")[place.row : place.row + 1]
            return (x.astype(np.float32) / scale)[0], x_adv.astype(np.float32)[0]


def _listed(run: Run) -> dict[str, str]:
    """The files by name, and the sha256 of each."""
    return {
        name: sha
        for entry in run.manifest["shards"]["files"].values()
        for name, sha in entry["sha256"].items()
        if name.startswith("adversarial/")
    }


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of tensors; StoreError if it is none, or holds others than it should."""
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as cause:
        raise StoreError(_altered(path)) from cause


def _altered(path: Path) -> str:
    return (
        f"{path} is missing or altered since it was written; run the same command again to redo "
        "that shard, or read what is intact with --partial"
    )
