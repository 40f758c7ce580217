"""What one answer is: a sample, how it was spoilt, and what the classifier then said of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from robustcode.lines import CLASSES, SEED, Columns, read

if TYPE_CHECKING:
    import pandas as pd

# Digits of probabilities and their logarithms that are kept: more are noise of the passes.
DIGITS = 9


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One (sample, corruption, severity).

    Attributes:
        sample: index in the split.
        label: its class.
        corruption: what it was spoilt by; ``clean`` for the sample itself.
        severity: 1 to 5; 0 for the sample itself.
        prediction: the decision, by majority if the defence is random; None if it abstained.
        correct: whether it was right; of a random defence the share of draws that were. To abstain
            is not right.
        likeliest: the class of the highest probability. Probabilities are the mean over draws of
            the softmax of their scores. None, as are the next two, where scores are no numbers.
        confidence: its probability.
        likelihood: the natural logarithm of the label's probability.
        forwards: model passes.
        seed: the run's seed, to which all randomness is keyed.
    """

    sample: int
    label: int
    corruption: str
    severity: int
    prediction: int | None
    correct: bool | float
    likeliest: int | None
    confidence: float | None
    likelihood: float | None
    forwards: int
    seed: int


# What the columns of ``Run.answers`` hold; what is missing is None or NaN.
COLUMNS: Mapping[str, str] = {
    "sample": "index of the sample in its split",
    "label": "its class",
    "corruption": "what it was spoilt by; clean for the sample itself",
    "severity": "1 to 5; 0 for the sample itself",
    "prediction": "the decision, by majority of a random defence; missing if it abstained",
    "correct": "whether it was right; of a random defence the share of draws",
    "likeliest": "the class of the highest mean probability",
    "confidence": "its probability",
    "likelihood": "the natural logarithm of the label's probability",
    "forwards": "forward passes that the sample cost",
    "seed": "the seed of the run",
}


def to_lines(answers: Iterable[Answer]) -> bytes:
    """JSON lines; equal answers give equal bytes."""
    lines = (json.dumps(asdict(answer), allow_nan=False) + "\n" for answer in answers)
    return "".join(lines).encode()


def read_answers(files: Iterable[tuple[str, bytes]]) -> pd.DataFrame:
    """The table of what some files hold, given as names and contents; see COLUMNS.

    ``correct`` is a truth value for a deterministic defence and a number for a random one.
    StoreError with file and line for what no run of this package could have written.
    """
    import pandas as pd

    columns = read(files, [f.name for f in fields(Answer)], {})
    _refuse_wrong_values(columns)
    table = pd.DataFrame(columns.values)
    kinds = {"prediction": "Int64", "likeliest": "Int64"}
    kinds |= dict.fromkeys(("confidence", "likelihood"), "float64")
    if table.empty:  # the others then are of no kind
        kinds |= dict.fromkeys(("sample", "label", "severity", "forwards", "seed"), "int64")
        kinds |= {"corruption": "str", "correct": "bool"}
    return table.astype(kinds)


def _refuse_wrong_values(columns: Columns) -> None:
    for name in ("sample", "forwards"):
        columns.whole(name)
    for name in ("label", "prediction", "likeliest"):
        columns.whole(name, none=name != "label", most=CLASSES)
    columns.whole("severity", most=5)
    columns.whole("seed", least=-SEED, most=SEED)
    columns.text("corruption")
    columns.number("confidence", none=True, low=0.0, high=1.0)
    columns.number("likelihood", none=True, high=0.0)
    if {*map(type, columns.values["correct"])} != {bool}:
        columns.number("correct", low=0.0, high=1.0)
