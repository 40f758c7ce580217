"""Coded training without labels: an autoencoder of Fashion-MNIST, by PSNR and SSIM.

    python benchmarks/unsupervised.py [--recipes dres:mu=0 dres:mu=0.25] [--data ../shared/data]

The network squeezes an image through 64 numbers; its loss is the mean square distance of what
comes out from what went in, blended with the recipe's coded term by the three lines of a user's
own loop. It trains on the first images of the train split and is scored on the whole test split,
once as it is and once with Gaussian noise added to what goes in. All recipes see the same weights
to start from and the same order of images; a coded step costs as many more forward passes as its
ratio says, and no recipe is given more epochs for that. mu=0 is training without a coded term.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.components import Component
from robustcode.data import load_data
from robustcode.seeds import Streams, seed_of
from robustcode.training import RECIPES, CodedBranch, CodedTerm

BATCH = 64
LR = 5e-3  # falling to zero along a line
NOISE = 0.1  # standard deviation, on images in [0, 1]
# Codes of other ratios have other distances; all networks are measured with this one.
YARDSTICK = CodedTerm(ratio=1.0)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def autoencoder(seed: int) -> nn.Module:
    """Images (batch, 1, 28, 28) to images, by way of 64 numbers; 215,601 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "weights"))
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 64),
            nn.Linear(64, 32 * 7 * 7),
            nn.ReLU(),
            nn.Unflatten(1, (32, 7, 7)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )


def trained(term: CodedTerm, images: Tensor, epochs: int, seed: int) -> CodedBranch:
    """A fresh autoencoder trained with the coded term."""
    branch = CodedBranch(autoencoder(seed), term)
    optimizer = torch.optim.Adam(branch.parameters(), lr=LR)
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * batches)
    for epoch in range(epochs):
        order = Streams.of(seed, "order", torch.tensor([epoch])).permutation(len(images))[0]
        for rows in order[: batches * BATCH].split(BATCH):
            optimizer.zero_grad()
            branch.loss(images[rows], images[rows], F.mse_loss).backward()
            optimizer.step()
            schedule.step()
    return branch


def psnr(x: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, for images in [0, 1]; shape (batch,)."""
    return -10 * (x - other).square().flatten(1).mean(1).log10()


def ssim(x: Tensor, other: Tensor) -> Tensor:
    """Structural similarity of each image in [0, 1], one channel, shape (batch,).

    The mean over all places where the window lies within the image.

    Source: Wang et al. 2004, IEEE Transactions on Image Processing 13(4), equation 13 with its
    Gaussian window of 11 x 11 and deviation 1.5, K1 = 0.01 and K2 = 0.03.
    """
    bell = torch.exp(-((torch.arange(11, dtype=x.dtype) - 5) ** 2) / (2 * 1.5**2))
    bell /= bell.sum()

    def mean(images: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(images, bell.view(1, 1, 11, 1)), bell.view(1, 1, 1, 11))

    a, b = mean(x), mean(other)
    spread = mean(x * x) - a * a + mean(other * other) - b * b
    shared = mean(x * other) - a * b
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * a * b + c1) * (2 * shared + c2) / ((a * a + b * b + c1) * (spread + c2))
    return similar.flatten(1).mean(1)


@dataclass(frozen=True)
class Score:
    """Of one trained network, means over the test images."""

    psnr: float
    ssim: float
    noisy_psnr: float  # of what is made of noisy images, against the images without noise
    noisy_ssim: float
    penalty: float  # mean square distance of coded outputs from plain ones, by YARDSTICK
    seconds: float  # CPU time of training


@torch.no_grad()
def scored(branch: CodedBranch, images: Tensor, seconds: float) -> Score:
    """How well the network gives back ``images``."""
    branch.eval()
    yardstick = CodedBranch(branch.network, YARDSTICK)
    # The same noise for all networks.
    noise = Streams.of(0, "noise", torch.arange(len(images))).normal(*images.shape[1:])
    sums = torch.zeros(5, dtype=torch.float64)
    for rows in torch.arange(len(images)).split(BATCH):
        x = images[rows]
        clean, noisy = branch(x), branch(x + NOISE * noise[rows])
        quality = [psnr(x, clean), ssim(x, clean), psnr(x, noisy), ssim(x, noisy)]
        sums[:4] += torch.stack(quality).double().sum(1)
        sums[4] += len(rows) * yardstick.penalty(x)
    means = [*(sums / len(images)).tolist(), seconds]
    return Score(*means)


HEAD = """\
| recipe | PSNR | SSIM | PSNR, noisy | SSIM, noisy | penalty | CPU s |
|---|---|---|---|---|---|---|"""

NOTE = """\
{samples} train images, {epochs} epochs, batches of {batch}, {tested} test images, one thread. Mean
over {seeds} seeds +/- their standard deviation. PSNR in dB. noisy: Gaussian noise of deviation
{noise} goes in and the image without it is expected out. penalty: the mean square distance, on
test images, of coded outputs from plain ones, with one coded image an image whatever the recipe's
ratio. CPU s: training alone."""

SHOWN = {"psnr": ".2f", "ssim": ".4f", "noisy_psnr": ".2f", "noisy_ssim": ".4f", "penalty": ".2e"}


def row(name: str, scores: Sequence[Score]) -> str:
    """One recipe as a Markdown row."""
    cells = [name]
    for field in fields(Score):
        values = [getattr(score, field.name) for score in scores]
        how = SHOWN.get(field.name, ".0f")
        spread = f" +/- {statistics.stdev(values):{how}}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):{how}}{spread if field.name in SHOWN else ''}")
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    chosen = ["dres:mu=0", "dres:mu=0.25", "dres:mu=0.5", "dres:mu=0.25,ratio=0.75"]
    chosen.append("coded-smoothing:mu=0.5")
    parser.add_argument("--recipes", nargs="+", default=chosen)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=SHARED)
    given = parser.parse_args(arguments)
    folder = given.data / "fashion_mnist"
    if not folder.is_dir():
        print(f"{folder} is absent; this benchmark needs the data, see --data", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    train, test = (load_data(f"fashion_mnist:{folder}", split) for split in ("train", "test"))
    images, held_out = train.images(range(given.samples)), test.images(range(len(test)))
    print(HEAD, flush=True)
    for name in given.recipes:
        term: CodedTerm = Component.parse(name).build(RECIPES, "--recipes")
        scores = []
        for seed in range(given.seeds):
            start = time.process_time()
            branch = trained(term, images, given.epochs, seed)
            scores.append(scored(branch, held_out, time.process_time() - start))
        print(row(name, scores), flush=True)
    words = {"samples": given.samples, "epochs": given.epochs, "seeds": given.seeds}
    print(f"\n{NOTE.format(**words, batch=BATCH, tested=len(test), noise=NOISE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
