"""The records of a run as arrays: a row for each sample, a column for each attack in its order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustcode.reports.source import Source

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Whole = NDArray[np.intp]


@dataclass(frozen=True)
class Sheet:
    """What every attack did to every sample; arrays are of shape (samples, attacks) unless said.

    Attributes:
        names: the attacks, in the order they were run.
        samples: their indices in the split, ascending; shape (samples,).
        labels: their classes; shape (samples,).
        clean: share of right decisions on the sample itself; shape (samples,).
        shares: likewise on each proposal; NaN where the attack did not come to an end.
        choosing: likewise on the draws that choose among attacks; infinite where not known.
        finished: whether the attack came to an end.
        selected: the proposal that is the worst of its sample; at most one in a row.
        distance: of the proposal, in the threat's norm.
        passes: forwards and backwards that the attack spent.
        ran: whether the attack was run on the sample, and none stands in for it.
        stops: whether the attack leaves a sample as soon as it is broken; one an attack.
        missing: samples that were asked for and have no record.
        draws: decisions about each input; None where they are not random.
    """

    names: tuple[str, ...]
    samples: Whole
    labels: Whole
    clean: Floats
    shares: Floats
    choosing: Floats
    finished: Bools
    selected: Bools
    distance: Floats
    passes: Floats
    ran: Bools
    stops: tuple[bool, ...]
    missing: int
    draws: int | None

    @cached_property
    def held(self) -> Floats:
        """Share of right decisions on the worst input after each attack, (samples, attacks + 1).

        The first column is the sample itself. Without chance it is the least so far. Of a random
        defence it is that of the proposal which the draws that choose show to be the worst so far,
        of equals the last, until it is the one that was selected in the end. What these draws say
        of the sample itself is not kept: where a later proposal was selected, the worst of the
        earlier ones stands for the sample, though the sample itself may be worse.
        """
        if self.draws is None:
            return np.fmin.accumulate(np.column_stack([self.clean, self.shares]), axis=1)
        held = [self.clean]
        least = np.full(len(self.clean), np.inf)
        beaten, ended = self.selected.any(1), np.zeros(len(self.clean), dtype=bool)
        for place in range(len(self.names)):
            choosing, share = self.choosing[:, place], self.shares[:, place]
            worse = choosing <= least
            worse &= beaten & ~ended & np.isfinite(choosing) & ~np.isnan(share)
            chosen = self.selected[:, place] & ~np.isnan(share)
            ended |= chosen
            least = np.where(worse, choosing, least)
            held.append(np.where(worse | chosen, share, held[-1]))
        return np.column_stack(held)

    @cached_property
    def unknown(self) -> Bools:
        """Whether an attack so far did not come to an end and none has left no chance.

        Shape (samples, attacks + 1): nothing is unknown of the sample itself.
        """
        begun = np.column_stack([np.zeros(len(self.clean), dtype=bool), ~self.finished])
        return np.logical_or.accumulate(begun, axis=1) & (self.held > 0)

    @cached_property
    def spent(self) -> Floats:
        """Passes spent on each sample by the end of each attack, (samples, attacks + 1)."""
        return np.cumsum(np.column_stack([np.zeros(len(self.clean)), self.passes]), axis=1)


def sheet_of(source: Source) -> Sheet | None:
    """The records of a run of attacks; None if it has none."""
    records = source.run.records
    if records.empty or source.proves:
        return None
    told = [str(attack.get("name")) for attack in source.attacks]
    # An attack that the summary does not name is of another make, and still has its records.
    names = tuple(dict.fromkeys([*told, *records["attack"].astype(str)]))
    samples, row = np.unique(records["sample"].to_numpy(), return_inverse=True)
    column = pd.Categorical(records["attack"].astype(str), categories=names).codes
    cells = (row, column.astype(np.intp))
    shape = (len(samples), len(names))
    # Of each sample any record tells what is known of it without an attack.
    first = np.zeros(len(samples), dtype=np.intp)
    first[row[::-1]] = np.arange(len(records))[::-1]

    def spread(values: Any, missing: float) -> Floats:
        """Numbers of the records in their cells; ``missing`` where there is none."""
        table = np.full(shape, np.nan)
        table[cells] = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
        return np.where(np.isnan(table), missing, table)

    def marked(values: Any, missing: bool) -> Bools:
        table = np.full(shape, missing)
        table[cells] = np.asarray(values, dtype=bool)
        return table

    finished = marked(records["finished"], True)
    random = source.draws is not None
    chosen = marked(records["selected"], False)
    return Sheet(
        names=names,
        samples=samples.astype(np.intp),
        labels=records["label"].to_numpy(np.intp)[first],
        clean=records["clean_correct"].to_numpy(float)[first],
        shares=np.where(finished, spread(records["correct"], np.nan), np.nan),
        choosing=spread(records["choosing"], np.inf) if random else np.full(shape, np.inf),
        finished=finished,
        selected=chosen & (np.cumsum(chosen, axis=1) == 1),
        distance=spread(records["distance"], np.inf),
        passes=np.maximum(spread(records["forwards"], 0) + spread(records["backwards"], 0), 0),
        ran=marked(records["carried"].isna() & ~records["proved"].astype(bool), False),
        stops=tuple(name in _stopping(source) for name in names),
        missing=_missing(source, len(samples)),
        draws=source.draws,
    )


def _stopping(source: Source) -> set[str]:
    """The attacks that were told to leave a sample once it is broken."""
    return {
        str(attack.get("name"))
        for attack in source.attacks
        if isinstance(settings := attack.get("settings"), dict)
        and settings.get("until_broken") is True
    }


def _missing(source: Source, seen: int) -> int:
    """Samples without a record, which a time limit leaves; none where the summary does not say."""
    asked = source.run.summary.get("samples")
    return max(0, asked - seen) if isinstance(asked, int) else 0
