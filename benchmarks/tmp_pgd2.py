"""PGD-40 beside torchattacks and foolbox: CPU time, memory and what is left standing.

    python benchmarks/pgd.py [--samples 64 256] [--repeats 5] [--data ../shared/data]

Every measurement is a process of its own, on one thread, and the tools take turns. The same
images, budget, number and length of steps and a random start for all; a random start of one
tool is not that of another. What each tool proposes is judged by one judge, the original model;
a sample that is wrong when clean counts as broken. Ours pays for everything it needs: copying
and checking the model, the clean pass that drops what is already wrong, the search.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn

from robustcode.attacks import PGD
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.fast import for_search
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger, borrowed
from robustcode.threat import Norm, ThreatModel

STEPS = 40
STEP = 0.2  # of eps

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Subject:
    """A published checkpoint, and the budget it is attacked with."""

    spec: str
    file: str
    eps: float


SUBJECTS = {
    "resnet20": Subject(
        "cifar_resnet20", "checkpoints/resnet_cifar10/resnet20-12fca82f.th", 1 / 255
    ),
    "cifar_cnn_a_adv": Subject(
        "cifar_cnn_a", "checkpoints/verification/cifar_cnn_a_adv.model", 2 / 255
    ),
}


class Passes:
    """Images carried forward and backward through the model, the original and its copy."""

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards = 0

    def hook(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Count one call of the original; what has a graph is later differentiated."""
        self.forwards += len(output)
        self.backwards += len(output) * output.requires_grad


@dataclass(frozen=True)
class Problem:
    """What every tool is given."""

    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float
    seed: int
    passes: Passes = field(default_factory=Passes)
    steps: int = STEPS


def with_robustcode(problem: Problem) -> Tensor:
    """Ours, from its public pieces."""
    model, x, y, seed = problem.model, problem.x, problem.y, problem.seed
    samples = torch.arange(len(x))
    ledger = Ledger(samples)
    with borrowed(model):
        defense = Identity(model=model)
        search = for_search(defense, x[:2])
        with torch.no_grad():
            right = defense.logits(x, Streams.of(seed, "clean", samples)).argmax(1) == y
        rows = right.nonzero().squeeze(1)
        target = DefendedTarget(search, ledger, stochastic=False, differentiable=True)
        proposals = PGD(steps=problem.steps, step=STEP).perturb(
            target,
            x[rows],
            y[rows],
            ThreatModel(Norm.LINF, problem.eps),
            Streams.of(seed, "search", samples[rows]),
        )
    x_adv = x.clone()
    x_adv[rows] = proposals
    problem.passes.forwards += int(ledger.forwards.sum())
    problem.passes.backwards += int(ledger.backwards.sum())
    return x_adv


def with_torchattacks(problem: Problem) -> Tensor:
    """As its documentation calls it."""
    import torchattacks

    torch.manual_seed(problem.seed)
    attack = torchattacks.PGD(
        problem.model,
        eps=problem.eps,
        alpha=STEP * problem.eps,
        steps=problem.steps,
        random_start=True,
    )
    proposals: Tensor = attack(problem.x, problem.y)
    return proposals


def with_foolbox(problem: Problem) -> Tensor:
    """Its search alone: calling the attack would have it judge its proposals as well."""
    import foolbox
    from foolbox.models.pytorch import PyTorchModel

    torch.manual_seed(problem.seed)
    attack = foolbox.attacks.LinfPGD(rel_stepsize=STEP, steps=problem.steps, random_start=True)
    model = PyTorchModel(problem.model, bounds=(0, 1), device="cpu")
    wrong = foolbox.criteria.Misclassification(problem.y)
    proposals: Tensor = attack.run(model, problem.x, wrong, epsilon=problem.eps)
    return proposals


OURS = "robustcode"
TOOLS: dict[str, Callable[[Problem], Tensor]] = {
    OURS: with_robustcode,
    "torchattacks": with_torchattacks,
    "foolbox": with_foolbox,
}


@dataclass(frozen=True)
class Measurement:
    """What one tool took, and left, in one process."""

    seconds: float  # of CPU time
    megabytes: float  # peak of the process above what it held before
    forwards: int
    backwards: int
    standing: float  # accuracy on the proposals


