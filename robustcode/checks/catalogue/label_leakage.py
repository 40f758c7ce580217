"""A sample's label can be read off the classes of its batch mates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group, Untested
from robustcode.checks.beside import among, depends_on_mates, images, mates_of, outsiders
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams

# Draws of a stochastic defence, and the least samples: of fewer no outcome is rarer than ALPHA.
DRAWS = 2
FEWEST = 8
ALPHA = 0.01
# The smallest difference in accuracy worth a finding.
EFFECT = 0.05


@CHECKS.register("label-leakage")
class LabelLeakage(Check):
    """A sample's label can be read off the classes of its batch mates.

    Raised when the accuracy among clean mates of the sample's own class differs from that among
    mates of all classes, by five points and more than chance: every sample meets mates of its own,
    drawn at random, and of all ways to change sides 1 % or fewer differ as much. As an info where
    the defence declares that its batch acts together, since mates are then drawn from all classes;
    as a warning where it does not.

    Why it matters: batches of one class, as a sorted data set has them, give another accuracy than
    mixed ones. A defence that normalises by its batch, or mixes it, has the labels of the mates in
    its scores, and a test set tells more there than a user's requests do.

    What to do: evaluate in mixed batches and in batches of one class; use stored statistics.

    False alarms: 1 % at most where mates' classes do not matter, exactly, by exchange of
    sides.

    Source: Fisher's randomisation test; what it is asked is ours.
    """

    code = "label-leakage"
    group = Group.BATCH
    says = "mates of the sample's own class do not change the accuracy"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.threat is None or len(exam.y) == 0:
            return "nothing is attacked"
        if exam.adversary.stacked:
            return "the adversary chooses the mates"
        return None if depends_on_mates(exam) else "each sample is classified by itself"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        pools = _pools(exam)
        if len(pools) < FEWEST:
            raise Untested(
                f"{len(pools)} samples find enough mates of their own class; {FEWEST} are needed"
            )
        own = [_right(exam, row, same) for row, same, _ in pools]
        mixed = [_right(exam, row, others) for row, _, others in pools]
        count = len(pools)
        decisions = count * (DRAWS if exam.stochastic else 1)
        before, after = sum(mixed) / decisions, sum(own) / decisions
        chance = sides_changed([first - second for first, second in zip(own, mixed, strict=True)])
        if chance > ALPHA or abs(after - before) < EFFECT:
            return
        declared = exam.defense.batch_coupled
        yield Finding(
            code=self.code,
            severity=Severity.INFO if declared else Severity.WARNING,
            what=f"among clean mates of its own class {after:.1%} of {count} samples are right, "
            f"among mates of all classes {before:.1%}; chance does as much in {chance:.2%} of runs",
            remedy="do not evaluate in batches that are sorted by class, and say which mixture of "
            "classes an accuracy is for; stored statistics in batch norm depend on none",
            figures={
                "own": after,
                "mixed": before,
                "chance": chance,
                "samples": float(count),
            },
        )


def sides_changed(gains: Sequence[int]) -> float:
    """The two-sided p-value of a sum of differences whose signs chance has chosen; exact.

    >>> sides_changed([1] * 8)
    0.0078125
    """
    reach = sum(abs(gain) for gain in gains)
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for gain in gains:
        chances = (np.roll(chances, gain) + np.roll(chances, -gain)) / 2
    sums = np.arange(-reach, reach + 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(sum(gains))].sum()))


def _pools(exam: Examination) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Rows of the pilot, (1,), with mates of their class and as many of all classes, as samples."""
    free, size = outsiders(exam), mates_of(exam.defense)
    assert exam.data is not None  # as outsiders has seen
    labels = exam.data.targets(free)
    streams = Streams.of(exam.seed, "leakage", exam.samples).to(free.device)
    found = []
    for row in exam.finite.tolist():
        own = free[labels == int(exam.y[row])]
        if len(own) >= size:
            same, others = (
                group[streams[row : row + 1].child(name).permutation(len(group))[0][:size]]
                for name, group in (("own", own), ("mixed", free))
            )
            found.append((exam.places[row : row + 1], same, others))
    return found


def _right(exam: Examination, row: Tensor, pool: Tensor) -> int:
    """Right predictions of one row among some mates, over the draws."""
    other, count = among(exam.defense, images(exam, pool)), 0
    for draw in range(DRAWS if exam.stochastic else 1):
        own = exam.streams[row].child("leakage", draw)
        exam.ledger.charge(own.samples, other.forwards(own))
        with torch.no_grad():
            count += int((other.logits(exam.x[row], own).argmax(1) == exam.y[row]).sum())
    return count
