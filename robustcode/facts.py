"""What a defence declares, put to the test before it is proved or attacked."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from robustcode.checks import Examination, Report, examine
from robustcode.config import Spec
from robustcode.defenses.base import Defense
from robustcode.findings import Facts, plain
from robustcode.shard import global_draws
from robustcode.subject import PILOT, Subject, spread, unasked
from robustcode.target import answerable


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


def diagnose(spec: Spec, subject: Subject, modes: Sequence[str]) -> dict[str, Any]:
    """Test on a pilot what the defence declares, where nothing is attacked: what is kept of it.

    ``modes`` names the modules that came in training mode.
    """
    started, cpu = time.perf_counter(), time.process_time()
    pilot = spread(subject.samples, PILOT)
    x, _ = subject.batch(pilot)
    with answerable("the model or its defence"), global_draws(spec.seed, subject.device):
        own = pilot.to(subject.device)
        facts, report = test_facts(unasked(subject).defense, x, own, spec.seed, modes)
    return {
        "facts": dataclasses.asdict(dataclasses.replace(facts, adversary=spec.adversary.name)),
        "findings": [plain(finding) for finding in report.findings],
        "checks": [dataclasses.asdict(line) for line in report.looked],
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
    }
