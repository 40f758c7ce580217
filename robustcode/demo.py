"""The main job on what ships inside: checkpoints and defences, attacked, proved and compared."""

from __future__ import annotations

from pathlib import Path

from robustcode.certification import certify
from robustcode.config import describe, describe_proof
from robustcode.engine import evaluate
from robustcode.reports import report

# Pixels of the digits have 17 levels; .1 is under two of them, and the adversarially trained
# checkpoint was trained for it.
THREAT = "linf:0.1"
SAMPLES = 200
# Half of what would be usual: judging takes most of the time of a defence that classifies batches,
# and an interval over 200 samples hardly feels it.
DRAWS = 25
# One for all runs, or they could not be ranked.
SUITE = "adaptive"

# name -> model, defence. The defences are around the plain checkpoint.
RUNS = {
    "plain": ("digits_cnn", "identity"),
    "adversarially-trained": ("digits_cnn:adversarial", "identity"),
    "gaussian-noise": ("digits_cnn", "gaussian-noise:sigma=0.1"),
    "coded-smoothing": ("digits_cnn", "coded-smoothing:k=16,ratio=1.5"),
}

# Enough cases to decide most samples in a minute; the default would go on for some of them.
METHOD = "bab:domains=300"
PROVED = {"plain-proved": "digits_cnn", "adversarially-trained-proved": "digits_cnn:adversarial"}


def run_demo(out: Path, workers: int = 2, show: bool = True) -> Path:
    """Attacks, certificates and their comparison in ``out``; the path of the page to open."""
    folders = []
    for name, (model, defense) in RUNS.items():
        spec = describe(
            model=model,
            data="digits",
            threat=THREAT,
            defense=defense,
            suite=SUITE,
            samples=SAMPLES,
            draws=DRAWS,
            batch_size=50,
            workers=workers,
        )
        evaluate(spec, out / "runs" / name, show=show)
        folders.append(out / "runs" / name)
    for name, model in PROVED.items():
        proof = describe_proof(
            model=model,
            data="digits",
            threat=THREAT,
            method=METHOD,
            samples=SAMPLES,
            batch_size=50,
            workers=workers,
        )
        certify(proof, out / "runs" / name, show=show)
        folders.append(out / "runs" / name)
    return report(folders, out / "report")["html"]
