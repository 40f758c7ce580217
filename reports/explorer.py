"""Every sample of a report's runs as data that a page filters, and what the words in it mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from robustcode.reports.escape import plain
from robustcode.reports.proofs import Pair
from robustcode.reports.table import Source

DIGITS = 4  # significant digits of a distance: pages are not for computing on
# What came of a sample under attack, and what each says.
ROBUST, REFUSED, UNFINISHED, BROKEN, WRONG = range(5)
ATTACKED = {
    "robust": "it is right as it is, and right after each attack that was run",
    "refused": "the same, but at least one attack's proposal was refused by the detector, which "
    "counts as right",
    "unfinished": "nothing has broken it, and an attack on it was ended by a limit or has no record",
    "broken": "it is right as it is, and wrong under an attack",
    "wrong without attack": "it is wrong, or refused, before anything was changed",
}
# The same for certificates, in the words of their files.
PROVED = {
    "certified": "proved right for all that the threat allows",
    "undecided": "right as far as the method looked, without a proof",
    "wrong": "the class that the proof speaks of is not the label",
    "abstained": "the method speaks of no class",
}
BRACKET = {
    "certified": "a run of certificates in this report proves it right for all the threat allows",
    "undecided": "neither proved nor broken",
    "broken": "no draw or decision was right under attack, or it was wrong without one",
}
# What an attack did on a sample; the first of these needs no mention.
DONE = ("", "unfinished", "not attacked: proved robust", "no record")


@dataclass(frozen=True)
class Explorer:
    """The samples of a page's runs.

    Attributes:
        runs: a table for each run, in columns: one value where all samples have the same, else a
            list with a value a sample. A code stands for a name in one of the run's lists.
        notes: what its words mean.
    """

    runs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    @property
    def data(self) -> str:
        """The runs as JSON without a space too many."""
        return json.dumps({"runs": self.runs}, allow_nan=False, separators=(",", ":"))

    @property
    def embedded(self) -> Markup:
        """The same for a script element of HTML."""
        return embedded(self.data)


def embedded(text: str) -> Markup:
    r"""JSON as it may stand in a script element: nothing in it closes the element or opens another.

    >>> print(embedded('["</script>"]'))
    ["\u003c/script\u003e"]
    """
    marks = "<>&\u2028\u2029"
    return Markup(text.translate({ord(mark): f"\\u{ord(mark):04x}" for mark in marks}))


def explorer_of(found: Sequence[Source], pairs: Sequence[Pair] = ()) -> Explorer | None:
    """The samples of all runs that have records or certificates; None if none has.

    ``pairs`` are the runs of attacks that certificates speak of.
    """
    runs, notes = [], []
    for place, source in enumerate(found, 1):
        if source.proves and not source.run.certificates.empty:
            runs.append(_proved(source, place))
        elif not source.run.records.empty:
            own = [pair for pair in pairs if pair.attack is source]
            runs.append(_attacked(source, place, own))
    if not runs:
        return None
    kinds = {run["kind"] for run in runs}
    if "attacks" in kinds:
        notes += _attack_notes(found, bracketed=any("bracket" in run for run in runs))
    if "certificates" in kinds:
        notes.append(f"Of certificates: {_defined(PROVED)}. A radius is in the threat's norm.")
    notes.append(
        f"Distances and radii have {DIGITS} significant digits; RUN/records/*.jsonl and "
        "RUN/certificates/*.jsonl hold all of them."
    )
    return Explorer(tuple(runs), tuple(notes))


def _attack_notes(found: Iterable[Source], bracketed: bool) -> list[str]:
    notes = [
        f"{_defined(ATTACKED).capitalize()}. The worst attack of a sample is the one whose "
        "proposal stands for it in the worst case, and the distance is that proposal's, in the "
        "threat's norm. Broken by an attack means right without it and wrong under it."
    ]
    if any(source.draws for source in found):
        notes.append(
            "Of a random defence right means right in the majority of draws; under attack it is "
            "the proposal that was chosen as the worst on other draws. The share says in how many."
        )
    if bracketed:
        notes.append(f"Between certificate and attack: {_defined(BRACKET)}.")
    return notes


def _defined(words: dict[str, str]) -> str:
    return "; ".join(f"{word}: {meaning}" for word, meaning in words.items())


def _attacked(source: Source, place: int, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The table of a run of attacks."""
    records, verdicts = source.run.records, source.verdicts
    samples = verdicts.index
    listed = dict.fromkeys(str(attack["name"]) for attack in source.attacks)
    names = list(listed | dict.fromkeys(records["attack"].astype(str)))
    first = records.drop_duplicates("sample").set_index("sample").reindex(samples)
    by = [_by(records[records["attack"] == name], samples, names) for name in names]
    label = verdicts["label"].to_numpy(dtype=int)
    clean = _codes(first["clean"])
    share = verdicts["clean"].to_numpy(dtype=float)
    chosen = records[records["selected"].astype(bool)].drop_duplicates("sample")
    worst = chosen.set_index("sample")["attack"].reindex(samples).map(names.index, "ignore")
    worst = worst.fillna(-1).to_numpy(dtype=int)
    before = clean == label if source.draws else share == 1
    code = _verdict(verdicts, by, worst, before, label)
    table = _head(source, place, "attacks", tuple(ATTACKED)) | {
        "attacks": [plain(name) for name in names],
        "missing": max(0, int(source.run.summary.get("samples") or 0) - len(samples)),
        "sample": samples.tolist(),
        "class": packed(label),
        "clean": packed(clean),
        "verdict": packed(code),
        # Where nothing was right to begin with, no attack did anything.
        "worst": packed(np.where(code == WRONG, -1, worst)),
        "by": [_column(one, label, source.draws) for one in by],
    }
    if source.draws:
        table["share"] = packed(rounded(share))
    if pairs:
        table |= _proofs(pairs, samples)
    return table


def _by(mine: pd.DataFrame, samples: pd.Index, names: Sequence[str]) -> dict[str, Any]:
    """What one attack did on each sample, in arrays."""
    rows = mine.drop_duplicates("sample").set_index("sample").reindex(samples)
    seen = rows["attack"].notna().to_numpy()
    finished = rows["finished"].fillna(True).to_numpy(dtype=bool)
    proved = rows["proved"].fillna(False).to_numpy(dtype=bool)
    carried = [names.index(name) if name in names else -1 for name in rows["carried"]]
    return {
        "prediction": _codes(rows["prediction"]),
        "right": rows["correct"].to_numpy(dtype=float, na_value=np.nan),
        "distance": rows["distance"].to_numpy(dtype=float, na_value=np.nan),
        "forwards": _codes(rows["forwards"]),
        "backwards": _codes(rows["backwards"]),
        "state": np.select([~seen, ~finished, proved], [3, 1, 2], 0),
        "carried": np.array(carried),
    }


def _verdict(
    verdicts: pd.DataFrame,
    by: Sequence[dict[str, Any]],
    worst: np.ndarray,
    before: np.ndarray,
    label: np.ndarray,
) -> np.ndarray:
    """The code of each sample's verdict; ``before`` is whether it is right without attack."""
    held = np.array([_held(one, label) for one in by])
    refused = np.array([(one["prediction"] < 0) & _held(one, label) for one in by])
    open_ones = np.array([(one["state"] == 1) | (one["state"] == 3) for one in by])
    # The untouched sample stands where nothing was chosen.
    after = np.where(worst < 0, before, np.take_along_axis(held, worst[None], 0)[0])
    raise NotImplementedError


def _held(one: dict[str, Any], label: np.ndarray) -> np.ndarray:
    raise NotImplementedError
