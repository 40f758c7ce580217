"""Checks that weaken the evidence: what is wrong, by which figures, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd

from robustcode.budget import Limit

# The attack that goes on from an earlier run; see attacks.warm.
HANDED_ON = "warm"


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


def plain(finding: Finding) -> dict[str, Any]:
    """A finding as JSON holds it."""
    return {**asdict(finding), "severity": str(finding.severity)}


def in_order(findings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings as JSON holds them, the gravest first."""
    order = [Severity.FAILURE, Severity.WARNING, Severity.INFO]
    return sorted(findings, key=lambda finding: order.index(finding["severity"]))


def in_short(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a summary says of findings, without their figures and samples."""
    keys = ("code", "severity", "what", "remedy")
    return [{key: finding[key] for key in keys} for finding in findings]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the defence is, as tested; attacks, judge and suites go by these.

    Attributes:
        stochastic: two draws can differ.
        differentiable: ``logits`` has a gradient that is not zero everywhere.
        batch_coupled: as declared.
        classes: width of the logits.
        noise: of one draw's gradient, as a multiple of its signal; see gradients.gradient_noise.
        adversary: whom it faces, by name; see adversary.ADVERSARIES.
    """

    stochastic: bool
    differentiable: bool
    batch_coupled: bool
    classes: int
    noise: float = 0.0
    adversary: str = "solo"


def compare_attacks(records: pd.DataFrame, noise_names: set[str]) -> list[Finding]:
    """``noise-as-strong``: attacks that noise of the same size equals, after the run.

    ``records`` has the columns of records.Record; ``noise_names`` are the attacks in it that only
    draw at random. Each other attack is held against the strongest of them on the same samples. In
    a cascade that is the attack with those before it: on the samples that withstood one attack no
    other can be expected to beat noise. Samples that ``warm`` took over from an earlier run are no
    part of it: what broke them there, which may have been noise, is not known here. An attack that
    a budget stopped is left out.

    Raised when samples are still right and the attack leaves no fewer right than noise does (for
    a stochastic defence, up to twice the standard error of the judge's draws). As one ``info`` for
    all attacks if neither takes anything from the clean accuracy: then eps may simply be too small.

    Why it matters: a search that finds no more than chance has found nothing, so its accuracy says
    nothing about the defence.

    What to do: look at the gradient findings; try loss=margin, more draws, or ``transfer``.

    Source: Carlini et al. 2019, arXiv:1902.06705, section 4.
    """
    # What was left of a stopped attack is no fair sample of it.
    whole = records.groupby("attack").finished.transform("all").astype(bool)
    ran = records[whole & ~records.proved.astype(bool)]
    # Nobody but ``warm`` was asked about these.
    handed = ran.carried.map(lambda name: isinstance(name, str) and _kind(name) == HANDED_ON)
    left_out = set(ran["sample"][handed.astype(bool)])
    if left_out:  # nor is it held against noise itself, on nothing but what it left standing
        ran = ran[~ran["sample"].isin(left_out) & (ran.attack.map(_kind) != HANDED_ON)]
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
    compared = [
        _against_noise(name, table.join(noise, how="inner"))
        for name, table in tables.items()
        if name not in noise_names
    ]
    found = [held for held in compared if held is not None and not held.idle]
    idle = [held for held in compared if held is not None and held.idle]
    findings = [held.warning() for held in found]
    # Where ``warm`` took something, it is not true that nothing can be taken.
    return [*findings, _nothing_taken(idle)] if idle and not left_out else findings


def stood_still(records: pd.DataFrame, may_stay: set[str]) -> list[Finding]:
    """``attack-stood-still``: an attack proposed nothing but the samples themselves.

    ``may_stay`` are attacks of which that is no wonder: controls, and searches for the nearest
    wrong input, which propose the sample where they find none within eps.

    Raised when every proposal of an attack that was run to its end equals its sample, while it was
    given samples that stand. Why it matters: it has not searched, so what it left standing says
    nothing. What to do: look at its settings, and at the gradient findings.
    """
    asked = records[records.finished.astype(bool) & records.carried.isna()]
    asked = asked[~asked.proved.astype(bool) & (asked.clean_correct.astype(float) > 0)]
    findings = []
    for name, rows in asked.groupby("attack", sort=False):
        if name in may_stay or not (rows.distance == 0).all():
            continue
        findings.append(
            Finding(
                code="attack-stood-still",
                severity=Severity.WARNING,
                what=f"{name} moved none of the {len(rows)} samples it was given: every proposal "
                "is the sample itself",
                remedy="its accuracy says nothing about the defence: look at its settings (steps, "
                "step length, start) and at findings about the gradient",
                figures={"samples": float(len(rows))},
                samples=tuple(int(sample) for sample in rows["sample"]),
            )
        )
    return findings


def budget_spent(
    limit: Limit,
    value: float,
    samples: Sequence[int],
    never_begun: int,
    asked: int,
    idle: bool = False,
) -> Finding:
    """``budget-spent``: attacks were stopped before their end.

    Raised when max_passes or max_seconds left samples that no attack broke and that some attack
    was not finished on, or not begun on (``never_begun``, of which not even the clean prediction
    is known). ``idle`` says that the time was not enough for a single shard. Why it matters: of
    these samples nothing is known, so the robust accuracy is only known to lie in an interval. What
    to do: give more.
    """
    what = f"{len(samples) + never_begun} of {asked} samples were not attacked to the end"
    if limit is Limit.PASSES:
        passes = "1 pass" if value == 1 else f"{value:g} passes"
        what += f" with {passes} for each on average"
        remedy = (
            "give more passes, in another folder, or quote the interval: its low end counts them "
            "as broken, its high end as right"
        )
    else:
        what += f" in {value:g} second" + ("" if value == 1 else "s")
        what += f", {never_begun} of them not looked at at all" if never_begun else ""
        remedy = (
            "run the same command again with more time or without the limit: finished shards are "
            "kept, and the one in work is begun again"
        )
        if idle:
            remedy += (
                "; this time was too short for a single shard, so that as much again gets no "
                "further: give more, or a smaller batch size in another folder"
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


def _kind(name: str) -> str:
    """What an attack is registered as, without the settings in its name."""
    return name.partition(":")[0]


@dataclass(frozen=True)
class _Held:
    """An attack held against noise that left no more right than it did.

    ``idle`` is whether neither took anything from the clean accuracy.
    """

    name: str
    idle: bool
    attack: float
    noise: float
    clean: float
    beaten: tuple[int, ...]
    samples: int

    @property
    def figures(self) -> dict[str, float]:
        return {
            "attack": self.attack,
            "noise": self.noise,
            "clean": self.clean,
            "samples": float(self.samples),
        }

    def warning(self) -> Finding:
        return Finding(
            code="noise-as-strong",
            severity=Severity.WARNING,
            what=f"{self.name} leaves {self.attack:.1%} of {self.samples} samples right and random "
            f"noise of the same size {self.noise:.1%}: searching gained nothing",
            remedy="do not rely on this attack: look for masked gradients, give it another loss, "
            "more draws or more queries, or try the transfer attack",
            figures=self.figures,
            samples=self.beaten,
        )


def _nothing_taken(held: Sequence[_Held]) -> Finding:
    """One finding for all attacks that, like noise, took nothing."""
    least = min(held, key=lambda one: one.attack)
    names = " and ".join(filter(None, [", ".join(one.name for one in held[:-1]), held[-1].name]))
    either = "neither" if len(held) == 1 else "none of"
    nor = "nor" if len(held) == 1 else "and"
    return Finding(
        code="noise-as-strong",
        severity=Severity.INFO,
        what=f"{either} {names} ({least.attack:.1%} right{_or_more(held)}) {nor} random noise of "
        f"the same size ({least.noise:.1%}) takes anything from the clean accuracy of "
        f"{least.clean:.1%} on {least.samples} samples",
        remedy="try a larger eps: at this one the evaluation cannot tell a weak attack from "
        "a strong defence",
        figures=least.figures,
    )


def _or_more(held: Sequence[_Held]) -> str:
    return " or more" if len({one.attack for one in held}) > 1 else ""


def _against_noise(name: str, pairs: pd.DataFrame) -> _Held | None:
    if pairs.empty:
        return None
    attack, noise = float(pairs["correct"].mean()), float(pairs["correct_noise"].mean())
    clean = float(pairs["clean_correct"].mean())

    def slack(*columns: str) -> float:
        variance = sum(float(pairs[column].sum()) for column in columns)
        return 2 * math.sqrt(variance) / len(pairs)

    if attack <= 0 or attack < noise - slack("correct_variance", "correct_variance_noise"):
        return None
    idle = attack >= clean - slack("correct_variance", "clean_correct_variance")
    idle &= noise >= clean - slack("correct_variance_noise", "clean_correct_variance")
    beaten = pairs.index[(pairs["correct"] >= 0.5) & (pairs["correct_noise"] < 0.5)]
    return _Held(name, idle, attack, noise, clean, tuple(map(int, beaten)), len(pairs))
