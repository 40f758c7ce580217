"""Leaderboards, of what is comparable only: anything else is refused with the reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from robustcode.reports.comparison.comparable import (
    attacked_by,
    chosen_of,
    unequal,
    unfit,
    unlike,
)
from robustcode.reports.comparison.compare import Comparison
from robustcode.reports.grids import counted
from robustcode.reports.source import Source
from robustcode.reports.table import Row


@dataclass(frozen=True)
class Refusal:
    """A run that is left out, and why.

    Attributes:
        run: its label.
        others: the runs it is not set beside or not ranked with.
        why: in one sentence; "it" is the run.
        kind: "not compared" or "not ranked".
    """

    run: str
    others: str
    why: str
    kind: str

    @property
    def rows(self) -> list[Row]:
        """For programs."""
        name = f"with {self.others}" if self.others else "with any run"
        return [Row(run=self.run, kind=self.kind, name=name, said=self.why)]


@dataclass(frozen=True)
class Leaderboard:
    """Runs on the same samples under one suite or the same attacks, the best worst case first.

    A rank is one more than the number of runs on the board that are better after Holm at 5 %. With
    probability 95 % no run's true rank is before the one it is given: a rank is a bound. To be told
    apart is not transitive, so ranks need not ascend with falling accuracy: of three runs the first
    may be told from the second and not from the third, about which there is more doubt.

    Attributes:
        group: the comparison that the numbers are of.
        members: by worst-case accuracy.
    """

    group: Comparison
    members: tuple[Source, ...]

    @property
    def attacked_by(self) -> str:
        """What all were attacked by, in words."""
        ways = {attacked_by(member) for member in self.members}
        if len(ways) == 1 and self.members[0].fact("suite"):
            return ways.pop() + (" (which chose for each run)" if self.chosen else "")
        return f"the same {counted(len(self.members[0].attacks), 'attack')}"

    @property
    def chosen(self) -> dict[str, str]:
        """By label, the attacks that not all were given; empty if all were given the same."""
        return chosen_of(self.members)

    @property
    def ranks(self) -> dict[str, int]:
        """By label."""
        here = {member.label for member in self.members}
        return {label: 1 + len(here.intersection(self.group.better(label))) for label in here}

    @property
    def rows(self) -> list[Row]:
        """For programs: ``at`` is the rank, ``said`` the attacks that not all were given."""
        rows, ranks, chosen = [], self.ranks, self.chosen
        for member in self.members:
            worst = self.group.row_of(member.label, "worst case")
            if worst is not None:
                rows.append(
                    Row(
                        run=member.label,
                        kind="rank",
                        name=f"rank by worst case under {self.attacked_by}",
                        samples=worst.samples,
                        value=worst.value,
                        low=worst.low,
                        high=worst.high,
                        at=ranks[member.label],
                        said=chosen.get(member.label, ""),
                    )
                )
        return rows


def boards_of(
    groups: Sequence[Comparison], failed: Collection[str] = ()
) -> tuple[list[Leaderboard], list[Refusal]]:
    """Every leaderboard of some comparisons, and the runs not compared or not ranked.

    ``failed`` are the labels of runs with a failed check.
    """
    boards: list[Leaderboard] = []
    refused = _not_compared(groups)
    for group in groups:
        found, others = _leaderboards(group, failed)
        boards += found
        refused += others
    return boards, refused


def _leaderboards(
    group: Comparison, failed: Collection[str]
) -> tuple[list[Leaderboard], list[Refusal]]:
    """The boards of a comparison, the longest first, and who is not on that, with the reason.

    A run joins the first board with all of whose runs it may be ranked.
    """
    if len(group.members) < 2:
        return [], []
    reasons = {member.label: unfit(member, failed) for member in group.members}
    boards: list[list[Source]] = []
    for member in group.members:
        if reasons[member.label]:
            continue
        for board in boards:
            if not any(unequal(other, member) for other in board):
                board.append(member)
                break
        else:
            boards.append([member])
    # The first of the longest is what the others are told of.
    boards.sort(key=len, reverse=True)
    for board in boards[1:]:
        for member in board:
            why = (unequal(other, member) for other in boards[0])
            reasons[member.label] = next(filter(None, why), "")
    refused = [
        Refusal(member.label, others, reasons[member.label], "not ranked")
        for member in group.members
        if reasons[member.label]
        for others in [_names(boards[0]) if boards and not unfit(member, failed) else ""]
    ]
    return [
        Leaderboard(group, tuple(sorted(board, key=lambda member: -_worst(group, member))))
        for board in boards
        if len(board) > 1
    ], refused


def _not_compared(groups: Sequence[Comparison]) -> list[Refusal]:
    """The runs outside the largest comparison, each with what sets it apart from that."""
    if len(groups) < 2:
        return []
    largest = max(groups, key=lambda group: len(group.members))
    names = _names(largest.members)
    return [
        Refusal(
            member.label,
            names,
            # Each of the two may share samples with some of the others and with none of all.
            unlike(largest.members, member) or f"No sample is in all of its group and of {names}.",
            "not compared",
        )
        for group in groups
        if group is not largest
        for member in group.members
    ]


def _names(members: Sequence[Source]) -> str:
    return ", ".join(member.label for member in members)


def _worst(group: Comparison, member: Source) -> float:
    row = group.row_of(member.label, "worst case")
    return 0.0 if row is None or row.value is None else row.value
