"""A run as a part of a model card: results in the `model-index` form, and a section for people.

See model_index for the form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from robustcode.corrupted import notes_of
from robustcode.reports.escape import markdown, plain
from robustcode.reports.gating.entry import Entry
from robustcode.reports.gating.gate import Verdict
from robustcode.reports.gating.model_index import index_head, result_lines
from robustcode.reports.grids import BOUND, PROOF, accuracy_of, interval_of
from robustcode.reports.sections import corruption
from robustcode.reports.sections.bracket import proof_verdict
from robustcode.reports.sections.corruption import corruption_verdict
from robustcode.reports.sections.findings import Weakness, weaknesses
from robustcode.reports.sections.origins import call_of, facts_of
from robustcode.reports.sections.verdict import verdict, warning
from robustcode.reports.source import Source, sources
from robustcode.reports.table import Row, rows_of
from robustcode.store import Run

KINDS = ("clean", "attack", "worst case", "certified", "corruption")


def model_card(run: Run, url: str = "") -> str:
    """A model card of one run: what is put into an existing card, as a card of its own.

    ``url`` is where the run or its report can be seen; none is named without it.
    """
    return card_of(Entry(sources([run])[0], url))


def card_of(entry: Entry) -> str:
    """See model_card."""
    head = ["---", *index_head(entry), *result_lines(entry, 2), "---", ""]
    return "\n".join([*head, f"# {markdown(entry.name)}", "", *section(entry), ""])


def section(entry: Entry) -> list[str]:
    """The lines of the section for people, between comments that it is found by."""
    source = entry.source
    rows, found = _rows(source), weaknesses([source])
    threat, what = source.fact("threat"), "Robustness"
    against = f" in {threat}" if threat else ""
    if source.corrupts:
        against, said = " to common corruptions", corruption_verdict(source)
    elif source.proves:
        what, said = "Certified robustness", proof_verdict(source, {source.label: rows})
    else:
        said = verdict(source, rows)
    notes = notes_of(source.run.summary) if source.corrupts else _bounds(rows)
    return [
        f"<!-- robustcode {entry.key}: begin -->",
        f"## {markdown(f'{what} of {entry.name}{against}')}",
        "",
        markdown(" ".join(filter(None, [said, warning(found, 1)]))),
        "",
        *_gate(entry.verdict),
        *_table(rows),
        "",
        *(f"- {markdown(note)}" for note in notes),
        *([""] if notes else []),
        *_findings(found),
        *_repeat(source),
        f"<!-- robustcode {entry.key}: end -->",
    ]


def _gate(verdict: Verdict | None) -> list[str]:
    """What was asked of the run and whether it holds: a card must not claim what no longer does."""
    if verdict is None:
        return []
    lines = [
        f"- {'holds' if condition.holds else 'fails'}: {markdown(condition.said)}"
        for condition in verdict.conditions
    ]
    return [f"This run {verdict.outcome}:", "", *lines, ""]


def _rows(source: Source) -> list[Row]:
    """What the section's table shows: of corruptions what is clean and the means, no cells."""
    if not source.corrupts:
        return rows_of(source)
    return [row for row in corruption.rows_of(source) if not row.at]


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| measured | accuracy (%) | 95 % interval | samples |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row.kind in KINDS:
            name = f"{row.name}, an upper bound" if row.kind == "worst case" else row.name
            cells = (name, accuracy_of(row), interval_of(row), str(row.samples or ""))
            lines.append(f"| {' | '.join(map(markdown, cells))} |")
    return lines


def _bounds(rows: Sequence[Row]) -> list[str]:
    """What the numbers of the table are bounds of."""
    kinds = {row.kind for row in rows}
    said = {"worst case": BOUND, "certified": PROOF}
    return [note for kind, note in said.items() if kind in kinds]


def _findings(found: Sequence[Weakness]) -> list[str]:
    if not found:
        return []
    lines = ["Findings of the checks of this evaluation:", ""]
    for one in found:
        said = " ".join(filter(None, (one.what, one.remedy)))
        lines.append(f"- {markdown(one.severity)}, {markdown(one.code)}: {markdown(said)}")
    return [*lines, ""]


def _repeat(source: Source) -> list[str]:
    """The spec as it stands in the run, in a fence that nothing in it closes."""
    path = source.run.path / "spec.toml"
    spec = [plain(line) for line in path.read_text("utf-8", "replace").splitlines()]
    call = plain(call_of(source))
    longest = max(
        (len(found) for line in [*spec, call] for found in re.findall("`+", line)), default=0
    )
    fence = "`" * max(3, longest + 1)
    lines = [f"- {name}: {markdown(told)}" for name, told in facts_of(source)]
    how = ["To repeat it, save these lines as spec.toml and call `robustcode run spec.toml`:", ""]
    if call:
        how = [
            "What was passed in from Python has no name in a file; with the same model and data "
            "this repeats it:",
            *("", f"{fence}python", call, fence, "", "It is of this spec:", ""),
        ]
    return [
        *how,
        f"{fence}toml",
        *spec,
        fence,
        "",
        *([*lines, ""] if lines else []),
    ]
