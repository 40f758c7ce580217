"""The suites beside the official AutoAttack and torchattacks': verdicts, cost, passes.

    python benchmarks/autoattack.py [--official DIR] [--samples 256] [--parts] [--out DIR]

The work is that of ../shared/data/results/autoattack_official.json: its checkpoints, budgets and
images, all in one batch. Every measurement is a process of its own on one thread, and within one
network the tools take turns. What each tool proposes is judged by the original model; what is
not allowed breaks nothing. Ours is the main job, robustcode.attack: its time, memory and passes
include the checks of the evaluation, the copy of the model, the judge and the run folder.

The official code is not on the registry. Without it its rows are left out, and the others run.
``--out`` keeps every measurement there, goes on from what it finds, and adds the curve of robust
accuracy over passes, on all the networks of that file.
"""

from __future__ import annotations

import argparse
import copy
import csv
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn

import robustcode
from robustcode.attacks import APGDCE, APGDT, Attack, Square, TargetedFAB
from robustcode.attacks.peers import NAMES, SLACK
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.fast import for_search
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger, borrowed
from robustcode.threat import Norm, ThreatModel

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path("results") / "autoattack_official.json"
WHERE = "AUTOATTACK"  # the environment variable that may stand in for --official
FETCH = (
    "the official AutoAttack is not importable, so its rows are left out; for them run "
    "'git clone https://github.com/fra31/auto-attack DIR && git -C DIR checkout a392200' and "
    f"pass --official DIR or set {WHERE}=DIR"
)

# The networks whose cost is compared; the curve is of all in the file.
COSTED = ("cifar_cnn_a_adv@0.007843", "cifar_cnn_a_adv@0.031373", "mnist_cnn_a_adv@0.300000")
ARCHITECTURES = {
    "cifar_cnn_a_adv": "cifar_cnn_a",
    "mnist_cnn_a_adv": "mnist_cnn_a",
    "resnet2b": "cifar_resnet2b",
    "resnet20-12fca82f": "cifar_resnet20",
}


class Stage(NamedTuple):
    """Where a tool stands after one of the attacks it is made of."""

    name: str
    left: int  # samples still right
    passes: int  # of the attacks so far, forward and backward; not the checks', nor the judge's
    seconds: float  # of wall-clock time, of this attack alone


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
    modelled: float = 0.0  # parts only: seconds that the bare model takes for these passes

    @property
    def passes(self) -> float:
        """Forward and backward, per sample that is right by itself."""
        return (self.forwards + self.backwards) / max(1, self.clean)


