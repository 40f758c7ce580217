"""What a report says, before any format: sentences, findings, tables and figures from the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robustcode.errors import ConfigError
from robustcode.reports.checks import Checkup, checkup_of, explained_by
from robustcode.reports.compare import Comparison, comparisons
from robustcode.reports.curve import Series, curve_dots, curve_grid, curve_verdict, series_of
from robustcode.reports.drawing import Drawing
from robustcode.reports.figures import Brackets, Curve, Dot, Dots, dot_of
from robustcode.reports.grids import (
    MAIN_KINDS,
    Grid,
    accuracy_of,
    apart,
    counted,
    first_of,
    group_grids,
    interval_of,
    own_grids,
    percent,
    setting_of,
    with_note,
)
from robustcode.reports.parts import Part
from robustcode.reports.proofs import Pair, bracket_verdict, pairs_of, proof_verdict, proofs_grid
from robustcode.reports.references import references
from robustcode.reports.table import Row, Source, as_text, rows_of, sources
from robustcode.store import Run
from robustcode.summary import ANSWERED

WARNINGS = {"failure": "Do not rely on {}", "warning": "The evidence for {} is weakened"}
NAMED = 4  # runs at which a verdict no longer names those that are concerned
FACTS = ("device", "checkpoint_sha256", "data_sha256", "git", "versions", "schema")
SHOWN = 12  # samples of a finding, or files of a data set, that are listed before "and n more"


@dataclass(frozen=True)
class Weakness:
    """A finding as it is shown.

    ``explained`` is the command that prints the page of its check; ``answered`` is whether an
    attack was added that makes it harmless, so that nothing is left to be done.
    """

    run: str
    code: str
    severity: str
    what: str
    remedy: str
    figures: str
    samples: str
    explained: str = ""
    answered: bool = False


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
    charts: tuple[Drawing, ...]
    origins: tuple[Origin, ...]
    references: tuple[str, ...]
    rows: tuple[Row, ...]
    checkups: tuple[Checkup, ...] = ()
    parts: tuple[Part, ...] = ()
    explorer: Any = None
    bibtex: str = ""

    @property
    def unanswered(self) -> tuple[Weakness, ...]:
        """The findings that no added attack has answered."""
        return tuple(finding for finding in self.findings if not finding.answered)

    @property
    def answered(self) -> tuple[Weakness, ...]:
        """The others."""
        return tuple(finding for finding in self.findings if finding.answered)

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """Every figure, in the order of the page."""
        parts = (drawing for part in self.parts for drawing in part.drawings)
        plots = (plot for checkup in self.checkups for plot in checkup.plots)
        return (*self.charts, *parts, *plots)

    @property
    def tables(self) -> tuple[Grid, ...]:
        """Every table, in the order of the page."""
        return (*self.grids, *(grid for part in self.parts for grid in part.grids), *self.checked)

    def number_of(self, grid: Grid) -> int:
        """The number under which a table is shown, from 1."""
        return 1 + self.tables.index(grid)

    @property
    def checked(self) -> tuple[Grid, ...]:
        """The checkups as tables."""
        return tuple(grid for c in self.checkups for grid in (*c.grids, *c.repairs))


def compose(runs: Sequence[Run], not_begun: Sequence[str] = ()) -> Page:
    """The page on one run, or on several side by side; ``not_begun`` are threats without a run."""
    if not runs:
        raise ConfigError("a report needs at least one run folder")
    found = sources(runs)
    pairs = pairs_of(found)
    rows = {source.label: rows_of(source) for source in found}
    findings = _ordered(weakness for source in found for weakness in _weaknesses(source))
    own = [grid for source in found for grid in own_grids(source, rows[source.label])]
    every = [row for source in found for row in rows[source.label]]
    proofs = [source for source in found if source.proves]
    attacked = [source for source in found if not source.proves]
    charts: list[Drawing]
    if not attacked:
        title = f"How robust is {found[0].label}?"
        if len(found) > 1:
            title = f"What is proved? {len(found)} runs of certificates side by side"
        verdict = " ".join(proof_verdict(source, rows) for source in found)
        grids, charts = (
            [proofs_grid(found, rows), *own],
            [
                Dots(
                    "accuracy",
                    "Certified",
                    _dots(_side_by_side(every) if len(found) > 1 else every),
                )
            ],
        )
    elif len(attacked) == 1 and pairs:
        title = f"How robust is {attacked[0].label}?"
        verdict = " ".join(map(bracket_verdict, pairs))
        grids, charts = own, [Dots("accuracy", "Accuracy", _dots(_both_sides(pairs, rows)))]
    elif len(found) == 1:
        title, verdict = f"How robust is {found[0].label}?", _verdict(found[0], every)
        grids, charts = own, [Dots("accuracy", "Accuracy", _dots(every))]
    elif len(curves := series_of(attacked)) == 1 and len(curves[0].members) == len(attacked):
        verdict = curve_verdict(curves[0], rows)
        title = f"How robust is {curves[0].name} as eps grows?"
        grids, charts = [curve_grid(curves[0], rows), *own], _curve_charts(curves, rows)
    else:
        groups = comparisons(attacked)
        title = f"How robust are they? {len(found)} runs side by side"
        verdict = " ".join(
            [*(_group_verdict(group, rows) for group in groups), *map(bracket_verdict, pairs)]
        )
        held = _with_proofs(rows, pairs)
        grids = [grid for group in groups for grid in group_grids(group, held)]
        if len(groups) > 1:
            grids[-1] = with_note(grids[-1], apart(groups))
        grids += [*(curve_grid(series, rows) for series in curves), *own]
        charts = [
            *_curve_charts(curves, rows),
            *(
                Dots(f"comparison{number}", setting_of(group.members[0]), _group_dots(group))
                for number, group in enumerate(groups, 1)
            ),
        ]
        every += [row for group in groups for row in group.rows]
    if pairs:
        grids = [*(pair.grid for pair in pairs), *grids]
        bars = tuple(pair.bar for pair in pairs)
        charts = [Brackets("bracket", "Certified, undecided and broken samples", bars), *charts]
        every += [row for pair in pairs for row in pair.rows]
    if proofs and attacked:
        grids = [*grids[: len(pairs)], proofs_grid(proofs, rows), *grids[len(pairs) :]]
    return Page(
        title,
        verdict + _not_begun(not_begun) + _warning(findings, len(found)),
        findings,
        tuple(grids),
        tuple(chart for chart in charts if chart.said),
        tuple(_origin(source) for source in found),
        tuple(dict.fromkeys(line for source in found for line in _references(source))),
        tuple(every),
        tuple(filter(None, map(checkup_of, found, range(1, len(found) + 1)))),
    )


def _with_proofs(rows: Mapping[str, list[Row]], pairs: Sequence[Pair]) -> dict[str, list[Row]]:
    """The rows of each attacked run, with the most that is proved of it."""
    found = {label: list(own) for label, own in rows.items()}
    for pair in sorted(pairs, key=lambda pair: pair.found.certified.value):
        certified = Row(
            run=pair.attack.label,
            kind="certified",
            name=pair.found.method,
            samples=len(pair.found.table),
            value=pair.found.certified.value,
        )
        found[pair.attack.label].insert(0, certified)
    return found


def _both_sides(pairs: Sequence[Pair], rows: Mapping[str, list[Row]]) -> list[Row]:
    """What was measured by attacks, and what is certified at their eps, each method once."""
    attacked = rows[pairs[0].attack.label]
    proved = {
        pair.found.method: replace(
            pair.rows[0], kind="certified", name=f"certified: {pair.found.method}"
        )
        for pair in pairs
    }
    return [*(row for row in attacked if row.kind != "certified"), *proved.values()]


def _side_by_side(rows: Sequence[Row]) -> list[Row]:
    """Rows of several runs of certificates, each named so that it is known whose it is."""
    return [
        replace(row, name=f"{row.run} in {row.settings}" if row.settings else f"{row.run}: clean")
        for row in rows
        if row.kind in MAIN_KINDS
    ]


def _curve_charts(curves: Sequence[Series], rows: dict[str, list[Row]]) -> list[Drawing]:
    drawn = [
        Curve(f"curve{number}", series.title, *curve_dots(series, rows), series.norm)
        for number, series in enumerate(curves, 1)
    ]
    return [curve for curve in drawn if curve.dots]


def _stated(row: Row) -> str:
    interval = interval_of(row)
    limits = [f"95 % interval {interval} %"] if interval else []
    if row.unfinished:
        limits = [f"{row.unfinished} of {counted(row.samples or 0, 'sample')} unfinished", *limits]
    return f"{accuracy_of(row)} %" + (f" ({'; '.join(limits)})" if limits else "")


def _verdict(source: Source, rows: Sequence[Row]) -> str:
    clean, worst, proof = (first_of(rows, kind) for kind in ("clean", "worst case", "certified"))
    parts = []
    if clean:
        looked_at = source.run.summary.get("samples")
        # A time limit may end a run before each sample was looked at.
        of = f" of the {clean.samples} looked at" if clean.samples != looked_at else ""
        parts.append(f"classifies {percent(clean.value, clean.samples)} %{of} correctly")
    if worst:
        attacks = counted(len(source.attacks), "attack")
        parts.append(
            f"keeps {_stated(worst)} under the worst of {attacks} in {source.fact('threat')}"
        )
    if proof:
        parts.append(f"is certified for {_stated(proof)}")
    if source.draws:
        parts.append(f"is random, so that these are expectations over {source.draws} draws")
    said = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "was not measured"
    count = source.run.summary.get("samples") or 0
    tested = source.run.summary.get("tested")
    looked = f"{counted(count, 'sample')} of {source.fact('data')}"
    if not isinstance(tested, int) or tested <= count:
        return f"On {looked}, {source.label} {said}."
    looked = f"{count} of the {tested} samples of {source.fact('data')}, spread over all"
    after = "This is a test of the evaluation, not yet the evaluation."
    return f"On {looked}, {source.label} {said}. {after}"


def _group_verdict(group: Comparison, rows: dict[str, list[Row]]) -> str:
    if len(group.members) == 1:
        return _verdict(group.members[0], rows[group.members[0].label])
    worst = [row for row in group.rows if row.kind == "compared worst case"]
    setting = (
        f"On the same {counted(len(group.samples), 'sample')} of {setting_of(group.members[0])}"
    )
    if len(worst) < 2:
        return f"{setting}, fewer than two of the runs were attacked."
    best, least = (pick(worst, key=lambda row: row.value or 0) for pick in (max, min))
    if best.value == least.value:
        return f"{setting}, all attacked runs keep the same worst-case accuracy, {_stated(best)}."
    doubt = "" if group.gap(least.run, best.run).low > 0 else ", less apart than chance allows for"
    return (
        f"{setting}, {best.run} keeps the highest worst-case accuracy, {_stated(best)}, and "
        f"{least.run} the lowest, {_stated(least)}{doubt}."
    )


def _not_begun(threats: Sequence[str]) -> str:
    if not threats:
        return ""
    were = "was" if len(threats) == 1 else "were"
    return (
        f" {', '.join(threats)} {were} not begun: the time limit of the curve was over; the same "
        "command with more time goes on."
    )


def _warning(findings: Sequence[Weakness], runs: int) -> str:
    """The end of the verdict: what the reader must know before believing it, and of which runs."""
    for severity, said in WARNINGS.items():
        grave = [finding for finding in findings if finding.severity == severity]
        if grave:
            concerned = list(dict.fromkeys(finding.run for finding in grave))
            whose = "these numbers"
            if len(concerned) < min(runs, NAMED):
                whose = f"the numbers of {' and '.join(concerned)}"
            return f" {said.format(whose)}: {counted(len(grave), severity)} below."
    return ""


def _weaknesses(source: Source) -> list[Weakness]:
    found = [_shown(source, finding) for finding in source.run.findings]
    for what, column in (("clean", "clean"), ("robust", "robust")):
        stated = (source.run.summary.get(what) or {}).get("accuracy")
        if stated is None or source.verdicts.empty or (column == "robust" and not source.attacks):
            continue
        of = len(source.verdicts) if column == "clean" else source.run.summary["samples"]
        counted = float(source.verdicts[column].sum()) / of
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
    # Findings of before there were pages are shown as they were.
    paged = bool(source.run.summary.get("checks"))
    if paged and isinstance(figures, Mapping):
        figures = {name: _short(value) for name, value in figures.items()}
    code = str(finding.get("code", "unnamed"))
    what = str(finding.get("what", ""))
    severity = str(finding.get("severity", "unknown severity"))
    answered = severity == "info" and ANSWERED in what
    return Weakness(
        source.label,
        code,
        severity,
        _sentence(what),
        "" if answered else _sentence(str(finding.get("remedy", ""))),
        as_text(figures),
        f"{', '.join(map(str, samples[:SHOWN]))}{more}",
        explained_by(code) if paged else "",
        answered,
    )


def _short(value: Any) -> Any:
    """A number to four digits, which is what a reader takes in."""
    return f"{value:.4g}" if isinstance(value, float) else value


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _ordered(findings: Iterable[Weakness]) -> tuple[Weakness, ...]:
    """Failures first; a severity that is not known stands before those that reassure."""
    rank = {"failure": 0, "warning": 1, "info": 3}
    return tuple(sorted(findings, key=lambda finding: rank.get(finding.severity, 2)))


def _dots(rows: Iterable[Row]) -> tuple[Dot, ...]:
    return tuple(
        dot_of(row, row.name, row.kind)
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
        dot_of(row, f"{row.run}: {wording[row.kind]}", wording[row.kind])
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
