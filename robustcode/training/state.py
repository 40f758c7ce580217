"""Where an unfinished training run stands: one file, replaced whole after every epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcode.errors import StoreError
from robustcode.store import difference, write_atomic


@dataclass(kw_only=True)
class State:
    """What the next epoch needs.

    Attributes:
        identity: the run this belongs to, in plain values.
        losses: the mean training loss of every finished epoch.
        network: the network's state dict.
        optimizer: the optimiser's state dict.
    """

    identity: Mapping[str, Any]
    losses: list[float] = field(default_factory=list)
    network: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write to ``path``, which holds the old state or the new one at any moment."""
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        write_atomic(path, buffer.getvalue())


def load_state(path: Path, identity: Mapping[str, Any]) -> State:
    """The state at ``path``, or that of a run not begun; StoreError if it is of another run."""
    if not path.exists():
        return State(identity=identity)
    try:
        # weights_only: tensors and plain containers, never code.
        state = State(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as cause:
        raise StoreError(
            f"{path} cannot be read as the state of a training run; delete it to train from "
            "the first epoch"
        ) from cause
    if state.identity != identity:
        raise StoreError(
            f"{path} is the state of another training run: "
            f"{difference('spec', state.identity, identity)}; delete it or choose another --out"
        )
    return state
