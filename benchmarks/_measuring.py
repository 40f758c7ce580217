"""One tool on one network in a process of its own: verdicts, CPU time, memory, passes."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from _cascades import (
    OFFICIAL,
    PART_TOOLS,
    TOOLS,
    Problem,
    official_part,
    own_part,
    still_right,
    with_robustcode,
)
from _counting import Stage
from torch import Tensor

from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.threat import Norm, ThreatModel

RESULTS = Path("results") / "autoattack_official.json"
ARCHITECTURES = {
    "cifar_cnn_a_adv": "cifar_cnn_a",
    "mnist_cnn_a_adv": "mnist_cnn_a",
    "resnet2b": "cifar_resnet2b",
    "resnet20-12fca82f": "cifar_resnet20",
}

Work = TypeVar("Work")


@dataclass(frozen=True)
class Measurement:
    """What one tool took, and left, in one process."""

    clean: int  # samples that are right by themselves
    robust: list[int]  # those that stayed right, by index
    seconds: float  # of CPU time
    megabytes: float  # peak of the process above what it held before
    forwards: int  # images through the model, in all
    backwards: int
    stages: list[Stage] = field(default_factory=list)
    inside: float = 0.0  # parts only: seconds of CPU time inside the model

    @property
    def passes(self) -> float:
        """Forward and backward, per sample that is right by itself."""
        return (self.forwards + self.backwards) / max(1, self.clean)


def entries(data: Path) -> dict[str, dict[str, Any]]:
    """What the official code was run on, and what it left."""
    found: dict[str, dict[str, Any]] = json.loads((data / RESULTS).read_text())["entries"]
    return found


def problem_of(key: str, samples: int, data: Path) -> Problem:
    """The first samples of an entry, at most as many as the official code was run on."""
    entry = entries(data)[key]
    images = load_data(f"{entry['data']}:{data / entry['data']}")
    indices = torch.arange(min(samples, entry["samples"]))
    x, y = images.images(indices), images.targets(indices)
    name = key.partition("@")[0]
    model = load_classifier(ARCHITECTURES[name], data / entry["checkpoint"]).eval()
    # The peers would otherwise pay for the gradients of weights that nobody asked for.
    model.requires_grad_(False)
    return Problem(model, x, y, ThreatModel(Norm(entry["norm"]), entry["eps"]), seed=0)


def measure(tool: str, key: str, samples: int, data: Path) -> Measurement:
    """One tool on one entry in this process, which should be fresh."""
    problem = _prepared(key, samples, data)
    # Two samples of no account: what a library loads or compiles at first use is nobody's.
    tiny = Problem(problem.model, problem.x[:2], problem.y[:2], problem.threat, 0)
    with_robustcode(tiny, attacks=["pgd:steps=2"])
    if tool == OFFICIAL:
        official_part(tiny, torch.arange(2), "apgd-ce")
    if tool == "torchattacks":
        import torchattacks

        torchattacks.APGD(problem.model, eps=problem.threat.eps, steps=2)(tiny.x, tiny.y)
    outcome, seconds, megabytes = _taken(problem, partial(TOOLS[tool], problem))
    clean = still_right(problem, problem.x)
    return Measurement(
        int(clean.sum()),
        outcome.robust.nonzero().squeeze(1).tolist(),
        seconds,
        megabytes,
        problem.passes.forwards,
        problem.passes.backwards,
        outcome.stages,
    )


def measure_part(tool: str, key: str, samples: int, data: Path, name: str) -> Measurement:
    """One attack alone, on the samples that the official cascade gives it or very nearly those.

    Cross-entropy gets what is right by itself, the targeted one what ours left of that, FAB and
    Square what the official code left at the end: they break next to nothing here.
    """
    problem = _prepared(key, samples, data)
    right = still_right(problem, problem.x)
    rows = right.nonzero().squeeze(1)
    official_robust = [i for i in entries(data)[key]["robust_idx"] if i < len(problem.x)]
    if name == "apgd-t":
        first = own_part(problem, rows, "apgd-ce")
        rows = rows[_right(problem, rows, first)]
    elif name != "apgd-ce":
        rows = torch.tensor(official_robust, dtype=torch.int64)
    tiny = Problem(problem.model, problem.x[:2], problem.y[:2], problem.threat, 0)
    PART_TOOLS[tool](tiny, torch.arange(2), "apgd-ce")
    fresh = Problem(problem.model, problem.x, problem.y, problem.threat, 0)
    found, seconds, megabytes = _taken(fresh, partial(PART_TOOLS[tool], fresh, rows, name))
    left = rows[_right(problem, rows, found)].tolist()
    spent = fresh.passes.forwards, fresh.passes.backwards
    return Measurement(len(rows), left, seconds, megabytes, *spent, inside=fresh.clock.seconds)


def _right(problem: Problem, rows: Tensor, found: Tensor) -> Tensor:
    """Which of some samples withstand what was found for them."""
    x_adv = problem.x.clone()
    x_adv[rows] = found
    return still_right(problem, x_adv)[rows]


def _prepared(key: str, samples: int, data: Path) -> Problem:
    torch.set_num_threads(1)
    return problem_of(key, samples, data)


def _taken(problem: Problem, work: Callable[[], Work]) -> tuple[Work, float, float]:
    """What ``work`` returns, the CPU seconds it takes, and the megabytes beyond what was held."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was used and freed before would hide what is used now
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS: see proc(5)
    before = _megabytes("VmRSS")
    handle = problem.model.register_forward_hook(problem.passes.hook)
    start = time.process_time()
    found = work()
    seconds = time.process_time() - start
    handle.remove()
    return found, seconds, _megabytes("VmHWM") - before


def _megabytes(size: str) -> float:
    """A size that the kernel keeps of this process: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{size}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {size}")


@dataclass(frozen=True)
class Bench:
    """Takes measurements, each in a process of its own, and keeps them if there is a folder.

    Attributes:
        samples: of each network, from the beginning of the split.
        data: the folder of published data.
        out: where they are kept and looked for; None for nowhere.
        script: what is run, with ``--one`` and a measurement as JSON.
        tools: those that can be run here.
    """

    samples: int
    data: Path
    out: Path | None
    script: Path
    tools: Sequence[str]

    def __call__(self, tool: str, key: str, part: str = "") -> Measurement:
        """One measurement; a kept one if the folder has it."""
        asked = [tool, key, self.samples, str(self.data), part]
        name = "_".join(str(word).replace(":", "_") for word in (part, tool, key, self.samples))
        kept = None if self.out is None else self.out / "measurements" / f"{name.strip('_')}.json"
        if kept is not None and kept.is_file():
            return _read(kept.read_text())
        done = subprocess.run(
            [sys.executable, str(self.script), "--one", json.dumps(asked)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        said = done.stdout.splitlines()[-1]  # the official code writes warnings before it
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(said)
        return _read(said)


def _read(text: str) -> Measurement:
    values = json.loads(text)
    values["stages"] = [Stage(*stage) for stage in values["stages"]]
    return Measurement(**values)
