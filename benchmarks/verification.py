"""What intervals, lines, optimised lines and branch and bound prove of published networks.

    python benchmarks/verification.py [--networks cifar_cnn_a_adv ..] [--methods ibp crown ..]
        [--samples 200] [--minutes 60] [--list] [--data ../shared/data]

The networks and images of the SDP benchmark (Dathathri et al. 2020, arXiv:2010.11645), and those of
MNIST and CIFAR-10 that others verified. One thread, CPU time of the proofs alone. ``--minutes`` of
CPU time end one method on one network: what is left then counts as not proved. Where the benchmark
has no list of images they are the first ones of the test split. ``--list`` prints a line a sample.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from robustcode.certificates import Status
from robustcode.checkpoint import load_classifier
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.methods import METHODS, Claim, Method
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
# Samples that are bounded together; between them the time is looked at.
TOGETHER = 8


@dataclass(frozen=True)
class Subject:
    """A published network, and what is to be proved of it.

    Attributes:
        spec: its architecture here.
        file: its weights.
        data: the images' folder, which is named as the format is.
        threat: as on the command line.
        images: their list's name in results/verification_subsets.json; the first ones without.
    """

    spec: str
    file: str
    data: str
    threat: str
    images: str = ""


SUBJECTS = {
    "cifar_cnn_a_adv": Subject(
        "cifar_cnn_a", "verification/cifar_cnn_a_adv.model", "cifar10", "linf:2/255", "cifar_sdp"
    ),
    "cifar_cnn_a_adv4": Subject(
        "cifar_cnn_a", "verification/cifar_cnn_a_adv4.model", "cifar10", "linf:2/255", "cifar_sdp"
    ),
    "cifar_cnn_a_mix": Subject(
        "cifar_cnn_a", "verification/cifar_cnn_a_mix.model", "cifar10", "linf:2/255", "cifar_sdp"
    ),
    "mnist_cnn_a_adv": Subject(
        "mnist_cnn_a", "verification/mnist_cnn_a_adv.model", "mnist", "linf:0.3", "mnist_sdp"
    ),
    "resnet2b": Subject("cifar_resnet2b", "verification/resnet2b.pth", "cifar10", "linf:1/255"),
    "WK17a": Subject("mnist_cnn_a", "mipverify/WK17a_linf0.1.pth", "mnist", "linf:0.1"),
    "mnist_0_1": Subject("mnist_cnn_a", "convex_adversarial/mnist_0_1.pth", "mnist", "linf:0.1"),
}


@dataclass(frozen=True)
class Row:
    """What one method proved of one network."""

    counts: dict[Status, int]
    looked_at: int
    samples: int
    seconds: float

    def __str__(self) -> str:
        right = self.looked_at - self.counts[Status.WRONG]
        proved = self.counts[Status.CERTIFIED]
        left = f" ({self.looked_at} looked at)" if self.looked_at < self.samples else ""
        return (
            f"| {right} | {proved} | {proved / self.samples:.1%}{left} | {self.seconds:.0f} "
            f"| {self.seconds / max(self.looked_at, 1):.2f} |"
        )


def main() -> None:
    """Prove, and print one table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--methods", nargs="+", default=["ibp", "crown", "alpha-crown", "bab"])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--data", type=Path, default=SHARED)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    head = ("network", "threat", "method", "right", "proved", "share", "CPU s", "s a sample")
    print("| " + " | ".join(head) + " |\n" + "|---" * 3 + "|---:" * 5 + "|", flush=True)
    for name in asked.networks:
        for text in asked.methods:
            method: Method = Component.parse(text).build(METHODS, "method")
            row = measured(SUBJECTS[name], method, asked)
            print(f"| {name} | {SUBJECTS[name].threat} | `{text}` {row}", flush=True)


def measured(subject: Subject, method: Method, asked: argparse.Namespace) -> Row:
    """Certificates of the first samples, until the time is over."""
    data = load_data(f"{subject.data}:{asked.data / subject.data}")
    numbers = range(len(data))
    if subject.images:
        lists = json.loads((asked.data / "results" / "verification_subsets.json").read_text())
        numbers = lists[subject.images]["test_indices"]
    samples = torch.tensor(numbers[: asked.samples])
    model = load_classifier(subject.spec, asked.data / "checkpoints" / subject.file, classes=10)
    threat = ThreatModel.parse(subject.threat)
    claim = Claim(
        defense=Identity(model=model),
        threat=threat,
        radii=(threat.eps,),
        classes=10,
        example=data.images(samples[:1].numpy()),
    )
    prover = method.prepare(claim)
    counts = dict.fromkeys(Status, 0)
    started = time.process_time()
    looked_at = 0
    for some in samples.split(TOGETHER):
        if time.process_time() - started > 60 * asked.minutes:
            break
        x, y = data.images(some.numpy()), data.targets(some.numpy())
        before = time.process_time()
        for proof in prover.prove(x, y, Streams.of(0, "certify", some), lambda count: None):
            counts[proof.status] += 1
            looked_at += 1
            if asked.list:
                bound = "" if proof.bound is None else f"{proof.bound:.5f}"
                seconds = (time.process_time() - before) / len(some)
                print(f"{proof.sample} {proof.status} {bound} {seconds:.2f} s", flush=True)
    return Row(counts, looked_at, len(samples), time.process_time() - started)


if __name__ == "__main__":
    main()
