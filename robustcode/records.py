"""What one verdict is: a sample, an attack, and what the defence said of the proposal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from robustcode.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Record:
    """One (sample, attack) verdict.

    For a deterministic defence ``correct`` is a truth value and the vote fields are None. For a
    stochastic one ``votes`` counts the decisions per class over the judge's draws, what is missing
    from their sum abstained, and ``correct`` is the share that was right. ``choosing`` is the share
    right on other draws: by it the worst attack of a sample is chosen, so that ``votes`` stay an
    unbiased estimate of how bad that attack is. Where a detector abstains on a proposal that is not
    the sample itself, that is right as well: then ``prediction`` is None and ``correct`` true.

    Attributes:
        sample: index in the split.
        label: its class.
        clean: the defence's prediction of the sample itself; None if it abstained.
        attack: the attack's name in this run.
        prediction: what the proposal was taken for (by majority); None if it abstained.
        correct: see above; None if not ``finished``.
        votes: decisions per class on the proposal.
        choosing: share of right decisions on the draws that choose among attacks.
        clean_correct: like ``correct``, for the sample itself.
        clean_votes: like ``votes``, for the sample itself.
        selected: whether this proposal is the worst of its sample.
        distance: between proposal and sample, in the threat's norm.
        forwards: model passes this attack spent on this sample.
        backwards: likewise.
        seed: the run's seed, to which all draws are keyed.
        carried: the earlier attack that broke the sample and whose proposal stands here, in a
            cascade; this one was then not run on it. None where it was.
        finished: whether the attack came to an end on the sample within the run's budget. If not,
            the sample itself stands for the proposal, and nothing is known of the attack.
        proved: the sample was named as proved robust, and therefore not attacked.
        rebatched: like ``correct``, where that is of a batch that is adversarial as a whole, for
            the same proposal among clean mates. None where each is judged so to begin with.
    """

    sample: int
    label: int
    clean: int | None
    attack: str
    prediction: int | None
    correct: bool | float | None
    votes: tuple[int, ...] | None
    choosing: float | None
    clean_correct: bool | float
    clean_votes: tuple[int, ...] | None
    selected: bool
    distance: float
    forwards: int
    backwards: int
    seed: int
    carried: str | None = None
    finished: bool = True
    proved: bool = False
    rebatched: bool | float | None = None


def to_lines(records: Iterable[Record]) -> bytes:
    """JSON lines; equal records give equal bytes."""
    lines = (json.dumps(asdict(record), allow_nan=False) + "\n" for record in records)
    return "".join(lines).encode()


def from_lines(data: bytes, origin: str) -> list[Record]:
    """Records from JSON lines; ``origin`` names the file in an error."""
    try:
        rows = [json.loads(line) for line in data.decode().splitlines()]
        return [Record(**{**row, **_tuples(row)}) for row in rows]
    except (ValueError, TypeError) as cause:
        raise StoreError(f"{origin} does not hold records: {cause}") from cause


def table_of(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record; columns are the fields of Record.

    ``correct`` is a nullable truth value for a deterministic defence, so that ``query("not
    correct")`` finds what is known to be wrong whether or not a budget left some verdicts open;
    for a stochastic one it is a number.
    """
    import pandas as pd

    table = pd.DataFrame(records)
    if table.empty:
        return table
    # The sample itself always has a verdict, which says of what kind they are.
    certain = isinstance(records[0].clean_correct, bool)
    return table.astype({"correct": "boolean" if certain else "float64"})


def _tuples(row: dict[str, object]) -> dict[str, tuple[int, ...] | None]:
    def read(value: object) -> tuple[int, ...] | None:
        return tuple(value) if isinstance(value, Sequence) else None

    return {key: read(row.get(key)) for key in ("votes", "clean_votes")}
