"""What a report says of some runs: sentences, tables and figures, chosen by what the runs are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from robustcode.errors import ConfigError
from robustcode.reports.comparison.clean_against_worst import chart_of
from robustcode.reports.comparison.compare import comparisons
from robustcode.reports.comparison.ranks import boards_of
from robustcode.reports.comparison.tables import group_grids, named, refusal_grids
from robustcode.reports.drawing import Drawing
from robustcode.reports.figures.accuracies import Brackets, Curve, Dot, Dots, dot_of
from robustcode.reports.grids import (
    MAIN_KINDS,
    Grid,
    own_grids,
)
from robustcode.reports.names import numbered, slug
from robustcode.reports.numbers.proofs import Pair, pairs_of
from robustcode.reports.page import Page
from robustcode.reports.references import bibtex, references
from robustcode.reports.sections.bracket import (
    bracket_grid,
    bracket_verdict,
    proof_verdict,
    proofs_grid,
)
from robustcode.reports.sections.checks import checkup_of
from robustcode.reports.sections.corruption import corruption_verdict
from robustcode.reports.sections.curve import (
    Series,
    curve_dots,
    curve_grid,
    curve_verdict,
    series_of,
)
from robustcode.reports.sections.every import parts_of
from robustcode.reports.sections.explorer import explorer_of
from robustcode.reports.sections.findings import weaknesses
from robustcode.reports.sections.origins import origin_of
from robustcode.reports.sections.verdict import group_verdict, not_begun, verdict, warning
from robustcode.reports.source import CORRUPTED, Source, sources
from robustcode.reports.table import Row, rows_of
from robustcode.store import Run


@dataclass(frozen=True)
class Runs:
    """The runs of a report by what they are.

    Attributes:
        found: all of them, in the order given.
        pairs: proofs and attacks that are about the same thing.
        rows: what each has measured, by its label.
        failed: the labels of those of which a check failed.
    """

    found: tuple[Source, ...]
    pairs: tuple[Pair, ...]
    rows: Mapping[str, list[Row]]
    failed: frozenset[str]

    @property
    def proofs(self) -> list[Source]:
        """Those of certificates."""
        return [source for source in self.found if source.proves]

    @property
    def attacked(self) -> list[Source]:
        """Those of attacks."""
        return [source for source in self.found if not source.proves and not source.corrupts]

    @property
    def corrupted(self) -> list[Source]:
        """Those of corruptions."""
        return [source for source in self.found if source.corrupts]

    @property
    def every(self) -> list[Row]:
        """All rows, run by run."""
        return [row for source in self.found for row in self.rows[source.label]]

    @property
    def own(self) -> dict[str, list[Grid]]:
        """The tables of each run of attacks or certificates, by its label."""
        listed = (*self.attacked, *self.proofs)
        return {source.label: own_grids(source, self.rows[source.label]) for source in listed}


@dataclass(frozen=True)
class Body:
    """What the kind of a report decides: how it begins, and what is set side by side.

    ``apart`` is whether each run's own tables have a section of their own; ``doubt`` is what of
    ``said`` weakens its first sentence.
    """

    title: str
    said: list[str]
    grids: list[Grid]
    charts: list[Drawing]
    rows: tuple[Row, ...] = ()
    apart: bool = False
    doubt: str = ""


def compose(runs: Sequence[Run], threats_left: Sequence[str] = ()) -> Page:
    """The page on one run, or on several side by side; ``threats_left`` are those without a run."""
    if not runs:
        raise ConfigError("a report needs at least one run folder")
    found = sources(runs)
    rows = {source.label: rows_of(source) for source in found}
    findings = weaknesses(found)
    failed = frozenset(finding.run for finding in findings if finding.severity == "failure")
    given = Runs(tuple(found), tuple(pairs_of(found)), rows, failed)
    body = _with_brackets(_body(given), given)
    parts = parts_of(found, given.pairs, given.own if body.apart else {})
    every = (*given.every, *body.rows, *(row for part in parts for row in part.rows))
    cited = references(found, every)
    # Beside attacks errors are told as accuracies, too.
    beside = bool(given.attacked)
    said = [*body.said, *(corruption_verdict(source, beside) for source in given.corrupted)]
    grave = warning(findings, len(found))
    return Page(
        body.title,
        tuple(filter(None, [*said, not_begun(threats_left), grave])),
        findings,
        tuple(body.grids),
        tuple(chart for chart in body.charts if chart.said),
        tuple(map(origin_of, found)),
        tuple(reference.text for reference in cited),
        every,
        tuple(filter(None, map(checkup_of, found))),
        parts,
        explorer_of(found, given.pairs),
        bibtex(cited),
        grave or body.doubt,
    )


def _body(given: Runs) -> Body:
    if not given.attacked:
        return _proved(given) if given.proofs else _corrupted(given)
    if len(given.attacked) == 1 and given.pairs:
        return _bracketed(given)
    if len(given.attacked) == 1 and not given.proofs:
        return _single(given)
    curves = series_of(given.attacked)
    if len(curves) == 1 and len(curves[0].members) == len(given.attacked):
        return _curve(given, curves[0])
    return _compared(given, curves)


def _corrupted(given: Runs) -> Body:
    """Corruptions alone: their sections say the rest."""
    title = f"How well does {given.found[0].label.removesuffix(CORRUPTED)} bear corruptions?"
    if len(given.found) > 1:
        title = f"How well do they bear corruptions? {len(given.found)} runs side by side"
    return Body(title, [], [], [])


def _proved(given: Runs) -> Body:
    """Certificates alone."""
    proofs, several = given.proofs, len(given.proofs) > 1
    every = [row for source in proofs for row in given.rows[source.label]]
    title = f"How robust is {proofs[0].label}?"
    if several:
        title = f"What is proved? {len(proofs)} runs of certificates side by side"
    dots = _dots(_side_by_side(every) if several else every)
    return Body(
        title,
        [proof_verdict(source, dict(given.rows)) for source in proofs],
        [proofs_grid(proofs, dict(given.rows))],
        [Dots("accuracy-certified" if several else f"accuracy-{proofs[0].key}", "Certified", dots)],
        apart=True,
    )


def _bracketed(given: Runs) -> Body:
    """One defence, attacked and certified."""
    return Body(
        f"How robust is {given.attacked[0].label}?",
        list(map(bracket_verdict, given.pairs)),
        [grid for grids in given.own.values() for grid in grids],
        [
            Dots(
                f"accuracy-{given.attacked[0].key}",
                "Accuracy",
                _dots(_both_sides(given.pairs, given.rows)),
            )
        ],
    )


def _single(given: Runs) -> Body:
    """One run of attacks."""
    (source,) = given.attacked
    rows = given.rows[source.label]
    return Body(
        f"How robust is {source.label}?",
        [verdict(source, rows)],
        [grid for grids in given.own.values() for grid in grids],
        [Dots(f"accuracy-{source.key}", "Accuracy", _dots(rows))],
    )


def _curve(given: Runs, series: Series) -> Body:
    """One defence under several eps."""
    return Body(
        f"How robust is {series.name} as eps grows?",
        [curve_verdict(series, given.rows)],
        [curve_grid(series, given.rows)],
        _curve_charts([series], given.rows),
        apart=True,
    )


def _compared(given: Runs, curves: Sequence[Series]) -> Body:
    """Several defences, or one under several threats."""
    groups = comparisons(given.attacked, given.pairs)
    on_curves = {source.label for series in curves for _, source in series.members}
    # A run alone that is on a curve is set beside others there.
    told = [
        group
        for group in groups
        if len(group.members) > 1 or not on_curves.issuperset(m.label for m in group.members)
    ]
    boards, refusals = boards_of(groups, given.failed)
    verdicts = [group_verdict(group, dict(given.rows)) for group in told]
    return Body(
        f"How robust are they? {len(given.found)} runs side by side",
        [
            *(said for one in verdicts for said in one),
            *(curve_verdict(series, given.rows) for series in curves),
            *map(bracket_verdict, given.pairs),
        ],
        [
            *(grid for group in told for grid in group_grids(group, boards)),
            *refusal_grids(refusals),
            *(curve_grid(series, given.rows) for series in curves),
        ],
        [
            *_curve_charts(curves, given.rows),
            *map(chart_of, told, numbered(named("comparison", group) for group in told)),
        ],
        (
            *(row for group in groups for row in group.rows),
            *(row for board in boards for row in board.rows),
            *(row for refusal in refusals for row in refusal.rows),
        ),
        apart=True,
        doubt=next((said for one in verdicts[:1] for said in one[1:]), ""),
    )


def _with_brackets(body: Body, given: Runs) -> Body:
    """With what is known from both sides: before all else of one defence, else after the others."""
    pairs = given.pairs
    grids: list[Grid] = [bracket_grid(pair) for pair in pairs]
    if given.proofs and given.attacked:
        grids.append(proofs_grid(given.proofs, dict(given.rows)))
    about = {pair.attack.key for pair in pairs}
    stem = f"bracket-{about.pop()}" if len(about) == 1 else "brackets"
    bars = Brackets(
        stem, "Certified, undecided and broken samples", tuple(pair.bar for pair in pairs)
    )
    rows = (*body.rows, *(row for pair in pairs for row in pair.rows))
    if len(given.attacked) == 1:
        return replace(body, grids=[*grids, *body.grids], charts=[bars, *body.charts], rows=rows)
    return replace(body, grids=[*body.grids, *grids], charts=[*body.charts, bars], rows=rows)


def _both_sides(pairs: Sequence[Pair], rows: Mapping[str, list[Row]]) -> list[Row]:
    """What was measured by attacks, and what is certified at their eps, each method once."""
    attacked = rows[pairs[0].attack.label]
    proved = {
        pair.method: replace(pair.rows[0], kind="certified", name=f"certified: {pair.method}")
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


def _curve_charts(curves: Sequence[Series], rows: Mapping[str, list[Row]]) -> list[Drawing]:
    stems = numbered(f"curve-{slug(series.name)}-{slug(series.norm)}" for series in curves)
    drawn = [
        Curve(stem, series.title, *curve_dots(series, rows), series.norm)
        for stem, series in zip(stems, curves, strict=True)
    ]
    return [curve for curve in drawn if curve.dots]


def _dots(rows: Iterable[Row]) -> tuple[Dot, ...]:
    return tuple(
        dot_of(row, row.name, row.kind)
        for row in rows
        if row.kind in MAIN_KINDS and row.value is not None
    )
