"""The loss jumps under small noise."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustcode.attacks.losses import margin_and_scale
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams

# Survivors that are looked at, places around each and moves from a place.
ROWS = 16
PLACES = 2
POINTS = 8
# Size of the noise as a share of eps, in each value or as the norm has it: half a step of PGD.
SIZE = 0.1
# From here on a move is nearer to two that have nothing to do with each other than to a line.
ROUGH = 0.5
# What stands for infinity in JSON.
LARGEST = 1e9
# A change below this share of the logits is rounding.
ROUNDING = 1e-5


@CHECKS.register("unstable-loss")
class UnstableLoss(Check):
    """The loss jumps under small noise.

    Raised when, on most survivors, what a small move does to the margin is no line. At two random
    points of the ball around each of 16 survivors at most, 8 moves by noise a tenth as large as eps
    are made in two halves. The share is the square of the second half's effect less the first's,
    over the square of both together: 0 on a line, 1 where the halves have nothing to do with each
    other; above one half it counts. Nothing is said where the margin does not change at all, which
    ``zero-gradient`` sees. Made on deterministic defences.

    Why it matters: a gradient that is true of so small a neighbourhood leads nowhere.
    Winner-take-all activations, signs, quantised inputs and hidden noise have such losses, and
    attacks along gradients fail for that alone. A defence that is followed through a surrogate is
    judged with its jumps too; a good surrogate may still lead the right way.

    What to do: follow a smooth surrogate or a mean over noise around the input; run square and
    transfer.

    False alarms: the share is measured on 16 moves of each sample, and most samples must show it.
    On 16 pairs of a network and an eps, of the package and published, its median was .1 at
    most, for MNIST networks trained at eps .3, and .01 or less on most; signs, quantised inputs and
    winner-take-all cells show 1.

    Source: unstable predictions, Pintor et al. 2022, arXiv:2106.09947, who hold the change against
    the loss itself; that it is held against a line is ours.
    """

    code = "unstable-loss"
    group = Group.GRADIENTS
    says = "small noise moves the loss as a line would"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or exam.no_fixed_answer

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        rows = exam.survivors[:ROWS]
        if len(rows) == 0:
            return
        share = roughness(exam, rows)
        jumps = share > ROUGH
        if 2 * int(jumps.sum()) <= len(rows):
            return
        usual = min(float(share[~share.isnan()].median()), LARGEST)
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what=f"on {int(jumps.sum())} of {len(rows)} pilot samples that stand the loss jumps "
            f"under noise of a tenth of eps: what two moves change together is off what each "
            f"changes alone by {usual:.0%} in the median, and by a few percent where it is smooth",
            remedy="gradients lead nowhere here: follow a smooth surrogate, or a mean over "
            "noise, and run square and the transfer attack",
            figures={"roughness": usual, "jumps": float(jumps.sum()), "samples": float(len(rows))},
            samples=tuple(exam.samples[rows[jumps]].tolist()),
        )


def roughness(exam: Examination, rows: Tensor) -> Tensor:
    """How far each row's loss under noise is from following a line, (rows,); NaN if it is still.

    The square of what the second half of a small move does to the loss less what the first half
    did, over the square of what both do together: 0 for a line, 1 where the halves have nothing to
    do with each other, as with jumps here and there, 3 where not even equal places have.
    """
    x, y, threat = exam.x[rows], exam.y[rows], exam.allowed
    streams = exam.pilot.streams("unstable", rows)
    bent, moved = (x.new_zeros(len(rows), dtype=torch.float64) for _ in range(2))
    for place in range(PLACES):
        own = streams.child("place", place)
        start = threat.random(x, own)

        def margin_at(inputs: Tensor, own: Streams = own) -> tuple[Tensor, Tensor]:
            lead, scale = margin_and_scale(exam.target.logits(inputs, own), y)
            return lead.double(), scale.double()

        first, scale = margin_at(start)
        for number in range(POINTS):
            noise = SIZE * threat.eps * threat.geometry.random(x, own.child("point", number))
            end = (start + noise).clamp(threat.low, threat.high)
            middle, last = margin_at((start + end) / 2)[0], margin_at(end)[0]
            bend, move = first - 2 * middle + last, last - first
            # What is rounding is no jump.
            bent += bend.where(bend.abs() > ROUNDING * scale, 0.0).square()
            moved += move.where(move.abs() > ROUNDING * scale, 0.0).square()
    return torch.where(moved > 0, bent / moved, torch.where(bent > 0, torch.inf, torch.nan))
