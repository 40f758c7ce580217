"""Whether a run is worse than an earlier one on the same samples, beyond what chance explains."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from robustcode.errors import ConfigError
from robustcode.reports.comparison.comparable import hashes_of, unequal, unlike
from robustcode.reports.escape import plain
from robustcode.reports.gating.measured import What, shares
from robustcode.reports.source import Source
from robustcode.statistics import Difference, mcnemar, paired_difference, paired_p_value
from robustcode.wording import MANY, counted


@dataclass(frozen=True, kw_only=True)
class Loss:
    """How far one accuracy of a run is above that of its baseline, on the samples of both.

    Attributes:
        what: which accuracy.
        samples: how many samples both have.
        trimmed: how many one of them has and the other has not.
        gap: accuracy less that of the baseline; its interval has confidence 1 - alpha.
        alpha: see asked.Asked.
        p_value: two-sided: McNemar's exact one where both decide for certain, and where decisions
            are random that which belongs to the interval.
        lost: samples that the baseline alone has right; None where decisions are random.
        won: samples that the run alone has right, likewise.
    """

    what: What
    samples: int
    trimmed: int
    gap: Difference
    alpha: float
    p_value: float
    lost: int | None
    won: int | None

    @property
    def significant(self) -> bool:
        """Whether the run is worse, and by more than chance explains.

        The test is two-sided, and half of its errors are gains: a loss is seen where there is none
        with probability ``alpha / 2`` at most, and with ``alpha`` in either of two accuracies.
        """
        return self.gap.value < 0 and self.p_value <= self.alpha

    @property
    def said(self) -> str:
        """Whether there is a loss, the difference with its interval and test, and the samples."""
        found = "a significant loss" if self.significant else "no significant loss"
        places = 2 if self.samples >= MANY else 1
        gap, low, high = (f"{100 * value:+z.{places}f}" for value in self.gap)
        test = f"p = {self.p_value:.2g}"
        if self.lost is not None:
            test = f"{self.lost} lost, {self.won} won, exact McNemar {test}"
        left = f", {counted(self.trimmed, 'sample')} of one run alone left out"
        return (
            f"{self.what.noun} shows {found} against the baseline on the same "
            f"{counted(self.samples, 'sample')}{left if self.trimmed else ''} "
            f"({gap} points, {100 * (1 - self.alpha):g} % interval {low} to {high}; {test})"
        )


def losses(source: Source, baseline: Source, alpha: float) -> list[Loss]:
    """Of each accuracy that both measured; ConfigError if they cannot be compared."""
    for run in (source, baseline):
        if run.corrupts:
            raise ConfigError(
                f"{run.run.path} is a run of common corruptions, and only attacks and certificates "
                "are held against a baseline; ask for a minimum of its clean accuracy"
            )
    if source.proves != baseline.proves:
        runs = (source, baseline) if source.proves else (baseline, source)
        proofs, attacks = (run.run.path for run in runs)
        raise ConfigError(
            f"{proofs} holds certificates and {attacks} attacks; compare runs of one command"
        )
    reason = _proved_apart(source, baseline) if source.proves else _attacked_apart(source, baseline)
    if reason:
        raise ConfigError(
            f"{source.run.path} cannot be held against {baseline.run.path}: "
            f"{plain(reason[0].lower() + reason[1:]).rstrip('.')}; "
            "name a baseline that was evaluated alike"
        )
    main = What.CERTIFIED if source.proves else What.ROBUST
    found = [_loss(source, baseline, what, alpha) for what in (main, What.CLEAN)]
    _refuse_too_few(source, baseline, found[0])
    return found


def _refuse_too_few(source: Source, baseline: Source, loss: Loss) -> None:
    """ConfigError where no loss could be seen: to find none would then say nothing."""
    if (all_lost := mcnemar(loss.samples, 0)) > loss.alpha:
        raise ConfigError(
            f"{source.run.path} and {baseline.run.path} have {counted(loss.samples, 'sample')} in "
            f"common, on which no loss can be told from chance: with all of them lost p = "
            f"{all_lost:.2g}, above alpha = {loss.alpha:g}; evaluate more"
        )


def _loss(source: Source, baseline: Source, what: What, alpha: float) -> Loss:
    now, before = shares(source, what), shares(baseline, what)
    common = sorted(set(now.index) & set(before.index))
    after, first = (part.loc[common].to_numpy(dtype=np.float64) for part in (now, before))
    random = not source.proves and bool(source.draws or baseline.draws)
    lost, won = int((first > after).sum()), int((after > first).sum())
    return Loss(
        what=what,
        samples=len(common),
        trimmed=len(set(now.index) ^ set(before.index)),
        gap=paired_difference(first, after, 1 - alpha),
        alpha=alpha,
        p_value=paired_p_value(first, after) if random else mcnemar(lost, won),
        lost=None if random else lost,
        won=None if random else won,
    )


def _attacked_apart(source: Source, baseline: Source) -> str:
    """Why a loss could be due to anything but the two defences; empty if it could not."""
    reason = unlike([baseline], source)
    if reason:
        return reason
    shared = source.verdicts.index.intersection(baseline.verdicts.index)
    both = [replace(run, verdicts=run.verdicts.loc[shared]) for run in (baseline, source)]
    return unequal(*both)


def _proved_apart(source: Source, baseline: Source) -> str:
    """The same of certificates, whatever method they are by: a proof is a proof.

    That holds of proofs as certain as those of the baseline.
    """
    for what in ("threat", "adversary"):
        mine, theirs = (run.fact(what) or "solo" for run in (source, baseline))
        if mine != theirs:
            return f"its {what} is {mine}, that of the baseline is {theirs}"
    here, there = ((run.run.summary["certified"].get("alpha") or 0) for run in (source, baseline))
    if here > there:
        return (
            f"its proofs may each be false with probability {here:g}, the baseline's with {there:g}"
        )
    hashes = [hashes_of(run) or [run.fact("data")] for run in (source, baseline)]
    labels, others = (_labels(run) for run in (source, baseline))
    shared = labels.index.intersection(others.index)
    if hashes[0] != hashes[1] or (labels.loc[shared] != others.loc[shared]).any():
        return f"its data ({source.fact('data')}) are not those of the baseline"
    return "" if len(shared) else "they have no sample in common"


def _labels(source: Source) -> pd.Series:
    return source.run.certificates.set_index("sample")["label"]
