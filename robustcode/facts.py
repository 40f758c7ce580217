"""What a defence declares, put to the test before it is proved or attacked."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from robustcode.checks import Examination, Report, examine
from robustcode.defenses.base import Defense
from robustcode.findings import Facts


def test_facts(
    defense: Defense, x: Tensor, samples: Tensor, seed: int, training: Sequence[str]
) -> tuple[Facts, Report]:
    """The facts an evaluation may go by, and what the checks found that attack nothing.

    ``x`` are pilot inputs, (batch, channels, height, width); ``samples`` their indices in the
    split, (batch,); ``training`` names the modules that came in training mode. The model must
    be in eval mode by now. Costs a sample about 12 forward and 2 backward passes, twice that if the
    defence is stochastic or its declared gradient is not there, and 16 of each more for the noise
    of a stochastic one's gradients on half of the pilot.
    """
    exam = Examination(defense=defense, x=x, samples=samples, seed=seed, training=training)
    report = examine(exam)
    return exam.facts, report
