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
from robustcode.reports.proofs import Pair
from robustcode.reports.table import Source

DIGITS = 4  # significant digits of what is not a whole number: a page is not for computing on
# What came of a sample under attack, and what each says.
ROBUST, REFUSED, UNFINISHED, BROKEN, WRONG = range(5)
VERDICTS = {
    "robust": "right as it is, and right after each attack that was run",
    "refused": "likewise, but a detector refused what an attack proposed, which counts as right",
    "unfinished": "nothing has broken it, and an attack on it was ended by a limit or left no "
    "record",
    "broken": "right as it is, and wrong under attack",
    "wrong without attack": "wrong, or refused, before anything was changed",
}
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
DONE, LIMITED, PROVED, ABSENT = range(4)
MADE = ("", "unfinished", "not attacked, proved robust", "no record")

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
    records, verdicts = source.run.records, source.verdicts
    samples = verdicts.index
    listed = dict.fromkeys(str(attack["name"]) for attack in source.attacks)
    names = list(listed | dict.fromkeys(records["attack"].astype(str)))
    first = records.drop_duplicates("sample").set_index("sample").reindex(samples)
    label, clean = _numbers(verdicts["label"]), _numbers(first["clean"])
    courses = [
        _course(records[records["attack"] == name], samples, label, names, source.draws)
        for name in names
    ]
    chosen = records[records["selected"].astype(bool)].drop_duplicates("sample")
    worst = _places(chosen.set_index("sample")["attack"].reindex(samples), names)
    before = clean == label if source.draws else _numbers(verdicts["clean"]) == 1
    verdict = _verdict(verdicts, courses, worst, before, bool(source.draws))
    table = {
        **_head(source, place, "attacks", tuple(VERDICTS)),
        "attacks": [plain(name) for name in names],
        "missing": max(0, int(source.run.summary.get("samples") or 0) - len(samples)),
        "sample": [int(sample) for sample in samples],
        "class": packed(label),
        "clean": packed(clean),
        "verdict": packed(verdict),
        # Where it was wrong to begin with no attack did anything.
        "worst": packed(np.where(verdict == WRONG, np.nan, worst)),
        "by": [_columns(course, label, bool(source.draws)) for course in courses],
    }
    if source.draws:
        table["share"] = packed(_numbers(verdicts["clean"]))
    return table | (_beside(pairs, samples) if pairs else {})


def proved(source: Source, place: int) -> dict[str, Any]:
    """The table of a run of certificates."""
    found = source.run.certificates.drop_duplicates("sample").sort_values("sample")
    words = tuple(STATUSES)
    return {
        **_head(source, place, "certificates", words),
        "missing": max(0, int(source.run.summary.get("samples") or 0) - len(found)),
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
    classes = source.run.manifest.get("class_names")
    return {
        "run": plain(source.label),
        "place": place,
        "kind": kind,
        "data": plain(source.fact("data")),
        "threat": plain(source.fact("threat")),
        "draws": source.draws,
        "classes": [plain(str(name)) for name in classes] if isinstance(classes, list) else [],
        "verdicts": list(verdicts),
    }


def _numbers(column: pd.Series) -> Numbers:
    """A column as numbers, nan where it has none; records of detectors mix the two."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def _places(column: pd.Series, names: Sequence[str]) -> Numbers:
    """Where in ``names`` each value is; nan for one that is missing or not among them."""
    found = {name: float(place) for place, name in enumerate(names)}
    return np.array([found.get(value, np.nan) for value in column], dtype=float)


def _course(
    mine: pd.DataFrame, samples: pd.Index, label: Numbers, names: Sequence[str], draws: int | None
) -> _Course:
    rows = mine.drop_duplicates("sample").set_index("sample").reindex(samples)
    prediction, right = _numbers(rows["prediction"]), _numbers(rows["correct"])
    held = right == 1
    if draws:
        # As in summary.json: a refusal holds where more draws were right than voted for the label.
        voted = [
            votes[int(own)] if isinstance(votes, tuple | list) else np.inf
            for votes, own in zip(rows["votes"], label, strict=True)
        ]
        refused = np.isnan(prediction) & (np.rint(right * draws) > np.array(voted))
        held = (prediction == label) | refused
    seen = rows["attack"].notna().to_numpy()
    limited = (rows["finished"] == False).to_numpy(dtype=bool)  # noqa: E712  what is absent is not
    spared = (rows["proved"] == True).to_numpy(dtype=bool)  # noqa: E712  likewise
    return _Course(
        prediction,
        right,
        held,
        _numbers(rows["distance"]),
        _numbers(rows["forwards"]),
        _numbers(rows["backwards"]),
        np.select([~seen, limited, spared], [ABSENT, LIMITED, PROVED], DONE).astype(float),
        _places(rows["carried"], names),
    )


def _verdict(
    verdicts: pd.DataFrame,
    courses: Sequence[_Course],
    worst: Numbers,
    before: Truths,
    random: bool,
) -> Numbers:
    """The place in VERDICTS of each sample; ``before`` is whether it is right without attack."""
    held = np.array([course.held for course in courses])
    made = np.array([course.made for course in courses])
    known = (made == DONE) | (made == PROVED)
    refused = known & held & np.isnan([course.prediction for course in courses])
    after = _numbers(verdicts["robust"]) > 0
    if random:
        place = np.nan_to_num(worst).astype(int)
        after = np.where(np.isnan(worst), before, held[place, np.arange(len(worst))])
    finished = verdicts["finished"].to_numpy(dtype=bool)
    broken = ~after & (finished | random)
    return np.select(
        [~before, broken, ~known.all(0), refused.any(0)],
        [WRONG, BROKEN, UNFINISHED, REFUSED],
        ROBUST,
    ).astype(float)


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
    if (course.held != (course.prediction == label)).any():
        columns["held"] = packed(course.held.astype(float))
    if random:
        columns["share"] = packed(course.right)
    return columns


def _beside(pairs: Sequence[Pair], samples: pd.Index) -> dict[str, Any]:
    """What certificates say of an attacked run's samples, and the best of it for each."""
    words = tuple(STATES)
    methods, every = [], []
    for pair in pairs:
        table = pair.found.table.set_index("sample")
        every.append(_places(table["state"].reindex(samples), words))
        proofs = pair.proof.run.certificates.drop_duplicates("sample").set_index("sample")
        radius = packed(_numbers(proofs["radius"].reindex(samples)))
        methods.append({"method": plain(pair.found.method), "radius": radius})
    # An earlier state says more; what no method was asked about has none.
    said = np.array(every)
    best = np.where(np.isnan(said), np.inf, said).min(0)
    certified = (said == 0).any(0)
    broken = (said == 2).any(0) & ~certified
    return {"states": list(words), "bracket": packed(np.where(broken, 2, best)), "proofs": methods}
