"""Checks that weaken the evidence: what is wrong, by which figures, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pandas as pd

from robustcode.budget import Limit


class Severity(StrEnum):
    """How much a finding takes from the numbers above it."""

    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check that did not pass.

    Attributes:
        code: stable name of the check, e.g. ``zero-gradient``.
        severity: info, warning or failure.
        what: one sentence with the figures in it.
        remedy: one sentence: what to do.
        figures: the measured numbers by name.
        samples: the samples concerned, by index in the split.
    """

    code: str
    severity: Severity
    what: str
    remedy: str
    figures: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the defence is, as tested; attacks, judge and suites go by these.

    Attributes:
        stochastic: two draws can differ.
        differentiable: ``logits`` has a gradient that is not zero everywhere.
        batch_coupled: as declared.
        classes: width of the logits.
        noise: of one draw's gradient, as a multiple of its signal; see gradients.gradient_noise.
    """

    stochastic: bool
    differentiable: bool
    batch_coupled: bool
    classes: int
    noise: float = 0.0


def compare_attacks(records: pd.DataFrame, noise_names: set[str]) -> list[Finding]:
    """``noise-as-strong``: attacks that noise of the same size equals, after the run.

    ``records`` has the columns of records.Record; ``noise_names`` are the attacks in it that only
    draw at random. Each other attack is held against the strongest of them on the same samples. In
    a cascade that is the attack with those before it: on the samples that withstood one attack no
    other can be expected to beat noise. An attack that a budget stopped is left out.

    Raised when samples are still right and the attack leaves no fewer right than noise does (for
    a stochastic defence, up to twice the standard error of the judge's draws). As ``info`` if
    neither takes anything from the clean accuracy: then eps may simply be too small.

    Why it matters: a search that follows gradients and finds no more than chance has found
    nothing, so its accuracy says nothing about the defence.

    What to do: look at the gradient findings; try loss=margin, more draws, or ``transfer``.

    Source: Carlini et al. 2019, arXiv:1902.06705, section 4.
    """
    # What was left of a stopped attack is no fair sample of it.
    whole = records.groupby("attack").finished.transform("all").astype(bool)
    ran = records[whole & ~records.proved.astype(bool)]
    # What other attacks broke is none of noise's doing.
    spared = ran.carried.notna() & ran.attack.isin(noise_names)
    ran = ran.assign(
        correct=ran.correct.where(~spared, ran.clean_correct),
        votes=ran.votes.where(~spared, ran.clean_votes),
    )
    tables = {str(name): _right(rows) for name, rows in ran.groupby("attack", sort=False)}
    noises = [table for name, table in tables.items() if name in noise_names]
    if not noises:
        return []
    noise = min(noises, key=lambda table: float(table["correct"].mean())).add_suffix("_noise")
    found = (
        _against_noise(name, table.join(noise, how="inner"))
        for name, table in tables.items()
        if name not in noise_names
    )
    return [finding for finding in found if finding is not None]


def budget_spent(
    limit: Limit, value: float, samples: Sequence[int], never_begun: int, asked: int
) -> Finding:
    """``budget-spent``: attacks were stopped before their end.

    Raised when max_passes or max_seconds left samples that no attack broke and that some attack
    was not finished on, or not begun on (``never_begun``, of which not even the clean prediction
    is known). Why it matters: of these samples nothing is known, so the robust accuracy is only
    known to lie in an interval. What to do: give more.
    """
    what = f"{len(samples) + never_begun} of {asked} samples were not attacked to the end"
    if limit is Limit.PASSES:
        what += f" with {value:g} passes for each"
        remedy = (
            "give more passes, in another folder, or quote the interval: its low end counts them "
            "as broken, its high end as right"
        )
    else:
        what += f" in {value:g} seconds"
        what += f", {never_begun} of them not looked at at all" if never_begun else ""
        remedy = (
            "run the same command again with more time or without the limit: finished shards are "
            "kept, and the one in work is begun again"
        )
    return Finding(
        code="budget-spent",
        severity=Severity.WARNING,
        what=what,
        remedy=remedy,
        figures={
            "unfinished": float(len(samples) + never_begun),
            "never_begun": float(never_begun),
            "samples": float(asked),
            f"max_{limit}": float(value),
        },
        samples=tuple(samples),
    )


def _right(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares of right decisions by sample, and the variance that the judge's draws give them."""
    rows = rows.set_index("sample")
    table = rows[["correct", "clean_correct"]].astype(float)
    for share, votes in (("correct", "votes"), ("clean_correct", "clean_votes")):
        draws = [max(1, sum(counts)) if isinstance(counts, tuple) else 1 for counts in rows[votes]]
        # Shares of 0 and 1 have none: so neither do the verdicts on a deterministic defence.
        table[f"{share}_variance"] = table[share] * (1 - table[share]) / draws
    return table


def _against_noise(name: str, pairs: pd.DataFrame) -> Finding | None:
    if pairs.empty:
        return None
    attack, noise = float(pairs["correct"].mean()), float(pairs["correct_noise"].mean())
    clean = float(pairs["clean_correct"].mean())

    def slack(*columns: str) -> float:
        variance = sum(float(pairs[column].sum()) for column in columns)
        return 2 * math.sqrt(variance) / len(pairs)

    if attack <= 0 or attack < noise - slack("correct_variance", "correct_variance_noise"):
        return None
    nothing = attack >= clean - slack("correct_variance", "clean_correct_variance")
    nothing &= noise >= clean - slack("correct_variance_noise", "clean_correct_variance")
    figures = {"attack": attack, "noise": noise, "clean": clean, "samples": float(len(pairs))}
    beaten = pairs.index[(pairs["correct"] >= 0.5) & (pairs["correct_noise"] < 0.5)]
    if nothing:
        return Finding(
            code="noise-as-strong",
            severity=Severity.INFO,
            what=f"neither {name} ({attack:.1%} right) nor random noise of its size ({noise:.1%}) "
            f"takes anything from the clean accuracy of {clean:.1%} on {len(pairs)} samples",
            remedy="try a larger eps: at this one the evaluation cannot tell a weak attack from "
            "a strong defence",
            figures=figures,
        )
    return Finding(
        code="noise-as-strong",
        severity=Severity.WARNING,
        what=f"{name} leaves {attack:.1%} of {len(pairs)} samples right and random noise of the "
        f"same size {noise:.1%}: following gradients gained nothing",
        remedy="do not rely on this attack: look for masked gradients, try loss=margin, more "
        "draws, or the transfer attack",
        figures=figures,
        samples=tuple(int(sample) for sample in beaten),
    )
