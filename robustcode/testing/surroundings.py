"""What a component must not touch: the generators and switches that everybody shares."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from robustcode.testing.check import require


@contextmanager
def global_state_kept() -> Iterator[None]:
    """ContractError if a global generator or switch is not as it was."""
    before = _state()
    yield
    for name, value in _state().items():
        require(value == before[name], f"{name} is not as it was")


def _state() -> dict[str, object]:
    return {
        "torch's global generator": torch.get_rng_state().tolist(),
        "numpy's global generator": pickle.dumps(np.random.get_state()),
        "random's global generator": random.getstate(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default type": torch.get_default_dtype(),
        "torch's threads": torch.get_num_threads(),
    }
