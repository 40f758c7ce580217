"""One accuracy of a run, held against what its records or certificates say sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from robustcode.corrupted import CLEAN
from robustcode.errors import ConfigError, StoreError
from robustcode.reports.gating.elsewhere import proved_elsewhere
from robustcode.reports.numbers.proofs import proved_within, right_of
from robustcode.reports.numbers.steps import accuracy
from robustcode.reports.source import Source
from robustcode.wording import counted, percent

# Both are computed from the same numbers; only the order of summation may differ.
ROUNDING = 1e-9


class What(StrEnum):
    """Of which accuracy a run is asked; the values are keys of summary.json."""

    CLEAN = "clean"
    ROBUST = "robust"
    CERTIFIED = "certified"

    @property
    def noun(self) -> str:
        """What it is called in a sentence."""
        return {"robust": "worst-case accuracy"}.get(self.value, f"{self.value} accuracy")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One accuracy with its 95 % interval over ``samples``.

    Of ``unfinished`` samples nothing is known since a budget ended the attacks: ``value`` and
    ``low`` count them as not right, ``high`` as right.
    """

    what: What
    value: float
    low: float
    high: float
    samples: int
    unfinished: int
    setting: str

    @property
    def said(self) -> str:
        """The accuracy and what it was measured on, as the subject of a sentence."""
        value, low, high = (percent(f, self.samples) for f in (self.value, self.low, self.high))
        left = f", of which {self.unfinished} are unfinished" if self.unfinished else ""
        return (
            f"{self.what.noun} of {value} % (95 % interval {low} to {high} %, "
            f"{counted(self.samples, 'sample')}{left}{self.setting})"
        )


def measured(source: Source, what: What) -> Measured:
    """An accuracy of a run; ConfigError if the run does not measure it.

    StoreError if the summary says another one than the verdicts on the samples: a number that is
    relied on must not be one that somebody typed.
    """
    block = source.run.summary.get(what)
    if not isinstance(block, Mapping) or not block:
        raise ConfigError(_missing(source, what))
    if what is What.ROBUST:
        _refuse_no_attack(source)
    if what is What.CERTIFIED and not source.proves:
        block = proved_elsewhere(source, block)
    try:
        samples = block.get("samples") or source.run.summary["samples"]
        found = Measured(
            what=what,
            value=float(block["accuracy"]),
            low=float(block["low"]),
            high=float(block["high"]),
            samples=int(samples),
            unfinished=int(block.get("unfinished") or 0),
            setting=_setting(source, what, block),
        )
    except (KeyError, TypeError, ValueError) as cause:
        raise StoreError(
            f"{source.run.path}/summary.json has no {what} accuracy that can be read: {cause!r}"
        ) from cause
    _refuse_altered(source, found)
    return found


def shares(source: Source, what: What) -> pd.Series:
    """By sample, its index in the split, the share of right decisions in [0, 1].

    Of certificates, whether it is proved right at the threat's eps. Empty where the run holds no
    verdict on single samples, as of certificates that were made by another run.
    """
    if source.corrupts and what is What.CLEAN:
        answers = source.run.answers
        clean = answers[answers["corruption"] == CLEAN]
        return clean.set_index("sample")["correct"].astype(float)
    if not source.proves:
        if what is What.CERTIFIED or source.verdicts.empty:
            return pd.Series(dtype=float)
        return source.verdicts[what.value].astype(float)
    table = source.run.certificates
    if what is What.ROBUST or table.empty:
        return pd.Series(dtype=float)
    right = right_of(table) if what is What.CLEAN else proved_within(table, source.eps or 0.0)
    return pd.Series(right, table["sample"]).astype(float)


def _refuse_no_attack(source: Source) -> None:
    """ConfigError where nothing that was done to the samples could have shown them to break."""
    if not source.searched:
        raise ConfigError(
            f"{source.run.path} was attacked by noise alone, which is a control and leaves "
            "nearly everything standing; attack with --suite quick"
        )
    if source.eps == 0:
        raise ConfigError(
            f"{source.run.path} was attacked in {source.fact('threat')}, which lets nothing be "
            "changed, so its worst case is its clean accuracy; ask for a minimum of that, or "
            "attack with an eps above 0"
        )


def _setting(source: Source, what: What, block: Mapping[str, Any]) -> str:
    if what is What.CLEAN:
        return ""
    if what is What.CERTIFIED:
        elsewhere = "" if source.proves else ", in another run"
        threat = block.get("threat") or source.fact("threat")
        unsure = block.get("alpha")
        false = f", each false with probability {unsure:g} at most" if unsure else ""
        return f", by {block.get('method')} in {threat}{elsewhere}{false}"
    proved = source.run.summary.get("proved")
    spared = f", {counted(proved, 'sample')} taken for proved and not attacked" if proved else ""
    attacks = counted(len(source.searches), "attack")
    return f", the worst of {attacks} in {source.fact('threat')}{spared}"


def _missing(source: Source, what: What) -> str:
    path = source.run.path
    if source.corrupts and what is not What.CLEAN:
        return (
            f"{path} is a run of common corruptions, which nobody chooses against it, so it has no "
            f"{what.noun}; ask for a minimum of its clean accuracy, or name a run of `attack` or "
            "`certify`"
        )
    if what is What.ROBUST:
        return f"{path} holds no attacks, so there is no worst case; name a run of `attack`"
    if what is What.CERTIFIED:
        return f"{path} holds no certificates; name a run of `certify`"
    return f"{path} holds no clean accuracy; run its command again into another folder"


def _refuse_altered(source: Source, found: Measured) -> None:
    each = shares(source, found.what).to_numpy(dtype=np.float64)
    if not len(each):
        return
    # What no attack was finished on has no record, and is not right as far as is known.
    every = np.concatenate([each, np.zeros(max(0, found.samples - len(each)))])
    again = accuracy(every, None if found.what is What.CERTIFIED else source.draws)
    stated = (found.value, found.low)
    if not np.allclose(stated, (again.value, again.low), rtol=0, atol=ROUNDING):
        raise StoreError(
            f"{source.run.path}/summary.json says {found.what.noun} {found.value:.6g} (from "
            f"{found.low:.6g}) and its samples say {again.value:.6g} (from {again.low:.6g}): one "
            "was altered; run its command again into another folder"
        )