class Passes:
    """Images carried forward and backward through a model by whoever calls it."""

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards = 0

    def hook(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Count a call, and every time that it is differentiated."""
        self.forwards += len(output)
        if output.requires_grad:
            output.register_hook(self._back)

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    @property
    def sum(self) -> int:
        """Both together."""
        return self.forwards + self.backwards


@dataclass(frozen=True)
class Problem:
    """What every tool is given."""

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: ThreatModel
    seed: int
    passes: Passes = field(default_factory=Passes)


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


class Watch:
    """Notes what each attack of a peer's cascade was given, and what it took."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._seen: list[tuple[str, int, int, float]] = []

    def over(self, name: str, search: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same search, noted."""

        def noted(x: Tensor, y: Tensor) -> Tensor:
            before, started = self._passes.sum, time.perf_counter()
            x_adv = search(x, y)
            taken = time.perf_counter() - started
            self._seen.append((name, len(x), self._passes.sum - before, taken))
            return x_adv

        return noted

    def stages(self, left: int) -> list[Stage]:
        """One for each attack: what it left is what the next one was given, ``left`` at last."""
        afterwards = [given for _, given, _, _ in self._seen][1:] + [left]
        stages, passes = [], 0
        for (name, _, spent, seconds), after in zip(self._seen, afterwards, strict=True):
            passes += spent
            stages.append(Stage(name, after, passes, seconds))
        return stages


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
OFFICIAL = "official"
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
COST_TOOLS = (OFFICIAL, "standard", "torchattacks")


def own_part(problem: Problem, rows: Tensor, name: str) -> Tensor:
    """One of our attacks on some samples; pays for the copy of the model."""
    ledger = Ledger(torch.arange(len(problem.x)))
    with borrowed(problem.model):
        search = for_search(Identity(model=problem.model), problem.x[:2])
        target = DefendedTarget(
            search, ledger, stochastic=False, differentiable=True, width=len(problem.x)
        )
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
    with torch.no_grad():
        return part.perturb(problem.x[rows], problem.y[rows])


PART_TOOLS: dict[str, Callable[[Problem, Tensor, str], Tensor]] = {
    OFFICIAL: official_part,
    "robustcode": own_part,
}


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
    forward, backward = bare_seconds(problem, rows, tool)
    modelled = spent[0] * forward + spent[1] * backward
    return Measurement(len(rows), left, seconds, megabytes, *spent, modelled=modelled)


def _right(problem: Problem, rows: Tensor, found: Tensor) -> Tensor:
    """Which of some samples withstand what was found for them."""
    x_adv = problem.x.clone()
    x_adv[rows] = found
    return still_right(problem, x_adv)[rows]


def bare_seconds(problem: Problem, rows: Tensor, tool: str) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass per image, of the model that the tool calls."""
    model = problem.model
    if tool != OFFICIAL:
        model = for_search(Identity(model=model), problem.x[:2]).model  # type: ignore[attr-defined]
    x = problem.x[rows] if len(rows) else problem.x

    def timed(work: Callable[[], object]) -> float:
        times = []
        for _ in range(7):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
        return sorted(times)[3] / len(x)

    def both() -> object:
        given = x.detach().requires_grad_()
        return torch.autograd.grad(model(given).sum(), given)

    with torch.no_grad():
        forward = timed(lambda: model(x))
    return forward, max(0.0, timed(both) - forward)


def _prepared(key: str, samples: int, data: Path) -> Problem:
    torch.set_num_threads(1)
    return problem_of(key, samples, data)


def _taken[T](problem: Problem, work: Callable[[], T]) -> tuple[T, float, float]:
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
    """Takes measurements, each in a process of its own, and keeps them if there is a folder."""

    samples: int
    data: Path
    out: Path | None

    def __call__(self, tool: str, key: str, part: str = "") -> Measurement:
        """One measurement; a kept one if the folder has it."""
        asked = [tool, key, self.samples, str(self.data), part]
        name = "_".join(str(word).replace(":", "_") for word in (part, tool, key, self.samples))
        kept = None if self.out is None else self.out / "measurements" / f"{name.strip('_')}.json"
        if kept is not None and kept.is_file():
            return _read(kept.read_text())
        done = subprocess.run(
            [sys.executable, __file__, "--one", json.dumps(asked)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        said = done.stdout.splitlines()[-1]  # the official code writes warnings before it
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(said)
        return _read(said)

    def tools(self, among: Sequence[str]) -> Iterator[str]:
        """Those that can be run here."""
        return (tool for tool in among if tool != OFFICIAL or _importable("autoattack"))


def _read(text: str) -> Measurement:
    values = json.loads(text)
    values["stages"] = [Stage(*stage) for stage in values["stages"]]
    return Measurement(**values)


COST_HEAD = """\
| network | eps | images | tool | robust | differs | CPU s | speed | MB | memory | passes |
|---|---|---|---|---|---|---|---|---|---|---|"""
COST_NOTE = """\
differs: samples whose verdict is not that of the official code as listed. CPU s, MB: one thread;
peak above what the process held with data, model and library loaded. speed, memory: times as
fast as, and as much memory as, the official code in this run. passes: forward and backward per
sample that is right by itself, checks and judge included."""


def cost_rows(bench: Bench, key: str) -> Iterator[str]:
    """The whole suites on one entry, as Markdown."""
    taken = {tool: bench(tool, key) for tool in bench.tools(COST_TOOLS)}
    peer = taken.get(OFFICIAL)
    entry = entries(bench.data)[key]
    images = min(bench.samples, entry["samples"])
    listed = {i for i in entry["robust_idx"] if i < images}
    for tool, one in taken.items():
        yield (
            f"| {_title(entry, key)} | {images} | {tool} | {len(one.robust)} "
            f"| {len(listed ^ set(one.robust))} | {one.seconds:.1f} "
            f"| {_ratio(peer and peer.seconds, one.seconds)} | {one.megabytes:.0f} "
            f"| {_ratio(one.megabytes, peer and peer.megabytes)} | {one.passes:.0f} |"
        )


PART_HEAD = """\
| network | eps | attack | tool | given | left | CPU s | speed | MB | memory | forward | backward \
| in the model |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""
PART_NOTE = """\
Each attack alone, on the samples that the official cascade gives it, in one batch. forward,
backward: passes per sample given. in the model: share of the time that the bare model takes for
as many passes in one full batch; the rest is the attack's own arithmetic and smaller batches."""


def part_rows(bench: Bench, key: str, name: str) -> Iterator[str]:
    """One attack alone on one entry, as Markdown."""
    taken = {tool: bench(tool, key, name) for tool in bench.tools(list(PART_TOOLS))}
    peer = taken.get(OFFICIAL)
    for tool, one in taken.items():
        given = max(1, one.clean)
        yield (
            f"| {_title(entries(bench.data)[key], key)} | {name} | {tool} | {one.clean} "
            f"| {len(one.robust)} | {one.seconds:.2f} "
            f"| {_ratio(peer and peer.seconds, one.seconds)} | {one.megabytes:.0f} "
            f"| {_ratio(one.megabytes, peer and peer.megabytes)} | {one.forwards / given:.0f} "
            f"| {one.backwards / given:.0f} | {one.modelled / one.seconds:.0%} |"
        )


CURVE_HEAD = """\
| network | eps | images | tool | after | left | robust | passes | of standard |
|---|---|---|---|---|---|---|---|---|"""
CURVE_NOTE = """\
passes: of the attacks so far, forward and backward, per sample that is right by itself; neither
the checks' nor the judge's. of standard: how many times fewer than our standard took in all."""


class Point(NamedTuple):
    """One place on a tool's curve of one entry."""

    network: str
    eps: str
    images: int
    tool: str
    after: str
    left: int
    robust: float
    passes: float


def points(bench: Bench, key: str) -> list[Point]:
    """Every tool on one entry, after each of its attacks."""
    entry = entries(bench.data)[key]
    network, eps = key.partition("@")[0], _fraction(entry["eps"])
    images = min(bench.samples, entry["samples"])
    found = []
    for tool in bench.tools(list(TOOLS)):
        one = bench(tool, key)
        for stage in one.stages:
            share, spent = stage.left / images, stage.passes / max(1, one.clean)
            found.append(Point(network, eps, images, tool, stage.name, stage.left, share, spent))
    return found


def curve_rows(found: list[Point]) -> Iterator[str]:
    """The points of one entry as Markdown."""
    whole = max((p.passes for p in found if p.tool == "standard"), default=0.0)
    for p in found:
        yield (
            f"| {p.network} | {p.eps} | {p.images} | {p.tool} | {p.after} | {p.left} "
            f"| {p.robust:.4f} | {p.passes:.0f} | {_ratio(whole, p.passes)} |"
        )


def draw(curves: Sequence[list[Point]], path: Path) -> None:
    """Robust accuracy over passes, a panel for each entry."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(curves), 4.4), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, found in zip(axes, curves, strict=True):
        by_line: dict[str, list[Point]] = {}
        for point in found:
            by_line.setdefault(point.tool.partition(":steps")[0], []).append(point)
        for tool, marker in zip(by_line, "so^DvPX", strict=False):
            line = by_line[tool]
            axis.plot(
                [p.passes for p in line],
                [p.robust for p in line],
                marker=marker,
                label=tool,
                linewidth=2.2 if tool in ("standard", "quick") else 1.2,
                markersize=5,
                alpha=0.85,
            )
        axis.set_xscale("log")
        axis.set_title(f"{found[0].network}, eps {found[0].eps}, {found[0].images} images")
        axis.set_xlabel("passes per sample right by itself")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("robust accuracy")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def entries(data: Path) -> dict[str, dict[str, Any]]:
    """What the official code was run on, and what it left."""
    found: dict[str, dict[str, Any]] = json.loads((data / RESULTS).read_text())["entries"]
    return found


def _title(entry: dict[str, Any], key: str) -> str:
    return f"{key.partition('@')[0]} | {_fraction(entry['eps'])}"


def _fraction(eps: float) -> str:
    of_255 = Fraction(eps * 255).limit_denominator(4)
    return f"{of_255}/255" if abs(of_255 / 255 - eps) < 1e-9 and eps < 0.1 else f"{eps:g}"


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one is not None and other else ""


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=256, help="images of each network")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="those whose key has this")
    parser.add_argument("--parts", action="store_true", help="each attack of the cascade alone too")
    parser.add_argument("--out", type=Path, help="folder for measurements, curve.csv, curve.png")
    parser.add_argument("--official", type=Path, default=os.environ.get(WHERE), metavar="DIR")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.official is not None:
        os.environ[WHERE] = str(Path(given.official).resolve())
        sys.path.insert(0, os.environ[WHERE])
    if given.one is not None:
        tool, key, samples, data, part = json.loads(given.one)
        took = partial(measure_part, name=part) if part else measure
        print(json.dumps(asdict(took(tool, key, samples, Path(data)))))
        return 0
    refusal = _refusal(given.data)
    if refusal is not None:
        print(refusal, file=sys.stderr)
        return 2
    if not _importable("autoattack"):
        print(FETCH, file=sys.stderr)
    chosen = [key for key in entries(given.data) if _asked(key, given.only)]
    bench = Bench(given.samples, given.data, given.out)
    costed = [key for key in chosen if key in COSTED]
    _print_table(COST_HEAD, (cost_rows(bench, key) for key in costed), COST_NOTE)
    if given.parts:
        parts = (part_rows(bench, key, name) for key in costed for name in PARTS)
        _print_table(PART_HEAD, parts, PART_NOTE)
    if given.out is not None:
        curves: list[list[Point]] = []

        def curve(key: str) -> Iterator[str]:
            curves.append(points(bench, key))
            return curve_rows(curves[-1])

        _print_table(CURVE_HEAD, map(curve, chosen), CURVE_NOTE)
        with (given.out / "curve.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Point._fields)
            writer.writerows(point for found in curves for point in found)
        draw([found for found in curves if found], given.out / "curve.png")
    return 0


def _print_table(head: str, blocks: Iterator[Iterator[str]], note: str) -> None:
    """Rows as they come, since each takes minutes."""
    print(head, flush=True)
    for block in blocks:
        for row in block:
            print(row, flush=True)
    print(f"\n{note}\n", flush=True)


def _asked(key: str, only: Sequence[str] | None) -> bool:
    return not only or any(word in key for word in only)


def _refusal(data: Path) -> str | None:
    """What is missing, as one sentence, or None."""
    if not (data / RESULTS).is_file():
        return f"{data / RESULTS} is absent; this benchmark needs the published data, see --data"
    for entry in entries(data).values():
        if not (data / entry["checkpoint"]).is_file():
            return f"{data / entry['checkpoint']} is absent; see --data"
    if not Path("/proc/self/clear_refs").exists():
        return "memory is read from /proc/self, which this system does not have; run it on Linux"
    if not _importable("torchattacks"):
        return "torchattacks is not installed; pip install --no-deps torchattacks tqdm"
    return None


if __name__ == "__main__":
    sys.exit(main())
