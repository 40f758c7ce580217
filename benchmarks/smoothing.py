"""Randomized smoothing against ART and against a plain loop, on one network, in one run.

    python benchmarks/smoothing.py [--samples 200] [--draws 10000] [--cells 0.25:0.25 0.25:0.5 ..]

A ``digits_cnn`` is trained with noise for each sigma, which takes seconds. Every tool certifies the
first test images with it: ART 1.20.1 (PyTorchRandomizedSmoothing), the loop of Cohen et al. 2019
written down plainly in torch, and this project by all its estimators. One thread, CPU seconds of
the process, alpha = .001, batches of 256, the same number of draws at most. The first two give a
radius that serves every cell of a sigma; so does ``fixed``. A cell is SIGMA:RADIUS in l2; the last
column is the CPU time of the first tool over that of the row's.

ART is not needed here otherwise and has many dependencies, so it is best kept apart:

    pip install --no-deps --target DIR adversarial-robustness-toolbox==1.20.1
    pip install --no-deps --target DIR statsmodels patsy six tqdm
    PYTHONPATH=DIR python benchmarks/smoothing.py
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from _counting import Passes
from scipy.stats import norm
from torch import Tensor, nn

from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.methods import Claim
from robustcode.methods.course import Estimator
from robustcode.methods.smoothing import Smoothing
from robustcode.seeds import Streams
from robustcode.statistics import lower_bound
from robustcode.threat import Norm, ThreatModel
from robustcode.training import TrainSpec, train

ALPHA, ROWS, SELECTION = 0.001, 256, 100
EPOCHS = 20
INSTALL = (
    "ART is left out: it is not installed. Run: pip install --no-deps --target DIR "
    "adversarial-robustness-toolbox==1.20.1 statsmodels patsy six tqdm, and set PYTHONPATH=DIR"
)


class Problem(NamedTuple):
    """What is certified."""

    model: nn.Module
    x: Tensor
    y: Tensor
    sigma: float
    draws: int


class Outcome(NamedTuple):
    """Of each sample the class, -1 for none, and the radius that is proved for it."""

    labels: np.ndarray
    radii: np.ndarray


Tool = Callable[[Problem], Outcome]


def main() -> None:
    """Train, certify and print one table in Markdown for each sigma."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    cells = ["0.25:0.25", "0.25:0.5", "0.25:0.75", "0.5:0.25", "0.5:0.5", "0.5:0.75"]
    parser.add_argument("--cells", nargs="+", default=cells)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    by_sigma: dict[float, list[float]] = {}
    for cell in asked.cells:
        sigma, radius = map(float, cell.split(":"))
        by_sigma.setdefault(sigma, []).append(radius)
    whole = {"Cohen's loop": plain, "`fixed`": ours(Estimator.FIXED, asked.seed)}
    if importlib.util.find_spec("art"):
        whole = {"ART 1.20.1": with_art, **whole}
    else:
        print(INSTALL, file=sys.stderr)
    for sigma, radii in by_sigma.items():
        problem = prepared(sigma, asked.samples, asked.draws)
        report(problem, radii, whole, asked.seed)


