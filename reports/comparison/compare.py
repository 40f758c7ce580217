"""Several runs on the samples they share, and what their differences are worth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray

from robustcode.reports.comparison.comparable import common_samples, unlike
from robustcode.reports.grids import counted, first_of
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.numbers.steps import accuracy
from robustcode.reports.source import Source
from robustcode.reports.table import WORST, Row, rows_of
from robustcode.statistics import (
    Difference,
    holm,
    mcnemar,
    paired_difference,
    paired_p_value,
)

# Adjusted p-values up to this resolve a difference: it is called one.
LEVEL = 0.05
MCNEMAR, INVERTED = "exact McNemar", "inverted interval"


@dataclass(frozen=True)
class Contrast:
    """Worst-case accuracy of the run labelled ``second`` less that of ``first``.

    Attributes:
        first: a label.
        second: a label.
        samples: on how many.
        difference: with its 95 % interval, which is not adjusted for the other pairs.
        test: what ``p_value`` is of: MCNEMAR between deterministic runs, INVERTED for the others.
        p_value: of no difference.
        p_holm: adjusted for all pairs of the comparison.
    """

    first: str
    second: str
    samples: int
    difference: Difference
    test: str
    p_value: float
    p_holm: float = 1.0

    @property
    def resolved(self) -> bool:
        """Whether the samples tell the two apart."""
        return self.p_holm <= LEVEL

    @property
    def better(self) -> str:
        """The label of the one with the higher accuracy."""
        return self.second if self.difference.value > 0 else self.first

    @property
    def row(self) -> Row:
        """For programs."""
        value, low, high = self.difference
        return Row(
            run=self.second,
            kind="difference",
            name=f"{WORST}, less that of {self.first}",
            settings=self.test,
            samples=self.samples,
            value=value,
            low=low,
            high=high,
            p_value=self.p_value,
            p_holm=self.p_holm,
        )


@dataclass(frozen=True)
class Comparison:
    """Runs on the same data under the same threat, on the samples that all of them share.

    A run with unfinished samples is alone: what it has finished is what was easy to break, and to
    compare others on that would be to choose samples by their outcome.

    Attributes:
        members: the runs, in the order given.
        marks: a letter for each, unique on a page.
        samples: those that all share.
        rows: clean, worst case and certified of each on these, then every difference.
        contrasts: of every pair of attacked runs, the later one less the earlier one.
        unsaid: sentences about numbers that cannot be had for these samples.
    """

    members: tuple[Source, ...]
    marks: tuple[str, ...]
    samples: tuple[int, ...]
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...] = ()
    unsaid: tuple[str, ...] = ()

    @property
    def trimmed(self) -> bool:
        """Whether some run has samples that are left out here."""
        return any(len(member.verdicts) != len(self.samples) for member in self.members)

    def row_of(self, label: str, kind: str) -> Row | None:
        """The row of a run; ``kind`` is clean, worst case or certified."""
        wanted = (label, f"compared {kind}")
        return next((row for row in self.rows if (row.run, row.kind) == wanted), None)

    def mark_of(self, label: str) -> str:
        """The letter of a run."""
        return dict(zip((member.label for member in self.members), self.marks, strict=True))[label]

    def contrasts_of(self, label: str) -> list[tuple[str, Contrast]]:
        """The other run of every pair that a run is in, and the pair."""
        return [
            (contrast.second if contrast.first == label else contrast.first, contrast)
            for contrast in self.contrasts
            if label in (contrast.first, contrast.second)
        ]

    def unresolved(self, label: str) -> list[str]:
        """The runs that these samples do not tell from this one."""
        return [other for other, contrast in self.contrasts_of(label) if not contrast.resolved]

    def better(self, label: str) -> list[str]:
        """The runs that are better than this one, and not by chance."""
        return [
            other
            for other, contrast in self.contrasts_of(label)
            if contrast.resolved and contrast.better == other
        ]


def comparisons(runs: Sequence[Source], pairs: Sequence[Pair] = ()) -> list[Comparison]:
    """The runs in groups that may be compared, in the order given; a group may be of one.

    ``pairs`` bring what is proved of them.
    """
    groups: list[list[Source]] = []
    for source in runs:
        for group in groups:
            if not unlike(group, source):
                group.append(source)
                break
        else:
            groups.append([source])
    marks = {source.label: mark for source, mark in zip(runs, _letters(), strict=False)}
    return [
        _compare(tuple(group), tuple(marks[source.label] for source in group), pairs)
        for group in groups
    ]


def _letters() -> itertools.chain[str]:
    """A, B, .., Z, AA, AB, .."""
    return itertools.chain.from_iterable(
        map("".join, itertools.product(ascii_uppercase, repeat=length))
        for length in itertools.count(1)
    )


def _compare(
    members: tuple[Source, ...], marks: tuple[str, ...], pairs: Sequence[Pair]
) -> Comparison:
    common = common_samples(members)
    if len(members) == 1 and not members[0].whole:
        return Comparison(members, marks, tuple(common), _alone(members[0]))
    rows: list[Row] = []
    unsaid: list[str] = []
    for member in members:
        if common:
            rows.append(_row(member, _shares(member, "clean", common), "clean", "clean"))
        if common and member.attacks:
            rows.append(_row(member, _shares(member, "robust", common), WORST, "worst case"))
        proved, lacking = _proved(member, common, pairs)
        rows += proved
        unsaid += lacking
    contrasts = (
        _contrasts([member for member in members if member.attacks], common) if common else []
    )
    rows += [contrast.row for contrast in contrasts]
    return Comparison(members, marks, tuple(common), tuple(rows), tuple(contrasts), tuple(unsaid))


def _row(member: Source, shares: NDArray[np.float64], name: str, kind: str) -> Row:
    value, low, high = accuracy(shares, member.draws)
    return Row(
        run=member.label,
        kind=f"compared {kind}",
        name=name,
        samples=len(shares),
        value=value,
        low=low,
        high=high,
    )


def _proved(
    member: Source, samples: list[int], pairs: Sequence[Pair]
) -> tuple[list[Row], list[str]]:
    """The most that one method proves on these samples, or why that is not known of them."""
    rows, lacking = [], []
    for pair in pairs:
        if pair.attack.label != member.label:
            continue
        table = pair.found.table.set_index("sample")["proved"]
        covered = len(table.index.intersection(samples))
        if covered < len(samples):
            lacking.append(
                f"The certificates of {member.label} by {pair.method} are of {covered} of "
                f"the {counted(len(samples), 'sample')} only, and are not shown beside the others."
            )
            continue
        shares = table.loc[samples].to_numpy(np.float64)
        rows.append(_row(member, shares, f"certified: {pair.method}", "certified"))
    if not rows and member.run.summary.get("certified"):
        stated = first_of(rows_of(member), "certified")
        if stated and stated.samples == len(samples) == len(member.verdicts):
            threat = stated.settings
            other = f" for {threat}" if threat and threat != member.fact("threat") else ""
            row = _without_cost(stated, "compared certified")
            rows.append(replace(row, name=f"{row.name}{other}"))
        else:
            lacking.append(
                f"What is certified of {member.label} is known of all its samples together and not "
                "of those compared; give the run of its certificates to the report as well."
            )
    rows.sort(key=lambda row: row.value or 0.0)
    return rows[-1:], [] if rows else lacking


def _alone(source: Source) -> tuple[Row, ...]:
    """A run's own numbers, which are bounds where samples are unfinished."""
    kinds = ("clean", "worst case")
    rows = [row for row in rows_of(source) if row.kind in kinds]
    return tuple(_without_cost(row, f"compared {row.kind}") for row in rows)


