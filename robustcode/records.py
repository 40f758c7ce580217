"""What one verdict is: a sample, an attack, and what the defence said of the proposal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from robustcode.errors import StoreError
from robustcode.lines import CLASSES, LARGEST, SEED, Columns, read

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


# What the columns of ``Run.records`` hold; what is missing is None or NaN.
COLUMNS: Mapping[str, str] = {
    "sample": "index of the sample in its split",
    "label": "its class",
    "clean": "the class the defence gives the sample itself; missing if it abstained",
    "attack": "the attack's name in this run",
    "prediction": "the class it gives the attack's proposal; missing if it abstained",
    "correct": "whether it was right on the proposal; of a random defence the share of draws",
    "votes": "of a random defence the decisions per class on the proposal",
    "choosing": "share of right decisions on the draws that choose among attacks",
    "clean_correct": "whether it was right on the sample itself; likewise a share",
    "clean_votes": "of a random defence the decisions per class on the sample itself",
    "selected": "whether this proposal is the worst of its sample",
    "distance": "between proposal and sample, in the norm of the threat",
    "forwards": "forward passes that the attack spent on this sample",
    "backwards": "backward passes, likewise",
    "seed": "the seed of the run",
    "carried": "the earlier attack whose proposal stands here, since it broke the sample",
    "finished": "whether the attack came to its end within the budget of the run",
    "proved": "whether the sample was proved robust beforehand, and so not attacked",
    "rebatched": "like correct, for the proposal among clean batch mates",
}
# Of a table without rows: those that a deterministic defence's have. Others hold objects.
KINDS: Mapping[str, str] = {
    **dict.fromkeys(("sample", "label", "clean", "prediction", "seed"), "int64"),
    **dict.fromkeys(("forwards", "backwards"), "int64"),
    **dict.fromkeys(("clean_correct", "selected", "finished", "proved"), "bool"),
    **{"attack": "str", "distance": "float64", "correct": "boolean"},
}


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
    """One row per record; columns are the fields of Record, see COLUMNS.

    ``correct`` is a nullable truth value for a deterministic defence, so that ``query("not
    correct")`` finds what is known to be wrong whether or not a budget left some verdicts open;
    for a stochastic one it is a number.
    """
    return _table({f.name: [getattr(row, f.name) for row in records] for f in fields(Record)})


def read_records(files: Iterable[tuple[str, bytes]]) -> pd.DataFrame:
    """The table of what some files hold, given as names and contents; see table_of.

    StoreError with file and line for what no run of this package could have written.
    """
    optional = {f.name: f.default for f in fields(Record) if f.default is not MISSING}
    columns = read(files, [f.name for f in fields(Record)], optional)
    _refuse_wrong_values(columns)
    for name in ("votes", "clean_votes"):
        votes = columns.values[name]
        columns.values[name] = [None if vote is None else tuple(vote) for vote in votes]
    table = _table(columns.values)
    _refuse_contradictions(table, columns)
    return table


def _table(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd

    if not columns["sample"]:
        return pd.DataFrame({name: pd.Series(dtype=KINDS.get(name, "object")) for name in columns})
    # The sample itself always has a verdict, which says of what kind they are.
    certain = isinstance(columns["clean_correct"][0], bool)
    return pd.DataFrame(columns).astype({"correct": "boolean" if certain else "float64"})


def _refuse_wrong_values(columns: Columns) -> None:
    """Each value by itself."""
    for name in ("sample", "forwards", "backwards"):
        columns.whole(name)
    for name in ("label", "clean", "prediction"):
        columns.whole(name, none=name != "label", most=CLASSES)
    columns.whole("seed", least=-SEED, most=SEED)
    columns.text("attack")
    columns.text("carried", none=True, among=sorted({*columns.values["attack"]}))
    for name in ("selected", "finished", "proved"):
        columns.flag(name)
    columns.number("distance", low=0.0)
    columns.number("choosing", none=True, low=0.0, high=1.0)
    # Truth values or shares, but the same in the whole run.
    certain = bool in {*map(type, columns.values["clean_correct"])}
    for name in ("clean_correct", "correct", "rebatched"):
        none = name != "clean_correct"
        if certain:
            columns.flag(name, none=none)
        else:
            columns.number(name, none=none, low=0.0, high=1.0)
    for name in ("votes", "clean_votes"):
        _refuse_wrong_votes(columns, name)


def _refuse_wrong_votes(columns: Columns, name: str) -> None:
    """Counts for the same classes in each row, the label among them."""
    votes, labels = columns.values[name], columns.values["label"]
    given = [vote for vote in votes if vote is not None]
    if not given:
        return
    classes = len(given[0]) if isinstance(given[0], list) else 0
    if not (
        {*map(type, given)} == {list}
        and {*map(len, given)} == {classes}
        and {*map(type, chain.from_iterable(given))} == {int}
        and all(0 <= count <= LARGEST for count in {*chain.from_iterable(given)})
    ):
        for place, vote in enumerate(votes):
            if vote is not None and not _counts(vote, classes):
                columns.refuse(place, f"{name} are no counts for the classes of the first row")
        columns.refuse(votes.index(given[0]), f"{name} are counts for no class")
    if max(labels) >= classes:
        place = next(n for n, label in enumerate(labels) if label >= classes)
        columns.refuse(place, f"label is {labels[place]}, and {name} are for {classes} classes")


def _counts(vote: Any, classes: int) -> bool:
    whole = isinstance(vote, list) and all(type(n) is int and 0 <= n <= LARGEST for n in vote)
    return whole and len(vote) == classes


def _refuse_contradictions(table: pd.DataFrame, columns: Columns) -> None:
    """What rows say together: each sample once for each attack, and always the same of itself."""
    if table.empty:
        return
    samples, first, inverse = np.unique(
        table["sample"].to_numpy(), return_index=True, return_inverse=True
    )
    attack, names = table["attack"].factorize()
    twice = np.flatnonzero(table[["sample", "attack"]].duplicated())
    if twice.size:
        row = table.iloc[twice[0]]
        what = f"sample {row['sample']} is there twice for attack {row['attack']!r}"
        columns.refuse(int(twice[0]), what)
    if len(table) != len(samples) * len(names):
        seen = np.zeros((len(samples), len(names)), dtype=bool)
        seen[inverse, attack] = True
        sample, lacking = np.argwhere(~seen)[0]
        what = f"sample {samples[sample]} has no record of attack {names[lacking]!r}"
        columns.refuse(int(first[sample]), what)
    for name in ("label", "clean", "clean_correct", "proved", "clean_votes"):
        values = columns.values[name]
        if not any(value is not None for value in values):
            continue
        own = [values[place] for place in first[inverse]]
        if own != values:
            place = next(
                n for n, pair in enumerate(zip(own, values, strict=True)) if len({*pair}) > 1
            )
            columns.refuse(place, f"{name} differs from that of the same sample in another row")
    chosen = inverse[table["selected"].to_numpy()]
    if len(chosen) and np.bincount(chosen).max() > 1:
        sample = samples[np.bincount(chosen).argmax()]
        place = int(np.flatnonzero((table["sample"] == sample) & table["selected"])[1])
        columns.refuse(place, f"sample {sample} has two worst proposals selected")
    open_ones = np.flatnonzero(table["finished"].to_numpy() & table["correct"].isna().to_numpy())
    if open_ones.size:
        columns.refuse(int(open_ones[0]), "correct is missing, and the attack is finished")


def _tuples(row: dict[str, object]) -> dict[str, tuple[int, ...] | None]:
    def read(value: object) -> tuple[int, ...] | None:
        return tuple(value) if isinstance(value, Sequence) else None

    return {key: read(row.get(key)) for key in ("votes", "clean_votes")}
