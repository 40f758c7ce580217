"""Courses of accuracy: closed forms, plain loops over made-up records, and what cannot happen."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from robustcode.attacks import ATTACKS
from robustcode.bracket import bracket
from robustcode.certificates import Certificate, status_of
from robustcode.certificates import table_of as certificates_of
from robustcode.certified import certified_of
from robustcode.errors import ContractError
from robustcode.records import Record, table_of
from robustcode.reports.drawing import Theme, shown
from robustcode.reports.numbers import over_draws, over_eps, over_passes
from robustcode.reports.numbers.proofs import Pair, pairs_of
from robustcode.reports.numbers.sheet import Sheet, sheet_of
from robustcode.reports.numbers.steps import LOOSE, NEAR, PLACES, Point, places
from robustcode.reports.sections.at_end import at_end
from robustcode.reports.sections.bracket import bracket_grid, bracket_verdict
from robustcode.reports.sections.courses import part_of
from robustcode.reports.source import Source, verdicts
from robustcode.statistics import any_of, clustered, paired_difference
from robustcode.store import Run
from robustcode.summary import summarise

EPS = 0.5
# Enough to meet each of the bugs that were planted here.
QUICK = settings(max_examples=15, deadline=None)
HOSTILE = "$\\frac{</script>\u202e & %_^# 日本 " * 4
INPUTS = {"checkpoint_sha256": "c", "data_sha256": {"x": "d"}}
COST = {
    **{"judge_forwards": 0, "seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mb": 0.0},
    "attack_seconds": {},
}


def source_of(
    rows: Sequence[Record],
    draws: int | None = None,
    *,
    samples: int | None = None,
    settings: Mapping[str, Any] | None = None,
    threat: str = f"linf:{EPS}",
    label: str = "run",
) -> Source:
    """A run with these records, and the summary that the engine writes for them."""
    records = table_of(rows)
    names = list(dict.fromkeys(row.attack for row in rows))
    cost = {**COST, "attack_seconds": dict.fromkeys(names, 0.0)}
    attacks = [
        {"name": name, "settings": (settings or {}).get(name, {}), "control": name == "noise"}
        for name in names
    ]
    summary = summarise(records, attacks, draws, [{"cost": cost}], samples=samples)
    spec = {"command": "attack", "threat": threat, "defense": "identity", "adversary": "solo"}
    run = Run(Path("somewhere"), spec, dict(INPUTS), summary, [])
    vars(run)["records"] = records
    return Source(label, run, verdicts(run))


def sheet(source: Source) -> Sheet:
    found = sheet_of(source)
    assert found is not None
    return found


def made(sample: int, attack: str, **changed: Any) -> Record:
    """A proposal that a defence without chance stood, unless something else is said."""
    plain: dict[str, Any] = {
        **{"sample": sample, "label": 0, "clean": 0, "attack": attack, "prediction": 0},
        **{"correct": True, "votes": None, "choosing": None, "clean_correct": True},
        **{"clean_votes": None, "selected": False, "distance": EPS},
        **{"forwards": 5, "backwards": 5, "seed": 0},
    }
    return Record(**{**plain, **changed})


def broken(sample: int, attack: str, **changed: Any) -> Record:
    return made(sample, attack, **{"prediction": 1, "correct": False, "selected": True, **changed})


def values(points: Sequence[Point]) -> dict[float, float]:
    return {point.at: point.value for point in points}


def exact(right: int, count: int) -> tuple[float, float]:
    interval = binomtest(right, count).proportion_ci(method="exact")
    return interval.low, interval.high


# Closed forms.


def test_samples_fall_one_by_one_at_their_distances() -> None:
    rows = [broken(n, "pgd", distance=away) for n, away in enumerate((0.1, 0.2, 0.3))]
    rows.append(made(3, "pgd"))
    course = over_eps.left_over_eps(sheet(source_of(rows)), EPS)
    assert values(course.points) == {0.0: 1.0, 0.1: 0.75, 0.2: 0.5, 0.3: 0.25, 0.5: 0.25}
    for point, right in zip(course.points, (4, 3, 2, 1, 1), strict=True):
        assert (point.low, point.high) == pytest.approx(exact(right, 4))


def test_the_nearest_wrong_input_of_any_attack_counts() -> None:
    rows = [broken(0, "far", distance=0.4), broken(0, "near", distance=0.1, selected=False)]
    course = over_eps.left_over_eps(sheet(source_of([*rows, made(1, "far"), made(1, "near")])), EPS)
    assert values(course.points) == {0.0: 1.0, 0.1: 0.5, 0.5: 0.5}


def test_what_is_wrong_by_itself_is_wrong_at_no_distance() -> None:
    gone = {"clean": 1, "clean_correct": False, "distance": 0.0, "forwards": 0, "backwards": 0}
    source = source_of([broken(0, "pgd", **gone), made(1, "pgd")])
    assert over_eps.left_over_eps(sheet(source), EPS).points[0].value == 0.5
    assert values(over_passes.left_over_passes(sheet(source)).points) == {0.0: 0.5, 10.0: 0.5}


def test_a_rounding_beyond_eps_is_eps() -> None:
    source = source_of([broken(0, "pgd", distance=EPS * (1 + 1e-7)), made(1, "pgd")])
    assert values(over_eps.left_over_eps(sheet(source), EPS).points) == {0.0: 1.0, 0.5: 0.5}


def test_samples_fall_when_the_attack_that_broke_them_has_ended() -> None:
    rows = [
        *(made(0, "noise"), broken(0, "pgd", forwards=20, backwards=10)),
        *(broken(1, "noise", forwards=3, backwards=0), made(1, "pgd")),
        *(made(2, "noise"), made(2, "pgd", forwards=50, backwards=50)),
    ]
    course = over_passes.left_over_passes(sheet(source_of(rows)))
    # To 3 of noise; to 10, where noise had ended on all; to 40 of pgd; to the end of it all.
    third = pytest.approx([1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert [point.at for point in course.points] == [0, 3, 10, 40, 110]
    assert [point.value for point in course.points] == third
    assert over_passes.ends(sheet(source_of(rows))) == [("noise", 10.0), ("pgd", 110.0)]


def test_no_passes_of_a_carried_attack_move_a_sample() -> None:
    rows = [
        *(broken(0, "pgd"), broken(0, "square", carried="pgd", forwards=0, backwards=0)),
        *(made(1, "pgd"), made(1, "square")),
    ]
    course = over_passes.left_over_passes(sheet(source_of(rows)))
    assert values(course.points) == {0.0: 1.0, 10.0: 0.5, 20.0: 0.5}


def test_a_random_defence_keeps_the_share_of_the_proposal_chosen_so_far() -> None:
    def shares(sample: int, attack: str, share: float, choosing: float, selected: bool) -> Record:
        return made(
            sample,
            attack,
            **{"correct": share, "choosing": choosing, "clean_correct": 0.9, "clean_votes": (9, 1)},
            **{"votes": (int(10 * share), 10 - int(10 * share)), "selected": selected},
        )

    rows = [
        # The second is chosen though the judge thinks less of it.
        *(shares(0, "a", 0.4, 0.5, False), shares(0, "b", 0.6, 0.3, True)),
        # Nothing was chosen: the sample itself is the worst.
        *(shares(1, "a", 0.2, 1.0, False), shares(1, "b", 0.1, 1.0, False)),
        # What the run has selected stays, whatever else is said.
        *(shares(2, "a", 0.3, 0.2, True), shares(2, "b", 0.1, 0.1, False)),
    ]
    found = sheet(source_of(rows, 10))
    assert found.held.tolist() == [[0.9, 0.4, 0.6], [0.9, 0.9, 0.9], [0.9, 0.3, 0.3]]
    course = over_passes.left_over_passes(found)
    expected = [clustered(column, 10) for column in found.held.T]
    assert [point[1:4] for point in course.points] == expected


def test_trying_often_costs_what_the_hypergeometric_distribution_says() -> None:
    rows = [
        made(0, "pgd", clean_correct=1.0, clean_votes=(4, 0), correct=0.5, votes=(2, 2), choosing=0)
    ]
    rows[0] = Record(**{**vars(rows[0]), "selected": True})
    clean, worst = over_draws.left_over_draws(sheet(source_of(rows, 4)))
    assert values(clean.points) == {1: 1, 2: 1, 3: 1, 4: 1}
    assert values(worst.points) == pytest.approx({1: 1 / 2, 2: 1 / 6, 3: 0, 4: 0})


# Made-up records, and plain loops over them.


@st.composite
def runs(draw: st.DrawFn, random: bool | None = None) -> tuple[list[Record], int | None]:
    """Records as the engine may write them: cascades, budgets, samples wrong by themselves."""
    if draw(st.booleans()) if random is None else random:
        draws: int | None = draw(st.integers(1, 12))
    else:
        draws = None
    names = ("noise", "pgd", "square")[: draw(st.integers(1, 3))]
    rows: list[Record] = []
    for sample in range(draw(st.integers(1, 6))):
        rows += _sample(draw, sample, names, draws)
    return rows, draws


def _sample(draw: st.DrawFn, sample: int, names: Sequence[str], draws: int | None) -> list[Record]:
    """One sample; the worst proposal is chosen as Outcome.worst has it."""
    most = draws or 1

    def judged() -> tuple[int, int]:
        right = draw(st.integers(0, most))
        return right, right if draws is None else draw(st.integers(0, most))

    (clean, clean_choosing), stopped = judged(), False
    cells: list[dict[str, Any]] = []
    for name in names:
        idle = draws is None and clean == 0
        stopped = stopped or (not idle and draw(st.integers(0, 9)) == 0)
        right, choosing = (clean, clean_choosing) if idle or stopped else judged()
        cells.append(
            {
                **{"name": name, "right": right, "choosing": choosing, "finished": not stopped},
                "distance": draw(st.sampled_from((0.0, 0.1, 0.25, 0.3, EPS))),
                "passes": 0 if idle else draw(st.integers(0, 9)),
            }
        )
    known = [n for n, cell in enumerate(cells) if cell["finished"]]
    least = min((cells[n]["choosing"] for n in known), default=math.inf)
    equals = [n for n in known if cells[n]["choosing"] == least]
    searched = [n for n in equals if cells[n]["name"] != "noise"]
    worst = None
    if least <= clean_choosing:
        worst = searched[-1] if least > 0 and searched else equals[0]

    def verdict(right: int) -> tuple[bool | float, tuple[int, int] | None]:
        return (bool(right), None) if draws is None else (right / draws, (right, draws - right))

    return [
        Record(
            sample=sample,
            label=0,
            clean=int(2 * clean < most),
            attack=cell["name"],
            prediction=int(2 * cell["right"] < most),
            correct=verdict(cell["right"])[0] if cell["finished"] else None,
            votes=verdict(cell["right"])[1] if cell["finished"] else None,
            choosing=cell["choosing"] / most if draws and cell["finished"] else None,
            clean_correct=verdict(clean)[0],
            clean_votes=verdict(clean)[1],
            selected=place == worst,
            distance=cell["distance"],
            forwards=cell["passes"],
            backwards=0,
            seed=0,
            finished=cell["finished"],
        )
        for place, cell in enumerate(cells)
    ]


def by_sample(rows: Sequence[Record]) -> list[list[Record]]:
    return [[r for r in rows if r.sample == n] for n in sorted({row.sample for row in rows})]


def worst_of(own: Sequence[Record], draws: int | None) -> tuple[float, bool]:
    """What is left of a sample in the end, and whether a stopped attack leaves that open."""
    share = float(own[0].clean_correct)
    for row in own:
        if draws is None and row.correct is False:
            share = 0.0
        if draws is not None and row.selected and row.correct is not None:
            share = float(row.correct)
    return share, share > 0 and not all(row.finished for row in own)


def averaged(found: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    least = [0.0 if unknown else share for share, unknown in found]
    return sum(least) / len(found), sum(share for share, _ in found) / len(found)


@QUICK
@given(runs())
def test_over_eps_is_what_a_plain_loop_counts(run: tuple[list[Record], int | None]) -> None:
    rows, draws = run
    for point in over_eps.left_over_eps(sheet(source_of(rows, draws)), EPS).points:
        found = []
        for own in by_sample(rows):
            share, unknown = worst_of(own, draws)
            allowed = False
            for row in own:
                wrong = row.correct is False if draws is None else row.selected and row.finished
                allowed = allowed or (wrong and row.distance <= point.at)
            if not allowed:
                share = float(own[0].clean_correct)
            found.append((share, unknown and point.at > 0))
        assert (point.value, point.most) == pytest.approx(averaged(found))


@QUICK
@given(runs())
def test_over_passes_is_what_a_plain_loop_counts(run: tuple[list[Record], int | None]) -> None:
    rows, draws = run
    for point in over_passes.left_over_passes(sheet(source_of(rows, draws))).points:
        found = []
        for own in by_sample(rows):
            share, least, spent = float(own[0].clean_correct), math.inf, 0
            unknown, taken = False, False
            for row in own:
                begun, spent = spent, spent + row.forwards
                if spent > point.at:
                    unknown = unknown or (not row.finished and point.at > begun)
                    break
                unknown = unknown or not row.finished
                if row.correct is None:
                    continue
                if draws is None:
                    share = min(share, float(row.correct))
                elif any(other.selected for other in own) and not taken:
                    assert row.choosing is not None
                    taken = row.selected
                    if taken or row.choosing <= least:
                        share, least = float(row.correct), row.choosing
            found.append((share, unknown and share > 0 and point.at > 0))
        assert (point.value, point.most) == pytest.approx(averaged(found))


@QUICK
@given(runs(random=True))
def test_over_draws_is_what_a_plain_loop_counts(run: tuple[list[Record], int]) -> None:
    rows, draws = run
    clean, worst = over_draws.left_over_draws(sheet(source_of(rows, draws)))
    for before, after in zip(clean.points, worst.points, strict=True):
        tries = int(before.at)
        own = by_sample(rows)
        shares = [any_of(round(float(o[0].clean_correct) * draws), draws, tries) for o in own]
        assert before.value == pytest.approx(sum(shares) / len(shares))
        ends = [worst_of(o, draws) for o in own]
        found = [(any_of(round(share * draws), draws, tries), open_) for share, open_ in ends]
        assert (after.value, after.most) == pytest.approx(averaged(found))


@QUICK
@given(runs(), st.integers(0, 3))
def test_courses_end_at_the_number_of_the_summary(
    run: tuple[list[Record], int | None], missing: int
) -> None:
    """Its interval and what a budget left open too, also where samples have no record."""
    rows, draws = run
    source = source_of(rows, draws, samples=len(by_sample(rows)) + missing)
    found, robust = sheet(source), source.run.summary["robust"]
    ends = [over_eps.left_over_eps(found, EPS).last]
    if over_passes.furthest(found) > 0:
        ends.append(over_passes.left_over_passes(found).last)
    if draws is not None:
        ends.append(over_draws.left_over_draws(found)[1].points[0])
    for end in ends:
        assert end.value == pytest.approx(robust["accuracy"])
        assert (end.low, end.high) == pytest.approx((robust["low"], robust["high"]))
        assert end.most == pytest.approx(robust["accuracy_high"])
        assert end.unfinished == robust["unfinished"]


@QUICK
@given(runs(random=True))
def test_several_tries_are_those_of_the_summary(run: tuple[list[Record], int]) -> None:
    rows, draws = run
    source = source_of(rows, draws)
    block = source.run.summary["stochastic"]
    clean, worst = over_draws.left_over_draws(sheet(source))
    for course, told in ((clean, block["clean"]), (worst, block)):
        found = {int(point.at): point for point in course.points}
        assert found[1].value == pytest.approx(told["expected"]["accuracy"])
        for tries, value in told["any_of"].items():
            assert found[int(tries)].value == pytest.approx(value["accuracy"])
            assert found[int(tries)].low == pytest.approx(value["low"])


@QUICK
@given(runs())
def test_nothing_rises(run: tuple[list[Record], int | None]) -> None:
    """Of a random defence a proposal that was chosen may be the better one, but not over draws."""
    rows, draws = run
    found = sheet(source_of(rows, draws))
    courses = over_draws.left_over_draws(found)
    if draws is None:
        courses = [over_eps.left_over_eps(found, EPS), over_passes.left_over_passes(found)]
    for course in courses:
        for name in ("value", "low", "high", "most"):
            assert all(np.diff([getattr(point, name) for point in course.points]) <= 1e-12)


@QUICK
@given(runs())
def test_points_lie_in_their_intervals(run: tuple[list[Record], int | None]) -> None:
    source = source_of(*run)
    part = part_of(source, 1)
    for row in part.rows if part else ():
        ends = [row.low, row.value, row.value if row.most is None else row.most, row.high]
        told = [end for end in ends if end is not None]
        assert len(told) == 4
        assert [0, *told, 1] == sorted([0, *told, 1])


# Places.


@QUICK
@given(
    st.lists(st.floats(0, 1), max_size=300),
    st.floats(0.01, 1),
    st.lists(st.floats(0, 1), max_size=90),
)
def test_places_are_few_and_ascending_and_hold_both_ends(
    jumps: list[float], last: float, kept: list[float]
) -> None:
    found = places(jumps, last, kept)
    assert len(found) <= PLACES
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0.0, last)
    assert set(found) <= {0.0, last, *jumps, *kept}
    inside = {place for place in kept if place <= last}
    assert len(inside) > PLACES - 2 or inside <= set(found)


@QUICK
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_few_samples_change_between_two_places(jumps: list[float]) -> None:
    """Those within NEAR of a place aside: between two steps no more than a share can fall."""
    found = places(jumps, 1.0)
    for left, right in pairwise(found):
        between = sum(left + NEAR < jump < right - NEAR for jump in jumps)
        assert between <= math.ceil(len(jumps) / (PLACES - 1))


def test_every_row_of_many_samples_is_exact() -> None:
    away = np.random.default_rng(0).uniform(0, EPS, 3000)
    rows = [broken(n, "fmn", distance=float(d)) for n, d in enumerate(away)]
    course = over_eps.left_over_eps(sheet(source_of(rows)), EPS)
    assert len(course.points) == PLACES
    for point in course.points:
        assert point.value == pytest.approx(
            float((away > point.at).mean() if point.at < EPS else 0)
        )


# Proofs.


def proofs_of(rows: Sequence[Certificate], method: str = "bab", eps: float = EPS) -> Source:
    table = certificates_of(rows)
    threat = f"linf:{eps}"
    radii = (0.1, eps)
    summary = {
        "samples": len(rows),
        "certified": certified_of(table, method, "identity", threat, eps, radii),
    }
    spec = {"command": "certify", "threat": threat, "defense": "identity"}
    spec |= {"adversary": {"name": "solo"}, "radii": list(radii)}  # type: ignore[dict-item]
    run = Run(Path("proofs"), spec, dict(INPUTS), summary, [])
    vars(run)["certificates"] = table
    vars(run)["records"] = table_of([])
    return Source("proofs", run, pd.DataFrame())


def proof(sample: int, radius: float, prediction: int = 0, **more: Any) -> Certificate:
    status = status_of(prediction, 0, radius, EPS)
    return Certificate(
        sample=sample, label=0, prediction=prediction, status=status, radius=radius, **more
    )


def pair_of(proofs: Source, attacks: Source) -> Pair:
    return Pair(proofs, attacks, bracket(proofs.run, attacks.run))


def test_what_is_proved_falls_behind_each_radius() -> None:
    proofs = proofs_of([proof(0, 0.1), proof(1, 0.3), proof(2, EPS), proof(3, EPS, 1)])
    course = over_eps.certified_over_radius(proofs)
    assert course is not None
    assert values(course.points) == {0.0: 0.75, 0.1: 0.75, 0.3: 0.5, 0.5: 0.25}
    told = {p["radius"]: p for p in proofs.run.summary["certified"]["curve"]}
    for point in course.points:
        if point.at in told:
            assert (point.value, point.low, point.high) == (
                *(told[point.at][name] for name in ("accuracy", "low", "high")),
            )
    assert course.dots == tuple(told)


@QUICK
@given(st.lists(st.tuples(st.sampled_from((0.0, 0.1, 0.3, EPS)), st.booleans()), min_size=1))
def test_proofs_and_attacks_never_cross(samples: list[tuple[float, bool]]) -> None:
    """Each sample is proved to a radius, and what is not proved at eps falls beyond that radius."""
    proofs = proofs_of([proof(n, radius) for n, (radius, _) in enumerate(samples)])
    rows = [
        broken(n, "pgd", distance=min(EPS, radius + 0.05))
        if falls and radius < EPS
        else made(n, "pgd")
        for n, (radius, falls) in enumerate(samples)
    ]
    pair = pair_of(proofs, source_of(rows))
    below = over_eps.proved_over_eps(pair, EPS)
    assert below.last[1:4] == pytest.approx(tuple(pair.found.certified))
    above = values(over_eps.left_over_eps(sheet(pair.attack), EPS).points)
    for place in (0.0, 0.1, 0.3, EPS):
        proved = over_eps.proved_of(pair, place).mean()
        assert proved == sum(radius >= place for radius, _ in samples) / len(samples)
        assert proved <= min((v for at, v in above.items() if at <= place), default=1.0)


@pytest.mark.parametrize("known", ["held", "share", "neither"])
@pytest.mark.parametrize("reach", [EPS, EPS / 2, 1.0], ids=["own eps", "beyond it", "within it"])
def test_at_eps_what_is_proved_of_random_decisions_is_the_brackets(
    known: str, reach: float
) -> None:
    rng = np.random.default_rng(3)
    rows, found = [], []
    for n in range(12):
        share = float(rng.uniform(0.5, 0.9))
        more = {"share": share if known != "neither" else None}
        more["held"] = share + 0.05 if known == "held" else None
        radius = float(rng.choice([0.0, 0.3, EPS, 0.7]))
        found.append(proof(n, radius, int(n == 0), alpha=0.001, draws=100, **more))
        votes = {"votes": (18, 2), "clean_votes": (20, 0), "clean_correct": 1.0}
        rows.append(made(n, "pgd", correct=0.9, choosing=0.9, selected=True, **votes))
    pair = pair_of(proofs_of(found, "cohen", reach), source_of(rows, 20))
    course = over_eps.proved_over_eps(pair, EPS)
    assert course.last.at == EPS
    assert course.last[1:4] == pytest.approx(tuple(pair.found.certified))
    assert all(np.diff([point.value for point in course.points]) <= 1e-12)


def crossed(count: int, share: float, proved: float, **given: Any) -> tuple[Source, Source]:
    """Random decisions: ``share`` left of each sample by attacks, ``proved`` of each estimated."""
    rows, found = [], []
    for n in range(count):
        # A tenth more for one and less for the next: the means stay.
        right = round(20 * (share + 0.1 * (-1) ** n))
        votes = {"votes": (right, 20 - right), "clean_votes": (20, 0), "clean_correct": 1.0}
        rows.append(made(n, "pgd", correct=right / 20, choosing=right / 20, selected=True, **votes))
        found.append(proof(n, EPS, alpha=0.001, draws=100, share=0.5, held=proved, **given))
    return proofs_of(found, "cohen"), source_of(rows, 20)


def test_ends_that_cross_by_chance_are_no_contradiction() -> None:
    (pair,) = pairs_of(crossed(20, 0.8, 0.81))
    assert pair.found.certified.value > pair.found.attacked.value
    said = bracket_verdict(pair)
    assert "lies between" not in said
    assert "The two ends cross by 1.0 points (95 % interval -" in said
    assert "which chance may explain" in said
    assert any("which chance may explain" in note for note in bracket_grid(pair).notes)
    shares = [share for _, share in pair.bar.shares]
    assert min(shares) >= 0
    assert sum(shares) == pytest.approx(1)
    (not_crossed,) = pairs_of(crossed(20, 0.8, 0.8))
    assert "lies between 80.0 %" in bracket_verdict(not_crossed)


def test_ends_that_cross_further_than_chance_has_it_are_one() -> None:
    (pair,) = pairs_of(crossed(60, 0.8, 0.9))
    assert "which chance hardly explains (p = " in bracket_verdict(pair)
    with pytest.raises(ContractError, match=r"certifies 90.0 % and the attacks of somewhere leave"):
        pairs_of(crossed(500, 0.7, 0.9))


def test_proofs_that_may_be_false_do_not_contradict_an_attack() -> None:
    """At alpha = 5 % more than 11 of 100 are false with probability 1 % at most."""
    proofs, attacks = crossed(100, 0.8, 0.8)
    table = proofs.run.certificates
    table["alpha"] = 0.05
    table.loc[:9, "held"] = 1.0
    proofs.run.summary["certified"]["alpha"] = 0.05
    (pair,) = pairs_of([proofs, attacks])
    assert pair.crossing is not None
    assert pair.crossing.p_value == 1.0
    assert binom.ppf(0.99, 100, 0.05) == 11


def test_a_pair_bounds_its_own_run_from_below_and_no_other() -> None:
    attacks = source_of([made(0, "pgd"), made(1, "pgd")])
    pair = pair_of(proofs_of([proof(0, EPS)]), attacks)
    part = part_of(attacks, 1, [pair])
    assert part is not None
    (drawing, *_) = part.drawings
    assert "certified by bab is of the 1 sample that both runs have" in drawing.note
    assert {row.name for row in part.rows} == {"left by the attacks", "certified by bab"}
    other = part_of(source_of([made(0, "pgd")], label="other"), 2, [pair])
    assert other is not None
    assert {row.name for row in other.rows} == {"left by the attacks"}


# What is said.


def late(*, stops: bool = False, apart: int = 1) -> str:
    """A sample falls to pgd by 10 passes, one to square by 106, begun at 10 times ``apart``."""
    first = {"forwards": 5 * apart, "backwards": 5 * apart}
    rows = [
        *(broken(0, "pgd"), made(0, "square")),
        *(made(1, "pgd", **first), broken(1, "square", forwards=101 - 10 * apart)),
        *(made(2, "pgd", **first), made(2, "square")),
    ]
    return at_end(sheet(source_of(rows, settings={"square": {"until_broken": stops}})))


LAST = "The last to fall, 1 sample, fell to square by 106 passes."


def test_a_sample_that_falls_late_shows_that_the_attacks_were_not_at_their_end() -> None:
    said = "It is not flat at its end: 1 sample fell in the last half of the passes (53 to 106 a "
    assert late(stops=True) == late(apart=6) == f"{said}sample); more passes may leave less. {LAST}"


def test_what_falls_within_a_long_attack_may_have_fallen_early() -> None:
    assert late() == (
        "Whether it is flat at its end is not known: 1 sample fell to attacks that ended in the "
        "last half of the passes (53 to 106 a sample) but began before it, and records do not tell "
        f"when within them. {LAST}"
    )


def test_an_attack_that_breaks_early_is_at_its_end() -> None:
    rows = [broken(0, "pgd"), made(0, "square"), made(1, "pgd"), made(1, "square", forwards=90)]
    said = at_end(sheet(source_of(rows)))
    # Of no success in two trials: (1 - p)^2 = 2.5 %.
    most = 100 * (1 - 0.025 ** (1 / 2))
    assert said == (
        "The last half of the passes (52 to 105 a sample), spent by square, lowered it by 0.0 "
        f"points: none of 1 sample that still stood fell. A fall of up to {most:.1f} points is "
        "not ruled out by 2 samples (upper end of Clopper-Pearson's 95 % interval). The last to "
        "fall, 1 sample, fell to pgd by 10 passes."
    )
    gone = at_end(sheet(source_of([broken(0, "pgd"), made(0, "square", forwards=90)])))
    assert gone.startswith("When the last half of the passes (52 to 105 a sample) began, no sample")


def test_noise_that_breaks_nothing_does_not_look_like_an_attack_at_its_end() -> None:
    assert at_end(sheet(source_of([made(0, "noise")]))).startswith("Noise is a control")


def test_of_a_random_defence_the_fall_has_its_interval() -> None:
    def run(late: float, passes: int) -> str:
        rows = []
        for n in range(60):
            votes = {"clean_correct": 1.0, "clean_votes": (20, 0)}
            rows.append(made(n, "a", correct=0.8, choosing=0.8, votes=(16, 4), **votes))
            share = {"correct": late, "choosing": late, "votes": (0, 0), "selected": True}
            rows.append(made(n, "b", forwards=passes, backwards=0, **share, **votes))
        return at_end(sheet(source_of(rows, 20)))

    assert run(0.4, 9).startswith("It still falls at its end: by 40.0 points (95 % interval ")
    said = "Whether it is flat at its end is not known: 40.0 points (95 % interval "
    assert run(0.4, 60).startswith(said)
    flat = run(0.8, 60)
    _, _, most = paired_difference([1.0] * 60, [1.0] * 60)
    assert "lowered it by 0.0 points (95 % interval " in flat
    assert flat.endswith(
        f"a fall of up to {100 * most:.1f} points is not ruled out by these samples."
    )


def test_what_a_budget_left_open_is_said() -> None:
    rows = [made(0, "pgd"), made(1, "pgd", finished=False, correct=None, distance=0.0)]
    said = at_end(sheet(source_of(rows, samples=4)))
    assert said.endswith("A budget left 3 samples unfinished: of these nothing is known.")


def test_only_an_attack_that_goes_on_looks_for_nearer_ones() -> None:
    rows = [made(0, "fmn"), broken(1, "fmn"), made(2, "fmn", clean_correct=False, correct=False)]
    stops, goes = ({"fmn": {"until_broken": way}} for way in (True, False))
    source = source_of(rows, settings=stops)
    assert over_eps.looseness(source, sheet(source)) == over_eps.LOOSE
    source = source_of(rows, settings=goes)
    said = "fmn looked for the nearest wrong input on each sample that was right."
    assert over_eps.looseness(source, sheet(source)) == said
    rows[0] = made(0, "fmn", carried="pgd")
    source = source_of(rows, settings=goes)
    said = over_eps.looseness(source, sheet(source))
    assert said.startswith("fmn looked for the nearest wrong input on 1 of 2 samples that were")


def test_a_bound_that_nobody_tried_to_make_a_good_one_does_not_look_like_a_result() -> None:
    rows = [broken(0, "fmn", distance=0.2), made(1, "fmn")]

    def over(carried: str, pairs: Sequence[Pair] = ()) -> tuple[list[str], Any, set[str]]:
        taken = [rows[0], made(1, "fmn", carried=carried)] if carried else rows
        source = source_of(taken, settings={"fmn": {"until_broken": False}})
        part = part_of(source, 1, pairs)
        assert part is not None
        stems = [drawing.stem for drawing in part.drawings]
        said = {row.said for row in part.rows if row.kind == over_eps.KIND}
        return stems, part.drawings[stems.index("eps-run")], said

    stems, drawing, said = over("")
    assert stems == ["eps-run", "passes-run"]
    assert drawing.title == "Robust accuracy of run over eps"
    assert said == {""}
    stems, drawing, said = over("pgd")
    assert stems == ["passes-run", "eps-run"]
    assert drawing.title == "A loose upper bound at smaller eps: run"
    assert "a loose bound before its end" in drawing.said
    assert said == {"", LOOSE}
    # Where nobody looked for nearer ones at all there is no line, unless something is proved.
    stops = source_of(rows, settings={"fmn": {"until_broken": True}})
    part = part_of(stops, 1)
    assert part is not None
    assert [drawing.stem for drawing in part.drawings] == ["passes-run"]
    pair = pair_of(proofs_of([proof(1, EPS)]), source_of(rows))
    part = part_of(stops, 1, [pair])
    assert part is not None
    stems, drawing = [drawing.stem for drawing in part.drawings], part.drawings[0]
    assert stems == ["eps-run", "passes-run"]
    assert drawing.title == "Certified over eps, under a loose upper bound: run"


def test_of_a_batch_attacked_together_no_line_over_eps_is_a_bound() -> None:
    source = source_of([broken(0, "pgd", distance=0.2), made(1, "pgd")])
    source.run.summary["adversary"] = "batch"
    part = part_of(source, 1)
    assert part is not None
    assert {row.kind for row in part.rows} == {"over passes"}


def test_the_attacks_that_look_for_nearer_ones_are_those_that_say_so() -> None:
    names = [name for name in ATTACKS if ATTACKS.get(name).minimal]
    assert sorted(names) == sorted(over_eps.MINIMAL)


# Of another make.


def test_a_run_without_records_has_no_courses() -> None:
    empty = source_of([made(0, "pgd")])
    vars(empty.run)["records"] = table_of([])
    assert part_of(empty, 1) is None
    nothing = proofs_of([proof(0, EPS)])
    vars(nothing.run)["certificates"] = certificates_of([])
    assert part_of(nothing, 1) is None


@pytest.mark.parametrize("threat", ["", "anything", "linf:", "linf:x", "linf:0", "linf:inf"])
def test_where_there_is_no_eps_there_is_no_course_over_it(threat: str) -> None:
    part = part_of(source_of([made(0, "pgd")], threat=threat), 1)
    assert part is not None
    assert {row.kind for row in part.rows} == {"over passes"}


def test_a_summary_of_another_make_costs_nothing_but_what_it_says() -> None:
    source = source_of([made(0, "pgd"), made(0, "square")])
    source.run.summary["attacks"] = [{"name": "gone"}, {"name": "fmn", "settings": None}]
    source.run.summary["samples"] = "many"
    part = part_of(source, 1)
    assert part is not None
    assert sheet(source).names == ("gone", "fmn", "pgd", "square")
    assert part.rows[-1].value == 1.0


def test_without_a_pass_there_is_no_course_over_passes() -> None:
    rows = [made(0, "fmn", forwards=0, backwards=0)]
    part = part_of(source_of(rows, settings={"fmn": {"until_broken": False}}), 1)
    assert part is not None
    assert {row.kind for row in part.rows} == {"over eps"}


# Figures.


def many(count: int, draws: int | None = None, names: int = 3, name: str = "pgd") -> Source:
    """A run of some samples under many attacks with long names; one sample was not finished."""
    rng = np.random.default_rng(1)
    rows = []
    for n in range(count):
        for place in range(names):
            right = bool(rng.random() < 0.9)
            shares: dict[str, Any] = {}
            if draws is not None:
                shares = {"correct": int(rng.integers(0, draws)) / draws}
                votes = {"votes": (draws, 0), "clean_votes": (draws, 0), "clean_correct": 1.0}
                shares |= {"choosing": float(rng.random()), "selected": place == n > 0, **votes}
            else:
                shares |= {"correct": right}
            stopped = {"finished": False, "correct": None} if n == place == 0 else {}
            passes = {"forwards": int(rng.integers(1, 5)), "distance": float(rng.uniform(0, EPS))}
            rows.append(made(n, f"{name}{place}", **{**shares, **passes, **stopped}))
    return source_of(rows, draws, label=name)


@pytest.mark.parametrize(("draws", "names"), [(None, 40), (30, 1)])
def test_figures_of_hostile_names_are_drawn_the_same_twice(draws: int | None, names: int) -> None:
    part = part_of(many(5, draws, names, HOSTILE), 7)
    assert part is not None
    stems = [drawing.stem for drawing in part.drawings]
    assert stems == ["passes-run", *(["draws-run"] if draws else [])]
    for drawing in part.drawings:
        dark = shown(drawing, Theme.DARK)
        assert shown(drawing, Theme.DARK) == dark != shown(drawing, Theme.LIGHT)
        ET.fromstring(dark)
        # Every format puts the title before it and a full stop behind it.
        assert drawing.title not in drawing.said
        assert not drawing.said.endswith(".")


def test_a_method_of_a_hostile_name_stands_in_a_legend() -> None:
    pair = pair_of(proofs_of([proof(0, EPS)], HOSTILE), source_of([made(0, "pgd")]))
    part = part_of(pair.attack, 1, [pair])
    assert part is not None
    ET.fromstring(shown(part.drawings[0], Theme.LIGHT))


def test_a_page_holds_few_rows_of_each_course() -> None:
    part = part_of(many(200, 200), 1)
    assert part is not None
    rows = pd.DataFrame(part.rows)
    counts = rows.groupby(["kind", "name"]).size()
    assert counts.max() <= PLACES
    assert set(rows.kind) == {"over passes", "over draws"}
    assert rows["at"].notna().all()
    assert {5.0, 20.0, 200.0} <= set(rows[rows.kind == "over draws"]["at"])
