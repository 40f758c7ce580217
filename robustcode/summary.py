"""The numbers of a run, recomputed from its records: what summary.json says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustcode.statistics import any_of, clustered, proportion

# The tries for which an adversary's any-of-k success is printed, where there are draws enough.
TRIES = (5, 20)
# How checks of the evaluation end, the gravest first, and how one and several of them are told.
OUTCOMES = {
    "failure": ("failure", "failures"),
    "warning": ("warning", "warnings"),
    "untested": ("untested", "untested"),
    "info": ("info", "infos"),
    "passed": ("passed", "passed"),
    "not applicable": ("does not apply", "do not apply"),
}
# In a finding, between what was found and the attack that was added for it; see repair.answered.
ANSWERED = "; answered: "


def summarise(
    records: pd.DataFrame,
    attacks: Sequence[Mapping[str, Any]],
    draws: int | None,
    shards: Sequence[Mapping[str, Any]],
    cascade: bool = False,
    samples: int | None = None,
    detector: bool = False,
) -> dict[str, Any]:
    """The contract's keys from records, attacks (name, settings, control) and manifest's shards.

    ``draws`` is None for a deterministic defence. In a ``cascade`` an attack's accuracy is what is
    left ``after`` it and those before it, controls aside; but for a random defence it is the
    attack's own, since few samples are left without any chance and the others are given to all.
    Worst case per sample is over the attacks and the sample itself: doing nothing is also something
    an adversary may do.

    ``samples`` were asked for, None if no more than there are records of. Where a budget ended an
    attack, ``unfinished`` counts the samples it says nothing about: ``accuracy`` and ``correct``
    count those that were finished and right, ``accuracy_high`` counts the unfinished as right;
    ``low`` and ``high`` are the outer ends of the intervals around the two. ``clean`` is over the
    ``samples`` that were looked at.

    Of a ``detector``, decisions by which it refused a perturbed input are among the right ones, and
    those by which it refused a clean one among the wrong.
    """
    by_sample = records.groupby("sample", sort=True)
    first = by_sample.first()
    missing = 0 if samples is None else samples - len(first)
    worst = _worst(records, first)
    costs = [shard["cost"] for shard in shards]
    attack_seconds = {
        a["name"]: sum(c["attack_seconds"][a["name"]] for c in costs) for a in attacks
    }
    rows = []
    after = False
    for attack in attacks:
        after = after or (cascade and not attack["control"])
        mine = records[records.attack == attack["name"]]
        rows.append(
            {
                "name": attack["name"],
                "settings": dict(attack["settings"]),
                "after": after and draws is None,
                **_bounded(mine.correct, mine.finished, missing, draws),
                "forwards": int(mine.forwards.sum()),
                "backwards": int(mine.backwards.sum()),
                "seconds": round(attack_seconds[attack["name"]], 3),
            }
        )
    robust = _bounded(worst.correct, worst.finished, missing, draws)
    return {
        "schema": 1,
        "samples": len(first) + missing,
        "unfinished": robust["unfinished"],
        "proved": int(first.proved.sum()),
        "clean": {**_accuracy(first.clean_correct, draws), "samples": len(first)},
        "robust": robust,
        "attacks": rows,
        "cascade": cascade,
        "rebatched": _rebatched(records, draws),
        "stochastic": None if draws is None else _stochastic(worst, first, draws, missing),
        "detector": _detector(worst, first, draws) if detector else None,
        "certified": None,
        "findings": [],
        "cost": {
            "forwards": int(records.forwards.sum()) + sum(c["judge_forwards"] for c in costs),
            "backwards": int(records.backwards.sum()),
            "seconds": round(sum(c["seconds"] for c in costs), 3),
            "cpu_seconds": round(sum(c["cpu_seconds"] for c in costs), 3),
            "peak_memory_mb": max(c["peak_memory_mb"] for c in costs),
        },
    }


def _rebatched(records: pd.DataFrame, draws: int | None) -> dict[str, Any] | None:
    """What is left of each sample's worst proposal among clean mates, where batches were attacked.

    The untouched sample, where no proposal was worse, is not among them.
    """
    chosen = records[records.selected & records.rebatched.notna()]
    if chosen.empty:
        return None
    return {**_accuracy(chosen.rebatched.astype(float), draws), "samples": len(chosen)}


def tally(statuses: Iterable[str]) -> str:
    """How many checks ended how, the gravest first; an outcome that is not known comes first.

    >>> tally(["passed", "warning", "passed"])
    '1 warning, 2 passed'
    """
    counts = Counter(statuses)
    unknown = [f"{counts[status]} {status}" for status in sorted(set(counts) - set(OUTCOMES))]
    told = [f"{counts[s]} {words[counts[s] > 1]}" for s, words in OUTCOMES.items() if counts[s]]
    return ", ".join([*unknown, *told])


def unfinished(records: pd.DataFrame) -> set[int]:
    """The samples that some attack was not finished on and that none has broken."""
    worst = _worst(records, records.groupby("sample", sort=True).first())
    return set(worst.index[~worst.finished])


def _worst(records: pd.DataFrame, first: pd.DataFrame) -> pd.DataFrame:
    """Each sample's worst input: the selected proposal's record, or the sample itself.

    ``finished`` is whether no attack that was stopped could have found a worse one.
    """
    untouched = first[["label", "clean", "clean_correct", "clean_votes"]].rename(
        columns={"clean": "prediction", "clean_correct": "correct", "clean_votes": "votes"}
    )
    chosen = records[records.selected].set_index("sample")[list(untouched.columns)]
    worst = pd.concat([chosen, untouched[~untouched.index.isin(chosen.index)]]).sort_index()
    ended = records.groupby("sample", sort=True).finished.all()
    return worst.assign(finished=ended | (worst.correct.astype(float) == 0))


def _bounded(
    correct: pd.Series, finished: pd.Series, missing: int, draws: int | None
) -> dict[str, Any]:
    """Accuracy over finished and unfinished samples, and ``missing`` more without a record.

    An unfinished one is at best as right as what was found of it, which may be nothing.
    """
    done = finished.to_numpy(dtype=bool)
    best = correct.to_numpy(dtype=float, na_value=1.0)
    least = pd.Series(np.concatenate([np.where(done, best, 0.0), np.zeros(missing)]))
    most = pd.Series(np.concatenate([best, np.ones(missing)]))
    highest = _accuracy(most, draws)
    return {
        **_accuracy(least, draws),
        "accuracy_high": highest["accuracy"],
        "high": highest["high"],
        "unfinished": int((~done).sum()) + missing,
    }


def _accuracy(correct: pd.Series, draws: int | None) -> dict[str, Any]:
    """Accuracy with its 95 % interval: exact if deterministic, clustered by sample if not."""
    if draws is None:
        right = int(correct.sum())
        value, low, high = proportion(right, len(correct))
        return {"accuracy": value, "low": low, "high": high, "correct": right}
    shares = correct.to_numpy(dtype=float)
    value, low, high = clustered(shares, draws)
    return {"accuracy": value, "low": low, "high": high, "correct": round(float(shares.sum()), 9)}


def _stochastic(
    worst: pd.DataFrame, first: pd.DataFrame, draws: int, missing: int
) -> dict[str, Any]:
    """The ways to read the votes, kept apart: expected, majority, and any of k tries.

    ``any_of[k]`` is the accuracy left to an adversary who may try k times: the chance that none
    of k draws is wrong.
    """
    clean = first.assign(finished=True, correct=first.clean_correct)

    def of(table: pd.DataFrame, prediction: str, votes: str, missing: int) -> dict[str, Any]:
        voted = np.array([v[label] for v, label in zip(table[votes], table.label, strict=True)])
        # More than these only where a detector's refusals count as well.
        right = np.rint(table.correct.to_numpy(dtype=float) * draws)
        refused = table[prediction].isna() & (right > voted)
        majority = ((table[prediction] == table.label) | refused).astype(int)

        def read(values: Any, draws: int | None) -> dict[str, Any]:
            series = pd.Series(values, index=table.index)
            return _bounded(series, table.finished, missing, draws)

        return {
            "expected": read(right / draws, draws),
            "majority": read(majority, None),
            "any_of": {
                str(k): read([any_of(int(r), draws, k) for r in right], draws)
                for k in TRIES
                if k <= draws
            },
        }

    return {
        "draws": draws,
        **of(worst, "prediction", "votes", missing),
        "clean": of(clean, "clean", "clean_votes", 0),
    }


def _detector(worst: pd.DataFrame, first: pd.DataFrame, draws: int | None) -> dict[str, float]:
    """Shares of decisions by which a detector refused.

    ``clean_refused`` of the samples themselves, all of them wrong; ``attacked_refused`` of each
    sample's worst input, by which it held: the robust accuracy less this is what it still
    classifies. An untouched sample that stands for the worst input is not among these.
    """
    if draws is None:
        clean = first.clean.isna().to_numpy()
        attacked = (worst.prediction.isna() & worst.correct.astype(bool)).to_numpy()
    else:
        clean = np.array([1 - sum(votes) / draws for votes in first.clean_votes])
        voted = [v[label] / draws for v, label in zip(worst.votes, worst.label, strict=True)]
        attacked = worst.correct.to_numpy(dtype=float) - np.array(voted)
    return {
        "clean_refused": round(float(clean.mean()), 9),
        "attacked_refused": round(float(attacked.mean()), 9),
    }
