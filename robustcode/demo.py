"""The main job on what ships inside: two checkpoints and two defences on the digits, compared."""

from __future__ import annotations

from pathlib import Path

from robustcode.config import describe
from robustcode.engine import evaluate
from robustcode.reports import report

# Pixels of the digits have 17 levels; .1 is under two of them, and the adversarially trained
# checkpoint was trained for it.
THREAT = "linf:0.1"
SAMPLES = 200

# name -> model, defence, draws of the judge. The defences are around the plain checkpoint.
RUNS = {
    "plain": ("digits_cnn", "identity", 1),
    "adversarially-trained": ("digits_cnn:adversarial", "identity", 1),
    "gaussian-noise": ("digits_cnn", "gaussian-noise:sigma=0.1", 100),
    "coded-smoothing": ("digits_cnn", "coded-smoothing:k=16,ratio=1.5", 50),
}


def run_demo(out: Path, workers: int = 2, show: bool = True) -> Path:
    """Four runs and their comparison in ``out``; the path of the page to open."""
    folders = []
    for name, (model, defense, draws) in RUNS.items():
        spec = describe(
            model=model,
            data="digits",
            threat=THREAT,
            defense=defense,
            suite="adaptive",
            samples=SAMPLES,
            draws=draws,
            batch_size=50,
            workers=workers,
        )
        evaluate(spec, out / "runs" / name, show=show)
        folders.append(out / "runs" / name)
    return report(folders, out / "report")["html"]
