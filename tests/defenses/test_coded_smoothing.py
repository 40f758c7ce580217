"""Coded smoothing, against the whole-batch inference and where a linear model says what it does."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chi2, chisquare
from torch import Tensor, nn

from robustcode.adversary import Adversary, Batch, Collusion, Mates, Solo
from robustcode.attacks.losses import LOSSES
from robustcode.coding import Code
from robustcode.defenses import CodedSmoothing, coded_inference
from robustcode.defenses.coded_smoothing import CHUNK, Draw
from robustcode.errors import ConfigError, DataError
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger

K = 8
CODE = Code(K, 12)
# float64 sums of at most a few hundred terms.
ROUNDING = 1e-12
# What is left out of a batch of many images weighs 2^-25 = 3e-8 of what is not.
LEFT_OUT = 1e-7
# A correct draw fails a test at this level once in a million changes of the seed.
LEVEL = 1e-6
SHAPE = (3, 6, 6)
CLASSES = 5
INNER = "1"


def images(count: int, purpose: str, *shape: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*shape, dtype=torch.float64)


def streams_of(count: int, seed: int = 0) -> Streams:
    return Streams.of(seed, "draw", torch.arange(count))


def weighted(model: nn.Module) -> nn.Module:
    weights = Streams.of(0, "weights", torch.arange(len(list(model.parameters()))))
    for row, parameter in enumerate(model.parameters()):
        values = weights[row : row + 1].normal(*parameter.shape)[0]
        parameter.data = values / parameter[0].numel() ** 0.5
    return model.double().requires_grad_(False)


def network() -> nn.Module:
    return weighted(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 16, CLASSES))
    )


def in_parts() -> nn.Sequential:
    """A network whose middle, ``INNER``, can be coded by itself."""
    return nn.Sequential(
        weighted(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh())),
        weighted(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Softplus())),
        weighted(nn.Sequential(nn.Flatten(), nn.Linear(4 * 4, 8), nn.Tanh(), nn.Linear(8, 5))),
    )


def within_parts(model: nn.Sequential, x: Tensor, code: Code, order: Tensor) -> Tensor:
    """Scores of a whole batch whose middle is coded, from front, middle and back by themselves."""
    front, middle, back = model
    inner: Tensor = coded_inference(middle, front(x).detach() + 0 * front(x), code, order)
    scores: Tensor = back(inner)
    return scores
