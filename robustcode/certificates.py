"""What one proof is: a sample, and how far from it the defence is known to be right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from robustcode.errors import StoreError
from robustcode.lines import CLASSES, SEED, Columns, read

if TYPE_CHECKING:
    import pandas as pd


class Status(StrEnum):
    """What came of one sample.

    ``certified``: proved right for all that the threat allows. ``undecided``: right as far as the
    method looked, without a proof. ``wrong``: the class it speaks of is not the label.
    ``abstained``: it speaks of no class.
    """

    CERTIFIED = "certified"
    UNDECIDED = "undecided"
    WRONG = "wrong"
    ABSTAINED = "abstained"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One sample's proof, or that there is none.

    Attributes:
        sample: index in the split.
        label: its class.
        prediction: the class that the proof speaks of; None if the method abstained.
        status: see Status; it speaks of the eps of the run's threat.
        radius: the largest radius that is proved for ``prediction``, in the threat's norm and in
            the units of the input; 0 if none is. Proved also where the prediction is wrong.
        bound: what was proved from below at eps, None if nothing was: for a deterministic method
            the least margin of the label over another class, in logits; for a random one the least
            probability of the prediction.
        share: a lower bound on the probability that one decision of a random defence is right
            whatever the adversary does; None where decisions are not random.
        held: share of as many draws as were made in which a right decision was proved: where their
            number was fixed beforehand an unbiased estimate of what ``share`` bounds, else None.
        alpha: probability with which this proof may be false; 0 for a deterministic one.
        draws: random draws it took, those that chose the class among them; None where there are
            none.
        forwards: forward passes of the model, or of bounds through it, that this sample cost. A
            pass of bounds counts as many as the rows of the specification that it carried.
        backwards: backward passes, likewise.
        seed: the run's seed, to which all draws are keyed.
    """

    sample: int
    label: int
    prediction: int | None
    status: Status
    radius: float
    bound: float | None = None
    share: float | None = None
    held: float | None = None
    alpha: float = 0.0
    draws: int | None = None
    forwards: int = 0
    backwards: int = 0
    seed: int = 0


# What the columns of ``Run.certificates`` hold; what is missing is NaN or NA.
COLUMNS: Mapping[str, str] = {
    "sample": "index of the sample in its split",
    "label": "its class",
    "prediction": "the class that the proof speaks of; missing if the method abstained",
    "status": "certified, undecided, wrong or abstained, at the eps of the run",
    "radius": "the largest radius that is proved, in the norm of the threat; 0 if none is",
    "bound": "what was proved from below at eps: a margin, or a probability",
    "share": "lower bound on the probability that one decision of a random defence is right",
    "held": "share of its draws in which a right decision was proved, where it is unbiased",
    "alpha": "probability with which this proof may be false; 0 for a deterministic one",
    "draws": "random draws it took; missing where there are none",
    "forwards": "forward passes that it cost",
    "backwards": "backward passes, likewise",
    "seed": "the seed of the run",
}


def status_of(prediction: int | None, label: int, radius: float, eps: float) -> Status:
    """What came of a sample of which ``radius`` is proved for ``prediction``; see Status."""
    if prediction is None:
        return Status.ABSTAINED
    if prediction != label:
        return Status.WRONG
    return Status.CERTIFIED if radius >= eps else Status.UNDECIDED


def to_lines(certificates: Iterable[Certificate]) -> bytes:
    """JSON lines; equal certificates give equal bytes."""
    lines = (json.dumps(asdict(proof), allow_nan=False) + "\n" for proof in certificates)
    return "".join(lines).encode()


def from_lines(data: bytes, origin: str) -> list[Certificate]:
    """Certificates from JSON lines; ``origin`` names the file in an error."""
    try:
        rows = [json.loads(line) for line in data.decode().splitlines()]
        return [Certificate(**{**row, "status": Status(row["status"])}) for row in rows]
    except (KeyError, TypeError, ValueError) as cause:
        raise StoreError(f"{origin} does not hold certificates: {cause}") from cause


def table_of(certificates: Sequence[Certificate]) -> pd.DataFrame:
    """One row per certificate; columns are the fields of Certificate, see COLUMNS.

    ``prediction`` and ``draws`` are nullable whole numbers; ``bound``, ``share`` and ``held`` are
    numbers that are missing where there are none.
    """
    names = [f.name for f in fields(Certificate)]
    return _table({name: [getattr(proof, name) for proof in certificates] for name in names})


def read_certificates(files: Iterable[tuple[str, bytes]]) -> pd.DataFrame:
    """The table of what some files hold, given as names and contents; see table_of.

    StoreError with file and line for what no run of this package could have written.
    """
    optional = {f.name: f.default for f in fields(Certificate) if f.default is not MISSING}
    columns = read(files, [f.name for f in fields(Certificate)], optional)
    _refuse_wrong_values(columns)
    return _table(columns.values)


def _table(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd

    columns = {**columns, "status": [str(status) for status in columns["status"]]}
    kinds = {"status": "str", "prediction": "Int64", "draws": "Int64"}
    kinds |= dict.fromkeys(("bound", "share", "held"), "float64")
    if not columns["sample"]:  # the others then are of no kind
        kinds |= dict.fromkeys(("sample", "label", "forwards", "backwards", "seed"), "int64")
        kinds |= dict.fromkeys(("radius", "alpha"), "float64")
    return pd.DataFrame(columns).astype(kinds)


def _refuse_wrong_values(columns: Columns) -> None:
    for name in ("sample", "forwards", "backwards"):
        columns.whole(name)
    columns.whole("draws", none=True)
    for name in ("label", "prediction"):
        columns.whole(name, none=name != "label", most=CLASSES)
    columns.whole("seed", least=-SEED, most=SEED)
    columns.text("status", among=[*Status])
    columns.number("radius", low=0.0)
    columns.number("bound", none=True)
    for name in ("share", "held"):
        columns.number(name, none=True, low=0.0, high=1.0)
    columns.number("alpha", low=0.0, high=1.0)
    samples = columns.values["sample"]
    if len({*samples}) < len(samples):
        seen: set[int] = set()
        for place, sample in enumerate(samples):
            if sample in seen:
                columns.refuse(place, f"sample {sample} is there twice")
            seen.add(sample)
