"""Randomized smoothing of a whole batch, all of it adversarial."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcode.adversary import Batch, Solo
from robustcode.certificates import Certificate
from robustcode.errors import ConfigError
from robustcode.methods.base import METHODS, Advance, Claim, Prover
from robustcode.methods.smoothing import Smoothing, SmoothingProver
from robustcode.methods.votes import Ballot, Vote
from robustcode.noise import Gaussian
from robustcode.seeds import Streams


@METHODS.register("coded-noise")
@dataclass(frozen=True, kw_only=True)
class CodedNoise(Smoothing):
    """Smoothing where all samples of a coded batch move: noise on every one of them.

    Of fixed samples in a batch, the class of one is a function of all k images together, and of a
    fresh order and fillers that do not depend on the noise. So it is smoothed as one input of k
    images. What holds of one move of length r of that input holds where each sample moves by
    r / sqrt(k), or by r / k for noise whose ball is one of l1. The adversary does not know the
    draw. For one adversarial sample among clean mates it is ``smoothing``.

    Source: the research notes on certification, section 6.4, derived there.
    """

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        if not isinstance(claim.adversary, Batch):
            return super().prepare(claim)
        size = claim.defense.batch
        further = math.sqrt(size) if isinstance(self._noise(claim), Gaussian) else size
        threat = claim.threat
        try:
            alone = super().prepare(
                replace(
                    claim,
                    adversary=Solo(),
                    threat=replace(threat, eps=further * threat.eps),
                    radii=tuple(further * radius for radius in claim.radii),
                )
            )
        except ConfigError as wrong:
            raise ConfigError(
                f"{size} samples that move by {threat.eps:g} each move by {further * threat.eps:g} "
                f"together: {wrong}"
            ) from wrong
        assert isinstance(alone, SmoothingProver)
        return BatchProver(self, claim, alone.noise, alone.unit / further, alone.rungs, alone.free)


@dataclass(frozen=True)
class BatchProver(SmoothingProver):
    """Smoothing of batches made ready for one claim."""

    def prove(self, x: Tensor, y: Tensor, streams: Streams, advance: Advance) -> list[Certificate]:
        """See Prover.prove."""
        assert streams.together is not None
        found: dict[int, Certificate] = {}
        for number in streams.together.samples.unique():
            rows = (streams.together.samples == number).nonzero().squeeze(1)
            proofs = super().prove(x[rows], y[rows], streams[rows], advance)
            found.update(zip(rows.tolist(), proofs, strict=True))
        return [found[row] for row in range(len(x))]

    def votes(self, x: Tensor, streams: Streams) -> Vote:
        """See SmoothingProver.votes. The samples, those of one batch, share their draws."""
        passes = torch.as_tensor(self.claim.defense.forwards(streams)).cpu().expand(len(x))
        drawn: dict[int, Tensor] = {}

        def vote(places: Tensor, numbers: Tensor) -> Ballot:
            for number in set(numbers.tolist()) - set(drawn):
                drawn[number] = self._vote(x, streams.child(number)).classes.cpu()
            pairs = zip(places.tolist(), numbers.tolist(), strict=True)
            classes = torch.stack([drawn[number][place] for place, number in pairs])
            return Ballot(classes, passes[places])

        return vote
