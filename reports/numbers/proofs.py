"""Proofs beside attacks: between the two lies the true robust accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from robustcode.bracket import CHANCE, Bracket, bracket
from robustcode.certified import SAME, SURE
from robustcode.errors import ConfigError, ContractError
from robustcode.reports.source import Source
from robustcode.reports.table import Row
from robustcode.statistics import Difference, paired_difference, paired_p_value
from robustcode.wording import percent

LEFT = "left by the attacks"
STATES = ("certified", "undecided", "broken")
ROUNDING = 1e-9  # of a mean of shares


@dataclass(frozen=True)
class Bar:
    """Shares of all samples that add up to 1, by what is known of them, under one label."""

    label: str
    shares: tuple[tuple[str, float], ...]

    @property
    def said(self) -> str:
        """The shares in per cent."""
        return ", ".join(f"{percent(share, None)} % {state}" for state, share in self.shares)


class Crossing(NamedTuple):
    """A lower bound that was measured above the upper one.

    Attributes:
        excess: of what is certified over what the attacks left, with its 95 % paired interval.
        p_value: of no excess, after as many samples are left out as may be falsely proved.
    """

    excess: Difference
    p_value: float


@dataclass(frozen=True)
class Pair:
    """Certificates and attacks on the same defence and samples.

    Attributes:
        proof: the run of certificates.
        attack: the run of attacks.
        found: their bracket.
    """

    proof: Source
    attack: Source
    found: Bracket

    @property
    def complete(self) -> bool:
        """Whether every certified sample was attacked, under the one eps that is certified."""
        same = self.proof.fact("threat") == self.attack.fact("threat")
        alone = not self.proof.run.spec.get("radii")
        return same and alone and len(self.found.table) == len(self.proof.run.certificates)

    @property
    def elsewhere(self) -> bool:
        """Whether the certificates were made for other eps than that of the attacks."""
        asked = [self.proof.eps, *(self.proof.run.spec.get("radii") or [])]
        eps = self.attack.eps
        return eps is not None and not any(
            one is not None and math.isclose(one, eps, rel_tol=1 - SAME) for one in asked
        )

    @property
    def method(self) -> str:
        """What proved it, and for which threat if that is another than the attacks'."""
        if not self.elsewhere:
            return self.found.method
        return f"{self.found.method} for {self.proof.fact('threat')}"

    @property
    def crossing(self) -> Crossing | None:
        """How far the ends cross, which they may by chance where decisions are random."""
        proved, left = (
            self.found.table[name].to_numpy(np.float64) for name in ("proved", "robust")
        )
        # A sum in another order is rounded otherwise.
        if proved.mean() <= left.mean() + ROUNDING:
            return None
        # Those that cross furthest may be the false proofs; see robustcode.certified.
        alpha = float(self.proof.run.summary["certified"].get("alpha") or 0.0)
        false = int(binom.ppf(SURE, len(self.proof.run.certificates), alpha)) if alpha else 0
        kept = np.argsort(proved - left, kind="stable")[: max(1, len(proved) - false)]
        above = proved[kept].mean() > left[kept].mean()
        p_value = paired_p_value(left[kept], proved[kept]) if above else 1.0
        return Crossing(paired_difference(left, proved), p_value)

    @property
    def rows(self) -> list[Row]:
        """Certified and left by the attacks, with intervals, and the samples in each state."""
        count = len(self.found.table)
        shared = {"run": self.attack.label, "kind": "bracket", "samples": count}
        ends = {
            f"certified by {self.method}": self.found.certified,
            LEFT: self.found.attacked,
        }
        rows = [
            Row(**shared, name=name, value=value, low=low, high=high)  # type: ignore[arg-type]
            for name, (value, low, high) in ends.items()
        ]
        for state in STATES[1:]:
            samples = int((self.found.table.state == state).sum())
            rows.append(Row(**shared, name=state, value=samples / count))  # type: ignore[arg-type]
        return rows

    @property
    def bar(self) -> Bar:
        """The shares of samples in each state, for the figure."""
        table = self.found.table
        shares = [float((table.state == state).mean()) for state in STATES]
        return Bar(f"{self.attack.label}: {self.method}", tuple(zip(STATES, shares, strict=True)))


def right_of(certificates: pd.DataFrame) -> NDArray[np.bool_]:
    """Of each certificate whether the class that it speaks of is the label; shape (samples,)."""
    right = (certificates["prediction"] == certificates["label"]).fillna(False)
    return right.to_numpy(dtype=bool)


def proved_within(certificates: pd.DataFrame, distance: float) -> NDArray[np.bool_]:
    """Of each certificate whether the label is proved within a distance; shape (samples,).

    A radius of 0 that holds up to chance is none, also where the distance is 0.
    """
    radius, alpha = (certificates[name].to_numpy(dtype=float) for name in ("radius", "alpha"))
    reached = (radius >= distance * SAME) & ((alpha == 0) | (radius > 0))
    proved: NDArray[np.bool_] = right_of(certificates) & reached
    return proved


def pairs_of(found: Sequence[Source]) -> list[Pair]:
    """Each run of certificates with each run of attacks that is about the same thing.

    ContractError with both witnesses if a sample is certified in one and broken in the other, or
    if more is certified of all of them than the attacks left, and not by chance.
    """
    pairs = []
    for proof in (source for source in found if source.proves):
        for attack in (source for source in found if not source.proves and not source.corrupts):
            if attack.verdicts.empty or not attack.whole:
                continue
            try:
                pair = Pair(proof, attack, bracket(proof.run, attack.run))
            except ConfigError:
                continue  # of something else: both stand in the report by themselves
            _refuse_crossed(pair)
            pairs.append(pair)
    return pairs


def _refuse_crossed(pair: Pair) -> None:
    crossing = pair.crossing
    if crossing is not None and crossing.p_value < CHANCE:
        raise ContractError(
            f"{pair.proof.run.path} certifies {100 * pair.found.certified.value:.1f} % and the "
            f"attacks of {pair.attack.run.path} leave {100 * pair.found.attacked.value:.1f} % of "
            "the same samples, which is no chance, so one of the two is wrong; report this with "
            "both run folders"
        )
