"""The numbers of a run, recomputed from its records: what summary.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustcode.statistics import any_of, clustered, proportion

# The tries for which an adversary's any-of-k success is printed, where there are draws enough.
TRIES = (5, 20)


def summarise(
    records: pd.DataFrame,
    attacks: Sequence[Mapping[str, Any]],
    draws: int | None,
    shards: Sequence[Mapping[str, Any]],
    cascade: bool = False,
) -> dict[str, Any]:
    """The contract's keys from records, attacks (name, settings) and the manifest's shards.

    ``draws`` is None for a deterministic defence. In a ``cascade`` an attack's accuracy is what is
    left after it and those before it. Worst case per sample is over the attacks and
    the sample itself: doing nothing is also something an adversary may do.
    """
    by_sample = records.groupby("sample", sort=True)
    first = by_sample.first()
    worst = _worst(records, first)
    costs = [shard["cost"] for shard in shards]
    attack_seconds = {
        a["name"]: sum(c["attack_seconds"][a["name"]] for c in costs) for a in attacks
    }
    rows = []
    for attack in attacks:
        mine = records[records.attack == attack["name"]]
        rows.append(
            {
                "name": attack["name"],
                "settings": dict(attack["settings"]),
                **_accuracy(mine.correct, draws),
                "forwards": int(mine.forwards.sum()),
                "backwards": int(mine.backwards.sum()),
                "seconds": round(attack_seconds[attack["name"]], 3),
            }
        )
    return {
        "schema": 1,
        "samples": len(first),
        "clean": _accuracy(first.clean_correct, draws),
        "robust": _accuracy(worst.correct, draws),
        "attacks": rows,
        "cascade": cascade,
        "stochastic": None if draws is None else _stochastic(worst, first, draws),
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


def _worst(records: pd.DataFrame, first: pd.DataFrame) -> pd.DataFrame:
    """Each sample's worst input: the selected proposal's record, or the sample itself."""
    untouched = first[["label", "clean", "clean_correct", "clean_votes"]].rename(
        columns={"clean": "prediction", "clean_correct": "correct", "clean_votes": "votes"}
    )
    chosen = records[records.selected].set_index("sample")[list(untouched.columns)]
    return pd.concat([chosen, untouched[~untouched.index.isin(chosen.index)]]).sort_index()


def _accuracy(correct: pd.Series, draws: int | None) -> dict[str, Any]:
    """Accuracy with its 95 % interval: exact if deterministic, clustered by sample if not."""
    if draws is None:
        right = int(correct.sum())
        value, low, high = proportion(right, len(correct))
        return {"accuracy": value, "low": low, "high": high, "correct": right}
    shares = correct.to_numpy(dtype=float)
    value, low, high = clustered(shares, draws)
    return {"accuracy": value, "low": low, "high": high, "correct": round(float(shares.sum()), 9)}


def _stochastic(worst: pd.DataFrame, first: pd.DataFrame, draws: int) -> dict[str, Any]:
    """The ways to read the votes, kept apart: expected, majority, and any of k tries.

    ``any_of[k]`` is the accuracy left to an adversary who may try k times: the chance that none
    of k draws is wrong.
    """

    def of(table: pd.DataFrame, prediction: str, votes: str) -> dict[str, Any]:
        majority = (table[prediction] == table.label).astype(int)
        right = np.array([v[label] for v, label in zip(table[votes], table.label, strict=True)])
        tries = [k for k in TRIES if k <= draws]
        return {
            "expected": _accuracy(pd.Series(right / draws), draws),
            "majority": _accuracy(majority, None),
            "any_of": {
                str(k): _accuracy(pd.Series([any_of(int(r), draws, k) for r in right]), draws)
                for k in tries
            },
        }

    return {
        "draws": draws,
        **of(worst, "prediction", "votes"),
        "clean": of(first, "clean", "clean_votes"),
    }
