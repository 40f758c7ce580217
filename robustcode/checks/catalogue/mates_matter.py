"""Which clean images stand beside a sample decides its class."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.beside import among, depends_on_mates, images, mates_of, outsiders
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams

# Samples that are asked about, and pools of clean mates that each of them meets.
SAMPLES = 16
POOLS = 4
# Share of samples whose class hangs on their mates from which an accuracy speaks of the mates too.
SERIOUS = 0.25


@CHECKS.register("mates-matter")
class MatesMatter(Check):
    """Which clean images stand beside a sample decides its class.

    Raised when, all random numbers being the same, the decision on a sample differs between four
    disjoint pools of clean mates: as an info, and as a warning from a quarter of the samples on.

    Why it matters: the accuracy is one among these mates. In use they are others, and an adversary
    who can choose when it is served chooses among them.

    What to do: quote the accuracy with the pool it is for, and repeat it with another one; look at
    the adversary ``mates``, who perturbs them.

    False alarms: none; decisions are compared as they are, and mates are all that differs.
    """

    code = "mates-matter"
    group = Group.BATCH
    says = "clean mates do not decide a sample's class"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.threat is None:
            return "nothing is attacked"
        if exam.adversary.stacked:
            return "the adversary chooses the mates"
        return None if depends_on_mates(exam) else "each sample is classified by itself"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        rows = exam.finite[:SAMPLES]
        rows = rows[~exam.calls.unsteady[rows]]
        free, size = outsiders(exam), mates_of(exam.defense)
        order = Streams.of(exam.seed, "mates", exam.samples[:1].cpu()).permutation(len(free))[0]
        pools = free[order].split(size)[:POOLS]
        pools = [pool for pool in pools if len(pool) == size]
        if len(pools) < 2 or len(rows) == 0:
            return
        found = []
        for pool in pools:
            other = among(exam.defense, images(exam, pool))
            own = exam.first_draw[rows]
            exam.ledger.charge(own.samples, other.forwards(own))
            with torch.no_grad():
                found.append(other.logits(exam.x[rows], own).double())
        scores = torch.stack(found)  # (pools, rows, classes)
        labels = scores.argmax(2)
        flipped = (labels != labels[0]).any(0)
        if not flipped.any():
            return
        top = scores.mean(0).topk(2, dim=1)
        leads = scores.gather(2, top.indices.expand(len(scores), -1, -1))
        spread = (leads[..., 0] - leads[..., 1]).std(0)
        lead = top.values[:, 0] - top.values[:, 1]
        ratio = float((spread / lead.clamp(min=1e-12)).median())
        serious = float(flipped.double().mean()) >= SERIOUS
        yield Finding(
            code=self.code,
            severity=Severity.WARNING if serious else Severity.INFO,
            what=f"on {int(flipped.sum())} of {len(rows)} samples the decision differs between "
            f"{len(pools)} pools of {size} clean mates; the lead of the top class varies by "
            f"{ratio:.2g} of itself in the median",
            remedy="quote the accuracy together with the pool of mates, and evaluate it with "
            "another pool too",
            figures={**shares(flipped), "pools": float(len(pools)), "spread": ratio},
            samples=chosen(exam.samples[rows], flipped),
        )