def prepared(sigma: float, samples: int, draws: int) -> Problem:
    """A network trained with noise, and the first samples of the test split."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        recipe = f"gaussian:sigma={sigma}"
        spec = TrainSpec(recipe=recipe, model="digits_cnn", data="digits", epochs=EPOCHS)
        train(spec, weights, progress=False)
        model = load_classifier("digits_cnn", weights, classes=10).eval()
    data, rows = load_data("digits"), torch.arange(samples)
    return Problem(model.requires_grad_(False), data.images(rows), data.targets(rows), sigma, draws)


def report(problem: Problem, radii: Sequence[float], whole: dict[str, Tool], seed: int) -> None:
    """The table of one sigma: a line for each radius and tool."""
    print(f"\nsigma = {problem.sigma:g}, {len(problem.x)} samples, n = {problem.draws:,}\n")
    print("| radius | tool | certified | passes a sample | CPU ms a sample | ratio |")
    print("|---" * 6 + "|", flush=True)
    done = {name: measured(tool, problem) for name, tool in whole.items()}
    base = next(iter(done.values()))[2]
    for radius in radii:
        rows = dict(done)
        for estimator in (Estimator.ANYTIME, Estimator.SEQUENTIAL):
            rows[f"`{estimator}`"] = measured(ours(estimator, seed, radius), problem)
        twice = problem._replace(draws=2 * problem.draws)
        rows["`sequential`, 2n"] = measured(ours(Estimator.SEQUENTIAL, seed, radius), twice)
        for name, (found, passes, seconds) in rows.items():
            right = (found.labels == problem.y.numpy()) & (found.radii >= radius)
            print(
                f"| {radius:g} | {name} | {right.mean():.3f} | {passes:,.0f} | {1e3 * seconds:.2f} "
                f"| {base / seconds:.1f} |",
                flush=True,
            )


def measured(tool: Tool, problem: Problem) -> tuple[Outcome, float, float]:
    """What a tool finds, and the passes and CPU seconds that a sample takes it."""
    # What is loaded, compiled or computed once, such as stopping boundaries, is nobody's.
    tool(problem._replace(x=problem.x[:1], y=problem.y[:1], draws=problem.draws))
    passes = Passes()
    # On its last layer: ART calls the layers and not the model.
    last = list(problem.model.modules())[-1]
    handle = last.register_forward_hook(passes.hook)
    started = time.process_time()
    found = tool(problem)
    seconds = time.process_time() - started
    handle.remove()
    return found, passes.forwards / len(problem.x), seconds / len(problem.x)


def with_art(problem: Problem) -> Outcome:
    """ART's certificates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smoothing: Any = importlib.import_module(
            "art.estimators.certification.randomized_smoothing"
        )
    np.random.seed(0)  # ART draws from the global generator
    classifier = smoothing.PyTorchRandomizedSmoothing(
        model=problem.model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(problem.x.shape[1:]),
        nb_classes=10,
        device_type="cpu",
        sample_size=SELECTION,
        scale=problem.sigma,
        alpha=ALPHA,
    )
    return Outcome(*classifier.certify(problem.x.numpy(), n=problem.draws, batch_size=ROWS))


@torch.no_grad()
def plain(problem: Problem) -> Outcome:
    """Certificates by Cohen's algorithm, sample by sample, without anything of this project's.

    Source: Cohen et al. 2019, arXiv:1902.02918, section 3.2.2, CERTIFY.
    """
    generator = torch.Generator().manual_seed(0)

    def counts(image: Tensor, draws: int) -> Tensor:
        total = torch.zeros(10, dtype=torch.int64)
        for start in range(0, draws, ROWS):
            rows = min(ROWS, draws - start)
            noise = torch.randn(rows, *image.shape, generator=generator)
            labels = problem.model(image + problem.sigma * noise).argmax(1)
            total += labels.bincount(minlength=10)
        return total

    labels, radii = [], []
    for image in problem.x:
        chosen = int(counts(image, SELECTION).argmax())
        successes = int(counts(image, problem.draws)[chosen])
        least = float(lower_bound(successes, problem.draws, ALPHA))
        labels.append(chosen if least > 0.5 else -1)
        radii.append(problem.sigma * float(norm.ppf(least)) if least > 0.5 else 0.0)
    return Outcome(np.array(labels), np.array(radii))


def ours(estimator: Estimator, seed: int, radius: float = 0.0) -> Tool:
    """Certificates of this project, for one radius or as large as they come."""

    def tool(problem: Problem) -> Outcome:
        method = Smoothing(
            sigma=problem.sigma,
            estimator=estimator,
            alpha=ALPHA,
            draws=problem.draws,
            selection=SELECTION,
        )
        claim = Claim(
            defense=Identity(model=problem.model),
            threat=ThreatModel(Norm.L2, radius),
            radii=(radius,),
            classes=10,
            example=problem.x[:1],
            rows=ROWS,
        )
        streams = Streams.of(seed, "certify", torch.arange(len(problem.x)))
        proofs = method.prepare(claim).prove(problem.x, problem.y, streams, lambda done: None)
        labels = [-1 if proof.prediction is None else proof.prediction for proof in proofs]
        return Outcome(np.array(labels), np.array([proof.radius for proof in proofs]))

    return tool


if __name__ == "__main__":
    main()
