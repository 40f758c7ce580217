"""What a report says, before any format: sentences, findings, tables and figures from the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcode.errors import ConfigError
from robustcode.reports.figures import Dot
from robustcode.reports.references import references
from robustcode.reports.table import Comparison, Row, Source, as_text, comparisons, rows_of, sources
from robustcode.store import Run

SEVERITIES = ("failure", "warning", "info")
MAIN_KINDS = ("clean", "attack", "worst case", "certified")
FACTS = ("device", "checkpoint_sha256", "data_sha256", "git", "versions", "schema")
SHOWN = 12  # samples of a finding, or files of a data set, that are listed before "and n more"
# Two decimals need a thousand samples: below, one sample moves the first decimal.
MANY = 1000

BOUND = "An attack gives an upper bound of the true robust accuracy: a stronger one may leave less."
EXACT = (
    "Intervals are Clopper-Pearson's at 95 %. They speak of the draw of the n samples only, "
    "not of the attack's seeds and not of its strength."
)
CLUSTERED = (
    "Intervals are at 95 %, with the draws of one sample counted as one cluster. They speak of the "
    "draw of the n samples and of the defence's randomness, not of the attack's strength."
)


@dataclass(frozen=True)
class Grid:
    """A table as it is shown; ``widths`` says of each column: text, number or long."""

    caption: str
    headers: tuple[str, ...]
    widths: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weakness:
    """A finding as it is shown."""

    run: str
    code: str
    severity: str
    what: str
    remedy: str
    figures: str
    samples: str


@dataclass(frozen=True)
class Chart:
    """A figure and its file name without ending."""

    stem: str
    title: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Origin:
    """What repeats a run."""

    run: str
    facts: tuple[tuple[str, str], ...]
    spec: str


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    verdict: str
    findings: tuple[Weakness, ...]
    grids: tuple[Grid, ...]
    charts: tuple[Chart, ...]
    origins: tuple[Origin, ...]
    references: tuple[str, ...]
    rows: tuple[Row, ...]


def compose(runs: Sequence[Run]) -> Page:
    """The page on one run, or on several side by side."""
    if not runs:
        raise ConfigError("a report needs at least one run folder")
    found = sources(runs)
    rows = {source.label: rows_of(source) for source in found}
    findings = _ordered(weakness for source in found for weakness in _weaknesses(source))
    own = [grid for source in found for grid in _own_grids(source, rows[source.label])]
    every = [row for source in found for row in rows[source.label]]
    if len(found) == 1:
        title, verdict = f"How robust is {found[0].label}?", _verdict(found[0], every)
        grids, charts = own, [Chart("accuracy", "Accuracy", _dots(every))]
    else:
        groups = comparisons(found)
        title = f"How robust are they? {len(found)} runs side by side"
        verdict = " ".join(_group_verdict(group, rows) for group in groups)
        grids = [grid for group in groups for grid in _group_grids(group, rows)]
        if len(groups) > 1:
            grids[-1] = _with_note(grids[-1], _apart(groups))
        grids += own
        charts = [
            Chart(f"comparison-{number}", _setting(group.members[0]), _group_dots(group))
            for number, group in enumerate(groups, 1)
        ]
        every += [row for group in groups for row in group.rows]
    return Page(
        title,
        verdict + _warning(findings),
        findings,
        tuple(grids),
        tuple(chart for chart in charts if chart.dots),
        tuple(_origin(source) for source in found),
        tuple(dict.fromkeys(line for source in found for line in _references(source))),
        tuple(every),
    )


def percent(value: float | None, samples: int | None) -> str:
    """A fraction in per cent, without the sign; empty for none.

    >>> percent(0.5234, 500), percent(0.5234, 5000)
    ('52.3', '52.34')
    """
    if value is None:
        return ""
    return f"{100 * value:.{2 if (samples or 0) >= MANY else 1}f}"


def _interval(row: Row) -> str:
    if row.low is None or row.high is None:
        return ""
    return f"{percent(row.low, row.samples)} to {percent(row.high, row.samples)}"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _named(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _setting(source: Source) -> str:
    data, threat = source.fact("data") or "unnamed data", source.fact("threat")
    return f"{data} under {threat}" if threat else data


def _first(rows: Iterable[Row], kind: str) -> Row | None:
    return next((row for row in rows if row.kind == kind and row.value is not None), None)


def _stated(row: Row) -> str:
    interval = _interval(row)
    limits = f" (95 % interval {interval} %)" if interval else ""
    return f"{percent(row.value, row.samples)} %{limits}"


def _verdict(source: Source, rows: Sequence[Row]) -> str:
    clean, worst, proof = (_first(rows, kind) for kind in ("clean", "worst case", "certified"))
    parts = []
    if clean:
        parts.append(f"classifies {percent(clean.value, clean.samples)} % correctly")
    if worst:
        attacks = _named(len(source.attacks), "attack")
        parts.append(
            f"keeps {_stated(worst)} under the worst of {attacks} in {source.fact('threat')}"
        )
    if proof:
        parts.append(f"is certified for {_stated(proof)}")
    if source.draws:
        parts.append(f"is random, so that these are expectations over {source.draws} draws")
    said = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "was not measured"
    count = source.run.summary.get("samples")
    return f"On {_named(count or 0, 'sample')} of {source.fact('data')}, {source.label} {said}"


def _group_verdict(group: Comparison, rows: dict[str, list[Row]]) -> str:
    if len(group.members) == 1:
        return f"{_verdict(group.members[0], rows[group.members[0].label])}."
    worst = [row for row in group.rows if row.kind == "compared worst case"]
    setting = f"On the same {_named(len(group.samples), 'sample')} of {_setting(group.members[0])}"
    if len(worst) < 2:
        return f"{setting}, fewer than two of the runs were attacked."
    best, least = (pick(worst, key=lambda row: row.value or 0) for pick in (max, min))
    if best.value == least.value:
        return f"{setting}, all attacked runs keep the same worst-case accuracy, {_stated(best)}."
    return (
        f"{setting}, {best.run} keeps the highest worst-case accuracy, {_stated(best)}, and "
        f"{least.run} the lowest, {_stated(least)}."
    )


def _warning(findings: Sequence[Weakness]) -> str:
    """The end of the verdict: what the reader must know before believing it."""
    failures, warnings = (
        sum(finding.severity == severity for finding in findings) for severity in SEVERITIES[:2]
    )
    if failures:
        return f" Do not rely on these numbers: {_named(failures, 'failure')} below."
    if warnings:
        return f" The evidence is weakened: {_named(warnings, 'warning')} below."
    return ""


def _weaknesses(source: Source) -> list[Weakness]:
    found = [_shown(source, finding) for finding in source.run.findings]
    for what, column in (("clean", "clean"), ("robust", "robust")):
        stated = (source.run.summary.get(what) or {}).get("accuracy")
        if stated is None or source.verdicts.empty or (column == "robust" and not source.attacks):
            continue
        counted = float(source.verdicts[column].mean())
        # Both are means of the same numbers; only the order of summation may differ.
        if not np.isclose(stated, counted, rtol=0, atol=1e-9):
            text = f"summary.json says {what} accuracy {stated:.6g}, the records say {counted:.6g}."
            remedy = "Run the command again into another folder; one of the two files was altered."
            found.append(
                Weakness(source.label, "summary-disagrees", "failure", text, remedy, "", "")
            )
    return found


def _shown(source: Source, finding: dict[str, Any]) -> Weakness:
    samples = list(finding.get("samples") or [])
    more = f" and {len(samples) - SHOWN} more" if len(samples) > SHOWN else ""
    figures = finding.get("figures") or {}
    return Weakness(
        source.label,
        str(finding.get("code", "unnamed")),
        str(finding.get("severity", "unknown severity")),
        str(finding.get("what", "")),
        str(finding.get("remedy", "")),
        as_text(figures),
        f"{', '.join(map(str, samples[:SHOWN]))}{more}",
    )


def _ordered(findings: Iterable[Weakness]) -> tuple[Weakness, ...]:
    """Failures first; a severity that is not known stands before those that reassure."""
    rank = {"failure": 0, "warning": 1, "info": 3}
    return tuple(sorted(findings, key=lambda finding: rank.get(finding.severity, 2)))


def _own_grids(source: Source, rows: Sequence[Row]) -> list[Grid]:
    main = [row for row in rows if row.kind in MAIN_KINDS]
    notes = [BOUND] if source.attacks else []
    notes.append(CLUSTERED if source.draws else EXACT)
    abstained = any(row.abstained for row in main)
    if abstained:
        notes.append("An abstention is not a right answer; those in each row are counted.")
    grids = [
        Grid(
            f"Accuracy of {source.label} on {_setting(source)}",
            (
                *("what", "settings", "n", "accuracy, %", "95 % interval, %"),
                *(("abstained",) if abstained else ()),
                *("forwards", "backwards", "seconds"),
            ),
            ("text", "long", *("number",) * (7 if abstained else 6)),
            tuple(
                (
                    *(row.name, row.settings, _count(row.samples)),
                    *(percent(row.value, row.samples), _interval(row)),
                    *((_count(row.abstained),) if abstained else ()),
                    *(_count(row.forwards), _count(row.backwards), _seconds(row.seconds)),
                )
                for row in main
            ),
            tuple(notes),
        )
    ]
    drawn = [row for row in rows if row.kind == "stochastic"]
    if drawn:
        grids.append(
            Grid(
                f"Three readings of a random defence: {source.label}, {source.draws} draws",
                ("accuracy", "n", "accuracy, %", "95 % interval, %"),
                ("text", "number", "number", "number"),
                tuple(
                    (
                        *(row.name, _count(row.samples)),
                        *(percent(row.value, row.samples), _interval(row)),
                    )
                    for row in drawn
                ),
                (
                    "Expected: one draw per input. Majority vote: the class with most draws. Right "
                    "in all of k draws: what is left against an adversary who may ask k times.",
                ),
            )
        )
    return grids


def _group_grids(group: Comparison, rows: dict[str, list[Row]]) -> list[Grid]:
    found = {(row.run, row.kind): row for row in group.rows}
    lines = []
    for member in group.members:
        clean = found.get((member.label, "compared clean"))
        worst = found.get((member.label, "compared worst case"))
        proof = _first(rows[member.label], "certified")
        cost = member.run.summary.get("cost") or {}
        lines.append(
            (
                member.label,
                _count(len(group.samples)),
                percent(clean.value, clean.samples) if clean else "",
                _interval(clean) if clean else "",
                percent(worst.value, worst.samples) if worst else "",
                _interval(worst) if worst else "",
                percent(proof.value, proof.samples) if proof else "",
                _count(len(member.attacks)),
                _count(cost.get("forwards")),
                _count(cost.get("backwards")),
                _seconds(cost.get("seconds")),
            )
        )
    grids = [
        Grid(
            f"Side by side: {_setting(group.members[0])}",
            (
                *("run", "n", "clean, %", "95 % interval, %", "worst case, %", "95 % interval, %"),
                *("certified, %", "attacks", "forwards", "backwards", "seconds"),
            ),
            ("text", *("number",) * 10),
            tuple(lines),
            tuple(_group_notes(group)),
        )
    ]
    differences = [row for row in group.rows if row.kind == "difference"]
    if differences:
        grids.append(_difference_grid(group, differences))
    return grids


def _group_notes(group: Comparison) -> list[str]:
    notes = [BOUND, CLUSTERED if any(member.draws for member in group.members) else EXACT]
    if group.trimmed:
        owned = ", ".join(f"{member.label}: {len(member.verdicts)}" for member in group.members)
        notes.append(
            f"The runs have different samples ({owned}); compared are the {len(group.samples)} "
            "that all share. Certified accuracy, passes and seconds are of each whole run."
        )
    attacks = {
        tuple((str(attack["name"]), as_text(attack.get("settings") or {})) for attack in m.attacks)
        for m in group.members
    }
    if len(attacks) > 1:
        notes.append(
            "The runs were not attacked alike: one that was attacked less may look better than it "
            "is."
        )
    return notes


def _difference_grid(group: Comparison, differences: Sequence[Row]) -> Grid:
    tested = any(row.p_value is not None for row in differences)
    notes = ["Differences are paired: the same samples in both runs."]
    if tested:
        notes.append(
            "p is the exact McNemar test between deterministic runs, adjusted by Holm for all "
            "differences in this table."
        )
    return Grid(
        f"Worst-case accuracy less that of {group.members[0].label}",
        (
            *("run", "n", "difference, points", "95 % interval, points"),
            *(("p", "p, adjusted") if tested else ()),
        ),
        ("text", *("number",) * (5 if tested else 3)),
        tuple(
            (
                *(row.run, _count(row.samples)),
                *(percent(row.value, row.samples), _interval(row)),
                *((_p(row.p_value), _p(row.p_holm)) if tested else ()),
            )
            for row in differences
        ),
        tuple(notes),
    )


def _apart(groups: Sequence[Comparison]) -> str:
    settings = "; ".join(
        f"{', '.join(member.label for member in group.members)} ({_setting(group.members[0])})"
        for group in groups
    )
    return (
        "Runs under another threat, on other data or without common samples are not compared: "
        f"{settings}."
    )


def _with_note(grid: Grid, note: str) -> Grid:
    return Grid(grid.caption, grid.headers, grid.widths, grid.rows, (*grid.notes, note))


def _dots(rows: Iterable[Row]) -> tuple[Dot, ...]:
    return tuple(
        Dot(row.name, row.kind, row.value, row.low, row.high)
        for row in rows
        if row.kind in MAIN_KINDS and row.value is not None
    )


def _group_dots(group: Comparison) -> tuple[Dot, ...]:
    wording = {"compared clean": "clean", "compared worst case": "worst case"}
    ordered = sorted(
        (row for row in group.rows if row.kind in wording),
        key=lambda row: [member.label for member in group.members].index(row.run),
    )
    return tuple(
        Dot(f"{row.run}: {wording[row.kind]}", wording[row.kind], row.value, row.low, row.high)
        for row in ordered
        if row.value is not None
    )


def _origin(source: Source) -> Origin:
    manifest = source.run.manifest
    facts = [("seed", as_text(source.run.spec.get("seed")))]
    for name in FACTS:
        value = manifest.get(name)
        if isinstance(value, dict) and len(value) > SHOWN:
            kept = dict(list(value.items())[:SHOWN])
            text = f"{as_text(kept)} and {len(value) - SHOWN} more"
        else:
            text = as_text(value)
        facts.append((name.replace("_", " "), text))
    spec = (source.run.path / "spec.toml").read_text(errors="replace")
    return Origin(source.label, tuple((name, text) for name, text in facts if text), spec)


def _references(source: Source) -> list[str]:
    names = [str(attack["name"]) for attack in source.attacks]
    certified = source.run.summary.get("certified") or {}
    methods = [*names, source.fact("defense"), str(certified.get("method") or "")]
    searched = any(name.partition(":")[0] != "noise" for name in names)
    return references(
        (method.partition(":")[0] for method in methods), bool(source.draws) and searched
    )
