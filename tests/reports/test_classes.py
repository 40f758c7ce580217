"""The table of the classes: closed forms, plain loops over made-up records, names from outside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact, hypergeom
from torch import nn

import robustcode
from robustcode.bracket import bracket
from robustcode.certificates import Certificate, status_of
from robustcode.certificates import table_of as certificates_of
from robustcode.certified import certified_of
from robustcode.data import from_arrays
from robustcode.records import Record, table_of
from robustcode.reports.numbers.by_class import Taken, by_chance, taken_for
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.numbers.sheet import sheet_of
from robustcode.reports.parts import Part
from robustcode.reports.sections.classes import SHOWN, part_of
from robustcode.reports.source import Source, verdicts
from robustcode.reports.table import Row
from robustcode.store import Run, load_run
from robustcode.summary import summarise

EPS = 0.5
THREAT = f"linf:{EPS}"
HOSTILE = '<script>alert("1")</script>\n=1+1 \\input{x} $x$'
INPUTS = {"checkpoint_sha256": "c", "data_sha256": {"x": "d"}}
COST = {"judge_forwards": 0, "seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mb": 0.0}


def source_of(
    rows: Sequence[Record], draws: int | None = None, names: Any = None, detector: bool = False
) -> Source:
    records = table_of(rows)
    attacks = [
        {"name": name, "settings": {}, "control": False} for name in {r.attack: 0 for r in rows}
    ]
    cost = {**COST, "attack_seconds": {attack["name"]: 0.0 for attack in attacks}}
    summary = summarise(records, attacks, draws, [{"cost": cost}], detector=detector)
    spec = {"command": "attack", "threat": THREAT, "defense": "identity", "adversary": "solo"}
    manifest = dict(INPUTS) if names is None else {**INPUTS, "class_names": names}
    run = Run(Path("somewhere"), spec, manifest, summary, [])
    vars(run)["records"] = records
    return Source("run", run, verdicts(run))


def made(
    sample: int, label: int, taken: int | None = None, right: bool = False, **more: Any
) -> Record:
    """A sample whose one proposal was taken for a class; right by itself."""
    plain: dict[str, Any] = {
        **{"sample": sample, "label": label, "clean": label, "attack": "pgd", "prediction": taken},
        **{"correct": right, "votes": None, "choosing": None, "clean_correct": True},
        **{"clean_votes": None, "selected": True, "distance": EPS, "seed": 0},
        **{"forwards": 5, "backwards": 5},
    }
    return Record(**{**plain, **more})


def voted(sample: int, label: int, votes: tuple[int, ...], draws: int, **more: Any) -> Record:
    """Likewise under a random defence; what is missing from the votes abstained."""
    share = votes[label] / draws
    random = {"votes": votes, "choosing": share, "clean_correct": 1.0, "correct": share}
    clean = tuple(draws if n == label else 0 for n in range(len(votes)))
    return made(sample, label, label, **{**random, "clean_votes": clean, **more})


def part(source: Source, pairs: Sequence[Pair] = ()) -> Part:
    found = part_of(source, 1, pairs)
    assert found is not None
    return found


def row(found: Part, name: str) -> Row:
    (only,) = (row for row in found.rows if row.name == name)
    return only


def taken(source: Source) -> dict[int, Taken]:
    sheet = sheet_of(source)
    assert sheet is not None
    return taken_for(source, sheet)


def proofs_of(rows: Sequence[Certificate]) -> Source:
    table = certificates_of(rows)
    summary = {"samples": len(rows), "certified": certified_of(table, "m", "identity", THREAT, EPS)}
    spec = {"command": "certify", "threat": THREAT, "adversary": {"name": "solo"}}
    run = Run(Path("proofs"), spec, dict(INPUTS), summary, [])
    vars(run)["certificates"] = table
    vars(run)["records"] = table_of([])
    return Source("proofs", run, pd.DataFrame())


def proof(sample: int, label: int, radius: float) -> Certificate:
    return Certificate(
        sample=sample,
        label=label,
        prediction=label,
        status=status_of(label, label, radius, EPS),
        radius=radius,
    )


def test_each_class_has_its_own_accuracy_and_interval() -> None:
    rows = [made(0, 3, 3, True), made(1, 3, 7), made(2, 7, 3), made(3, 7, 3), made(4, 7, 1)]
    rows[4] = made(4, 7, 1, clean=1, clean_correct=False)
    found = part(source_of(rows))
    worst = row(found, "worst case of class 3")
    interval = binomtest(1, 2).proportion_ci(method="exact")
    assert (worst.at, worst.samples, worst.value) == (3, 2, 0.5)
    assert (worst.low, worst.high) == pytest.approx((interval.low, interval.high))
    assert row(found, "clean of class 7").value == 2 / 3
    assert row(found, "class 7 taken for class 3").value == 2 / 3
    assert [line[0] for line in found.grids[0].rows] == ["3", "7"]


def test_what_stands_is_taken_for_nothing() -> None:
    assert taken(source_of([made(0, 1, 1, True)])) == {}
    (grid,) = part(source_of([made(0, 1, 1, True)])).grids
    assert "most often taken for" not in grid.headers


def test_no_class_is_an_answer_and_comes_last_among_equals() -> None:
    assert taken(source_of([made(0, 1), made(1, 1), made(2, 1, 0)])) == {1: Taken(-1, 2 / 3, 3)}
    assert taken(source_of([made(0, 1), made(1, 1, 2), made(2, 1, 0)])) == {1: Taken(0, 1 / 3, 3)}
    found = part(source_of([made(0, 1)]))
    assert row(found, "class 1 taken for no class").value == 1


def test_each_wrong_decision_of_a_random_defence_counts() -> None:
    rows = [voted(0, 0, (4, 6, 0), 10), voted(1, 0, (1, 1, 7), 10), voted(2, 1, (0, 10, 0), 10)]
    # 6 and 1 for class 1, 7 for class 2, one abstained.
    assert taken(source_of(rows, 10)) == {0: Taken(1, 7 / 15, 2)}


def test_a_refusal_by_a_detector_is_not_wrong() -> None:
    """Three decisions of ten were refused, which is right on an input that was perturbed."""
    rows = [voted(0, 0, (4, 2, 1), 10, correct=0.7)]
    assert taken(source_of(rows, 10, detector=True)) == {0: Taken(1, 2 / 3, 1)}


def test_the_untouched_sample_counts_where_no_proposal_was_worse() -> None:
    own = {"selected": False, "clean_votes": (5, 1, 4), "clean_correct": 0.5}
    assert taken(source_of([voted(0, 0, (6, 4, 0), 10, **own)], 10)) == {0: Taken(2, 4 / 5, 1)}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([None, 0, 1, 2, 3]), st.booleans()), min_size=1
    )
)
def test_it_is_what_a_plain_loop_counts(
    samples: list[tuple[int, int | None, bool]],
) -> None:
    rows = [
        made(n, label, other, other == label, finished=done or other != label)
        for n, (label, other, done) in enumerate(samples)
    ]
    rows = [r if r.finished else made(r.sample, r.label, r.label, finished=False) for r in rows]
    rows = [r if r.finished else Record(**{**vars(r), "correct": None}) for r in rows]
    source = source_of(rows)
    found, broken = part(source), taken(source)
    for label in {label for label, _, _ in samples}:
        own = [r for r in rows if r.label == label]
        worst = row(found, f"worst case of class {label}")
        held = sum(r.correct is True for r in own)
        left = sum(not r.finished for r in own)
        assert worst.value == pytest.approx(held / len(own))
        assert (worst.unfinished or 0, worst.samples) == (left, len(own))
        assert worst.most == (pytest.approx((held + left) / len(own)) if left else None)
        others = Counter(r.prediction for r in own if r.correct is False)
        if others:
            most = max(others.values())
            first = min(
                (n for n in others if others[n] == most), key=lambda n: 9 if n is None else n
            )
            assert broken[label].other == (-1 if first is None else first)
            assert broken[label].share == pytest.approx(most / others.total())
        else:
            assert label not in broken


def test_the_classes_add_up_to_the_summary() -> None:
    rng = np.random.default_rng(0)
    rows = [made(n, int(rng.integers(5)), 9, bool(rng.random() < 0.5)) for n in range(60)]
    source = source_of(rows)
    for name, whole in (("clean", "clean"), ("worst case", "robust")):
        own = [r for r in part(source).rows if r.name.startswith(f"{name} of")]
        right = sum((r.value or 0) * (r.samples or 0) for r in own)
        assert right == pytest.approx(source.run.summary[whole]["correct"])


def test_proofs_have_their_column() -> None:
    proofs = proofs_of([proof(0, 0, EPS), proof(1, 0, 0.1), proof(2, 1, EPS)])
    rows = [made(0, 0, 0, True), made(1, 0, 1), made(2, 1, 1, True), made(3, 1, 0)]
    attacks = source_of(rows)
    pair = Pair(proofs, attacks, bracket(proofs.run, attacks.run))
    for found in (part(proofs), part(attacks, [pair])):
        assert row(found, "certified of class 0").value == 0.5
        # The fourth sample is not in the run of certificates.
        assert row(found, "certified of class 1").samples == 1
    assert "certified, %" not in part(attacks).grids[0].headers


# By chance.


def test_the_test_is_fishers_where_there_are_two_classes() -> None:
    """Two classes and two outcomes: all tables with these margins can be counted."""
    for first, second in (((7, 1), (2, 6)), ((9, 3), (8, 4)), ((5, 0), (3, 9)), ((1, 3), (3, 1))):
        labels = np.repeat([0, 1], [sum(first), sum(second)])
        shares = np.repeat([1.0, 0, 1, 0], [*first, *second])
        exact = _enumerated(first, second)
        found = by_chance(labels, shares)
        # Four standard deviations of a share of 999.
        assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 999) ** 0.5 + 2e-3)
    assert _enumerated((1, 3), (3, 1)) == pytest.approx(fisher_exact(np.array([[1, 3], [3, 1]]))[1])


def _enumerated(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Probability of tables whose chi-squared is no less, all margins given.

    It grows with the distance of a cell from its mean.
    """
    count, right, own = sum(first) + sum(second), first[0] + second[0], sum(first)

    def away(hits: int) -> float:
        return abs(hits - own * right / count)

    possible = range(max(0, own + right - count), min(own, right) + 1)
    return float(
        sum(
            hypergeom.pmf(hits, count, right, own)
            for hits in possible
            if away(hits) >= away(first[0]) - 1e-9
        )
    )


