"""Whether a run is worse than an earlier one on the same samples, beyond what chance explains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustcode.errors import ConfigError
from robustcode.reports.grids import counted
from robustcode.reports.measured import What, labels, shares
from robustcode.reports.table import Source, as_text
from robustcode.statistics import Difference, mcnemar, paired_difference


@dataclass(frozen=True, kw_only=True)
class Loss:
    """How far one accuracy of a run is above that of its baseline, on the samples of both.

    Attributes:
        what: which accuracy.
        samples: how many samples both have.
        trimmed: how many one of them has and the other has not.
        gap: accuracy less that of the baseline; its interval has confidence 1 - alpha.
        alpha: see reports.gate.Asked.
        lost: samples that the baseline alone has right; None where decisions are random.
        won: samples that the run alone has right, likewise.
        p_value: of the exact two-sided McNemar test, likewise.
    """

    what: What
    samples: int
    trimmed: int
    gap: Difference
    alpha: float
    lost: int | None = None
    won: int | None = None
    p_value: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the run is worse, and by more than chance explains.

        Both tests are two-sided at ``alpha``, so that a loss is seen where there is none with
        probability ``alpha / 2`` at most, and with ``alpha`` in either of two accuracies.
        """
        if self.p_value is None:
            return self.gap.high < 0
        return self.gap.value < 0 and self.p_value <= self.alpha

    @property
    def said(self) -> str:
        """The difference, its test, and the samples, without a verdict."""
        points = 100 * self.gap.value
        # What is not zero must not be written as none.
        size = f"{abs(points):.3g} points {'below' if points < 0 else 'above'}"
        ends = f"{100 * self.gap.low:+.3g} to {100 * self.gap.high:+.3g} points"
        test = f"{100 * (1 - self.alpha):g} % interval {ends}"
        if self.p_value is not None:
            test = f"{self.lost} lost, {self.won} won, exact McNemar p = {self.p_value:.2g}"
        left = f", {counted(self.trimmed, 'sample')} of one run alone left out"
        return (
            f"{self.what.noun} is {size if points else 'neither above nor below'} that of the "
            f"baseline on the same {counted(self.samples, 'sample')}"
            f"{left if self.trimmed else ''} ({test})"
        )


def losses(source: Source, baseline: Source, alpha: float) -> list[Loss]:
    """Of each accuracy that both measured; ConfigError if they cannot be compared."""
    _refuse_others(source, baseline)
    main = What.CERTIFIED if source.proves else What.ROBUST
    return [_loss(source, baseline, what, alpha) for what in (main, What.CLEAN)]


def _loss(source: Source, baseline: Source, what: What, alpha: float) -> Loss:
    now, before = shares(source, what), shares(baseline, what)
    common = sorted(set(now.index) & set(before.index))
    if not common:
        raise ConfigError(
            f"{source.run.path} and {baseline.run.path} share no sample; evaluate the same ones"
        )
    after, first = (part.loc[common].to_numpy(dtype=np.float64) for part in (now, before))
    apart = set(now.index) ^ set(before.index)
    gap = paired_difference(first, after, 1 - alpha)
    if what is not What.CERTIFIED and (source.draws or baseline.draws):
        return Loss(what=what, samples=len(common), trimmed=len(apart), gap=gap, alpha=alpha)
    lost, won = int((first > after).sum()), int((after > first).sum())
    return Loss(
        what=what,
        samples=len(common),
        trimmed=len(apart),
        gap=gap,
        alpha=alpha,
        lost=lost,
        won=won,
        p_value=mcnemar(lost, won),
    )


def _refuse_others(source: Source, baseline: Source) -> None:
    """ConfigError if a loss could be due to anything but the two defences."""
    mine, theirs = source.run.path, baseline.run.path
    if source.proves != baseline.proves:
        proofs, attacks = (mine, theirs) if source.proves else (theirs, mine)
        raise ConfigError(
            f"{proofs} holds certificates and {attacks} attacks; compare runs of one command"
        )
    for run in (source, baseline):
        if not run.proves and not run.whole:
            raise ConfigError(
                f"{run.run.path} has unfinished samples, and what it has finished is what was easy "
                "to break; run its command again with more time before comparing"
            )
    for what in ("threat", "adversary"):
        here, there = (run.fact(what) or "solo" for run in (source, baseline))
        if here != there:
            raise ConfigError(
                f"{what} is {here} in {mine} and {there} in {theirs}; compare runs of the same"
            )
    _refuse_other_data(source, baseline)
    if not source.proves:
        _refuse_other_attacks(source, baseline)


def _refuse_other_data(source: Source, baseline: Source) -> None:
    here, there = (run.run.manifest.get("data_sha256") for run in (source, baseline))
    same = here == there if here and there else source.fact("data") == baseline.fact("data")
    mine, theirs = labels(source), labels(baseline)
    common = mine.index.intersection(theirs.index)
    if not same or not _agree(mine.loc[common], theirs.loc[common]):
        raise ConfigError(
            f"{source.run.path} and {baseline.run.path} are of other data (by their sha256 or "
            f"labels): {source.fact('data')} and {baseline.fact('data')}; evaluate both on the same"
        )


def _agree(mine: pd.Series, theirs: pd.Series) -> bool:
    return bool((mine.to_numpy() == theirs.to_numpy()).all())


def _refuse_other_attacks(source: Source, baseline: Source) -> None:
    """Against other attacks a loss may be theirs; a suite is the same wherever it is asked for."""
    here, there = (_asked(run) for run in (source, baseline))
    budgets = [run.run.spec.get("max_passes") for run in (source, baseline)]
    if budgets[0] == budgets[1] and (here == there or _made(source) == _made(baseline)):
        return
    mine, theirs = (
        ", ".join(str(attack.get("name")) for attack in run.attacks) for run in (source, baseline)
    )
    raise ConfigError(
        f"{source.run.path} was attacked by {mine} and {baseline.run.path} by {theirs}, or with "
        "other settings or another budget, so a loss could be the attacks' and not the defence's; "
        "run both with the same --suite or --attack"
    )


def _asked(source: Source) -> str | None:
    """The suite and the attacks beside it, as they were asked for; None without a suite."""
    request = source.run.manifest.get("request")
    if not isinstance(request, Mapping) or not request.get("suite"):
        return None
    return f"{request['suite']}; {as_text(request.get('attacks') or [])}"


def _made(source: Source) -> list[str]:
    return sorted(
        f"{attack.get('name')} {json.dumps(attack.get('settings'), sort_keys=True, default=str)}"
        for attack in source.attacks
    )
