"""The comparison of a plain, an adversarially trained, a noisy and a coded classifier on CIFAR-10.

    python benchmarks/cifar_report.py --data DIR --checkpoints DIR --out RUNS --report DIR

All four are attacked by the suite `adaptive` on the same images; the same command resumes. With
--documented DIR the Markdown and its figures, made small, go there without this machine's folders:
that is how benchmarks/cifar_report was written.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import robustcode
from robustcode.reports.formats.smaller_svg import slim

RESNET20: dict[str, Any] = {
    "model": "cifar_resnet20",
    "checkpoint": "resnet_cifar10/resnet20-12fca82f.th",
    "mean": ".485,.456,.406",
    "std": ".229,.224,.225",
}
# As their authors published them; what each is, and what is around it.
RUNS: dict[str, dict[str, Any]] = {
    "plain": RESNET20,
    "adversarially-trained": {
        "model": "cifar_cnn_a",
        "checkpoint": "verification/cifar_cnn_a_adv.model",
        "mean": "125.3/255,123.0/255,113.9/255",
        "std": "63.0/255,62.1/255,66.7/255",
    },
    "gaussian-noise": {**RESNET20, "defense": "gaussian-noise:sigma=0.05"},
    "coded-smoothing": {**RESNET20, "defense": "coded-smoothing:k=16,ratio=1.5"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="the folder of CIFAR-10's python batches")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--report", type=Path, required=True, help="where the report goes")
    parser.add_argument("--documented", type=Path, help="where Markdown and figures go once more")
    parser.add_argument("--threat", default="linf:1/255")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=20)
    chosen = parser.parse_args()
    folders = []
    for name, described in RUNS.items():
        checkpoint = str(chosen.checkpoints / described["checkpoint"])
        run = robustcode.attack(
            data=f"cifar10:{chosen.data}",
            threat=chosen.threat,
            out=chosen.out / name,
            suite="adaptive",
            samples=chosen.samples,
            draws=chosen.draws,
            batch_size=16,
            **{**described, "checkpoint": checkpoint},
        )
        folders.append(run.path)
        print(name, run.summary["clean"], run.summary["robust"], run.summary["cost"], flush=True)
    markdown = robustcode.report(folders, chosen.report)["md"]
    print(markdown)
    if chosen.documented:
        folders_here = {chosen.data: "CIFAR10", str(chosen.checkpoints): "CHECKPOINTS"}
        document(markdown, {**folders_here, str(chosen.out): "RUNS"}, chosen.documented)


def document(markdown: Path, folders: dict[str, str], out: Path) -> None:
    """The report for a reader elsewhere: each folder of this machine under a name in capitals."""
    text = markdown.read_text()
    for folder, name in folders.items():
        text = text.replace(folder, name)
    out.mkdir(parents=True, exist_ok=True)
    (out / markdown.name).write_text(text)
    for figure in set(re.findall(r"\]\(([\w-]+\.svg)\)", text)):
        (out / figure).write_bytes(slim((markdown.parent / figure).read_bytes()))


if __name__ == "__main__":
    main()
