"""The cascades that are compared, and the attacks they are made of, each behind one signature.

Those of this package are called as its documentation has it; so are the peers'. The original
model judges what each of them proposes.
"""

from __future__ import annotations

import copy
import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _counting import Clock, Passes, Stage, TimedTarget, Watch
from torch import Tensor, nn

import robustcode
from robustcode.attacks import APGDCE, APGDT, Attack, Square, TargetedFAB
from robustcode.attacks.peers import NAMES, SLACK
from robustcode.defenses import Identity
from robustcode.fast import for_search
from robustcode.seeds import Streams
from robustcode.target import Ledger, borrowed
from robustcode.threat import ThreatModel


@dataclass(frozen=True)
class Problem:
    """What every tool is given."""

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: ThreatModel
    seed: int
    passes: Passes = field(default_factory=Passes)
    clock: Clock = field(default_factory=Clock)


class Outcome(NamedTuple):
    """What a tool returns: which samples it left right, and by which attacks."""

    robust: Tensor  # bool (samples,)
    stages: list[Stage]


def with_robustcode(problem: Problem, **asked: Any) -> Outcome:
    """Ours, as its documentation calls it."""
    with tempfile.TemporaryDirectory() as folder:
        run = robustcode.attack(
            problem.model,
            (problem.x, problem.y),
            str(problem.threat),
            Path(folder) / "run",
            batch_size=len(problem.x),
            seed=problem.seed,
            progress=False,
            **asked,
        )
        records = run.records
    summary = run.summary
    right = (records.correct * records.clean_correct).groupby(records["sample"]).min()
    stages, passes = [], 0
    for row in summary["attacks"]:
        passes += row["forwards"] + row["backwards"]
        # A control before the cascade only adds its passes to those of the first attack.
        if row["after"] or len(summary["attacks"]) == 1:
            stages.append(Stage(row["name"], row["correct"], passes, row["seconds"]))
    # What it spent on a copy of the model, the hook does not see.
    problem.passes.forwards = summary["cost"]["forwards"]
    problem.passes.backwards = summary["cost"]["backwards"]
    return Outcome(torch.from_numpy(right.to_numpy() == 1), stages)


def with_official(problem: Problem) -> Outcome:
    """Version standard, in one batch."""
    suite = official_suite(problem)
    parts = official_parts(suite)
    watch = Watch(problem.passes)
    for name, part in parts.items():
        part.perturb = watch.over(name, part.perturb)
    x_adv = suite.run_standard_evaluation(problem.x, problem.y, bs=len(problem.x))
    robust = still_right(problem, x_adv)
    return Outcome(robust, watch.stages(int(robust.sum())))


def with_torchattacks(problem: Problem) -> Outcome:
    """As its documentation calls it: attacks of ten steps."""
    import torchattacks

    suite = torchattacks.AutoAttack(
        problem.model, NAMES[problem.threat.norm], problem.threat.eps, seed=problem.seed
    )
    watch = Watch(problem.passes)
    for name, part in zip(PARTS, suite._autoattack.attacks, strict=True):
        part.forward = watch.over(name, part.forward)
    robust = still_right(problem, suite(problem.x, problem.y))
    return Outcome(robust, watch.stages(int(robust.sum())))


def still_right(problem: Problem, x_adv: Tensor) -> Tensor:
    """Which samples the model gets right, bool (samples,); what is not allowed breaks nothing."""
    x, y, threat = problem.x, problem.y, problem.threat
    allowed = threat.distance(x_adv, x) <= threat.eps * (1 + SLACK)
    allowed &= ((x_adv >= threat.low) & (x_adv <= threat.high)).flatten(1).all(1)
    judge = copy.deepcopy(problem.model)
    judge._forward_hooks.clear()
    with torch.no_grad():
        broken = (judge(x_adv).argmax(1) != y) & allowed
        return (judge(x).argmax(1) == y) & ~broken


def official_suite(problem: Problem) -> Any:
    """The official AutoAttack object, version standard."""
    return importlib.import_module("autoattack").AutoAttack(
        problem.model,
        norm=NAMES[problem.threat.norm],
        eps=problem.threat.eps,
        seed=problem.seed,
        verbose=False,
        device="cpu",
    )


def official_parts(suite: Any) -> dict[str, Any]:
    """Its attacks in their order, each with ``perturb``."""
    suite.fab.targeted = True
    parts = dict(
        zip(PARTS, [suite.apgd, suite.apgd_targeted, suite.fab, suite.square], strict=True)
    )
    for part in parts.values():
        part.seed = suite.get_seed()
    return parts


# In the order of AutoAttack.
PARTS: dict[str, Callable[[], Attack]] = {
    "apgd-ce": APGDCE,
    "apgd-t": APGDT,
    "fab-t": TargetedFAB,
    "square": Square,
}
OFFICIAL, OURS = "official", "robustcode"
TOOLS: dict[str, Callable[[Problem], Outcome]] = {
    OFFICIAL: with_official,
    "standard": partial(with_robustcode, suite="standard"),
    "torchattacks": with_torchattacks,
    "quick": partial(with_robustcode, suite="quick"),
    "apgd-t:order=malt": partial(with_robustcode, attacks=["apgd-t:order=malt"]),
    **{
        f"pgd:steps={steps}": partial(with_robustcode, attacks=[f"pgd:steps={steps}"])
        for steps in (10, 20, 40, 100)
    },
}


def own_part(problem: Problem, rows: Tensor, name: str) -> Tensor:
    """One of our attacks on some samples; pays for the copy of the model."""
    ledger = Ledger(torch.arange(len(problem.x)))
    with borrowed(problem.model):
        search = for_search(Identity(model=problem.model), problem.x[:2])
        target = TimedTarget(
            search, ledger, stochastic=False, differentiable=True, width=len(problem.x)
        )
        target.clock = problem.clock
        streams = Streams.of(problem.seed, "search", ledger.samples).child(name)[rows]
        found = PARTS[name]().perturb(
            target, problem.x[rows], problem.y[rows], problem.threat, streams
        )
    problem.passes.forwards = int(ledger.forwards.sum())
    problem.passes.backwards = int(ledger.backwards.sum())
    return found


def official_part(problem: Problem, rows: Tensor, name: str) -> Tensor:
    """The same attack of the official code."""
    part = official_parts(official_suite(problem))[name]
    with torch.no_grad(), problem.clock.over(problem.model):
        return part.perturb(problem.x[rows], problem.y[rows])


PART_TOOLS: dict[str, Callable[[Problem, Tensor, str], Tensor]] = {
    OFFICIAL: official_part,
    OURS: own_part,
}
