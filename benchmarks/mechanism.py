"""Why stock attacks overrate coded inference: accuracy left by what each gradient finds.

    python benchmarks/mechanism.py [--out DIR] [--model digits_cnn --data digits --threat linf:0.15]
        [--checkpoint FILE] [--samples 256] [--k 128] [--ratios 1.5,1,.75] [--draws 5] [--steps 10]

For each number of coded images per image the whole batch is attacked twice: along the gradient of
the summed loss through the codec, which is what a stock attack takes, and along each sample's own;
both for PGD from the samples themselves. What is found is judged on fresh permutations of the
batch. Every run is a run folder in DIR, a temporary folder if none is named; with DIR the same
command goes on where it was interrupted.
Prints a table in Markdown, with the plain model's own numbers for comparison.

Source: the mechanism is that of the research notes on coded smoothing, section 5.3.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import robustcode

# The attacks in the order of the table: whose gradient, and how it is followed.
ROWS = {
    "joint cross-entropy, 1 draw (stock)": ("joint", {"loss": "ce", "draws": 1}),
    "joint cross-entropy, 10 draws": ("joint", {"loss": "ce", "draws": 10}),
    "joint margin, 1 draw": ("joint", {"loss": "margin", "draws": 1}),
    "own cross-entropy, 1 draw": ("own", {"loss": "ce", "draws": 1}),
    "own margin, 1 draw": ("own", {"loss": "margin", "draws": 1}),
    "own margin, 4 draws": ("own", {"loss": "margin", "draws": 4}),
    "transfer from the plain model": ("own", None),
    "own margin from the transfer example": ("own", {"draws": 1}),
}


def main() -> None:
    """Run what is asked and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--model", default="digits_cnn")
    parser.add_argument("--checkpoint")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--threat", default="linf:0.15")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--k", type=int, default=128)
    parser.add_argument("--ratios", default="1.5,1,.75")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    asked.out = asked.out or Path(tempfile.mkdtemp())
    ratios = [float(ratio) for ratio in asked.ratios.split(",")]
    subject = {
        "model": asked.model,
        "checkpoint": asked.checkpoint,
        "data": asked.data,
        "threat": asked.threat,
        "samples": asked.samples,
        "draws": asked.draws,
        "workers": asked.workers,
    }
    plain = robustcode.attack(
        **subject, attacks=[pgd(asked.steps, {"loss": "margin"})], out=asked.out / "plain"
    ).summary
    columns = [table(subject, ratio, asked) for ratio in ratios]
    print(markdown(ratios, columns, asked))
    print(
        f"\nThe plain model: clean {plain['clean']['accuracy']:.3f}, PGD (margin, {asked.steps} "
        f"steps) {plain['robust']['accuracy']:.3f}."
    )


def table(subject: dict[str, Any], ratio: float, asked: argparse.Namespace) -> dict[str, Any]:
    """Clean accuracy and what each attack leaves, by row."""
    left: dict[str, Any] = {}
    for gradient in ("joint", "own"):
        rows = [(name, settings) for name, (whose, settings) in ROWS.items() if whose == gradient]
        attacks = [attack(name, settings, asked.steps) for name, settings in rows]
        run = robustcode.attack(
            **subject,
            defense=f"coded-smoothing:k={asked.k},ratio={ratio:g}",
            adversary=f"batch:gradient={gradient}",
            attacks=attacks,
            batch_size=asked.k,
            out=asked.out / f"ratio-{ratio:g}-{gradient}",
        )
        left["clean"] = run.summary["clean"]
        for (name, _), found in zip(rows, run.summary["attacks"], strict=True):
            left[name] = found
    return left


def attack(name: str, settings: dict[str, Any] | None, steps: int) -> str:
    """An attack as it is written on the command line."""
    if settings is None:
        return f"transfer:steps={steps},step=0.25"
    if name.endswith("from the transfer example"):
        return f"transfer-pgd:before={steps},steps={steps},step=0.25,draws={settings['draws']}"
    return pgd(steps, settings)


def pgd(steps: int, settings: dict[str, Any]) -> str:
    """PGD from the sample itself."""
    said = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"pgd:steps={steps},step=0.25,random_start=false,{said}"


def markdown(
    ratios: Sequence[float], columns: list[dict[str, Any]], asked: argparse.Namespace
) -> str:
    """Accuracies with their 95 % intervals."""
    head = " | ".join(f"N/K = {ratio:g}" for ratio in ratios)
    lines = [
        f"| accuracy left, K = {asked.k}, {asked.threat} | {head} |",
        "|---|" + "---|" * len(ratios),
    ]
    for row in ("clean", *ROWS):
        cells = [
            f"{column[row]['accuracy']:.3f} ({column[row]['low']:.3f} to {column[row]['high']:.3f})"
            for column in columns
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