def test_it_cries_wolf_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [by_chance(rng.integers(0, 5, 40), rng.integers(0, 11, 40) / 10) for _ in range(60)]
    # Binomial with 60 tries at 5 %: more than nine has probability below one in a thousand.
    assert sum(p is not None and p <= 0.05 for p in found) <= 9


def test_classes_that_cannot_be_compared_are_not() -> None:
    assert by_chance(np.array([2, 2]), np.array([0.0, 1.0])) is None
    assert by_chance(np.array([1, 2]), np.array([1.0, 1.0])) is None


def test_a_lost_class_is_said_and_a_lucky_one_is_not() -> None:
    def said(second: int) -> str:
        rows = [made(n, int(n < 30), 5, n < 28 or n < 30 + second) for n in range(60)]
        return " ".join(part(source_of(rows)).grids[0].notes)

    assert "The classes differ in worst-case accuracy by more than chance allows" in said(2)
    assert "These samples do not tell the classes apart in worst-case accuracy" in said(29)


def test_what_a_budget_left_open_is_not_tested() -> None:
    rows = [made(n, n % 2, 5, n % 2 == 0) for n in range(40)]
    rows[0] = made(0, 0, 0, correct=None, finished=False, selected=False)
    notes = " ".join(part(source_of(rows)).grids[0].notes)
    assert "chance" not in notes
    assert "Unfinished" in notes


