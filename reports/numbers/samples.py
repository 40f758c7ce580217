"""A run as a table of its samples in columns of numbers: what came of each, and under which attack.

A column is one value where all samples have the same, else a list with one for each sample; null
where there is none, as where a detector refused. Names are in lists, and columns say where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustcode.reports.escape import plain
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.source import Source
from robustcode.verdicts import VERDICTS, refused

DIGITS = 4  # significant digits of what is not a whole number: a page is not for computing on
# What certificates say, in the words of their files.
STATUSES = {
    "certified": "proved right for all that the threat allows",
    "undecided": "right as far as the method looked, without a proof",
    "wrong": "the class that the proof speaks of is not the label",
    "abstained": "the method speaks of no class",
}
# What certificates and attacks say together.
STATES = {
    "certified": "proved right for all that the attacks' threat allows",
    "undecided": "neither proved nor broken",
    "broken": "no decision was right under attack",
}
# What became of an attack on a sample; the first needs no mention.
DONE, LIMITED, PROVED = range(3)
MADE = ("", "unfinished", "not attacked, proved robust")

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Truths = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class _Course:
    """One attack on each sample, of shape (samples,) each; nan where there is nothing to say.

    ``right`` is a share of decisions, ``held`` whether their majority was right, ``made`` a place
    in MADE, ``carried`` the place of the attack whose proposal stands here.
    """

    prediction: Numbers
    right: Numbers
    held: Truths
    distance: Numbers
    forwards: Numbers
    backwards: Numbers
    made: Numbers
    carried: Numbers


def attacked(source: Source, place: int, pairs: Sequence[Pair] = ()) -> dict[str, Any]:
    """The table of a run of attacks, with the certificates of ``pairs`` beside it."""
    records, known = source.run.records, source.run.samples
    samples = pd.Index(known["sample"])
    names = [attack["name"] for attack in source.attacks]
    # Each attack has a record of each sample: a folder of which that is not so is not read.
    by = [records[records["attack"] == name].set_index("sample").loc[samples] for name in names]
    label, worst = _numbers(known["label"]), _places(known["worst"], names)
    courses = [_course(rows, label, names, source.draws) for rows in by]
    verdict = known["verdict"]
    wrong = (verdict == "wrong without attack").to_numpy(dtype=bool)
    best = _best(pairs, samples)
    # What was unfinished is not counted as right, and stays what it is.
    certain = (best == tuple(STATES).index("certified")) & verdict.isin(["stood", "refused"])
    verdict = verdict.mask(certain, "proved")
    table = {
        **_head(source, place, "attacks", tuple(VERDICTS)),
        "attacks": [plain(name) for name in names],
        "missing": _missing(source, len(samples)),
        "sample": [int(sample) for sample in samples],
        "class": packed(label),
        "clean": packed(_numbers(by[0]["clean"])),
        "verdict": packed(_places(verdict, tuple(VERDICTS))),
        # Where it was wrong to begin with no attack did anything.
        "worst": packed(np.where(wrong, np.nan, worst)),
        "by": [_columns(course, label, bool(source.draws)) for course in courses],
    }
    if source.draws:
        table["share"] = packed(_numbers(known["clean"]))
    return table | (_beside(pairs, samples, best) if pairs else {})


def proved(source: Source, place: int) -> dict[str, Any]:
    """The table of a run of certificates."""
    found = source.run.certificates.sort_values("sample")
    words = tuple(STATUSES)
    return {
        **_head(source, place, "certificates", words),
        "missing": _missing(source, len(found)),
        "sample": [int(sample) for sample in found["sample"]],
        "class": packed(_numbers(found["label"])),
        "clean": packed(_numbers(found["prediction"])),
        "verdict": packed(_places(found["status"], words)),
        **{
            name: packed(_numbers(found[name]))
            for name in ("radius", "bound", "share", "draws", "forwards", "backwards")
        },
    }


def packed(values: Numbers) -> Any:
    """A column as it is written.

    >>> packed(np.array([0.123456, np.nan, 2.0])), packed(np.array([3.0, 3.0]))
    ([0.1235, None, 2], 3)
    """
    column = [_short(value) for value in values.tolist()]
    return column[0] if len(set(column)) == 1 else column


def _short(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    return int(value) if value.is_integer() else float(f"{value:.{DIGITS}g}")


def _head(source: Source, place: int, kind: str, verdicts: Sequence[str]) -> dict[str, Any]:
    return {
        "run": plain(source.label),
        "place": place,
        "kind": kind,
        "data": plain(source.data),
        "threat": plain(source.fact("threat")),
        "draws": source.draws,
        "classes": [plain(name) for name in source.class_names],
        "verdicts": list(verdicts),
    }


def _missing(source: Source, count: int) -> int | None:
    """Samples without a record, None if nobody knows how many were asked for."""
    if source.run.missing is None:
        return None
    return max(source.run.missing, int(source.run.summary["samples"]) - count)


def _numbers(column: pd.Series) -> Numbers:
    """A column as numbers, nan where it has none; records of detectors mix the two."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def _places(column: pd.Series, names: Sequence[str]) -> Numbers:
    """Where in ``names`` each value is; nan for one that is missing or not among them."""
    found = {name: float(place) for place, name in enumerate(names)}
    return np.array([found.get(value, np.nan) for value in column], dtype=float)


