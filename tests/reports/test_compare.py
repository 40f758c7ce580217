"""Several runs side by side: the same samples, every pair tested, ranks of what is comparable."""

import io
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from scipy.stats import binomtest

from robustcode import certificates
from robustcode.certificates import Certificate, status_of
from robustcode.certified import summarise_proofs
from robustcode.records import Record, table_of, to_lines
from robustcode.reports import report
from robustcode.reports.comparison.clean_against_worst import Against, chart_of, spread
from robustcode.reports.comparison.comparable import UNLIKE
from robustcode.reports.comparison.compare import INVERTED, LEVEL, MCNEMAR, Comparison, comparisons
from robustcode.reports.comparison.ranks import Leaderboard, Refusal, boards_of
from robustcode.reports.comparison.tables import group_grids, refusal_grids
from robustcode.reports.compose import compose
from robustcode.reports.drawing import INKS, Theme, drawn, shown
from robustcode.reports.figures.accuracies import Dots
from robustcode.reports.numbers.proofs import pairs_of
from robustcode.reports.source import Source, sources
from robustcode.statistics import clustered, paired_p_value, proportion
from robustcode.store import RunFolder, load_run, write_atomic
from robustcode.summary import summarise

COST = {"seconds": 2.0, "cpu_seconds": 1.5, "peak_memory_mb": 321.5}
HOSTILE = '<script>alert(1)</script> \\input{x} & 5% _ $x^2$ | `a` =1+1 "q"'


def written(folder: Path, name: str, lines: bytes, said: Mapping[str, Any], **given: Any) -> Path:
    """A finished run folder of one shard; ``given`` is request, manifest, findings and spec."""
    run = RunFolder(folder)
    manifest = {"data_sha256": {"digits": "d" * 64}, **given.get("manifest", {})}
    versions = manifest.pop("versions", None)
    with run.locked():
        run.open(given.get("request", {}), manifest)
        if versions:
            run.manifest["versions"] = versions
        spec = {"model": "digits_cnn", "data": "digits", "threat": "linf:0.1"}
        plain = {"defense": {"name": "identity"}, "adversary": {"name": "solo"}}
        run.write_spec({**spec, **plain, **given.get("spec", {})})
        run.missing_shards(1)
        sha = write_atomic(folder / name, lines)
        run.list_shard(0, {"sha256": {name: sha}, "cost": COST})
        findings = given.get("findings", [])
        run.finish(findings, {**said, "findings": findings, "title": folder.name})
    return folder


def attacked(
    folder: Path,
    robust: Sequence[Any],
    *,
    clean: Sequence[Any] | None = None,
    samples: Sequence[int] | None = None,
    draws: int | None = None,
    suite: str = "adaptive",
    steps: int = 20,
    attacks: Sequence[str] = ("noise", "pgd"),
    labels: Mapping[int, int] | None = None,
    finished: bool = True,
    **given: Any,
) -> Path:
    """A run under its folder's name; ``robust`` is what its last attack leaves of each sample."""
    clean = [True if draws is None else 1.0] * len(robust) if clean is None else clean
    records = []
    for place, sample in enumerate(range(len(robust)) if samples is None else samples):
        label = (labels or {}).get(sample, sample % 10)
        for attack in attacks:
            right = clean[place] if attack != attacks[-1] else robust[place]
            over = finished or place != 0
            records.append(
                Record(
                    sample=sample,
                    label=label,
                    clean=label if clean[place] else (label + 1) % 10,
                    attack=attack,
                    prediction=label if right else (label + 1) % 10,
                    correct=right if over else None,
                    votes=None if draws is None else votes(right, label, draws),
                    choosing=None if draws is None else float(right),
                    clean_correct=clean[place],
                    clean_votes=None if draws is None else votes(clean[place], label, draws),
                    selected=attack == attacks[-1],
                    distance=0.1,
                    forwards=5,
                    backwards=4,
                    seed=0,
                    finished=over,
                )
            )
    described = [
        {"name": name, "settings": {"steps": steps}, "control": name == "noise"} for name in attacks
    ]
    shard = {**COST, "judge_forwards": 7, "attack_seconds": dict.fromkeys(attacks, 1.0)}
    said = summarise(table_of(records), described, draws, [{"cost": shard}])
    said |= {"suite": suite}
    return written(folder, "records/shard-00000.jsonl", to_lines(records), said, **given)


