"""How many of the pilot's samples are concerned, as findings say it."""

from __future__ import annotations

from torch import Tensor

from robustcode.findings import Severity

# Above this share of pilot samples a fault moves the accuracy by more than a remark is worth.
SERIOUS = 0.1


def severity_of(faulty: Tensor) -> Severity:
    """A failure where a tenth of the rows or more are faulty, bool of shape (batch,)."""
    serious = int(faulty.sum()) >= SERIOUS * len(faulty)
    return Severity.FAILURE if serious else Severity.WARNING


def shares(faulty: Tensor) -> dict[str, float]:
    """The figures of a finding about some rows, bool of shape (batch,)."""
    count = float(faulty.sum())
    return {"faulty": count, "samples": float(len(faulty)), "share": count / len(faulty)}


def chosen(samples: Tensor, rows: Tensor) -> tuple[int, ...]:
    """The samples at some rows."""
    return tuple(samples[rows].tolist())