def measure(tool: str, name: str, samples: int, seed: int, data: Path) -> Measurement:
    """One tool on one model in this process, which should be fresh."""
    torch.set_num_threads(1)
    subject = SUBJECTS[name]
    images = load_data(f"cifar10:{data / 'cifar10'}")
    indices = torch.arange(samples)
    x, y = images.images(indices), images.targets(indices)
    del images
    model = load_classifier(subject.spec, data / subject.file).eval()
    # The peers would otherwise pay for the gradients of weights that nobody asked for.
    model.requires_grad_(False)
    if tool != OURS:
        importlib.import_module(tool)
    problem = Problem(model, x, y, subject.eps, seed)
    # First two steps of no account: what a library loads or compiles at first use is nobody's.
    TOOLS[tool](replace(problem, steps=2, passes=Passes()))
    handle = model.register_forward_hook(problem.passes.hook)
    start = time.process_time()
    x_adv = TOOLS[tool](problem)
    seconds = time.process_time() - start
    handle.remove()
    ThreatModel(Norm.LINF, subject.eps).check(x_adv, x, tool)
    with torch.no_grad():
        right = (model(x).argmax(1) == y) & (model(x_adv).argmax(1) == y)
    passes, megabytes = (
        problem.passes,
        _peak(lambda: TOOLS[tool](replace(problem, passes=Passes()))),
    )
    standing = right.float().mean().item()
    return Measurement(seconds, megabytes, passes.forwards, passes.backwards, standing)


def _peak(work: Callable[[], object]) -> float:
    """Megabytes that ``work`` needs beyond what the process holds already."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was used and freed before would hide what is used now
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS: see proc(5)
    before = _megabytes("VmRSS")
    work()
    return _megabytes("VmHWM") - before


def _megabytes(field: str) -> float:
    """A size that the kernel keeps of this process: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def in_fresh_process(tool: str, name: str, samples: int, seed: int, data: Path) -> Measurement:
    """``measure`` in a process of its own."""
    one = json.dumps([tool, name, samples, seed, str(data)])
    done = subprocess.run(
        [sys.executable, __file__, "--one", one], stdout=subprocess.PIPE, text=True, check=True
    )
    return Measurement(**json.loads(done.stdout))


def table(name: str, samples: int, taken: dict[str, list[Measurement]]) -> str:
    """Medians over the repeats as Markdown rows, with ratios to the fastest peer."""

    def median(tool: str, field: str) -> float:
        return statistics.median(getattr(one, field) for one in taken[tool])

    peers = [tool for tool in taken if tool != OURS]
    fastest = min(peers, key=lambda tool: median(tool, "seconds"))
    # Within a repeat the tools ran one after the other; machines drift between repeats.
    gains = [
        peer.seconds / ours.seconds for ours, peer in zip(taken[OURS], taken[fastest], strict=True)
    ]
    rows = []
    for tool in taken:
        ratio = median(fastest, "seconds") / median(tool, "seconds")
        if tool == OURS:
            ratio = statistics.median(gains)
        rows.append(
            f"| {name} | {samples} | {tool} | {median(tool, 'seconds'):.3f} | {ratio:.2f} "
            f"| {median(tool, 'megabytes'):.0f} | {median(tool, 'forwards'):.0f} "
            f"| {median(tool, 'backwards'):.0f} | {median(tool, 'standing'):.4f} |"
        )
    return "\n".join(rows)


HEAD = """\
| model | images | tool | CPU s | speed | MB | forward | backward | robust |
|---|---|---|---|---|---|---|---|---|"""

NOTE = """\
PGD-{steps}, linf, step {step} eps, one thread, {repeats} processes each, medians. speed: times as
fast as the fastest peer, the median over repeats. MB: peak above what the process held with data,
model and library loaded. forward, backward: images through the model. robust: accuracy of the
original model on the proposals, wrong when clean counted as broken."""


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one is not None:
        tool, name, samples, seed, data = json.loads(given.one)
        print(json.dumps(asdict(measure(tool, name, samples, seed, Path(data)))))
        return 0
    refusal = _refusal(given.data)
    if refusal is not None:
        print(refusal, file=sys.stderr)
        return 2
    print(HEAD, flush=True)
    for name in given.models:
        for samples in given.samples:
            taken: dict[str, list[Measurement]] = {tool: [] for tool in TOOLS}
            for repeat in range(given.repeats):
                for tool, measured in taken.items():
                    measured.append(in_fresh_process(tool, name, samples, repeat, given.data))
            print(table(name, samples, taken), flush=True)
    print(f"\n{NOTE.format(steps=STEPS, step=STEP, repeats=given.repeats)}")
    return 0


def _refusal(data: Path) -> str | None:
    """What is missing, as one sentence, or None."""
    needed = [data / subject.file for subject in SUBJECTS.values()]
    for path in [data / "cifar10" / "test.npz", *needed]:
        if not path.is_file():
            return f"{path} is absent; this benchmark needs the published data, see --data"
    if not Path("/proc/self/clear_refs").exists():
        return "memory is read from /proc/self, which this system does not have; run it on Linux"
    for tool in TOOLS:
        if importlib.util.find_spec(tool) is None:
            return (
                f"{tool} is not installed; pip install foolbox tqdm, and "
                "pip install --no-deps torchattacks"
            )
    return None


if __name__ == "__main__":
    sys.exit(main())
