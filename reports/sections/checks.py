"""What a run says of its own evaluation: its checks, what it changed by them, what to run next."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from robustcode.reports.figures.small import Plot, Sizes
from robustcode.reports.grids import Grid, percent
from robustcode.reports.sections.pilot import plots_of
from robustcode.reports.source import Source, as_text
from robustcode.reports.table import tables
from robustcode.summary import ANSWERED, OUTCOMES, tally

# Beside the word, so that neither colour nor sign alone says how a check went.
SIGNS = {
    "failure": "✕",
    "warning": "▲",
    "untested": "?",
    "info": "i",
    "passed": "✓",
    "not applicable": "○",
}
UNKNOWN = "?"
LOOKS = {"failure": "bad", "passed": "good", "not applicable": "none", "info": "none"}
# What a reader need not look at.
QUIET = ("passed", "not applicable")
KEPT = {"True": "kept", "False": "not kept"}
ON_A_PILOT = "Most checks look at a pilot: a few of the samples, spread over all."
# Codes of checks; nothing else is put into a command for the reader to copy.
CODE = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Line:
    """How one check went; see robustcode.checks.Looked."""

    code: str
    group: str
    status: str
    said: str

    @property
    def sign(self) -> str:
        """A mark for the eye."""
        return SIGNS.get(self.status, UNKNOWN)

    @property
    def look(self) -> str:
        """The class that a page draws it in; a sign and a word say the same."""
        return LOOKS.get(self.status, "doubt")

    @property
    def quiet(self) -> bool:
        """Whether it passed or does not apply."""
        return self.status in QUIET


@dataclass(frozen=True)
class Shelf:
    """The checks that look at one thing, the gravest first."""

    group: str
    lines: tuple[Line, ...]

    @property
    def loud(self) -> tuple[Line, ...]:
        """Those a reader must see."""
        return tuple(line for line in self.lines if not line.quiet)

    @property
    def folded(self) -> tuple[Line, ...]:
        """Those that may be folded away."""
        return tuple(line for line in self.lines if line.quiet)

    @property
    def tally(self) -> str:
        """What is folded, in words."""
        return tally(line.status for line in self.folded)


@dataclass(frozen=True)
class Checkup:
    """The checks of one run.

    Attributes:
        run: its label.
        tally: how many went how, in words.
        shelves: by what they look at, in the order of the run.
        grids: the same as a table; one, or none without checks.
        repairs: what was changed, and what it bought; one, or none.
        command: what the run proposes to run next; empty if nothing.
        plots: what was measured on the pilot.
        end: what ends the caption of these plots together.
    """

    run: str
    tally: str
    shelves: tuple[Shelf, ...]
    grids: tuple[Grid, ...]
    repairs: tuple[Grid, ...]
    command: str
    plots: tuple[Plot | Sizes, ...]
    end: str = ""


def checkup_of(source: Source) -> Checkup | None:
    """What the summary of a run says; None of a run of before there were checks."""
    summary = source.run.summary
    lines = [_line(entry) for entry in tables(summary.get("checks"))]
    repairs = _repairs(source, tables(summary.get("repairs")))
    command = str(summary.get("next") or "")
    plots = tuple(plots_of(source))
    if not (lines or repairs or command or plots):
        return None
    groups = dict.fromkeys(line.group for line in lines)
    shelves = tuple(
        Shelf(group, tuple(_by_gravity(line for line in lines if line.group == group)))
        for group in groups
    )
    counts = tally(line.status for line in lines)
    grids = (_grid(source, shelves),) if lines else ()
    return Checkup(source.label, counts, shelves, grids, repairs, command, plots)


def explained_by(code: str) -> str:
    """The command that prints the page of a check; empty for what is no code."""
    return f"robustcode explain {code}" if CODE.fullmatch(code) else ""


def _line(entry: Mapping[str, Any]) -> Line:
    # Which attack answered it is said where findings and changes are.
    said, answered, _ = str(entry.get("said", "")).partition(ANSWERED)
    return Line(
        str(entry.get("code", "unnamed")),
        str(entry.get("group", "other")),
        str(entry.get("status", "unknown")),
        said + answered.rstrip(": "),
    )


def _by_gravity(lines: Iterable[Line]) -> list[Line]:
    """The gravest first; what is not known to be harmless stands before all."""
    order = list(OUTCOMES)
    return sorted(
        lines, key=lambda line: order.index(line.status) if line.status in OUTCOMES else -1
    )


def _grid(source: Source, shelves: Iterable[Shelf]) -> Grid:
    """A line for each check that a reader must see, then those that passed in one line a group."""
    shelves = list(shelves)
    lines = _by_gravity(line for shelf in shelves for line in shelf.lines)
    rows = [
        (line.status, line.group, line.code, line.said) for line in lines if line.status != "passed"
    ]
    for shelf in shelves:
        passed = [line.code for line in shelf.lines if line.status == "passed"]
        if passed:
            rows.append(("passed", shelf.group, ", ".join(passed), ""))
    return Grid(
        f"Checks of the evaluation of {source.label}: {tally(line.status for line in lines)}",
        ("result", "looks at", "check", "what was seen"),
        ("word", "word", "phrase", "phrase"),
        tuple(rows),
        (ON_A_PILOT,),
        f"checks-{source.key}",
    )


def _repairs(source: Source, entries: list[Mapping[str, Any]]) -> tuple[Grid, ...]:
    if not entries:
        return ()
    # Only where something was seen beyond the two accuracies.
    told = any(entry.get("said") for entry in entries)
    rows = tuple(
        (
            str(entry.get("finding", "")),
            as_text(entry.get("change")),
            as_text(entry.get("samples")),
            _share(entry.get("before")),
            _share(entry.get("after")),
            KEPT.get(str(entry.get("kept")), ""),
            *((str(entry.get("said") or ""),) if told else ()),
        )
        for entry in entries
    )
    seen = ("what was seen",) if told else ()
    return (
        Grid(
            f"What was changed in the evaluation of {source.label}, and what it bought",
            ("finding", "change", "n", "before, %", "after, %", "outcome", *seen),
            ("phrase", "phrase", *("number",) * 3, "word", *("phrase" for _ in seen)),
            rows,
            (
                "n pilot samples that are right without attack: what all before the change left of "
                "them, and what is left with it. What is kept was added to the attacks of the run.",
            ),
            f"repairs-{source.key}",
        ),
    )


def _share(value: Any) -> str:
    """An accuracy in per cent; what is no number as it stands."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return percent(value, None) if math.isfinite(value) else ""
