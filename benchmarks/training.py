"""What training by coded smoothing buys: clean accuracy, FGSM, PGD, AutoAttack, coded inference.

    python benchmarks/training.py [--out DIR] [--data fashion_mnist:DIR] [--model mnist_cnn_a]
        [--threat linf:8/255] [--train 60000] [--epochs 6] [--samples 256] [--coded-samples 64]

Trains one network a recipe on the same images (standard, mixup, coded smoothing with three weights
and three numbers of coded images per image), attacks each as it is, by FGSM and PGD and by the
suite ``standard``, and attacks randomized coded inference with it by the suite ``adaptive``. All of
it goes on where it was interrupted. Writes a report of each kind of run to DIR, a temporary folder
if none is named, and prints one table in Markdown. The numbers are those of this network, these
images and these few epochs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import robustcode
from robustcode.training import Optimizer, TrainSpec, train

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
MUS = (0.1, 0.25, 0.5)
RATIOS = (1.5, 1.0, 0.75)
# The weight at which the number of coded images is varied, and the number at which the weight is.
MU, RATIO = 0.25, 1.5


def recipes() -> dict[str, tuple[str, float]]:
    """By name: the recipe, and the coded images per image that its network is deployed with."""
    coded = {(mu, RATIO) for mu in MUS} | {(MU, ratio) for ratio in RATIOS}
    return {
        "standard": ("standard", RATIO),
        "mixup": ("mixup", RATIO),
        **{
            f"coded mu={mu:g} N/K={ratio:g}": (f"coded-smoothing:mu={mu:g},ratio={ratio:g}", ratio)
            for mu, ratio in sorted(coded, key=lambda pair: (-pair[1], pair[0]))
        },
    }


def main() -> None:
    """Train, attack, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--data", default=f"fashion_mnist:{SHARED / 'fashion_mnist'}")
    parser.add_argument("--model", default="mnist_cnn_a")
    parser.add_argument("--threat", default="linf:8/255")
    parser.add_argument("--mean")
    parser.add_argument("--std")
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--coded-samples", type=int, default=64)
    parser.add_argument("--k", type=int, default=128)
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    asked.out = asked.out or Path(tempfile.mkdtemp())
    rows, plain, coded = [], [], []
    for name, (recipe, ratio) in recipes().items():
        for seed in range(asked.seeds):
            folder = asked.out / f"{name.replace(' ', '-').replace('/', '')}-{seed}"
            weights = trained(recipe, seed, folder, asked)
            runs = attacked(weights, ratio, folder, asked)
            plain.append(folder / "standard")
            coded.append(folder / "coded")
            rows.append(row(name, seed, weights["accuracy"], runs))
            print(rows[-1], flush=True)
    robustcode.report(plain, asked.out / "report-plain")
    robustcode.report(coded, asked.out / "report-coded")
    head = (
        *("training", "seed", "test accuracy", "clean", "FGSM", "PGD", "`standard`"),
        *("coded: clean", "coded: `adaptive`"),
    )
    print("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    print("\n".join(rows))


def trained(recipe: str, seed: int, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The checkpoint and its accuracy on the whole test split."""
    spec = TrainSpec(
        recipe=recipe,
        model=asked.model,
        data=asked.data,
        epochs=asked.epochs,
        seed=seed,
        samples=asked.train,
        optimizer=Optimizer.ADAM,
        lr=asked.lr,
        augment=asked.augment,
        mean=numbers(asked.mean),
        std=numbers(asked.std),
    )
    result = train(spec, folder / "weights.safetensors", progress=False)
    return {"checkpoint": result.out, "accuracy": result.test_accuracy}


def attacked(
    weights: dict[str, Any], ratio: float, folder: Path, asked: argparse.Namespace
) -> dict[str, Any]:
    """The summaries of the three runs on one network."""
    subject: dict[str, Any] = {
        "model": asked.model,
        "checkpoint": weights["checkpoint"],
        "data": asked.data,
        "threat": asked.threat,
        "progress": False,
    }
    steps = robustcode.attack(
        **subject, samples=asked.samples, attacks=["fgsm", "pgd"], out=folder / "steps"
    )
    standard = robustcode.attack(
        **subject, samples=asked.samples, suite="standard", out=folder / "standard"
    )
    coded = robustcode.attack(
        **subject,
        samples=asked.coded_samples,
        defense=f"coded-smoothing:k={asked.k},ratio={ratio:g}",
        suite="adaptive",
        draws=asked.draws,
        out=folder / "coded",
    )
    return {"steps": steps.summary, "standard": standard.summary, "coded": coded.summary}


def row(name: str, seed: int, accuracy: float, runs: dict[str, Any]) -> str:
    """One line of the table."""
    by_name = {attack["name"]: attack for attack in runs["steps"]["attacks"]}
    cells = [
        stated(runs["steps"]["clean"]),
        stated(by_name["fgsm"]),
        stated(by_name["pgd"]),
        stated(runs["standard"]["robust"]),
        stated(runs["coded"]["clean"]),
        stated(runs["coded"]["robust"]),
    ]
    return f"| {name} | {seed} | {accuracy:.3f} | {' | '.join(cells)} |"


def stated(entry: dict[str, Any]) -> str:
    """An accuracy with its interval."""
    return f"{entry['accuracy']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


def numbers(text: str | None) -> tuple[float, ...]:
    """Numbers separated by commas."""
    return tuple(float(part) for part in text.split(",")) if text else ()


if __name__ == "__main__":
    main()
