"""What came of each sample: one row a sample, from the verdicts and proofs of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

# What the columns of ``Run.samples`` hold; what is missing is NaN or NA.
SAMPLES: Mapping[str, str] = {
    "sample": "index of the sample in its split",
    "label": "its class",
    "clean": "share of right decisions on the sample itself: 0 or 1 unless the defence is random",
    "robust": "the same in the worst case over all attacks; 0 where it is not finished",
    "worst": "the attack whose proposal is the worst; missing where none was worse than the sample",
    "distance": "of the worst proposal from the sample, in the norm of the threat; 0 without one",
    "finished": "whether no attack that was stopped could have found a worse one",
    "verdict": "see verdicts.VERDICTS; of a run of certificates the status of the proof",
    "radius": "what is proved, in the norm of the threat; only of a run of certificates",
}
# What the columns of ``Run.attacks`` hold.
ATTACKS: Mapping[str, str] = {
    "attack": "its name in this run",
    "accuracy": "share of samples that it leaves right; in a cascade those before it count",
    "low": "lower end of the 95 % interval",
    "high": "upper end",
    "correct": "how many samples that are; of a random defence a sum of shares",
    "unfinished": "samples that a budget ended it on, counted as not right",
    "forwards": "forward passes over all samples",
    "backwards": "backward passes, likewise",
    "passes": "the sum of both",
    "seconds": "wall-clock time",
    "settings": "all of its settings",
}
# What can come of a sample under attack. Of a random defence the majority of draws decides.
VERDICTS: Mapping[str, str] = {
    "proved": "right as it is, and proved right for all that the threat allows",
    "stood": "right as it is and after each attack that was run, which is no proof",
    "refused": "right as it is and after each attack, where a detector's refusal counts as right",
    "unfinished": "nothing has broken it, and an attack on it was ended by a limit",
    "broken": "right as it is, and wrong under attack",
    "wrong without attack": "wrong, or refused, before anything was changed",
}
# Controls by name, of this package and of the libraries; see attacks.base.Attack.control.
CONTROL = re.compile(r"noise(:.*)?|foolbox:\w*Additive.*|torchattacks:(GN|VANILA)(:.*)?", re.DOTALL)


def verdicts_of(records: pd.DataFrame, random: bool) -> pd.DataFrame:
    """One row per sample, by its index: label, and the shares ``clean`` and ``robust`` in [0, 1].

    ``robust`` of what is not ``finished`` is 0. A sample that no attack made worse stands as it is.
    The worst case of a deterministic defence is the minimum over attacks. That of a ``random`` one
    is the proposal the run selected on other draws: a minimum of noisy shares would be too low.
    """
    if records.empty:
        return pd.DataFrame({"label": [], "clean": [], "robust": [], "finished": []})
    samples = records.groupby("sample", sort=True)
    clean = samples["clean_correct"].first().astype(float)
    # What no attack came to the end of has no verdict.
    right = pd.Series(
        records["correct"].to_numpy(dtype=float, na_value=float("nan")), index=records.index
    )
    if random:
        chosen = records["selected"].astype(bool)
        robust = right[chosen].set_axis(records.loc[chosen, "sample"]).reindex(clean.index)
        robust = robust.fillna(clean)
    else:
        robust = right.groupby(records["sample"]).min().fillna(clean).clip(upper=clean)
    finished = samples["finished"].all() | (robust == 0)
    return pd.DataFrame(
        {
            "label": samples["label"].first(),
            "clean": clean,
            "robust": robust.where(finished, 0.0),
            "finished": finished,
        }
    )


def samples_of(
    records: pd.DataFrame, certificates: pd.DataFrame, draws: int | None
) -> pd.DataFrame:
    """One row per sample, in ascending order; see SAMPLES.

    ``draws`` are those of a random defence's judge, None for a deterministic one. Of a run of
    certificates ``clean`` is whether the proof speaks of the label, and nothing is known of an
    attack.
    """
    if not records.empty:
        return _attacked(records, draws)
    if not certificates.empty:
        return _proved(certificates)
    kinds = {"sample": "int64", "label": "int64", "finished": "bool"}
    kinds |= dict.fromkeys(("worst", "verdict"), "str")
    return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, "float64")) for name in SAMPLES})


def _attacked(records: pd.DataFrame, draws: int | None) -> pd.DataFrame:
    known = verdicts_of(records, draws is not None)
    worst = records[records["selected"]].set_index("sample").reindex(known.index)
    by_sample = records.assign(refused=refused(records, draws)).groupby("sample", sort=True)
    clean, robust = known["clean"].to_numpy(), known["robust"].to_numpy()
    before, after = clean == 1, robust > 0
    if draws is not None:
        held = (records["prediction"] == records["label"]) | refused(records, draws)
        chosen = held[records["selected"]].set_axis(records.loc[records["selected"], "sample"])
        before = (by_sample["clean"].first() == known["label"]).to_numpy()
        stood = chosen.reindex(known.index).fillna(pd.Series(before, index=known.index))
        after = stood.to_numpy(dtype=bool)
    ended = by_sample["finished"].all().to_numpy()
    certain = known["finished"].to_numpy() | (draws is not None)
    is_proved, is_refused = (by_sample[name].any().to_numpy() for name in ("proved", "refused"))
    verdict = np.select(
        [~before, ~after & certain, is_proved, ~ended, is_refused],
        ["wrong without attack", "broken", "proved", "unfinished", "refused"],
        "stood",
    )
    return pd.DataFrame(
        {
            "sample": known.index.to_numpy(),
            "label": known["label"].to_numpy(),
            "clean": clean,
            "robust": robust,
            "worst": worst["attack"].to_numpy(),
            "distance": worst["distance"].fillna(0.0).to_numpy(),
            "finished": known["finished"].to_numpy(),
            "verdict": pd.array(verdict, dtype="str"),
            "radius": np.nan,
        }
    )


def refused(records: pd.DataFrame, draws: int | None) -> pd.Series:
    """Which proposals a detector refused so that they count as right, by record.

    ``draws`` are those of a random defence's judge. Its majority decides, as in summary.json: it
    has refused where more draws were right than voted for the label.
    """
    right = records["correct"].to_numpy(dtype=float, na_value=0.0)
    away = records["prediction"].isna()
    if draws is None:
        return away & (right == 1)
    voted = [
        votes[label] if votes is not None else draws
        for votes, label in zip(records["votes"], records["label"], strict=True)
    ]
    return away & (np.rint(right * draws) > np.array(voted))


def _proved(certificates: pd.DataFrame) -> pd.DataFrame:
    table = certificates.sort_values("sample", ignore_index=True)
    right = (table["prediction"] == table["label"]).fillna(False).astype(float)
    return pd.DataFrame(
        {
            "sample": table["sample"],
            "label": table["label"],
            "clean": right,
            "robust": np.nan,
            "worst": None,
            "distance": np.nan,
            "finished": True,
            "verdict": table["status"],
            "radius": table["radius"],
        }
    )


def searches(attacks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The attacks of a summary that are more than a control, which leaves nearly all standing."""
    return [attack for attack in attacks if not CONTROL.fullmatch(str(attack.get("name")))]


def attacks_of(attacks: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per attack of a summary, in the order they were run; see ATTACKS."""
    rows = [
        {
            **{name: attack.get(name) for name in ATTACKS},
            "attack": attack["name"],
            "passes": attack.get("forwards", 0) + attack.get("backwards", 0),
        }
        for attack in attacks
    ]
    table = pd.DataFrame(rows, columns=list(ATTACKS))
    if rows:
        return table
    kinds = dict.fromkeys(("accuracy", "low", "high", "seconds"), "float64")
    kinds |= dict.fromkeys(("correct", "unfinished", "forwards", "backwards", "passes"), "int64")
    return table.astype(kinds | {"attack": "str"})
