"""PGD that goes on from given inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.pgd import PGD
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@dataclass(frozen=True, kw_only=True, eq=False)
class StartedPGD(PGD):
    """PGD from given starts, taken into what is allowed.

    Attributes:
        samples: int64 (starts,), the sample that each start is for; all that are attacked.
        starts: (starts, ...).
    """

    samples: Tensor
    starts: Tensor

    def _start(self, x: Tensor, threat: ThreatModel, streams: Streams) -> Tensor:
        known = self.samples.sort()
        rows = known.indices[torch.searchsorted(known.values, streams.samples)]
        return threat.project(self.starts[rows], x)
