"""Attacks that noise of the same size equals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from robustcode.attacks.noise import Noise
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.beaten import too_many
from robustcode.checks.examination import Examination
from robustcode.checks.pilot import stands_out
from robustcode.checks.results import Results
from robustcode.findings import Finding, Severity

# Points of noise that the pilot tries for a sample, and draws of a stochastic defence on each.
TRIES, DRAWS = 10, 4
# Smallest change of a stochastic defence's accuracy worth a finding.
EFFECT = 0.05
# The attack that goes on from an earlier run; see attacks.warm.
HANDED_ON = "warm"
# Standard errors of the judge's draws by which an attack has to beat noise.
SIGMAS = 2


@CHECKS.register("noise-as-strong")
class NoiseAsStrong(Check):
    """An attack that noise of the same size equals.

    Raised when, of the pilot samples that its gradient attack leaves right, random noise of the
    same size breaks two or more, and more than 1 % by an exact test at 1 % (3 of 32; for a
    stochastic defence noise must take five points more than the attack, and three standard errors);
    a failure where that is a tenth of the pilot and no other attack of the plan searches. And after
    the run when samples are still right and an attack leaves no fewer right than random noise does
    (for a stochastic defence, up to twice the standard error of the judge's draws). As one info for
    all attacks if neither takes anything from the clean accuracy: then eps may simply be too small;
    as infos where attacks were added to the plan, for what the pilot found, and some attack does
    beat noise.

    Why it matters: a search that finds no more than chance has found nothing, so its accuracy says
    nothing about the defence.

    What to do: look at the gradient findings; try loss=margin, more draws, or ``transfer``.

    False alarms: 1 % at most on the pilot, where noise adds 1 % or less to what a sound attack
    broke; after the run none on a deterministic defence, since the two are compared as they are,
    and 2 % for each attack on a stochastic one, by the normal law, where an attack truly gains
    nothing.

    Source: Carlini et al. 2019, arXiv:1902.06705, section 4.
    """

    code = "noise-as-strong"
    group = Group.RESULTS
    says = "searching gained more than random noise"
    of_the_attack = True
    otherwise = (
        "gradients lead this attack astray and may mislead the attacks of the plan: look for "
        "masked gradients, and run the transfer attack and square, which needs none"
    )

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        exam.need_samples()
        stochastic = exam.facts.stochastic
        # What chance or a whole batch decides is compared on all samples of it.
        every = exam.no_fixed_answer is not None
        rows = exam.right if every else exam.survivors
        if len(exam.survivors) == 0:
            return
        before = exam.held if every else exam.held[exam.held > 0.5]
        noise = Noise(tries=TRIES, draws=DRAWS if stochastic else 1)
        gain = before - exam.pilot.held(noise, exam.allowed, rows)
        if every:
            certain = stands_out(gain) and float(gain.mean()) >= EFFECT
        else:
            certain = too_many(int((gain > 0).sum()), len(rows))
        if not certain:
            return
        taken, beaten = float(gain.clamp(min=0).sum()), exam.samples[rows[gain > 0]]
        yield Finding(
            code=self.code,
            severity=exam.gravity(taken),
            what=f"random noise of the size of eps, the best of {TRIES} tries, takes a further "
            f"{taken:g} of the {float(before.sum()):g} pilot samples that PGD with "
            f"{exam.once.steps} steps leaves right",
            remedy="do not rely on this attack: look for masked gradients, give it another loss, "
            "more draws or more steps, or try the transfer attack",
            figures={
                "taken": taken,
                "survivors": float(before.sum()),
                "samples": float(len(exam.right)),
                "tries": float(TRIES),
            },
            samples=tuple(torch.sort(beaten).values.tolist()),
        )

    def review(self, results: Results) -> Iterator[Finding]:
        """See Check.review."""
        if results.threat.eps == 0:  # with no room to move, nothing can be told from noise
            return
        yield from compare_attacks(results.records, results.controls, results.repaired)


def compare_attacks(
    records: pd.DataFrame, noise_names: set[str], repaired: bool = False
) -> list[Finding]:
    """The findings of NoiseAsStrong.

    ``records`` has the columns of records.Record; ``noise_names`` are the attacks in it that only
    draw at random. Each other attack is held against the strongest of them on the same samples. In
    a cascade that is the attack with those before it: on the samples that withstood one attack no
    other can be expected to beat noise. Samples that ``warm`` took over from an earlier run are no
    part of it: what broke them there, which may have been noise, is not known here. An attack that
    a budget stopped is left out. ``repaired``: attacks were added for what the pilot found.
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
    if repaired and None in compared:
        # That planned attacks are led astray is known by then, and another one gets further.
        findings = [replace(one, severity=Severity.INFO) for one in findings]
    # Where ``warm`` took something, it is not true that nothing can be taken.
    return [*findings, _nothing_taken(idle)] if idle and not left_out else findings


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


def gained_nothing(attack: float, noise: float, slack: float) -> bool:
    """Whether an attack that left some right left no fewer than noise did, but for ``slack``."""
    return attack > 0 and attack >= noise - slack


def _against_noise(name: str, pairs: pd.DataFrame) -> _Held | None:
    if pairs.empty:
        return None
    attack, noise = float(pairs["correct"].mean()), float(pairs["correct_noise"].mean())
    clean = float(pairs["clean_correct"].mean())

    def slack(*columns: str) -> float:
        variance = sum(float(pairs[column].sum()) for column in columns)
        return SIGMAS * math.sqrt(variance) / len(pairs)

    if not gained_nothing(attack, noise, slack("correct_variance", "correct_variance_noise")):
        return None
    idle = attack >= clean - slack("correct_variance", "clean_correct_variance")
    idle &= noise >= clean - slack("correct_variance_noise", "clean_correct_variance")
    beaten = pairs.index[(pairs["correct"] >= 0.5) & (pairs["correct_noise"] < 0.5)]
    return _Held(name, idle, attack, noise, clean, tuple(map(int, beaten)), len(pairs))
