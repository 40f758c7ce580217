"""The command line that a spec would be written as, and the one to run next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from robustcode.config import RunSpec

# Suites that go by what the pilot found.
ADAPTIVE = ("adaptive", "strong")
# What decides neither the numbers nor the attacks of a run.
SHORT = ("workers", "threads", "batch_size", "seed", "device", "draws")
# Stands for the file that the samples were named in: a spec holds what was in it.
INDICES = "FILE"


def command_of(spec: RunSpec, out: str) -> str:
    """``robustcode attack ..`` for a spec, its defaults left out, into the folder ``out``."""
    words = ["robustcode", "attack", "--model", spec.model]
    options: dict[str, Any] = {
        "checkpoint": spec.checkpoint,
        "mean": ",".join(f"{value:g}" for value in spec.mean),
        "std": ",".join(f"{value:g}" for value in spec.std),
        "data": spec.data,
        "samples": spec.samples,
        "indices": INDICES if spec.indices else None,
        "defense": str(spec.defense) if spec.defense.name != "identity" else None,
        "adversary": str(spec.adversary) if str(spec.adversary) != "solo" else None,
        "threat": str(spec.threat),
        "suite": spec.suite,
    }
    defaults = RunSpec(model="", data="", threat=spec.threat, suite="quick")
    for name in SHORT:
        if getattr(spec, name) != getattr(defaults, name):
            options[name.replace("_", "-")] = getattr(spec, name)
    for name, value in options.items():
        if value is not None and value != "":
            words += [f"--{name}", str(value)]
    for attack in spec.attacks:
        words += ["--attack", str(attack)]
    return shlex.join([*words, "--out", out])


def next_suite(suite: str | None, findings: Iterable[Mapping[str, Any]]) -> str | None:
    """The suite to run after one whose run raised ``findings``; None if there is no reason.

    What weakens the evidence asks for attacks that are chosen by it, and for all there are where
    those were run already.
    """
    if not any(finding["severity"] != "info" for finding in findings):
        return None
    if suite in ADAPTIVE:
        return "strong" if suite == "adaptive" else None
    return "adaptive"