def _course(rows: pd.DataFrame, label: Numbers, names: Sequence[str], draws: int | None) -> _Course:
    prediction, right = _numbers(rows["prediction"]), _numbers(rows["correct"])
    held = right == 1
    if draws:
        held = (prediction == label) | refused(rows, draws).to_numpy(dtype=bool)
    ended, spared = (rows[name].to_numpy(dtype=bool) for name in ("finished", "proved"))
    return _Course(
        prediction,
        right,
        held,
        _numbers(rows["distance"]),
        _numbers(rows["forwards"]),
        _numbers(rows["backwards"]),
        np.select([~ended, spared], [LIMITED, PROVED], DONE).astype(float),
        _places(rows["carried"], names),
    )


def _columns(course: _Course, label: Numbers, random: bool) -> dict[str, Any]:
    """An attack's columns, without those that follow from others."""
    columns = {
        "prediction": packed(course.prediction),
        "distance": packed(course.distance),
        "forwards": packed(course.forwards),
        "backwards": packed(course.backwards),
        "made": packed(course.made),
        "carried": packed(course.carried),
    }
    if ((course.held != (course.prediction == label)) & (course.made != LIMITED)).any():
        columns["held"] = packed(course.held.astype(float))
    if random:
        columns["share"] = packed(course.right)
    return columns


def _beside(pairs: Sequence[Pair], samples: pd.Index, best: Numbers) -> dict[str, Any]:
    """What certificates say of an attacked run's samples; ``best`` as in _best."""
    methods = []
    for pair in pairs:
        proofs = pair.proof.run.certificates.set_index("sample")
        radius = packed(_numbers(proofs["radius"].reindex(samples)))
        methods.append({"method": plain(pair.found.method), "radius": radius})
    return {"states": list(STATES), "bracket": packed(best), "proofs": methods}


def _best(pairs: Sequence[Pair], samples: pd.Index) -> Numbers:
    """The best that certificates say of each sample, as a place in STATES; nan without any."""
    words = tuple(STATES)
    tables = [pair.found.table.set_index("sample") for pair in pairs]
    places = [_places(table["state"].reindex(samples), words) for table in tables]
    said = np.array(places).reshape(len(pairs), len(samples))
    # What one method proves is proved, and what no method was asked about has no state.
    order = ("certified", "broken", "undecided")
    known = [(said == words.index(word)).any(0) for word in order]
    return np.select(known, [float(words.index(word)) for word in order], np.nan)
