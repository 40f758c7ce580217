"""What is known at the end of a run, for the checks that review it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from robustcode.budget import Limit
from robustcode.plan import PlannedAttack
from robustcode.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A budget that ran out.

    Attributes:
        limit: which one.
        value: how much it was.
        samples: those that no attack broke and that some attack was not finished on.
        never_begun: of how many not even the clean prediction is known.
        idle: the time was not enough for a single shard.
    """

    limit: Limit
    value: float
    samples: Sequence[int]
    never_begun: int
    idle: bool = False


@dataclass(frozen=True, kw_only=True)
class Results:
    """Records and how they came about.

    Attributes:
        records: with the columns of records.Record.
        attacks: as they were planned.
        threat: what they were allowed.
        asked: samples the run was to look at.
        stopped: budgets that ran out.
        raised: codes of the pilot's findings that weaken the evidence.
        repaired: whether attacks were added that get further than the planned ones.
    """

    records: pd.DataFrame
    attacks: Sequence[PlannedAttack]
    threat: ThreatModel
    asked: int
    stopped: Sequence[Stopped] = ()
    raised: frozenset[str] = frozenset()
    repaired: bool = False

    @property
    def controls(self) -> set[str]:
        """Names of the attacks that are there to be compared with."""
        return {p.name for p in self.attacks if p.attack.control}
