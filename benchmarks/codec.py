"""The codec beside scipy's smoothing spline, and beside the network that it goes around.

    python benchmarks/codec.py [--k 512] [--batch 128] [--repeats 9]

One thread, CPU time, medians; within a repeat everything takes its turn. Building: both matrices
of a code of k samples, by ours and by scipy's make_smoothing_spline through the identity, whose
spline goes on straight beyond its knots as ours does; what the two give is compared. Applying:
encoding a batch of CIFAR's size and decoding its logits, against one pass of cifar_resnet20 over
the coded images. Weights and pixels are random: none of it costs more or less for their values.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.interpolate import make_smoothing_spline
from torch import Tensor, nn

from robustcode.coding import Code, spline_matrix
from robustcode.defenses import Identity
from robustcode.fast import for_search
from robustcode.models import build_model

Array = NDArray[np.float64]
Interpolation = Callable[[Array, Array, float], Array]

RATIOS = (1.5, 1.0, 0.75)
# Interpolation, and enough smoothing to mix an image with its neighbours.
SMOOTHINGS = (0.0, 0.05)
NETWORK = "cifar_resnet20"
SHAPE = (3, 32, 32)
SEED = 0


def with_scipy(knots: Array, at: Array, lam: float) -> Array:
    """The matrix of ``spline_matrix``, for falling knots."""
    rising = knots[::-1]
    spline = make_smoothing_spline(rising, np.eye(len(knots)), lam=len(knots) * lam)
    inside = np.clip(at, rising[0], rising[-1])
    matrix: Array = spline(inside)
    beyond = at != inside
    slopes = spline.derivative()(inside[beyond])
    matrix[beyond] += (at - inside)[beyond, None] * slopes
    return matrix[:, ::-1]


def codec(code: Code, interpolation: Interpolation) -> tuple[Array, Array]:
    """Encoder and decoder, made anew."""
    samples, coded, lam = code.sample_points, code.coded_points, code.smoothing
    return interpolation(samples, coded, lam), interpolation(coded, samples, lam)


def seconds(work: Callable[[], object]) -> float:
    """Of CPU time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turns(works: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each work at each repeat, after one turn of no account."""
    for work in works:
        work()
    rounds = [[seconds(work) for work in works] for _ in range(repeats)]
    return [list(taken) for taken in zip(*rounds, strict=True)]


def ratio(above: list[float], below: list[float]) -> float:
    """The median over repeats: machines drift between them."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


BUILD_HEAD = """\
| k | n | c | ours ms | scipy ms | speed | apart |
|---|---|---|---|---|---|---|"""
BUILD_NOTE = """\
Encoder and decoder together. speed: times as fast as scipy. apart: largest difference of a weight
between the two."""


def build_rows(k: int, repeats: int) -> Iterator[str]:
    """Building codes of ``k`` samples, as Markdown."""
    for share, c in itertools.product(RATIOS, SMOOTHINGS):
        code = Code(k, round(share * k), c)
        works = [partial(codec, code, one) for one in (spline_matrix, with_scipy)]
        apart = max(np.abs(a - b).max() for a, b in zip(*(work() for work in works), strict=True))
        ours, peer = in_turns(works, repeats)
        yield (
            f"| {k} | {code.n} | {c:g} | {milliseconds(ours)} | {milliseconds(peer)} "
            f"| {ratio(peer, ours):.1f} | {apart:.0e} |"
        )


APPLY_HEAD = """\
| k | n | network | encode ms | decode ms | forward ms | codec / forward |
|---|---|---|---|---|---|---|"""
APPLY_NOTE = f"""\
forward: {NETWORK} over the n coded images, without gradients. folded: the copy of it
that attacks search with, batch norm inside the convolutions and channels last."""


@torch.no_grad()
def apply_rows(k: int, repeats: int) -> Iterator[str]:
    """Coding a batch of ``k`` images, for each form of the network, as Markdown."""
    x = torch.rand(k, *SHAPE, generator=torch.Generator().manual_seed(SEED))
    for (title, model), share in itertools.product(networks(x[:2]).items(), RATIOS):
        code = Code(k, round(share * k))
        encoder, decoder = (torch.tensor(m).float() for m in (code.encoder, code.decoder))
        coded = encoded(encoder, x)
        works = [
            partial(encoded, encoder, x),
            partial(torch.matmul, decoder, model(coded)),
            partial(model, coded),
        ]
        encode, decode, forward = in_turns(works, repeats)
        both = [a + b for a, b in zip(encode, decode, strict=True)]
        yield (
            f"| {k} | {code.n} | {title} | {milliseconds(encode)} | {milliseconds(decode)} "
            f"| {milliseconds(forward)} | {ratio(both, forward):.2%} |"
        )


def encoded(encoder: Tensor, x: Tensor) -> Tensor:
    """The coded images of a batch."""
    return (encoder @ x.flatten(1)).view(-1, *x.shape[1:])


def networks(example: Tensor) -> dict[str, nn.Module]:
    """The network, and its copy for searches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = build_model(NETWORK).eval().requires_grad_(False)
    folded = for_search(Identity(model=model), example)
    assert isinstance(folded, Identity)
    return {"plain": model, "folded": folded.model}


def milliseconds(taken: list[float]) -> str:
    """The median, to three digits."""
    return f"{1e3 * statistics.median(taken):.3g}"


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--k", type=int, default=512, help="samples of the codes that are built")
    parser.add_argument("--batch", type=int, default=128, help="images of the batch that is coded")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args(arguments)
    if "axis" not in inspect.signature(make_smoothing_spline).parameters:
        print(
            f"scipy {scipy.__version__} smooths one sequence at a time, and this benchmark needs "
            "one that smooths many; pip install --upgrade scipy",
            file=sys.stderr,
        )
        return 2
    torch.set_num_threads(1)
    for head, rows, note in (
        (BUILD_HEAD, build_rows(given.k, given.repeats), BUILD_NOTE),
        (APPLY_HEAD, apply_rows(given.batch, given.repeats), APPLY_NOTE),
    ):
        print(head, flush=True)
        for row in rows:
            print(row, flush=True)
        print(f"\n{note}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
