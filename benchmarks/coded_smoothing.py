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

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn

from robustcode.adversary import Batch, Gradient
from robustcode.defenses import CodedSmoothing
from robustcode.models import build_model, inputs_of
from robustcode.seeds import Streams

RATIOS = (1.5, 1.0, 0.75)
REACHES = (1, 2, 3, 5, 7)


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

    def measured(work: Callable[[], object]) -> float:
        work()
        return statistics.median(spent(work) for _ in range(asked.repeats))

    with torch.no_grad():
        forward = measured(lambda: model(x))
    step = measured(lambda: gradient(model, x, y))
    print(f"{asked.model}, k = {asked.k}: forward {forward:.3f} s, gradient step {step:.3f} s\n")
    print("| N/K | inference, times a forward | " + head(REACHES) + " | joint gradient |")
    print("|---" * (3 + len(REACHES)) + "|")
    errors = []
    for ratio in RATIOS:
        defense = CodedSmoothing(model=model, mates=mates, k=asked.k, ratio=ratio)
        whole = Streams.of(0, "benchmark", torch.arange(asked.k), torch.zeros(asked.k).long())
        with torch.no_grad():
            inference = measured(lambda d=defense, s=whole: d.logits(x, s)) / forward
        facing = [defense.facing(Batch(reach=reach), torch.arange(0), x[:0]) for reach in REACHES]
        joint = defense.facing(Batch(gradient=Gradient.JOINT), torch.arange(0), x[:0])
        costs = [
            measured(lambda d=d, s=whole: gradient(lambda z: d.logits(z, s), x, y)) / step
            for d in (*facing, joint)
        ]
        print(f"| {ratio:g} | {inference:.2f} | " + " | ".join(f"{c:.2f}" for c in costs) + " |")
        full = defense.facing(Batch(reach=min(16, asked.k)), torch.arange(0), x[:0])
        exact = gradient(lambda z, d=full, s=whole: d.logits(z, s), x, y)
        found = [gradient(lambda z, d=d, s=whole: d.logits(z, s), x, y) for d in facing]
        away = [((g - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)) for g in found]
        errors.append(f"| {ratio:g} | " + " | ".join(f"{a.median():.1e}" for a in away) + " |")
    print("\n| N/K | " + head(REACHES, "error") + " |\n" + "|---" * (1 + len(REACHES)) + "|")
    print("\n".join(errors))


def gradient(scores: nn.Module | Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Of the summed margin loss, in the input."""
    leaf = x.detach().requires_grad_()
    logits = scores(leaf)
    right = logits.gather(1, y[:, None]).squeeze(1)
    (found,) = torch.autograd.grad((logits.logsumexp(1) - right).sum(), leaf)
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
