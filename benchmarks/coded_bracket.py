"""Coded inference from both sides: what is proved of it, and what attacks leave of it.

    python benchmarks/coded_bracket.py [--out DIR] [--model digits_cnn --data digits
        --threats linf:0.03,linf:0.06] [--checkpoint FILE] [--samples 96] [--k 16] [--ratio 1.5]
        [--draws 20] [--judged 20] [--suite adaptive | --attacks pgd:steps=20,draws=4;transfer]

The plain network is certified by `crown` and attacked by the suite. Coded inference is certified by
`coded`, which bounds every draw for an adversary who sees it, and attacked by the suite, which does
not: over draws where the defence draws afresh. One user is adversarial first, then the whole batch.
Every run is a run folder in DIR, a temporary folder if none is named; with DIR the same command
goes on where it was interrupted.
Prints a table in Markdown. All are shares of the same samples, with intervals at 95 % over samples.
For the plain network: right, proved, and still right under the worst attack of each sample. For
coded inference `proved` is the mean share of draws that are proved and `attacked` the mean share of
draws that are right under attack; in expectation the first is at most the second. `for sure` are
those of whom more than half of the draws are proved, but for alpha. The width is what lies between.

Source: the bracket is that of the research notes on certification, section 6.6.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustcode import attack, certify
from robustcode.statistics import Proportion, clustered, paired_difference, proportion

ALPHA = 0.001
HEAD = "| threat | clean | proved | for sure | attacked | width | CPU s |"


def main() -> None:
    """Run what is asked and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--model", default="digits_cnn")
    parser.add_argument("--checkpoint")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--threats", default="linf:0.03,linf:0.06")
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--ratio", type=float, default=1.5)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--judged", type=int, default=20)
    parser.add_argument("--adversaries", default="solo,batch")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--suite", default="adaptive")
    how.add_argument("--attacks", help="instead of a suite, against coded inference; by semicolons")
    asked = parser.parse_args()
    asked.out = asked.out or Path(tempfile.mkdtemp())
    print(HEAD.replace("| threat", "| defence | threat", 1))
    print("|---" * 3 + "|---:" * 5 + "|")
    for number, threat in enumerate(asked.threats.split(",")):
        plain(asked, threat, asked.out / str(number))
        for adversary in asked.adversaries.split(","):
            coded(asked, threat, adversary, asked.out / str(number))


def plain(asked: argparse.Namespace, threat: str, out: Path) -> None:
    """The row of the network as it is."""
    started = time.process_time()
    below = certify(method="crown", out=out / "crown", **subject(asked, threat))
    above = attack(suite=asked.suite, out=out / "plain", **subject(asked, threat))
    proved = below.certificates.status.eq("certified").to_numpy().astype(np.float64)
    left = above.records.groupby("sample").correct.min().to_numpy(float)
    clean = above.summary["clean"]
    sure = proportion(int(proved.sum()), len(proved))
    row("plain", threat, Proportion(*(clean[key] for key in ("accuracy", "low", "high"))), sure)
    finish(sure, proportion(int(left.sum()), len(left)), proved, left, started)


def coded(asked: argparse.Namespace, threat: str, adversary: str, out: Path) -> None:
    """The row of coded inference against one kind of adversary."""
    started = time.process_time()
    described = {
        **subject(asked, threat),
        "defense": f"coded-smoothing:k={asked.k},ratio={asked.ratio}",
        "adversary": adversary,
    }
    method = f"coded:draws={asked.draws},alpha={ALPHA}"
    below = certify(method=method, out=out / f"proved {adversary}", **described)
    attacks: dict[str, Any] = {"suite": asked.suite}
    if asked.attacks:
        attacks = {"attacks": asked.attacks.split(";")}
    above = attack(**attacks, draws=asked.judged, out=out / f"attacked {adversary}", **described)
    shares = below.certificates.held.to_numpy()
    chosen = above.records[above.records.selected]
    left = chosen.sort_values("sample").correct.to_numpy(float)
    sure = int(below.certificates.status.eq("certified").sum())
    clean = above.summary["clean"]
    row(
        f"coded, {adversary}",
        threat,
        Proportion(*(clean[key] for key in ("accuracy", "low", "high"))),
        clustered(shares, asked.draws),
    )
    finish(proportion(sure, len(shares)), clustered(left, asked.judged), shares, left, started)


def subject(asked: argparse.Namespace, threat: str) -> dict[str, Any]:
    """What is certified and attacked alike."""
    found: Mapping[str, Any] = {
        "model": asked.model,
        "checkpoint": asked.checkpoint,
        "data": asked.data,
        "threat": threat,
        "samples": asked.samples,
        "threads": 1,
        "progress": False,
    }
    return {key: value for key, value in found.items() if value is not None}


def row(name: str, threat: str, clean: Proportion, proved: Proportion) -> None:
    """The beginning of a row."""
    print(f"| {name} | {threat} | {shown(clean)} | {shown(proved)} |", end=" ", flush=True)


def finish(
    sure: Proportion,
    attacked: Proportion,
    proved: NDArray[np.float64],
    left: NDArray[np.float64],
    started: float,
) -> None:
    """The end of a row: the width is of paired samples."""
    width = paired_difference(proved, left)
    seconds = time.process_time() - started
    print(f"{shown(sure)} | {shown(attacked)} | {shown(Proportion(*width))} | {seconds:.0f} |")


def shown(share: Proportion) -> str:
    """A share with its interval."""
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


if __name__ == "__main__":
    main()
