"""The numbers of a run of certificates, recomputed from them: what summary.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binom

from robustcode.statistics import clustered, proportion
from robustcode.wording import counted

# How sure it is that no more certificates are false than is said.
SURE = 0.99
# Two ways to write one radius may differ in the last digits.
SAME = 1 - 1e-12


def certified_of(
    certificates: pd.DataFrame,
    method: str,
    subject: str,
    threat: str,
    eps: float,
    radii: Sequence[float] = (),
) -> dict[str, Any]:
    """The contract's key ``certified``, from certificates as certificates.table_of gives them.

    ``accuracy`` is the share of samples that are proved right at ``eps``, ``low`` and ``high`` its
    interval over the draw of samples. Of each sample a random method proves something false with
    probability ``alpha`` at most; with probability SURE no more than ``false_at_most`` of those
    counted are false. All samples could have been, also those of which nothing was proved: where
    few are, those few may be the false ones.
    ``expected`` is from below the accuracy that is expected of a random defence: the mean share of
    draws that are proved, with its interval over samples and draws, or where their number was not
    fixed beforehand the mean of lower bounds on it. ``curve`` has certified accuracy at each of
    ``radii``.
    """
    count = len(certificates)
    right = (certificates.prediction == certificates.label).fillna(False).astype(bool)

    def at(radius: float) -> dict[str, Any]:
        proved = int((right & (certificates.radius >= radius * SAME)).sum())
        value, low, high = proportion(proved, count)
        return {"accuracy": value, "low": low, "high": high, "correct": proved}

    here = at(eps)
    alpha = float(certificates.alpha.max())
    abstained = int(certificates.prediction.isna().sum())
    held = certificates["held"].notna().all()
    shares = certificates["held" if held else "share"]
    expected = None
    if shares.notna().any():
        draws = int(certificates.draws.dropna().max())
        value, low, high = clustered(shares.fillna(0.0).to_numpy(), draws)
        expected = {"accuracy": value, "low": low, "high": high}
    return {
        "method": method,
        "subject": subject,
        "threat": threat,
        "samples": count,
        **here,
        "abstained": abstained,
        "undecided": int(right.sum()) - here["correct"],
        "wrong": count - int(right.sum()) - abstained,
        "alpha": alpha,
        "false_at_most": min(here["correct"], int(binom.ppf(SURE, count, alpha))) if alpha else 0,
        "expected": expected,
        "curve": [{"radius": radius, **at(radius)} for radius in radii],
        "mean_radius": float(certificates.radius.where(right, 0.0).mean()),
        "draws": None if certificates.draws.isna().all() else int(certificates.draws.sum()),
        "forwards": int(certificates.forwards.sum()),
        "backwards": int(certificates.backwards.sum()),
    }


def summarise_proofs(
    certificates: pd.DataFrame, shards: Sequence[Mapping[str, Any]], **named: Any
) -> dict[str, Any]:
    """The contract's keys from certificates and the manifest's shards.

    ``named`` is what ``certified_of`` takes. ``clean`` counts the samples whose class, as the
    method found it, is the label; there was no attack, so nothing is said of ``robust``.
    """
    count = len(certificates)
    right = int((certificates.prediction == certificates.label).fillna(False).sum())
    value, low, high = proportion(right, count)
    costs = [shard["cost"] for shard in shards]
    certified = certified_of(certificates, **named)
    seconds = sum(cost["seconds"] for cost in costs)
    return {
        "schema": 1,
        "samples": count,
        "unfinished": 0,
        "proved": 0,
        "clean": {"accuracy": value, "low": low, "high": high, "correct": right, "samples": count},
        "robust": None,
        "attacks": [],
        "cascade": False,
        "rebatched": None,
        "stochastic": None,
        "certified": certified,
        "findings": [],
        "cost": {
            "forwards": certified["forwards"],
            "backwards": certified["backwards"],
            "seconds": round(seconds, 3),
            "cpu_seconds": round(sum(cost["cpu_seconds"] for cost in costs), 3),
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs),
        },
    }


def told(radius: float) -> str:
    """A radius as a person wrote it: in units of 1/255 where six digits do not hold it.

    >>> told(1 / 255), told(0.2)
    ('1/255', '0.2')
    """
    steps = round(255 * radius)
    short = f"{radius:g}"
    return f"{steps}/255" if float(short) != radius and steps / 255 == radius else short


def outcomes_of(certified: Mapping[str, Any]) -> str:
    """What came of all samples, in a sentence; ``certified`` is that of a run of certificates."""
    return (
        f"Of {counted(certified['samples'], 'sample')} {certified['correct']} certified, "
        f"{certified['undecided']} undecided (right, but not proved at {certified['threat']}), "
        f"{certified['wrong']} wrong, {certified['abstained']} abstained (the method speaks of no "
        "class)."
    )
