"""Certificates as the logs of Cohen et al. have them: a line a sample, for tools that read those.

The columns are ``idx label predict radius correct time``, apart by tabs: the index in the split,
the label, the class or -1 for an abstention, the radius in the units of the input, 1 where the
class is the label, and the time the sample took.

Source: github.com/locuslab/smoothing, code/certify.py, for Cohen et al. 2019, arXiv:1902.02918.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path

from robustcode.certificates import Certificate
from robustcode.errors import DataError

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
ABSTAINED = -1


@dataclass(frozen=True)
class Row:
    """One line of a log.

    Attributes:
        sample: index in the split.
        prediction: the class, None for an abstention.
        radius: in the units of the input; 0 for an abstention.
        seconds: that the sample took, by the clock.
    """

    sample: int
    label: int
    prediction: int | None
    radius: float
    correct: bool
    seconds: float


def to_tsv(certificates: Iterable[Certificate], seconds: Sequence[float]) -> str:
    """A log of certificates; ``seconds`` are what each took.

    The radius is written with all its digits: rounded up, as in the published logs it may be, it
    would no longer be proved.
    """
    lines = ["\t".join(COLUMNS)]
    for proof, taken in zip_longest(certificates, seconds):
        if proof is None or taken is None:
            raise ValueError("a log needs a time for each certificate; their numbers differ")
        label = ABSTAINED if proof.prediction is None else proof.prediction
        values = (
            *(proof.sample, proof.label, label, proof.radius),
            *(int(label == proof.label), timedelta(seconds=taken)),
        )
        lines.append("\t".join(map(str, values)))
    return "\n".join(lines) + "\n"


def read_tsv(path: Path) -> list[Row]:
    """The lines of a log, this project's or a published one."""
    with path.open(newline="") as file:
        lines = list(csv.reader(file, delimiter="\t"))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(
            f"{path} is no log of certificates: its first line is not {' '.join(COLUMNS)}"
        )
    return [_row(path, number, values) for number, values in enumerate(lines[1:], start=2)]


def _row(path: Path, number: int, values: list[str]) -> Row:
    try:
        sample, label, predicted, radius, correct, time = values
        seconds = 0.0
        for part in time.split(":"):  # 15.4 in some published logs, 0:02:31.24 in others
            seconds = 60 * seconds + float(part)
        prediction = None if int(predicted) == ABSTAINED else int(predicted)
        return Row(int(sample), int(label), prediction, float(radius), bool(int(correct)), seconds)
    except ValueError as cause:
        raise DataError(f"{path}, line {number}: {cause}") from cause
