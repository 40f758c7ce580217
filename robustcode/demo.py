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
DRAWS = 50

# Fewer steps and draws than the suite `adaptive` takes, so that the demo ends in a minute or two.
STILL = ("noise", "fgsm", "pgd:steps=50", "pgd:steps=50,loss=margin")
RANDOM = ("noise", "transfer", "pgd:steps=20,draws=4,loss=margin,held_out=8")

# name -> model, defence, attacks. The defences are around the plain checkpoint.
RUNS = {
    "plain": ("digits_cnn", "identity", STILL),
    "adversarially-trained": ("digits_cnn:adversarial", "identity", STILL),
    "gaussian-noise": ("digits_cnn", "gaussian-noise:sigma=0.1", RANDOM),
    "coded-smoothing": ("digits_cnn", "coded-smoothing:k=16,ratio=1.5", RANDOM),
}

# Enough cases to decide most samples in a minute; the default would go on for some of them.
METHOD = "bab:domains=300"
PROVED = {"plain-proved": "digits_cnn", "adversarially-trained-proved": "digits_cnn:adversarial"}


def run_demo(out: Path, workers: int = 2, show: bool = True) -> Path:
    """Attacks, certificates and their comparison in ``out``; the path of the page to open."""
    folders = []
    for name, (model, defense, attacks) in RUNS.items():
        spec = describe(
            model=model,
            data="digits",
            threat=THREAT,
            defense=defense,
            attacks=attacks,
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
