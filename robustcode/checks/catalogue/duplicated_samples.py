"""The evaluated samples hold the same image more than once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.data import Dataset
from robustcode.findings import Finding, Severity

# Samples that are looked at, the first of the run, and those that are in memory at a time.
MOST = 10_000
CHUNK = 500
# Share of samples that are there already from which the interval is too short by half a percent.
SERIOUS = 0.01


@CHECKS.register("duplicated-samples")
class DuplicatedSamples(Check):
    """The evaluated samples hold the same image more than once.

    Raised when two of the first 10,000 samples have the same pixels: as an info, as a warning from
    one sample in a hundred on, and as a failure where two with the same pixels have different
    labels.

    Why it matters: an image that is there twice counts twice, and the interval takes both for
    independent. Of two labels of one image one is wrong, whatever the model says.

    What to do: leave the repeated samples out with ``indices``; look up the labels of the others.

    False alarms: none; pixels are compared by a 128-bit hash.
    """

    code = "duplicated-samples"
    group = Group.SUBJECT
    says = "no image is evaluated twice"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.no_data:
            return exam.no_data
        return None if len(exam.chosen) > 1 else "there are no other samples"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        assert exam.data is not None
        samples = exam.chosen[:MOST].cpu()
        again, contradicting = repeated(exam.data, samples)
        if len(again) == 0:
            return
        share = len(again) / len(samples)
        severity = Severity.WARNING if share >= SERIOUS else Severity.INFO
        looked = f"{len(samples)} samples" + (
            f" (the first of {len(exam.chosen)})" if len(exam.chosen) > MOST else ""
        )
        said = f"{len(again)} of {looked} have the pixels of an earlier one"
        if len(contradicting):
            severity = Severity.FAILURE
            said += f", and {len(contradicting)} of these have another label than that one"
        yield Finding(
            code=self.code,
            severity=severity,
            what=said,
            remedy="leave the repeated samples out (indices), since each counts twice in the "
            "accuracy and in its interval"
            + ("; of two labels for one image one is wrong" if len(contradicting) else ""),
            figures={
                "repeated": float(len(again)),
                "contradicting": float(len(contradicting)),
                "share": share,
                "samples": float(len(samples)),
            },
            samples=contradicting or again,
        )


def repeated(data: Dataset, samples: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Those of ``samples`` that have an earlier one's pixels; of these, those of another label."""
    first: dict[bytes, int] = {}
    again, contradicting = [], []
    for part in samples.split(CHUNK):
        labels = data.targets(part).tolist()
        pixels = data.images(part).contiguous().flatten(1).numpy()
        for sample, label, row in zip(part.tolist(), labels, pixels, strict=True):
            digest = hashlib.blake2b(memoryview(row).cast("B"), digest_size=16).digest()
            if digest not in first:
                first[digest] = label
                continue
            again.append(sample)
            if first[digest] != label:
                contradicting.append(sample)
    return tuple(again), tuple(contradicting)