def votes(share: float, label: int, draws: int) -> tuple[int, ...]:
    right = round(share * draws)
    other = (label + 1) % 10
    return tuple(
        right if name == label else draws - right if name == other else 0 for name in range(10)
    )


def proved(folder: Path, proofs_to: Mapping[int, float], eps: float = 0.1, **spec: Any) -> Path:
    """A run of certificates for ``eps`` that proves so much of each sample."""
    proofs = [
        Certificate(
            sample=sample,
            label=sample % 10,
            prediction=sample % 10,
            status=status_of(sample % 10, sample % 10, radius, eps),
            radius=radius,
        )
        for sample, radius in proofs_to.items()
    ]
    said = summarise_proofs(
        certificates.table_of(proofs),
        [{"cost": COST}],
        method="crown",
        subject="identity",
        threat=f"linf:{eps}",
        eps=eps,
    )
    lines = certificates.to_lines(proofs)
    name = "certificates/shard-00000.jsonl"
    spec = {"command": "certify", "method": "crown", "threat": f"linf:{eps}", **spec}
    return written(folder, name, lines, said, spec=spec)


def read(*folders: Path) -> list[Source]:
    return sources([load_run(folder) for folder in folders])


def compared(*folders: Path) -> Comparison:
    """The one comparison that runs make."""
    found = read(*folders)
    (group,) = comparisons([run for run in found if not run.proves], pairs_of(found))
    return group


def boards(*folders: Path) -> tuple[list[Leaderboard], list[Refusal]]:
    return boards_of(comparisons(read(*folders)))


def bits(seed: int, probability: float, count: int = 60) -> list[bool]:
    return [bool(right) for right in np.random.default_rng(seed).random(count) < probability]


