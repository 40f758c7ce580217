"""Published checkpoints on real images: the numbers of others, reproduced through the main job.

Clean accuracies on the full splits are in test_checkpoint.py; here PGD with 20 steps on the first
1000 images must come within .015 of the listed accuracy, or below it: the listed runs had at
least 20 steps, and an attack may be stronger but not weaker. Listed values: README of the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

import robustcode

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
CIFAR_A = {"mean": "125.3/255,123.0/255,113.9/255", "std": "63.0/255,62.1/255,66.7/255"}
RESNET = {"mean": ".485,.456,.406", "std": ".229,.224,.225"}
RESNET_2B = {"mean": ".4914,.4822,.4465", "std": ".2471,.2435,.2616"}


class Published(NamedTuple):
    checkpoint: str
    model: str
    data: str
    norms: dict[str, str]
    eps: str
    robust: float


PUBLISHED = [
    Published(
        "resnet_cifar10/resnet20-12fca82f.th", "cifar_resnet20", "cifar10", RESNET, "8/255", 0.0
    ),
    Published(
        "verification/cifar_cnn_a_adv.model", "cifar_cnn_a", "cifar10", CIFAR_A, "2/255", 0.520
    ),
    Published(
        "verification/cifar_cnn_a_adv.model", "cifar_cnn_a", "cifar10", CIFAR_A, "8/255", 0.139
    ),
    Published(
        "verification/cifar_cnn_a_adv4.model", "cifar_cnn_a", "cifar10", CIFAR_A, "2/255", 0.489
    ),
    Published(
        "verification/cifar_cnn_a_adv4.model", "cifar_cnn_a", "cifar10", CIFAR_A, "8/255", 0.241
    ),
    Published(
        "verification/cifar_cnn_a_mix.model", "cifar_cnn_a", "cifar10", CIFAR_A, "2/255", 0.574
    ),
    Published(
        "verification/cifar_cnn_a_mix.model", "cifar_cnn_a", "cifar10", CIFAR_A, "8/255", 0.068
    ),
    Published("verification/resnet2b.pth", "cifar_resnet2b", "cifar10", RESNET_2B, "1/255", 0.631),
    Published("verification/resnet2b.pth", "cifar_resnet2b", "cifar10", RESNET_2B, "2/255", 0.566),
    Published("verification/resnet2b.pth", "cifar_resnet2b", "cifar10", RESNET_2B, "8/255", 0.192),
    Published("verification/mnist_cnn_a_adv.model", "mnist_cnn_a", "mnist", {}, "0.1", 0.914),
    Published("verification/mnist_cnn_a_adv.model", "mnist_cnn_a", "mnist", {}, "0.3", 0.751),
    Published("convex_adversarial/mnist_0_1.pth", "mnist_cnn_a", "mnist", {}, "0.1", 0.955),
    Published("fast_adversarial/mnist_fgsm.pth", "mnist_cnn_a", "mnist", {}, "0.3", 0.873),
    Published("trades/mnist_smallcnn.pt", "mnist_trades_cnn", "mnist", {}, "0.3", 0.950),
]


def rows() -> list[Any]:
    """One network of each kind here; the deepest, which take most of the time, and others later."""
    dear = ("resnet20", "smallcnn", "adv4", "cnn_a_mix", "mnist_0_1")
    return [
        pytest.param(
            row,
            id=f"{Path(row.checkpoint).stem}-{row.eps.replace('/', '_')}",
            marks=pytest.mark.long if any(part in row.checkpoint for part in dear) else (),
        )
        for row in PUBLISHED
    ]


@pytest.mark.parametrize("listed", rows())
def test_pgd_is_as_strong_as_published(listed: Published, tmp_path: Path) -> None:
    checkpoint = SHARED / "checkpoints" / listed.checkpoint
    if not checkpoint.exists():
        pytest.skip(f"needs the published checkpoint {listed.checkpoint} in ../shared/data")
    run = robustcode.attack(
        listed.model,
        f"{listed.data}:{SHARED / listed.data}",
        f"linf:{listed.eps}",
        tmp_path / "run",
        checkpoint=checkpoint,
        samples=1000,
        attacks=["pgd:steps=20"],
        batch_size=250,
        progress=False,
        **listed.norms,
    )
    assert run.summary["robust"]["accuracy"] <= listed.robust + 0.015
