"""A budget that is spent widens the interval, and never makes a sample robust."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from typer.testing import CliRunner

import robustcode
from robustcode.attacks import ATTACKS, Attack, Target
from robustcode.budget import Budget, BudgetSpent, Limit, Witness
from robustcode.checks.catalogue.noise_as_strong import compare_attacks
from robustcode.cli import app
from robustcode.config import describe
from robustcode.errors import ConfigError, EngineError, StoreError
from robustcode.records import Record, from_lines, to_lines
from robustcode.reports import render, report
from robustcode.seeds import Streams
from robustcode.store import Run, load_run
from robustcode.target import Ledger
from robustcode.threat import ThreatModel

EPS = "linf:0.1"
SAMPLES, SHARD = 40, 10
# The pilot has tests of its own; it costs these runs more than their attacks.
STEPS = ("fgsm", "pgd:steps=20,loss=margin", "noise:tries=2")


class Flat(nn.Module):
    """Two classes told apart by the mean of the image."""

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).mean(1) - 0.5
        return torch.stack([-score, score], dim=1)


def flat_data(count: int = SAMPLES) -> tuple[Tensor, Tensor]:
    x = torch.linspace(0.3, 0.7, count).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return x, (x.flatten(1).mean(1) > 0.5).long()


def attack_digits(out: Path, **spec: Any) -> Run:
    plain = {"attacks": STEPS, "samples": SAMPLES, "batch_size": SHARD, "cascade": True}
    return robustcode.attack("digits_cnn", "digits", EPS, out, progress=False, **{**plain, **spec})


def shard_bytes(out: Path) -> dict[str, bytes]:
    files = [*out.glob("records/*"), *out.glob("adversarial/*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(files)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that no budget stops."""
    return attack_digits(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same with passes for the first attack and half of the second."""
    return attack_digits(tmp_path_factory.mktemp("short") / "run", max_passes=12)


def spent(run: Run) -> pd.Series:
    """Passes of each shard."""
    table = run.records
    passes = table.forwards + table.backwards
    return passes.groupby(table["sample"] // SHARD).sum()


def test_no_shard_spends_more_than_it_was_given(short: Run, whole: Run) -> None:
    assert spent(short).max() <= 12 * SHARD
    assert spent(whole).max() > 12 * SHARD
    # A step of a standing sample takes two: what is left would not have paid for another.
    assert spent(short).min() > 12 * SHARD - 2 * SHARD


def test_a_limit_that_is_not_reached_changes_no_byte(whole: Run, tmp_path: Path) -> None:
    free = attack_digits(tmp_path / "run", max_passes=10_000, max_seconds=10_000)
    assert shard_bytes(free.path) == shard_bytes(whole.path)
    assert free.summary["unfinished"] == 0
    assert free.summary["robust"]["high"] == whole.summary["robust"]["high"]


def test_shards_stop_by_themselves(short: Run, tmp_path: Path) -> None:
    shared = attack_digits(tmp_path / "run", max_passes=12, workers=2)
    assert shard_bytes(shared.path) == shard_bytes(short.path)
    assert shared.summary["robust"] == short.summary["robust"]


def test_what_was_not_finished_claims_nothing(short: Run) -> None:
    left = short.records[~short.records.finished]
    assert len(left) > 0
    assert left.correct.isna().all()
    assert (left.distance == 0).all()
    assert not left.selected.any()
    kept = short.records[short.records.finished]
    assert kept.correct.notna().all()


def test_the_unfinished_are_counted_as_broken_below_and_as_right_above(short: Run) -> None:
    table = short.records
    broken = table[table.correct.astype(object) == False].groupby("sample").size()  # noqa: E712
    wrong = {*broken.index, *table[~table.clean_correct.astype(bool)]["sample"]}
    finished = table.groupby("sample").finished.all()
    left = set(finished.index[~finished]) - wrong
    right = SAMPLES - len(wrong) - len(left)
    robust = short.summary["robust"]
    assert len(left) > 5
    assert short.summary["unfinished"] == robust["unfinished"] == len(left)
    assert robust["correct"] == right
    assert robust["accuracy"] == right / SAMPLES
    lowest = binomtest(right, SAMPLES).proportion_ci(0.95, "exact").low
    highest = binomtest(right + len(left), SAMPLES).proportion_ci(0.95, "exact").high
    assert (robust["low"], robust["high"]) == pytest.approx((lowest, highest))


def test_the_interval_holds_what_the_whole_run_finds(short: Run, whole: Run) -> None:
    cut, full = short.summary["robust"], whole.summary["robust"]
    assert cut["correct"] <= full["correct"] <= cut["correct"] + cut["unfinished"]
    for part, entire in zip(short.summary["attacks"], whole.summary["attacks"], strict=True):
        assert part["correct"] <= entire["correct"] <= part["correct"] + part["unfinished"]


def test_a_sample_that_was_broken_is_finished_however_its_attack_ended(short: Run) -> None:
    """The first attack came to its end; what it broke is carried by the attacks that did not."""
    table = short.records
    carried = table[table.carried == "fgsm"]
    assert len(carried) > 0
    assert carried.finished.all()


def test_a_finding_says_so_with_figures_and_what_to_do(short: Run) -> None:
    (finding,) = (f for f in short.findings if f["code"] == "budget-spent")
    left = short.summary["unfinished"]
    assert finding["severity"] == "warning"
    assert f"{left} of {SAMPLES} samples" in finding["what"]
    assert "12 passes" in finding["what"]
    assert "give more passes" in finding["remedy"]
    assert finding["figures"] == {
        "unfinished": left,
        "never_begun": 0,
        "samples": SAMPLES,
        "max_passes": 12,
    }
    assert len(finding["samples"]) == left


def test_a_stopped_attack_is_not_held_against_noise() -> None:
    rows = [verdict("noise", sample, right=True) for sample in range(4)]
    rows += [verdict("pgd", sample, right=True) for sample in range(4)]
    assert len(compare_attacks(pd.DataFrame(rows), {"noise"})) == 1
    rows[-1] = dataclasses.replace(rows[-1], correct=None, finished=False)
    assert compare_attacks(pd.DataFrame(rows), {"noise"}) == []


def test_a_survivor_of_one_attack_is_no_evidence_against_the_next() -> None:
    """Nor is what the first one broke the work of the noise that comes last."""
    rows = [
        verdict(attack, sample, right=sample >= 2, carried=carried if sample < 2 else None)
        for attack, carried in (("fgsm", None), ("pgd", "fgsm"), ("noise", "fgsm"))
        for sample in range(4)
    ]
    assert compare_attacks(pd.DataFrame(rows), {"noise"}) == []


def verdict(attack: str, sample: int, right: bool, carried: str | None = None) -> Record:
    return Record(
        sample=sample,
        label=0,
        clean=0,
        attack=attack,
        prediction=0,
        correct=right,
        votes=None,
        choosing=None,
        clean_correct=True,
        clean_votes=None,
        selected=False,
        distance=0.1,
        forwards=1,
        backwards=1,
        seed=0,
        carried=carried,
    )


def test_records_of_older_folders_are_finished() -> None:
    row = json.loads(to_lines([verdict("pgd", 3, right=True)]))
    del row["finished"], row["proved"]
    (old,) = from_lines(json.dumps(row).encode(), "old")
    assert old.finished
    assert not old.proved


def test_passes_are_part_of_the_request_and_seconds_are_not(short: Run) -> None:
    with pytest.raises(StoreError, match=r"request.max_passes is 12 there and 13 here"):
        attack_digits(short.path, max_passes=13)
    again = attack_digits(short.path, max_passes=12, max_seconds=50)
    assert again.summary == short.summary
    assert "max_seconds" not in again.spec
    assert again.spec["max_passes"] == 12


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"max_passes": 0}, "at least 1"),
        ({"max_passes": 1.5}, "not a whole number"),
        ({"max_seconds": 0}, "positive number of seconds"),
        ({"max_seconds": "inf"}, "positive number of seconds"),
    ],
)
def test_a_budget_of_nothing_cannot_be_asked_for(limit: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        describe(model="digits_cnn", data="digits", threat=EPS, **limit)


# ---- time


class Clock:
    """Says that time is over from the ``last`` question on."""

    def __init__(self, last: int) -> None:
        self.last = last

    def past(self, deadline: float | None) -> bool:
        self.last -= deadline is not None
        return deadline is not None and self.last < 0


@pytest.fixture
def time_is_over(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets time run out after so many questions, which are queries or shards."""

    def after(questions: int) -> None:
        clock = Clock(questions)
        monkeypatch.setattr("robustcode.budget.past", clock.past)
        monkeypatch.setattr("robustcode.workers.past", clock.past)

    return after


@pytest.mark.parametrize("questions", [0, 1, 30, 75])
def test_a_run_that_time_ended_is_finished_by_the_same_command(
    time_is_over: Callable[[int], None], whole: Run, tmp_path: Path, questions: int
) -> None:
    time_is_over(questions)
    first = attack_digits(tmp_path / "run", max_seconds=1000)
    assert first.stopped
    assert first.summary["samples"] == SAMPLES
    assert first.summary["unfinished"] > 0
    full = whole.summary["robust"]["correct"]
    robust = first.summary["robust"]
    assert robust["correct"] <= full <= robust["correct"] + robust["unfinished"]
    kept = {name: data for name, data in shard_bytes(first.path).items() if "records" in name}
    time_is_over(10_000)
    second = attack_digits(tmp_path / "run", max_seconds=1000)
    assert not second.stopped
    assert shard_bytes(second.path) == shard_bytes(whole.path)
    assert second.summary["robust"] == whole.summary["robust"]
    assert [f["code"] for f in second.findings] == [f["code"] for f in whole.findings]
    done = first.manifest["shards"]["done"]
    same = sum(data == shard_bytes(whole.path)[name] for name, data in kept.items())
    assert same >= done


def test_shards_that_were_never_begun_are_in_no_accuracy_but_in_the_interval(
    time_is_over: Callable[[int], None], tmp_path: Path
) -> None:
    time_is_over(0)
    run = attack_digits(tmp_path / "run", max_seconds=1000)
    assert set(run.records["sample"]) == set(range(SHARD))
    assert run.summary["clean"]["samples"] == SHARD
    robust = run.summary["robust"]
    assert robust["unfinished"] >= SAMPLES - SHARD
    assert robust["high"] > 0.9
    (finding,) = (f for f in run.findings if f["code"] == "budget-spent")
    assert finding["figures"]["never_begun"] == SAMPLES - SHARD
    assert "same command again" in finding["remedy"]


def test_a_run_that_time_ended_is_reported_as_what_it_is(
    time_is_over: Callable[[int], None],
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Figures say nothing that is asked here, and to draw them takes longer than all else.
    blank = {"svg": b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'}
    monkeypatch.setattr(render, "drawn", lambda drawing: blank)
    time_is_over(30)
    run = attack_digits(tmp_path / "stopped", max_seconds=1000)
    files = report([run.path], tmp_path / "report")
    page = files["md"].read_text()
    left = run.summary["unfinished"]
    assert f"{left} of {SAMPLES} samples unfinished" in page
    assert "| unfinished |" in page
    assert "high ends as right" in page
    assert "after pgd" in page
    assert "controls aside" in page
    assert "summary-disagrees" not in page
    rows = pd.read_csv(files["csv"])
    assert int(rows[rows.kind == "worst case"].unfinished.iloc[0]) == left
    # It is set beside no whole run: what it has finished is what was easy to break.
    beside = report([run.path, whole.path], tmp_path / "beside")
    compared = pd.read_csv(beside["csv"])
    assert not (compared.kind == "difference").any()
    pair = compared[compared.kind == "compared worst case"]
    assert list(pair.samples) == [SAMPLES] * 2
    assert pair.value.iloc[0] <= pair.value.iloc[1] <= pair.most.iloc[0]
    assert "easy to break" in beside["md"].read_text()


def test_the_command_leaves_with_4_when_time_ended_it(
    time_is_over: Callable[[int], None], tmp_path: Path
) -> None:
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", EPS, "--quiet"]
    words += ["--samples", "20", "--batch-size", "10", "--attack", "fgsm"]
    words += ["--out", str(tmp_path / "run")]
    time_is_over(1)
    stopped = CliRunner().invoke(app, [*words, "--max-seconds", "1000"])
    assert stopped.exit_code == EngineError.exit_code
    assert "unfinished)" in stopped.stdout
    assert "budget-spent" in stopped.stdout
    assert CliRunner().invoke(app, words).exit_code == 0


def test_the_command_leaves_with_0_when_it_spent_the_passes_it_was_given(tmp_path: Path) -> None:
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", EPS, "--quiet"]
    words += ["--samples", "20", "--attack", "pgd", "--max-passes", "3"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0
    assert "unfinished)" in done.stdout
    assert not load_run(tmp_path / "run").stopped


# ---- attacks that do not give up


class Stubborn(Attack):
    """Finds a way, does not believe it, and asks for ever; no error stops it."""

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        ways = [threat.project(1 - x, x), threat.project(x - 1, x), threat.project(x + 1, x), 1 - x]
        while True:
            for way in ways:
                try:
                    target.ascent(way, y, lambda logits, y: logits.sum(1), streams)
                except Exception:
                    continue


@pytest.fixture
def stubborn() -> Iterator[None]:
    ATTACKS.register("stubborn")(Stubborn)
    yield
    del ATTACKS._loaded["stubborn"]


@pytest.mark.usefixtures("stubborn")
def test_what_a_stopped_attack_was_seen_to_break_is_broken(tmp_path: Path) -> None:
    run = robustcode.attack(
        Flat().eval(),
        flat_data(),
        "linf:0.05",
        tmp_path / "run",
        attacks=["stubborn"],
        max_passes=20,
        progress=False,
    )
    x, _ = flat_data()
    within = (x.flatten(1).mean(1) - 0.5).abs() < 0.05
    table = run.records.set_index("sample")
    broken = table.correct.astype(object) == False  # noqa: E712
    assert broken.tolist() == within.tolist()
    assert table.finished.tolist() == within.tolist()
    assert run.summary["robust"]["correct"] == 0
    assert run.summary["unfinished"] == int((~within).sum())


def test_a_witness_keeps_the_first_allowed_input_that_is_wrong() -> None:
    x, y = torch.full((3, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    samples = torch.tensor([3, 10, 17])
    witness = Witness(x, y, samples, ThreatModel.parse("linf:0.1"))
    wrong, right = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    asked = torch.stack([x[0] + 0.3, x[0] + 0.05, x[0] - 0.05, x[1] + 0.05])
    rows = torch.tensor([0, 0, 0, 1])
    streams = Streams.of(0, "test", samples)[rows]
    witness.see(asked, torch.stack([wrong, wrong, wrong, right]), streams)
    assert witness.found.tolist() == [True, False, False]
    assert torch.equal(witness.x_adv[0], asked[1])
    assert torch.equal(witness.x_adv[1:], x[1:])


def test_work_that_is_begun_again_is_not_paid_for_twice() -> None:
    samples = torch.arange(4)
    budget = Budget(passes=10)
    ledger = Ledger(samples, budget=budget)
    ledger.charge(samples, 1, 1)
    ledger.reset(samples[:2])
    assert budget.passes == 6
    ledger.charge(samples[:2], 2, 1)
    with pytest.raises(BudgetSpent):
        ledger.charge(samples[:1], 1)
    assert budget.over is Limit.PASSES
    assert ledger.forwards.tolist() == [2, 2, 1, 1]


def test_of_a_random_defence_no_lucky_draw_is_kept(tmp_path: Path) -> None:
    run = robustcode.attack(
        "digits_cnn",
        "digits",
        EPS,
        tmp_path / "run",
        defense="gaussian-noise:sigma=0.1",
        attacks=["fgsm:draws=2", "pgd:steps=10,draws=2"],
        samples=20,
        draws=20,
        max_passes=10,
        progress=False,
    )
    left = run.records[~run.records.finished]
    assert set(left.attack) == {"pgd"}
    assert len(left) == 20
    assert left.votes.isna().all()
    robust, block = run.summary["robust"], run.summary["stochastic"]
    assert block["expected"] == robust
    assert block["clean"]["expected"]["unfinished"] == 0
    finished = run.records[run.records.finished & run.records.selected].set_index("sample").correct
    assert robust["unfinished"] == (finished > 0).sum()
    assert robust["accuracy"] == 0
    assert robust["high"] > finished.mean()


# ---- proved samples


def test_a_proved_sample_is_right_and_costs_nothing(whole: Run, tmp_path: Path) -> None:
    clean = whole.records.groupby("sample").clean_correct.first()
    proved = [int(n) for n in clean.index[clean.astype(bool)]][:6]
    run = attack_digits(tmp_path / "run", proved=proved)
    mine = run.records[run.records["sample"].isin(proved)]
    assert mine.proved.all()
    assert mine.correct.astype(bool).all()
    assert (mine.forwards + mine.backwards).sum() == 0
    assert run.summary["proved"] == len(proved)
    others = ~run.records["sample"].isin(proved)
    columns = ["sample", "attack", "correct", "prediction"]
    theirs = whole.records[~whole.records["sample"].isin(proved)]
    assert run.records[others][columns].equals(theirs[columns])
    assert "6 samples proved robust" in report([run.path], tmp_path / "r")["md"].read_text()


def test_a_proof_of_what_is_wrong_by_itself_is_an_error_that_names_it(tmp_path: Path) -> None:
    x, y = flat_data()
    y[7] = 1 - y[7]
    with pytest.raises(ConfigError, match="sample 7 is said to be proved robust"):
        robustcode.attack(
            *(Flat().eval(), (x, y), "linf:0.01", tmp_path / "run"),
            attacks=["fgsm"],
            proved=[3, 7],
            progress=False,
        )


def test_a_proof_is_no_proof_for_a_defence_that_decides_at_random(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="decides at random"):
        attack_digits(
            tmp_path / "run", proved=[1], defense="gaussian-noise:sigma=0.1", attacks=["fgsm"]
        )


def test_proofs_are_read_from_a_file_which_may_be_empty(tmp_path: Path) -> None:
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", EPS, "--quiet"]
    words += ["--samples", "10", "--attack", "fgsm"]
    for text, count in (("[]", 0), ("1, 2", 2)):
        (tmp_path / "proved").write_text(text)
        out = tmp_path / f"run{count}"
        done = CliRunner().invoke(
            app, [*words, "--proved", str(tmp_path / "proved"), "--out", str(out)]
        )
        assert done.exit_code == 0, done.output
        assert load_run(out).summary["proved"] == count
    assert "2 proved robust beforehand" in done.stdout
