"""What coded inference costs, and what its own-sample gradient costs, against the plain model.

    python benchmarks/coded_smoothing.py [--model cifar_resnet20] [--k 128] [--repeats 5]

One batch of k random images, one thread, CPU time, medians; random weights, since time does not
depend on them. A plain gradient step is a forward and a backward pass of k images down to the
input, parameters frozen. ``reach`` is how many samples each coded image is differentiated for; the
error is that of the gradient against the one of full reach, on the same draw.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcode.adversary import Batch, Gradient
from robustcode.defenses import CodedSmoothing
from robustcode.models import build_model, inputs_of
from robustcode.seeds import Streams

RATIOS = (1.5, 1.0, 0.75)
REACHES = (1, 2, 3, 5, 7)
# Beyond it nothing is left that double precision would show.
FULL = 16

Scores = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and print two tables in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="cifar_resnet20")
    parser.add_argument("--k", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_model(asked.model, 10).eval().requires_grad_(False)
    inputs = inputs_of(model)
    if inputs is None:
        parser.error(f"{asked.model} does not say what images it takes")
    x, mates = torch.rand(asked.k, *inputs.shape), torch.rand(asked.k, *inputs.shape)
    y = torch.randint(0, 10, (asked.k,))

    with torch.no_grad():
        forward = median(lambda: model(x), asked.repeats)
    step = median(lambda: gradient(model, x, y), asked.repeats)
    print(f"{asked.model}, k = {asked.k}: forward {forward:.3f} s, gradient step {step:.3f} s\n")
    print("| N/K | inference, times a forward | " + head(REACHES) + " | joint gradient |")
    print("|---" * (3 + len(REACHES)) + "|")
    errors = []
    for ratio in RATIOS:
        defense = CodedSmoothing(model=model, mates=mates, k=asked.k, ratio=ratio)
        with torch.no_grad():
            inference = median(partial(of_batch(defense), x), asked.repeats) / forward
        joint = of_batch(facing(defense, Batch(gradient=Gradient.JOINT)))
        own = [of_batch(facing(defense, Batch(reach=reach))) for reach in REACHES]
        costs = [median(partial(gradient, d, x, y), asked.repeats) / step for d in (*own, joint)]
        print(f"| {ratio:g} | {inference:.2f} | " + " | ".join(f"{c:.2f}" for c in costs) + " |")
        exact = gradient(of_batch(facing(defense, Batch(reach=FULL))), x, y).flatten(1)
        away = [(gradient(d, x, y).flatten(1) - exact).norm(dim=1) / exact.norm(dim=1) for d in own]
        errors.append(f"| {ratio:g} | " + " | ".join(f"{a.median():.1e}" for a in away) + " |")
    print("\n| N/K | " + head(REACHES, "error") + " |\n" + "|---" * (1 + len(REACHES)) + "|")
    print("\n".join(errors))


def facing(defense: CodedSmoothing, adversary: Batch) -> CodedSmoothing:
    """The defence whose whole batch is attacked."""
    return defense.facing(adversary, torch.arange(0), defense.mates[:0])


def of_batch(defense: CodedSmoothing) -> Scores:
    """Its scores of one batch, always on the same draw."""
    samples = torch.arange(defense.k)
    streams = Streams.of(0, "benchmark", samples, torch.zeros_like(samples))
    return partial(defense.logits, streams=streams)


def median(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of a call, after one that is not counted."""
    work()
    return statistics.median(spent(work) for _ in range(repeats))


def gradient(scores: Scores, x: Tensor, y: Tensor) -> Tensor:
    """Of the summed cross-entropy, in the input."""
    leaf = x.detach().requires_grad_()
    logits = scores(leaf)
    (found,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), leaf)
    return found


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def head(reaches: tuple[int, ...], what: str = "own gradient") -> str:
    """Columns, one a reach."""
    return " | ".join(f"{what}, reach {reach}" for reach in reaches)


if __name__ == "__main__":
    main()
