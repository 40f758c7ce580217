"""The doctor: an evaluation tested on a few samples before hours are spent on it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from robustcode.components import Component
from robustcode.config import RunSpec
from robustcode.data import load_data
from robustcode.defenses import DEFENSES
from robustcode.engine import evaluate
from robustcode.store import Run
from robustcode.subject import PILOT, Given, choose, spread

# The evaluation that is tested where none is named: what most defences are first shown with.
USUAL = (Component("noise"), Component("pgd", {"steps": 40, "step": 0.1}))


# Decisions of the judge on each proposal: on 32 samples 50 add 1.3 points of error at most to the
# 17 of the samples themselves. Of a defence that votes each costs as many passes as it has votes.
DRAWS, FEWEST_DRAWS = 50, 10


def votes_of(spec: RunSpec) -> int:
    """Draws that one decision of the defence is made of."""
    stated = spec.defense.settings.get(
        "votes", getattr(DEFENSES.get(spec.defense.name), "votes", 1)
    )
    return int(stated)


def usual(spec: RunSpec) -> RunSpec:
    """The spec with the usual attacks, in place of a suite that nobody asked for."""
    return dataclasses.replace(spec, suite=None, attacks=USUAL, cascade=False)


def doctor(spec: RunSpec, out: Path, given: Given | None = None, show: bool = True) -> Run:
    """Make every check of the evaluation that ``spec`` describes, into the run folder ``out``.

    It is run on 32 of its samples, spread over all of them, and each attack on every one of these.
    """
    given = given or Given()
    data = given.data if given.data is not None else load_data(spec.data)
    asked = choose(spec, len(data), data.name)
    chosen = tuple(spread(asked, PILOT).tolist())
    short = dataclasses.replace(spec, samples=None, indices=chosen, cascade=False)
    # Of so few samples more draws would tell nothing; a decision of many votes varies less.
    draws = min(spec.draws, max(FEWEST_DRAWS, DRAWS // votes_of(spec)))
    short = dataclasses.replace(short, draws=draws)
    # What is to be run next is about the samples that were named.
    return evaluate(short, out, given, show=show, asked_for=spec)
