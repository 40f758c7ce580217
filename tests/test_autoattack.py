"""`standard` and `quick` against the official AutoAttack code and published numbers.

Verdicts, sample by sample, of the original code: results/autoattack_official.json of the data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import robustcode
from robustcode.store import Run

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
OFFICIAL = SHARED / "results" / "autoattack_official.json"
CIFAR_A = {"mean": "125.3/255,123.0/255,113.9/255", "std": "63.0/255,62.1/255,66.7/255"}
RESNET = {"mean": ".485,.456,.406", "std": ".229,.224,.225"}
RESNET_2B = {"mean": ".4914,.4822,.4465", "std": ".2471,.2435,.2616"}
# Architecture and normalisation of each checkpoint, by the README of the data.
NETWORKS: dict[str, tuple[str, dict[str, str]]] = {
    "cifar_cnn_a_adv": ("cifar_cnn_a", CIFAR_A),
    "mnist_cnn_a_adv": ("mnist_cnn_a", {}),
    "resnet2b": ("cifar_resnet2b", RESNET_2B),
    "resnet20-12fca82f": ("cifar_resnet20", RESNET),
    "mnist_fgsm": ("mnist_cnn_a", {}),
    "WK17a_linf0.1": ("mnist_cnn_a", {}),
}


def entries() -> list[Any]:
    if not OFFICIAL.exists():
        return [pytest.param(None, id="absent")]
    listed = json.loads(OFFICIAL.read_text())["entries"].values()
    names = [f"{Path(e['checkpoint']).stem}-{e['eps']:.3f}" for e in listed]
    dear = "resnet20"  # as long as all others together
    return [
        pytest.param(e, id=name, marks=pytest.mark.long if name.startswith(dear) else ())
        for e, name in zip(listed, names, strict=True)
    ]


def evaluated(entry: dict[str, Any] | None, out: Path, suite: str) -> Run:
    if entry is None:
        pytest.skip("needs results/autoattack_official.json in ../shared/data")
    model, norms = NETWORKS[Path(entry["checkpoint"]).name.rpartition(".")[0]]
    if not (SHARED / entry["checkpoint"]).exists():
        pytest.skip(f"needs {entry['checkpoint']} in ../shared/data")
    return robustcode.attack(
        model,
        f"{entry['data']}:{SHARED / entry['data']}",
        f"{entry['norm']}:{entry['eps']!r}",
        out,
        checkpoint=SHARED / entry["checkpoint"],
        samples=entry["samples"],
        suite=suite,
        batch_size=256,
        progress=False,
        **norms,
    )


def left(run: Run) -> set[int]:
    """The samples that no attack broke."""
    broken = run.records.groupby("sample").correct.min()
    return set(broken.index[broken.astype(bool)])


@pytest.mark.parametrize("entry", entries())
def test_quick_is_within_half_a_point_of_autoattack(entry: Any, tmp_path: Path) -> None:
    """Or within one sample: of resnet20 there are 64, and one of them falls to few starts.

    That is sample 38, which the whole of targeted APGD breaks from five starts of six.
    """
    run = evaluated(entry, tmp_path / "run", "quick")
    more = left(run) - set(entry["robust_idx"])
    assert len(more) <= max(1, 0.005 * entry["samples"]), sorted(more)
    # AutoAttack spends 9 700 passes on a sample that it does not break.
    spent = sum(a["forwards"] + a["backwards"] for a in run.summary["attacks"])
    assert spent / run.summary["clean"]["correct"] < 400


def test_standard_gives_the_verdicts_of_the_official_code(tmp_path: Path) -> None:
    """On a part of one entry that is quickly done; all of all entries below."""
    if not OFFICIAL.exists():
        pytest.skip("needs results/autoattack_official.json in ../shared/data")
    listed = list(json.loads(OFFICIAL.read_text())["entries"].values())
    entry = next(e for e in listed if "cifar_cnn_a_adv" in e["checkpoint"])
    part = {**entry, "samples": 32, "robust_idx": [i for i in entry["robust_idx"] if i < 32]}
    assert left(evaluated(part, tmp_path / "run", "standard")) == set(part["robust_idx"])


@pytest.mark.long
@pytest.mark.parametrize("entry", entries())
def test_standard_leaves_no_more_than_the_official_code(entry: Any, tmp_path: Path) -> None:
    run = evaluated(entry, tmp_path / "standard", "standard")
    theirs, ours = set(entry["robust_idx"]), left(run)
    allowed = -(-entry["samples"] // 256)  # one sample per 256
    assert len(ours) <= len(theirs) + allowed
    assert len(ours ^ theirs) <= max(0.01 * entry["samples"], allowed)


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "folder", "eps", "least", "most"),
    [
        # Published AutoAttack .8293, PGD-50 .9119: gradients mislead here.
        ("mnist_fgsm", "fast_adversarial", 0.3, 0.8, 0.835),
        # Exact robust accuracy .9562, by mixed-integer proof: no correct attack goes below.
        ("WK17a_linf0.1", "mipverify", 0.1, 0.9562, 0.9575),
    ],
)
def test_quick_on_all_of_mnist(
    network: str, folder: str, eps: float, least: float, most: float, tmp_path: Path
) -> None:
    entry = {
        "checkpoint": f"checkpoints/{folder}/{network}.pth",
        "data": "mnist",
        "norm": "linf",
        "eps": eps,
        "samples": 10_000,
    }
    run = evaluated(entry, tmp_path / "run", "quick")
    assert least <= run.summary["robust"]["accuracy"] <= most
