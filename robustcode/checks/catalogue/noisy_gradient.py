"""More draws would be needed than any suite takes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity
from robustcode.gradients import MOST_DRAWS


@CHECKS.register("noisy-gradient")
class NoisyGradient(Check):
    """More draws would be needed than any suite takes.

    Raised when the noise of one draw's gradient asks for more than 64 draws per step.

    Why it matters: the steps of the attack are mostly random, and accuracy under it may be high for
    that alone.

    What to do: attack with more draws and more steps, and a transfer start.

    False alarms: the ratio of noise to signal is the median of 16 samples, each from 16 draws; a
    defence whose true ratio is half of the limit reaches it in 1 % of runs at most, where inputs
    have 64 values or more.

    Source: expectation over transformation, Athalye et al. 2018, arXiv:1707.07397; the measure is
    ours.
    """

    code = "noisy-gradient"
    group = Group.RANDOMNESS
    says = "one draw's gradient has enough signal for the draws that suites average"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return None if exam.stochastic else "the defence is deterministic"

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        yield noisy_gradient(exam.noise, exam.samples[exam.noise_rows])


def noisy_gradient(noise: float, samples: Tensor) -> Finding | None:
    """The finding of NoisyGradient where ``noise`` was measured on ``samples``."""
    if noise <= MOST_DRAWS:
        return None
    said = f"{noise:.0f}" if math.isfinite(noise) else "more than can be measured"
    return Finding(
        code=NoisyGradient.code,
        severity=Severity.WARNING,
        what=f"one draw's gradient has {said} times as much noise as signal on half of "
        f"{len(samples)} samples; suites average {MOST_DRAWS} draws at most",
        remedy=f"attack with draws={2 * MOST_DRAWS} or more, many steps and aggmo, and always "
        "with transfer",
        figures={
            "noise": noise if math.isfinite(noise) else -1.0,
            "draws": float(MOST_DRAWS),
        },
    )
