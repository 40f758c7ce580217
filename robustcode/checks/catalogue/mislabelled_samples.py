"""Labels that cannot be right, or that look wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.beside import images
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams

# Other samples that are compared with a suspect, and those that are in memory at a time.
COMPARED = 4000
CHUNK = 500
# Root mean square difference of two pictures of the same thing, of a pixel range of 1: two frames
# of a film, or one image stored twice with loss.
NEAR = 0.03
# How sure the model has to be of the other label.
SURE = 0.9


@CHECKS.register("mislabelled-samples")
class MislabelledSamples(Check):
    """Labels that cannot be right, or that look wrong.

    Raised when a label is none of the model's classes, as a failure; and, as an info, when the
    model is sure of another label (probability .9, no draw right) and a near-duplicate in the data
    (root mean square difference .03 or less, of a range of 1) has that other label.

    Why it matters: such a sample counts as broken from the start, whatever the defence does; and an
    attack that moves it to its label counts as held.

    What to do: look at the samples named, and leave them out if they are wrong.

    False alarms: none of labels without a class. Of the others: model and data have to agree
    against the label, which fine classes can do; hence an info, about what to look at.
    """

    code = "mislabelled-samples"
    group = Group.SUBJECT
    says = "every label is one of the model's classes, and none looks wrong"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        known = exam.threat is not None and len(exam.y)
        return None if known else "labels are checked in runs of attacks only"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        classes = exam.facts.classes
        known = exam.y if exam.data is None else exam.data.targets(exam.chosen.cpu())
        names = exam.samples if exam.data is None else exam.chosen
        outside = ((known < 0) | (known >= classes)).to(names.device)
        if outside.any():
            yield Finding(
                code=self.code,
                severity=Severity.FAILURE,
                what=f"{int(outside.sum())} of {len(known)} samples have a label that is none of "
                f"the model's {classes} classes",
                remedy="give the classes that the model was trained on, in their order",
                figures={"outside": float(outside.sum()), "samples": float(len(known))},
                samples=tuple(names[outside].tolist()),
            )
            return
        if exam.data is None or exam.adversary.stacked:
            return
        wrong = self._wrong(exam)
        if wrong:
            pairs = ", ".join(f"{one.sample} as {one.twin}" for one in wrong[:3])
            yield Finding(
                code=self.code,
                severity=Severity.INFO,
                what=f"{len(wrong)} of {len(exam.x)} pilot samples look like one of another label, "
                f"which the model is sure of too (sample {pairs}{', ..' if wrong[3:] else ''})",
                remedy="look at them: a wrong label counts as broken whatever the defence does",
                figures={"suspects": float(len(wrong)), "samples": float(len(exam.x))},
                samples=tuple(one.sample for one in wrong),
            )

    def _wrong(self, exam: Examination) -> list[_Suspect]:
        sure, taken = exam.calls.first.double().softmax(1).max(1)
        label = exam.clean.majority()
        never = exam.clean.share_right(exam.y) == 0
        rows = exam.places[never & (taken == label) & (taken != exam.y) & (sure >= SURE)]
        return [] if len(rows) == 0 else list(_twins(exam, rows, taken[rows]))


class _Suspect(NamedTuple):
    sample: int
    twin: int  # a near-duplicate that has the label which the model is sure of


def _twins(exam: Examination, rows: Tensor, taken: Tensor) -> Iterator[_Suspect]:
    """Of some rows, those with a near-duplicate among the data that has the label ``taken``."""
    assert exam.data is not None
    order = Streams.of(exam.seed, "twins", exam.samples[:1].cpu()).permutation(len(exam.data))[0]
    others = order[:COMPARED]
    # All others with one of the labels in question; the rest cannot be a twin.
    others = others[torch.isin(exam.data.targets(others), taken.cpu())]
    found: dict[int, int] = {}
    x = exam.x[rows].flatten(1)
    for part in others.split(CHUNK):
        labels = exam.data.targets(part).to(x.device)
        apart = torch.cdist(x, images(exam, part).flatten(1)) / x.shape[1] ** 0.5
        near = (apart <= NEAR) & (labels == taken[:, None])
        for row in near.any(1).nonzero().squeeze(1).tolist():
            found.setdefault(row, int(part[near[row].cpu()][0]))
    samples = exam.samples[rows].tolist()
    return (_Suspect(samples[row], twin) for row, twin in sorted(found.items()))
