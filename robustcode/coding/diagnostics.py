"""What a code does to the samples of a batch, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Diagnostics:
    """What to expect of a code before any network has run.

    They are exact for a linear model, or one with a bias: its decoded output i is the sum over
    the batch of (decoder @ encoder)[i, l] times the output of sample l alone. For a network
    they are where to start from.

    Attributes:
        own_gain: mean weight of a sample's own output in its decoded output; 1 is lossless. With
            few coded samples it falls, and what is lost is lost before any noise or attack.
        least_own_gain: the same for the sample that is worst off.
        cross_weight: mean over samples of the total absolute weight of all the other samples'
            outputs in its decoded output; how much batch mates can do to a prediction.
        effective_mixing: mean over coded samples of 1 / sum of squared weights. A coded sample
            mixes its batch as an average of so many samples does: independent noise of the
            samples has its variance divided by it. Below 1, weights of both signs make it more.
        condition: largest over least singular value of the encoder: by how much a relative error
            of the coded samples may grow when samples are recovered from them. With n < k they
            cannot all be recovered, and it speaks of what can.
        encoder_amplification: largest sum of absolute weights of a coded sample. Of samples in
            [0, 1], coded ones are within half of it around 1/2, and some batch gets there.
        decoder_amplification: the same of a decoded output: if no coded output is wrong by more
            than e, no decoded one is by more than this times e.
    """

    own_gain: float
    least_own_gain: float
    cross_weight: float
    effective_mixing: float
    condition: float
    encoder_amplification: float
    decoder_amplification: float


def diagnose(encoder: NDArray[np.float64], decoder: NDArray[np.float64]) -> Diagnostics:
    """The diagnostics of an encoder (n, k) and a decoder (k, n)."""
    through = decoder @ encoder
    gains = np.diagonal(through)
    return Diagnostics(
        own_gain=float(gains.mean()),
        least_own_gain=float(gains.min()),
        cross_weight=float((np.abs(through).sum(1) - np.abs(gains)).mean()),
        effective_mixing=float((1 / (encoder**2).sum(1)).mean()),
        condition=float(np.linalg.cond(encoder)),
        encoder_amplification=float(np.abs(encoder).sum(1).max()),
        decoder_amplification=float(np.abs(decoder).sum(1).max()),
    )