def _without_cost(row: Row, kind: str) -> Row:
    return replace(
        row, kind=kind, settings="", abstained=None, forwards=None, backwards=None, seconds=None
    )


def _contrasts(attacked: Sequence[Source], samples: list[int]) -> list[Contrast]:
    """Every pair on the same samples; p-values are adjusted for all of them together."""
    robust = {member.label: _shares(member, "robust", samples) for member in attacked}
    contrasts = []
    for first, second in itertools.combinations(attacked, 2):
        before, after = robust[first.label], robust[second.label]
        if first.draws is None and second.draws is None:
            lost, won = int((before > after).sum()), int((after > before).sum())
            test, p_value = MCNEMAR, mcnemar(lost, won)
        else:
            test, p_value = INVERTED, paired_p_value(before, after)
        difference = paired_difference(before, after)
        contrasts.append(
            Contrast(first.label, second.label, len(samples), difference, test, p_value)
        )
    adjusted = holm([contrast.p_value for contrast in contrasts])
    return [
        replace(contrast, p_holm=p_holm)
        for contrast, p_holm in zip(contrasts, adjusted, strict=True)
    ]


def _shares(source: Source, column: str, samples: list[int]) -> NDArray[np.float64]:
    return source.verdicts.loc[samples, column].to_numpy(dtype=np.float64)
