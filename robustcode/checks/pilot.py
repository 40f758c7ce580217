"""A few samples on which an evaluation is tested before it is run on all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcode.attacks.base import Attack
from robustcode.defenses.base import Defense
from robustcode.findings import Facts
from robustcode.judge import Verdict, judge, moved
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import ThreatModel

# The standard errors that a change must stand out by on a stochastic defence, and the samples
# their estimate needs: chance alone passes 3 on 8 samples in one run of a hundred (Student's t).
SIGMAS = 3.0
FEWEST_NOISY = 8


@dataclass(frozen=True)
class Pilot:
    """The samples, who is attacked and who judges.

    Attributes:
        defense: judges.
        search: a faster copy of it, which attacks search.
        target: the face of ``search`` that they meet.
        ledger: counts its passes.
        facts: what the defence was tested to be.
        x: inputs.
        y: their labels.
        samples: their indices in the split.
        seed: names the draws.
        draws: decisions of the judge on each, where the defence is stochastic.
        together: whether they are in one batch, all of it under attack.
    """

    defense: Defense
    search: Defense
    target: DefendedTarget
    ledger: Ledger
    facts: Facts
    x: Tensor
    y: Tensor
    samples: Tensor
    seed: int
    draws: int
    together: bool = False

    def held(self, attack: Attack, threat: ThreatModel, rows: Tensor) -> Tensor:
        """Share of right decisions on the proposals for some rows, float64 of shape (rows,).

        Every attack starts from the same streams, so a longer one goes on where a shorter ended.
        """
        x, y = self.x[rows], self.y[rows]
        streams = self.streams("probe", rows)
        x_adv = attack.perturb(self.target, x, y, threat, streams)
        threat.check(x_adv, x, str(attack))
        return self.verdict(x_adv, rows, "probe judge").share_right(y)

    def verdict(self, x_adv: Tensor, rows: Tensor, purpose: str) -> Verdict:
        """The judge's, on draws no attack has seen; for one purpose always on the same ones."""
        draws = self.draws if self.facts.stochastic else 1
        streams = self.streams(purpose, rows)
        once = self.defense.forwards(streams)
        self.ledger.charge(streams.samples, once * draws * self.defense.votes)
        noticed = moved(x_adv, self.x[rows]) if self.facts.detector else None
        return judge(self.defense, x_adv, streams, draws, self.facts.classes, noticed)

    def streams(self, purpose: str, rows: Tensor) -> Streams:
        """Of some rows."""
        samples = self.samples[rows]
        return Streams.of(
            self.seed, purpose, samples, torch.zeros_like(samples) if self.together else None
        )


def stands_out(gain: Tensor) -> bool:
    """Whether a mean of paired differences is above zero by more than their noise."""
    if len(gain) < FEWEST_NOISY:
        return False
    error = float(gain.std()) / math.sqrt(len(gain))
    return float(gain.mean()) > 0 and float(gain.mean()) >= SIGMAS * error