def closed(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment as the closed test it is short for: Bonferroni in every subset."""
    tests = range(len(p_values))
    sizes = range(1, len(p_values) + 1)
    subsets = [subset for size in sizes for subset in itertools.combinations(tests, size)]
    return [
        max(
            min(1.0, len(subset) * min(p_values[one] for one in subset))
            for subset in subsets
            if test in subset
        )
        for test in tests
    ]


def test_every_pair_is_tested_exactly_and_adjusted_for_all(tmp_path: Path) -> None:
    chances = {"a": 0.9, "b": 0.7, "c": 0.6, "d": 0.2}
    right = {name: bits(seed, chance) for seed, (name, chance) in enumerate(chances.items())}
    runs = [attacked(tmp_path / name, right[name]) for name in "abcd"]
    files = report(runs, tmp_path / "out")
    rows = pd.read_csv(files["csv"], keep_default_na=False, na_values=[""])
    gaps = rows[rows.kind == "difference"].reset_index()
    assert len(gaps) == 6
    expected: list[float] = []
    for first, second in itertools.combinations("abcd", 2):
        lost = sum(x and not y for x, y in zip(right[first], right[second], strict=True))
        won = sum(y and not x for x, y in zip(right[first], right[second], strict=True))
        expected.append(binomtest(lost, lost + won).pvalue)
        row = gaps.iloc[len(expected) - 1]
        assert row.run == second
        assert row["name"] == f"worst case over all attacks, less that of {first}"
        assert (row.samples, row.settings) == (60, MCNEMAR)
        assert row.value == pytest.approx((won - lost) / 60)
    assert list(gaps.p_value) == pytest.approx(expected)
    assert list(gaps.p_holm) == pytest.approx(closed(expected))


def test_a_pair_with_a_random_run_has_the_p_value_of_its_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    shares = [rng.binomial(20, 0.8, 60) / 20, rng.binomial(20, 0.7, 60) / 20]
    group = compared(
        attacked(tmp_path / "a", bits(1, 0.9)),
        attacked(tmp_path / "b", list(shares[0]), draws=20),
        attacked(tmp_path / "c", list(shares[1]), draws=20),
    )
    held = [np.array(bits(1, 0.9), float), *shares]
    expected = [paired_p_value(*pair) for pair in itertools.combinations(held, 2)]
    assert [gap.test for gap in group.contrasts] == [INVERTED] * 3
    assert [gap.p_value for gap in group.contrasts] == pytest.approx(expected)
    assert [gap.p_holm for gap in group.contrasts] == pytest.approx(closed(expected))


def test_every_number_is_of_the_samples_that_all_share(tmp_path: Path) -> None:
    right = {name: dict(enumerate(bits(seed, 0.6, 50))) for seed, name in enumerate("abc")}
    clean = {name: {n: right[name][n] or n % 3 > 0 for n in range(50)} for name in "abc"}
    own = {"a": range(30), "b": range(10, 50), "c": range(5, 40)}
    radii = {n: 0.2 if all(right[name][n] for name in "abc") else 0.05 for n in range(50)}
    runs = [
        attacked(
            tmp_path / name,
            [right[name][n] for n in own[name]],
            clean=[clean[name][n] for n in own[name]],
            samples=own[name],
        )
        for name in "abc"
    ]
    group = compared(*runs, proved(tmp_path / "proofs", radii))
    common = range(10, 30)
    assert list(group.samples) == list(common)
    for name in "abc":
        for kind, held in (("clean", clean), ("worst case", right)):
            row = group.row_of(name, kind)
            assert row is not None
            hits = sum(held[name][n] for n in common)
            assert (row.value, row.low, row.high) == proportion(hits, 20)
    for name in "abc":  # the certificates speak of the model, which all three are
        row = group.row_of(name, "certified")
        assert row is not None
        hits = sum(radii[n] == 0.2 for n in common)
        assert (row.value, row.low, row.high) == proportion(hits, 20)
        assert 0 < hits < sum(radii[n] == 0.2 for n in range(50))
    assert {gap.samples for gap in group.contrasts} == {20}
    (note,) = [note for note in group_grids(group, [])[0].notes if "different samples" in note]
    assert "of the 20 that all share; a has 10 more, b has 20 more, c has 15 more." in note


def test_certificates_of_some_of_the_samples_are_told_of_and_not_shown(tmp_path: Path) -> None:
    runs = [attacked(tmp_path / name, [True] * 40) for name in "ab"]
    group = compared(*runs, proved(tmp_path / "proofs", dict.fromkeys(range(30), 0.2)))
    assert group.row_of("a", "certified") is None
    assert "of a by crown are of 30 of the 40 samples only" in group.unsaid[0]
    assert len(group.unsaid) == 2


def test_what_a_run_says_of_its_own_certificates_is_of_all_its_samples(tmp_path: Path) -> None:
    stated = {"method": "crown", "threat": "linf:0.1", "accuracy": 0.5, "low": 0.3, "high": 0.7}

    def with_statement(name: str, samples: range) -> Path:
        run = attacked(tmp_path / name, [True] * len(samples), samples=samples)
        held = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**held, "certified": stated}))
        return run

    whole = compared(with_statement("a", range(20)), with_statement("b", range(20)))
    row = whole.row_of("b", "certified")
    assert row is not None
    assert (row.value, row.low, row.high) == (0.5, 0.3, 0.7)
    trimmed = compared(with_statement("c", range(20)), with_statement("d", range(10, 40)))
    assert trimmed.row_of("c", "certified") is None
    assert "What is certified of c is known of all its samples together" in trimmed.unsaid[0]


def test_what_was_proved_for_a_larger_eps_says_so(tmp_path: Path) -> None:
    run = load_run(attacked(tmp_path / "a", [True] * 20))
    radii = {n: 0.2 * (n < 8) for n in range(20)}
    page = compose([run, load_run(proved(tmp_path / "p", radii, 0.2))])
    assert "which crown certifies (made for linf:0.2), and 100.0 %" in page.verdict
    (bracket,) = [grid for grid in page.grids if grid.caption.startswith("Bracket")]
    assert bracket.rows[0][:3] == ("certified by crown for linf:0.2", "20", "40.0")
    assert any("Made for linf:0.1 it may prove more" in note for note in bracket.notes)
    # One that was asked about the attacks' eps as well is as good as one made for it.
    asked = compose([run, load_run(proved(tmp_path / "q", radii, 0.2, radii=[0.1]))])
    assert "made for" not in asked.verdict
    assert any(row.name == "certified by crown" for row in asked.rows)


def test_a_random_run_is_certified_for_the_mean_of_what_is_proved(tmp_path: Path) -> None:
    """Deterministic proofs are certain of each sample, whatever is drawn."""
    run = attacked(tmp_path / "a", [0.9, 1.0] * 20, draws=10)
    other = attacked(tmp_path / "b", [0.5, 1.0] * 20, draws=10)
    group = compared(run, other, proved(tmp_path / "proofs", {n: 0.2 * (n % 2) for n in range(40)}))
    row = group.row_of("a", "certified")
    assert row is not None
    assert (row.value, row.low, row.high) == clustered([0.0, 1.0] * 20, 10)


OTHERWISE = [
    ({"spec": {"threat": "linf:0.2"}}, r"^Its threat is linf:0\.2, that of plain is linf:0\.1\.$"),
    (
        {"manifest": {"data_sha256": {"digits": "e" * 64}}},
        r"^Its data \(digits\) are not those of plain \(digits\)",
    ),
    (
        {"manifest": {"data_sha256": None}, "spec": {"data": "cifar10:there"}},
        r"^Its data \(cifar10:there\) are not those of plain \(digits\)",
    ),
    ({"samples": range(100, 160)}, r"^It has no sample in common with plain"),
    (
        {"labels": {3: 4, 7: 1}},
        r"^2 of the 60 samples in common with plain are of another class there: sample 3 of",
    ),
    ({"finished": False}, r"unfinished by a budget"),
]


@pytest.mark.parametrize(("given_", "reason"), OTHERWISE)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    given_: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    runs = [
        attacked(tmp_path / "plain", bits(0, 0.5)),
        attacked(tmp_path / "same", bits(1, 0.5)),
        attacked(tmp_path / "other", bits(2, 0.5), **given_),
    ]
    page = compose([load_run(run) for run in runs])
    (refused,) = [row for row in page.rows if row.kind == "not compared"]
    assert (refused.run, refused.name) == ("other", "with plain, same")
    assert re.search(reason, refused.said)
    assert len([row for row in page.rows if row.kind == "difference"]) == 1
    (grid,) = [grid for grid in page.grids if grid.caption == "Not compared"]
    assert grid.rows == (("other", refused.said),)


def test_the_same_data_under_another_name_are_the_same_data(tmp_path: Path) -> None:
    runs = [
        attacked(
            tmp_path / name,
            [True] * 9,
            spec={"data": f"npz:{name}"},
            manifest={"data_sha256": {f"{name}.npz": "f" * 64}},
        )
        for name in "ab"
    ]
    assert len(compared(*runs).contrasts) == 1


def steps_of(tmp_path: Path, *kept: int, **given: Any) -> list[Path]:
    """Runs of 100 samples that keep so many each, the later ones among those of the earlier."""
    return [
        attacked(tmp_path / f"keeps{count}", [n < count for n in range(100)], **given)
        for count in kept
    ]


def test_runs_that_cannot_be_told_apart_share_a_rank(tmp_path: Path) -> None:
    (board,), refused = boards(*steps_of(tmp_path, 51, 90, 20, 50))
    assert [member.label for member in board.members] == [
        "keeps90",
        "keeps51",
        "keeps50",
        "keeps20",
    ]
    assert board.ranks == {"keeps90": 1, "keeps51": 2, "keeps50": 2, "keeps20": 4}
    assert not refused
    assert board.group.unresolved("keeps51") == ["keeps50"]
    assert board.group.unresolved("keeps90") == []
    assert [(row.run, row.at) for row in board.rows] == [
        *(("keeps90", 1), ("keeps51", 2), ("keeps50", 2), ("keeps20", 4))
    ]
    (first, differences, _) = group_grids(board.group, [board])
    assert first.caption.startswith("Leaderboard: digits under linf:0.1")
    assert [(row[0], row[2], row[-1]) for row in first.rows] == [
        ("1", "keeps90", "none"),
        ("2", "keeps51", "D"),
        ("2", "keeps50", "A"),
        ("4", "keeps20", "none"),
    ]
    assert [row[-1] for row in differences.rows].count("unresolved") == 1


def test_a_rank_counts_the_runs_that_are_better_after_holm(tmp_path: Path) -> None:
    runs = [attacked(tmp_path / f"r{seed}", bits(seed, 0.3 + 0.08 * seed)) for seed in range(7)]
    (board,), _ = boards(*runs)
    table = board.group.contrasts
    for member in board.members:
        better = [
            gap
            for gap in table
            if gap.p_holm <= LEVEL
            and (
                (gap.first == member.label and gap.difference.value > 0)
                or (gap.second == member.label and gap.difference.value < 0)
            )
        ]
        assert board.ranks[member.label] == 1 + len(better)
    assert len(set(board.ranks.values())) > 2


def test_one_suite_may_choose_other_attacks_for_each_defence(tmp_path: Path) -> None:
    runs = [
        attacked(tmp_path / "still", [True] * 30, attacks=("noise", "scout")),
        attacked(tmp_path / "random", [0.5] * 30, draws=10, attacks=("noise", "transfer", "pgd")),
    ]
    (board,), refused = boards(*runs)
    assert board.attacked_by == "the suite adaptive (which chose for each run)"
    assert not refused
    # Two suites of unknown versions may be any two.
    unknown: dict[str, Any] = {"manifest": {"versions": {"python": "3"}}}
    one = attacked(tmp_path / "one", [True] * 30, attacks=("noise", "scout"), **unknown)
    assert boards(one, attacked(tmp_path / "two", [True] * 30, **unknown))[0] == []


def test_what_a_suite_chose_for_a_run_stands_in_its_line(tmp_path: Path) -> None:
    """One suite is one name: the attacks behind it are not the same, and are not said to be."""
    runs = [
        attacked(tmp_path / "still", bits(1, 0.9), attacks=("noise", "scout", "pgd")),
        attacked(
            tmp_path / "random",
            [float(right) for right in bits(2, 0.4)],
            draws=10,
            attacks=("noise", "transfer", "pgd"),
        ),
        attacked(tmp_path / "same", bits(3, 0.5), attacks=("noise", "scout", "pgd")),
    ]
    for run, draws in zip(runs, (1, 4, 1), strict=True):
        held = json.loads((run / "summary.json").read_text())
        held["attacks"][-1]["settings"]["draws"] = draws
        (run / "summary.json").write_text(json.dumps(held))
    (board,), refused = boards(*runs)
    assert not refused
    table = group_grids(board.group, [board])[0]
    assert table.headers[-1] == "attacks that not all had"
    told = {row[2]: row[-1] for row in table.rows}
    assert told["random"] == "transfer, pgd:draws=4"
    assert told["still"] == told["same"] == "scout, pgd:draws=1"
    assert {row.said for row in board.rows} == set(told.values())
    (said,) = [note for note in table.notes if "gave these runs different attacks" in note]
    page = compose([load_run(run) for run in runs])
    assert page.verdict.endswith(said)
    assert "alike" not in " ".join([page.verdict, *table.notes, table.caption])
    alike, _ = boards(runs[0], runs[2])
    assert "attacks that not all had" not in group_grids(alike[0].group, alike)[0].headers
    assert alike[0].attacked_by == "the suite adaptive"


UNRANKED = [
    ({"suite": "quick", "steps": 5}, r"by the suite quick, and plain by adaptive\.$"),
    (
        {"suite": "", "steps": 10},
        r"by a list of attacks \(noise, pgd\), and plain by the suite adap",
    ),
    (
        {"steps": 5, "request": {"attacks": [{"name": "fab", "steps": 5}]}},
        r"by the suite adaptive and fab:steps=5, and plain by the suite adaptive\.$",
    ),
    (
        {"samples": range(1, 61)},
        r"^It has 60 samples, plain has 60, and 59 of them are the same\.$",
    ),
    ({"spec": {"adversary": {"name": "batch"}}}, r"^Its adversary is batch, that of plain is solo"),
    ({"spec": {"max_passes": 50}}, r"^Its limit of passes a sample is 50, that of plain is none"),
    (
        {"spec": {"proved": [3, 4]}},
        r"^2 samples of it and 0 of plain, not the same ones, were given as proved and not attac",
    ),
    ({"attacks": ("noise",)}, r"^It was attacked by noise alone, which is a control"),
    (
        {"steps": 5, "manifest": {"versions": {"robustcode": "9.9"}}},
        r"the suite adaptive of robustcode 9\.9, and plain by that of",
    ),
    (
        {"steps": 5, "manifest": {"versions": {"python": "3"}}},
        r"the suite adaptive of robustcode of an unknown version, and plain by that of",
    ),
    ({"manifest": {"data_sha256": None}}, r"no sha256 of the data"),
    (
        {"findings": [{"code": "bad", "severity": "failure", "what": "W.", "remedy": "R."}]},
        r"^A check of its evaluation failed",
    ),
]


@pytest.mark.parametrize(("given_", "reason"), UNRANKED)
def test_what_cannot_be_ranked_is_compared_and_refused_with_the_reason(
    given_: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    runs = [
        attacked(tmp_path / "plain", bits(0, 0.5)),
        attacked(tmp_path / "same", bits(1, 0.5)),
        attacked(tmp_path / "other", bits(2, 0.5), **given_),
    ]
    page = compose([load_run(run) for run in runs])
    (refused,) = [row for row in page.rows if row.kind == "not ranked"]
    assert refused.run == "other"
    assert re.search(reason, refused.said)
    assert {row.run for row in page.rows if row.kind == "rank"} == {"plain", "same"}
    assert len([row for row in page.rows if row.kind == "difference"]) == 3
    (grid,) = [grid for grid in page.grids if grid.caption == "Not ranked together"]
    assert grid.rows == (("other", refused.said),)


def test_lists_of_attacks_are_ranked_only_where_every_setting_agrees(tmp_path: Path) -> None:
    runs = [attacked(tmp_path / f"s{n}", bits(n, 0.5), suite="", steps=n) for n in (5, 6)]
    runs.append(attacked(tmp_path / "again", bits(3, 0.5), suite="", steps=5))
    (board,), (refused,) = boards(*runs)
    assert {member.label for member in board.members} == {"s5", "again"}
    assert board.attacked_by == "the same 2 attacks"
    assert (refused.run, refused.others) == ("s6", "s5, again")
    assert "with other settings" in refused.why


def test_runs_that_were_judged_by_other_draws_are_not_ranked(tmp_path: Path) -> None:
    """Of fewer draws the worst proposal is chosen less surely, and more seems to be kept."""
    runs = [attacked(tmp_path / f"of{n}", [0.5] * 30, draws=n) for n in (10, 20)]
    found, (refused,) = boards(*runs)
    assert not found
    assert refused.why == "It was judged by 20 draws, of10 by 10."


def test_two_suites_have_two_boards(tmp_path: Path) -> None:
    runs = [
        *steps_of(tmp_path, 80, 10, suite="quick", steps=5),
        *steps_of(tmp_path, 70, 60, 20, suite="adaptive"),
    ]
    (longer, shorter), refused = boards(*runs)
    assert longer.ranks == {"keeps70": 1, "keeps60": 2, "keeps20": 3}
    assert shorter.ranks == {"keeps80": 1, "keeps10": 2}
    assert [entry.run for entry in refused] == ["keeps80", "keeps10"]
    (table,) = refusal_grids(refused)
    assert [row[0] for row in table.rows] == ["keeps80, keeps10"]


def test_of_many_runs_neighbours_are_shown_and_all_pairs_are_written(tmp_path: Path) -> None:
    kept = [50, 10, 90, 20, 80, 30, 70, 40, 60, 95, 5, 85, 15]
    group = compared(*steps_of(tmp_path, *kept))
    (_, grid, _) = group_grids(group, [])
    assert len([row for row in group.rows if row.kind == "difference"]) == 78
    labels = [f"keeps{count}" for count in kept]
    ordered = [f"keeps{count}" for count in sorted(kept)]
    wanted = {frozenset(pair) for pair in itertools.pairwise(ordered)}
    wanted |= {frozenset((labels[0], label)) for label in labels[1:]}
    assert {frozenset((row[1], row[2])) for row in grid.rows} == wanted
    assert any("all 78 pairs" in note for note in grid.notes)
    assert any(f"Shown are {len(wanted)} of them" in note for note in grid.notes)


def test_more_runs_than_letters_have_two(tmp_path: Path) -> None:
    folder = attacked(tmp_path / "run", [True] * 3)
    group = compared(*[folder] * 28)
    assert group.marks[:2] == ("A", "B")
    assert group.marks[25:] == ("Z", "AA", "AB")
    assert len(set(group.marks)) == 28


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((5, 90), "these samples tell the two apart."),
        ((20, 21), "these samples do not tell the two apart."),
        ((20, 21, 22), "these samples tell no two of them apart."),
        ((5, 20, 90), "these samples tell keeps90 from every other run."),
        ((5, 89, 90), "these samples do not tell keeps90 from keeps89."),
        ((4, 5, 90), "tell keeps90 from every other run, and do not tell keeps4 from keeps5."),
        ((4, 5, 89, 90), "do not tell keeps90 from keeps89, nor keeps4 from keeps5."),
    ],
)
def test_the_verdict_says_what_the_samples_tell_apart(
    kept: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    verdict = compose([load_run(run) for run in steps_of(tmp_path, *kept)]).verdict
    assert f"keeps{max(kept)} keeps the highest worst-case accuracy" in verdict
    assert said in verdict


def test_the_verdict_names_all_runs_at_an_end(tmp_path: Path) -> None:
    runs = [attacked(tmp_path / name, [n < 80 for n in range(100)]) for name in ("one", "other")]
    runs.append(attacked(tmp_path / "least", [n < 5 for n in range(100)]))
    verdict = compose([load_run(run) for run in runs]).verdict
    assert "one and other keep the highest worst-case accuracy, 80.0 %" in verdict
    assert "and least the lowest, 5.0 %" in verdict


def test_the_verdict_doubts_runs_that_were_not_attacked_alike(tmp_path: Path) -> None:
    alike = steps_of(tmp_path, 20, 90)
    assert UNLIKE not in compose([load_run(run) for run in alike]).verdict
    weak = attacked(tmp_path / "weak", [True] * 100, suite="", steps=1)
    assert compose([load_run(run) for run in (*alike, weak)]).verdict.endswith(UNLIKE)


def test_what_noise_leaves_is_not_called_kept_under_an_attack(tmp_path: Path) -> None:
    run = load_run(attacked(tmp_path / "run", [True] * 30, attacks=("noise",)))
    page = compose([run])
    assert "under random noise alone, which is no attack, in linf:0.1." in page.verdict
    assert page.verdict.endswith("Do not rely on these numbers: 1 failure below.")
    assert [finding.code for finding in page.findings] == ["no-attack"]


def test_the_verdict_says_what_was_kept_without_an_attack_or_an_answer(tmp_path: Path) -> None:
    run = load_run(attacked(tmp_path / "run", [n < 20 for n in range(30)]))
    run.summary["proved"] = 7
    assert (
        "attack of the suite adaptive in linf:0.1 (7 samples taken for proved and not att"
        in compose([run]).verdict
    )
    run.summary["detector"] = {"clean_refused": 0.0, "attacked_refused": 0.25}
    assert "in linf:0.1 (25.0 points of it by refusals, 7 samples" in compose([run]).verdict


def test_costs_are_those_of_the_run(tmp_path: Path) -> None:
    (*_, grid) = group_grids(compared(*steps_of(tmp_path, 5, 90)), [])
    shown_ = dict(zip(grid.headers, grid.rows[0], strict=True))
    assert shown_ == {
        **{"mark": "A", "run": "keeps5", "samples": "100", "attacks": "2"},
        **{"forwards": "1,007", "backwards": "800", "seconds": "2.0"},
        **{"CPU seconds": "1.5", "peak MB": "321.5"},
    }


def chart(*folders: Path) -> Against:
    drawing = chart_of(compared(*folders), "comparison-x")
    assert isinstance(drawing, Against)
    return drawing


def test_the_chart_says_every_number_and_is_the_same_bytes_again(tmp_path: Path) -> None:
    runs = [*steps_of(tmp_path, 50, 51, 90), proved(tmp_path / "p", dict.fromkeys(range(50), 0.2))]
    drawing = chart(*runs)
    assert drawing.stem == "comparison-x"
    assert drawing.said.startswith("A keeps50: clean 100.0 %, worst case 50.0 %; B keeps51")
    whole = chart(*runs[:3], proved(tmp_path / "q", {n: 0.2 * (n < 50) for n in range(100)}))
    assert "C keeps90: clean 100.0 %, worst case 90.0 %, certified 50.0 %" in whole.said
    files = drawn(whole)
    assert drawn(whole) == files
    proved_in = INKS[Theme.LIGHT].colour("certified").encode()
    assert proved_in in files["svg"]
    assert proved_in not in drawn(drawing)["svg"]
    assert INKS[Theme.DARK].colour("certified").encode() in shown(whole, Theme.DARK)


def test_a_run_alone_has_no_chart_against_itself(tmp_path: Path) -> None:
    assert isinstance(chart_of(compared(*steps_of(tmp_path, 50)), "x"), Dots)


@pytest.mark.parametrize("count", [2, 9])
def test_no_label_of_the_chart_stands_over_another_or_outside(count: int, tmp_path: Path) -> None:
    names = [f"{name} {HOSTILE.replace('/', '')}" for name in "abcdefghi"[:count]]
    runs = [attacked(tmp_path / name, [n < 50 for n in range(100)]) for name in names]
    drawing = chart(*runs)
    figure = Figure(figsize=drawing.size, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib leaves its methods untyped
    drawing.draw(figure, INKS[Theme.LIGHT])
    canvas.print_png(io.BytesIO())
    (axes,) = figure.axes
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    # Of the text alone: lines to the dots may cross.
    boxes = [Text.get_window_extent(label, canvas.get_renderer()) for label in labels]
    assert len(boxes) == count
    for box in boxes:
        assert axes.bbox.x1 < box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.height
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


HEIGHTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.1)), min_size=1, max_size=10)


@given(HEIGHTS)
def test_labels_are_spread_so_that_none_meets_another(wanted: list[tuple[float, float]]) -> None:
    wanted = sorted(wanted, reverse=True)
    heights = [height for _, height in wanted]
    places = spread([middle for middle, _ in wanted], heights)
    for above, below in itertools.pairwise(range(len(places))):
        apart = (heights[above] + heights[below]) / 2
        assert places[above] - places[below] >= apart - 1e-9
    assert places[0] + heights[0] / 2 <= 1 + 1e-9
    assert places[-1] - heights[-1] / 2 >= -1e-9


def test_hostile_names_are_inert_wherever_runs_are_compared(tmp_path: Path) -> None:
    names = [f"{name} {HOSTILE.replace('/', '')}" for name in ("=1", "@2", "-3")]
    runs = [
        attacked(tmp_path / names[0], bits(0, 0.5)),
        attacked(tmp_path / names[1], bits(1, 0.5), suite=HOSTILE, steps=5),
        attacked(tmp_path / names[2], bits(2, 0.5), spec={"threat": HOSTILE}),
    ]
    files = report(runs, tmp_path / "out")
    assert "<script>alert" not in files["html"].read_text()
    assert "<script>alert" not in files["md"].read_text()
    text = files["tex"].read_text()
    assert "\\input{x}" not in text
    kinds = pd.read_csv(files["csv"], keep_default_na=False)
    assert {"not compared", "not ranked", "difference"} <= set(kinds.kind)
    assert not kinds.map(lambda cell: str(cell).startswith(("=", "+", "@"))).any(axis=None)