# Names.


def test_a_name_stands_beside_its_number() -> None:
    found = part(source_of([made(0, 1, 0)], names=["cat", HOSTILE]))
    (line,) = found.grids[0].rows
    assert line[:2] == ("1", HOSTILE)
    assert line[-2] == "0 (cat)"
    assert row(found, f"class 1 ({HOSTILE}) taken for class 0 (cat)").value == 1


@pytest.mark.parametrize(
    "names", [None, "cat", {"0": "cat"}, 7, [], ["cat"], [3, None], ["0", "1"]]
)
def test_what_names_nothing_leaves_the_number(names: Any) -> None:
    found = part(source_of([made(0, 1, 1, True)], names=names))
    assert [r.name for r in found.rows] == ["clean of class 1", "worst case of class 1"]


def test_of_very_many_classes_the_worst_are_shown_and_all_are_told() -> None:
    rows = [made(n, n, n + 1, n % 3 > 0) for n in range(SHOWN + 50)]
    found = part(source_of(rows))
    (grid,) = found.grids
    shown = [int(line[0]) for line in grid.rows]
    assert len(shown) == SHOWN
    assert shown == sorted(shown)
    assert {n for n in range(SHOWN + 50) if n % 3 == 0} <= set(shown)
    assert sum(r.name.startswith("worst case of") for r in found.rows) == SHOWN + 50


def test_a_run_without_records_has_no_classes() -> None:
    source = source_of([made(0, 1, 1, True)])
    vars(source.run)["records"] = table_of([])
    assert part_of(source, 1) is None
    nothing = proofs_of([proof(0, 0, EPS)])
    vars(nothing.run)["certificates"] = certificates_of([])
    assert part_of(nothing, 1) is None


# The manifest.


class Brightness(nn.Module):
    """Two classes: dark and bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.mean((1, 2, 3)) - 0.5
        return torch.stack([-bright, bright], 1)


def attacked(out: Path, names: Sequence[str] | int) -> Run:
    rng = np.random.default_rng(0)
    images = rng.random((12, 1, 4, 4), dtype=np.float32)
    labels = (images.mean((1, 2, 3)) > 0.5).astype(np.int64)
    data = from_arrays(images, labels, axes="NCHW", classes=names)
    model = Brightness().eval()
    return robustcode.attack(model, data, "linf:.05", out, attacks=["fgsm"], progress=False)


def test_a_run_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    run = attacked(tmp_path / "named", ["dark", HOSTILE])
    source = Source("run", run, verdicts(run))
    assert source.class_names == ["dark", HOSTILE]
    assert f"clean of class 1 ({HOSTILE})" in {r.name for r in part(source).rows}
    assert "class_names" not in attacked(tmp_path / "numbered", 2).manifest


def test_a_run_from_before_there_were_names_goes_on(tmp_path: Path) -> None:
    """Its manifest has none; the same command finds nothing to refuse."""
    run = attacked(tmp_path / "old", ["dark", "bright"])
    before = run.records
    file = run.path / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["class_names"]
    file.write_text(json.dumps(manifest))
    again = attacked(run.path, ["dark", "bright"])
    pd.testing.assert_frame_equal(again.records, before)
    old = load_run(run.path)
    assert Source("run", old, verdicts(old)).class_names == []
