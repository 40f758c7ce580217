"""What a first user of budgets, curves and reports met: each was a wrong number or a dead end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import robustcode
from robustcode.attacks import PGD
from robustcode.budget import Limit
from robustcode.checks import Examination, examine
from robustcode.checks.catalogue.budget_spent import budget_spent
from robustcode.checks.catalogue.noise_as_strong import compare_attacks
from robustcode.cli import _folded, app
from robustcode.config import describe
from robustcode.defenses.identity import Identity
from robustcode.errors import ConfigError, RobustcodeError, StoreError
from robustcode.plan import PlannedAttack
from robustcode.records import Record, table_of
from robustcode.reports import report
from robustcode.reports.drawing import Drawing, drawn
from robustcode.reports.figures.accuracies import Curve, Dot, Dots
from robustcode.store import Run, load_run
from robustcode.threat import ThreatModel
from robustcode.values import read_proved

FAST = ["fgsm", "pgd:steps=5,loss=margin"]
RANDOM = "gaussian-noise:sigma=0.2"


def attack_digits(out: Path, threat: str = "linf:0.1", **spec: Any) -> Run:
    plain: dict[str, Any] = {"attacks": FAST, "samples": 20, "cascade": True}
    return robustcode.attack("digits_cnn", "digits", threat, out, progress=False, **plain | spec)


class Masked(nn.Module):
    """Two classes by the mean of the first four pixels, told without any gradient."""

    def forward(self, x: Tensor) -> Tensor:
        score = (x.flatten(1)[:, :4].mean(1) - 0.5).detach()
        score = (score * 50).round() / 50
        return torch.stack([-score, score], 1) + 0 * x.flatten(1)[:, :2]


def masked_data(count: int = 400) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return x, (x.flatten(1)[:, :4].mean(1) > 0.5).long()


def attack_masked(out: Path, attacks: Sequence[str], threat: str = "linf:0.1", **spec: Any) -> Run:
    return robustcode.attack(
        *(Masked().eval(), masked_data(40), threat, out), attacks=attacks, progress=False, **spec
    )


def codes(run: Run) -> list[str]:
    return [finding["code"] for finding in run.findings]


# ---- what is said of an attack


def test_noise_that_beats_an_attack_is_said_all_along_a_curve(tmp_path: Path) -> None:
    traced = robustcode.curve(
        *(Masked().eval(), masked_data(), "linf", [0.03, 0.06, 0.09], tmp_path / "curve"),
        attacks=["noise", "pgd:steps=10"],
        progress=False,
    )
    found = [[f for f in run.findings if f["code"] == "noise-as-strong"] for run in traced.runs]
    assert [[f["severity"] for f in each] for each in found] == [["warning"]] * 3
    run, (finding,) = traced.runs[-1], found[-1]
    # The last one's figures are those of the samples that no earlier run had broken.
    table = run.records[run.records.carried.isna() & (run.records.attack != "warm")]
    right = table.correct.astype(float).groupby(table.attack).mean()
    assert finding["figures"]["noise"] == pytest.approx(right["noise"])
    assert finding["figures"]["attack"] == pytest.approx(right["pgd"])
    assert finding["figures"]["samples"] == (table.attack == "pgd").sum() < 400


def verdict(attack: str, sample: int, right: float | bool = True, **other: Any) -> Record:
    plain: dict[str, Any] = {
        **{"label": 0, "clean": 0, "prediction": 0, "votes": None, "choosing": None},
        **{"clean_correct": True, "clean_votes": None, "selected": False, "distance": 0.1},
        **{"forwards": 1, "backwards": 1, "seed": 0},
    }
    return Record(attack=attack, sample=sample, correct=right, **plain | other)


def test_attacks_that_take_nothing_share_one_finding_that_speaks_of_no_gradient() -> None:
    rows = [verdict(attack, n) for attack in ("noise", "nes", "square", "pgd") for n in range(3)]
    (finding,) = compare_attacks(table_of(rows), {"noise"})
    assert "none of nes, square and pgd (100.0% right)" in finding.what
    assert "gradient" not in finding.what + finding.remedy
    rows[0] = verdict("noise", 0, right=False)
    found = compare_attacks(table_of(rows), {"noise"})
    assert [f.what.split()[0] for f in found] == ["nes", "square", "pgd"]
    assert not any("following gradients" in f.what for f in found)


def test_an_attack_that_moves_nothing_is_named(tmp_path: Path) -> None:
    run = attack_masked(tmp_path / "run", ["fgsm", "pgd:steps=2", "deepfool", "noise"])
    (finding,) = (f for f in run.findings if f["code"] == "attack-stood-still")
    assert finding["what"].startswith("fgsm moved none of the 39 samples")
    assert finding["severity"] == "warning"
    # With no room to move, and where nothing stands, it is no wonder.
    assert "attack-stood-still" not in codes(attack_masked(tmp_path / "0", ["fgsm"], "linf:0"))


def test_a_pilot_that_is_not_in_the_plan_is_named_and_its_remedy_is_the_plan_s() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.Tanh(), nn.Linear(2, 2)).eval()
    x = torch.rand(32, 1, 4, 4)
    y = net(x).argmax(1)

    def found(planned: bool) -> dict[str, Any]:
        attack = PGD(steps=4, step=0.05, random_start=False)
        exam = Examination(
            defense=Identity(model=net),
            x=x,
            y=y,
            samples=torch.arange(32),
            threat=ThreatModel.parse("linf:0.3"),
            plan_of=lambda facts: [PlannedAttack("pgd", attack)] if planned else [],
        )
        exam.__dict__["attack"] = attack
        return {finding.code: finding for finding in examine(exam).findings}

    assert "a pilot of PGD with 4 steps" in found(False)["not-converged"].what
    assert "those of the plan" in found(False)["not-converged"].remedy
    assert "pilot of PGD" not in found(True)["not-converged"].what
    assert "steps=20" in found(True)["not-converged"].remedy


# ---- random defences


def test_of_a_random_defence_no_row_is_said_to_come_after_another(tmp_path: Path) -> None:
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", "linf:0.08"]
    words += ["--samples", "10", "--defense", RANDOM, "--draws", "20", "--cascade", "--quiet"]
    words += ["--attack", "fgsm", "--attack", "pgd:steps=3", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "after" not in done.stdout
    assert "expectations over 20 draws" in done.stdout
    assert "the worst case may stand above a row" in done.stdout
    run = load_run(tmp_path / "run")
    assert not any(attack["after"] for attack in run.summary["attacks"])
    assert "after pgd" not in report([run.path], tmp_path / "r")["md"].read_text()


def test_what_is_known_to_be_wrong_can_be_asked_for(tmp_path: Path) -> None:
    short = attack_digits(tmp_path / "short", max_passes=6)
    assert short.records.correct.isna().any()
    broken = short.records.query("not correct")
    assert 0 < len(broken) < len(short.records)
    assert (broken.correct == False).all()  # noqa: E712
    table = attack_digits(tmp_path / "random", defense=RANDOM, draws=20, samples=5).records
    assert len(table.query("correct < 0.5")) == (table.correct < 0.5).sum() > 0


# ---- bounds are shown as bounds


def test_a_budget_is_shown_as_bounds_and_never_as_an_accuracy_of_0(tmp_path: Path) -> None:
    run = attack_digits(tmp_path / "run", max_passes=1)
    robust = run.summary["robust"]
    assert robust["accuracy"] == 0
    assert robust["accuracy_high"] == pytest.approx(robust["unfinished"] / 20)
    left = run.summary["unfinished"]
    page = json.loads(report([run.path], tmp_path / "r")["json"].read_text())
    most = f"{100 * left / 20:.1f}"
    assert f"keeps 0.0 to {most} % ({left} of 20 samples unfinished" in page["verdict"]
    (worst,) = (row for row in page["rows"] if row["kind"] == "worst case")
    assert (worst["value"], worst["most"]) == (0, pytest.approx(left / 20))
    assert f"| 0.0 to {most} |" in (tmp_path / "r" / "report.md").read_text()
    assert f"0.0 to {most} %" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    "chart",
    [
        lambda dots: Dots("s", "t", tuple(dots)),
        lambda dots: Curve("s", "t", tuple(dots), (0.1, 0.2), "linf"),
    ],
)
def test_what_is_only_bounded_is_drawn_without_a_dot(
    chart: Callable[[Sequence[Dot]], Drawing],
) -> None:
    def marks(most: float | None) -> int:
        dots = [Dot(name, "attack", 0.2, 0.1, 0.9, most) for name in "ab"]
        return drawn(chart(dots))["svg"].count(b'style="fill: #8a8a8a')

    assert marks(None) > 0
    assert marks(0.6) == 0


def test_places_that_are_close_have_labels_that_do_not_meet() -> None:
    dots = [Dot(f"{n}/255", "worst case", 0.5, 0.4, 0.6) for n in range(1, 14)]

    def ticks(count: int) -> bytes:
        places = tuple(float(n) for n in range(count))
        return drawn(Curve("s", "t", tuple(dots[:count]), places))["svg"].split(
            b"matplotlib.axis_2"
        )[0]

    assert b"rotate(-90)" not in ticks(3)
    assert b"rotate(-90)" in ticks(13)


def test_an_accuracy_names_the_samples_that_were_looked_at(tmp_path: Path) -> None:
    run = attack_digits(tmp_path / "run", batch_size=5, max_seconds=1e-9)
    assert run.summary["clean"]["samples"] == 5
    page = json.loads(report([run.path], tmp_path / "r")["json"].read_text())
    assert "% of the 5 looked at correctly" in page["verdict"]


# ---- time


def test_less_time_loses_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(questions: int) -> Run:
        asked = iter([False] * questions)
        monkeypatch.setattr(
            "robustcode.budget.past", lambda at: at is not None and next(asked, True)
        )
        return attack_digits(tmp_path / "run", max_seconds=1000)

    first = run(4)
    assert first.stopped
    known = first.records.finished.sum()
    assert 0 < known < len(first.records)
    second = run(0)
    assert second.records.equals(first.records)
    assert run(6).records.finished.sum() >= known
    assert not run(10_000).stopped


def test_when_time_is_up_nothing_is_begun_that_something_is_known_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = attack_digits(tmp_path / "run", batch_size=5, max_seconds=1e-9)
    assert first.manifest["shards"]["done"] == 0
    (finding,) = (f for f in first.findings if f["code"] == "budget-spent")
    assert "too short for a single shard" in finding["remedy"]

    def never(*given: Any, **named: Any) -> Any:
        raise AssertionError("begun")

    for begin in ("robustcode.engine.run_shard", "robustcode.workers.run_in_workers"):
        monkeypatch.setattr(begin, never)
    again = attack_digits(tmp_path / "run", batch_size=5, max_seconds=1e-9, workers=2)
    assert again.records.equals(first.records)


def test_a_limit_is_named_in_words_that_fit_its_number() -> None:
    assert "with 1 pass for each on average" in budget_spent(Limit.PASSES, 1, [3], 0, 9).what
    assert "with 50 passes for each on average" in budget_spent(Limit.PASSES, 50, [3], 0, 9).what
    assert budget_spent(Limit.SECONDS, 1, [3], 0, 9).what.endswith("in 1 second")


def test_a_curve_names_the_limit_it_was_given_and_what_it_did_not_begin(tmp_path: Path) -> None:
    traced = robustcode.curve(
        *("digits_cnn", "digits", "linf", "0,.05,.1", tmp_path / "run"),
        attacks=FAST,
        samples=5,
        max_seconds=1e-4,
        progress=False,
    )
    assert len(traced.runs) == 1
    page = json.loads(report([tmp_path / "run"], tmp_path / "r")["json"].read_text())
    assert "linf:0.05, linf:0.1 were not begun" in page["verdict"]


def test_the_time_of_a_curve_is_told_whole_by_each_of_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, Any] = {"attacks": FAST, "samples": 20, "max_seconds": 1000}
    asked: list[bool] = []

    def count(deadline: float | None) -> bool:
        asked.extend([False] * (deadline is not None))  # the pilot has none
        return False

    monkeypatch.setattr("robustcode.budget.past", count)
    robustcode.curve(
        *("digits_cnn", "digits", "linf", ".05", tmp_path / "one"), progress=False, **words
    )
    left = iter([*asked, False])
    seen = set()

    def late(deadline: float | None) -> bool:
        seen.add(deadline)
        return deadline is not None and next(left, True)

    monkeypatch.setattr("robustcode.budget.past", late)
    traced = robustcode.curve(
        *("digits_cnn", "digits", "linf", ".05,.1", tmp_path / "two"), progress=False, **words
    )
    assert len(seen - {None}) == 1
    assert [run.stopped for run in traced.runs] == [False, True]
    (finding,) = (f for f in traced.runs[-1].findings if f["code"] == "budget-spent")
    assert finding["what"].endswith("in 1000 seconds")


# ---- requests that are refused


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"warm": "nowhere"}, "nowhere is not there"),
        ({"proved": [400]}, "sample 400 is given as proved robust"),
        ({"proved": [-1]}, "has samples 0 to 39"),
        ({"proved": [3, 7]}, "sample 7 is said to be proved robust"),
        ({"proved": [3], "defense": "gaussian-noise:sigma=0.1"}, "decides at random"),
        ({"suite": ""}, "no suite is called ''"),
    ],
)
def test_a_refused_request_leaves_the_folder_free(
    wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    x, y = masked_data(40)
    y[7] = 1 - y[7]
    named: dict[str, Any] = {"attacks": ["noise"], "batch_size": 5, "progress": False}
    out = tmp_path / "run"
    with pytest.raises(RobustcodeError, match=said):
        robustcode.attack(Masked().eval(), (x, y), "linf:.05", out, **named | wrong)
    assert not out.exists()
    robustcode.attack(Masked().eval(), (x, y), "linf:.05", out, **named)


def test_a_curve_is_refused_before_its_first_run(tmp_path: Path) -> None:
    words = ("digits_cnn", "digits", "linf", ".05,.1")
    with pytest.raises(ConfigError, match="leave out --attack warm"):
        robustcode.curve(*words, tmp_path / "curve", attacks=["warm"], progress=False)
    assert not (tmp_path / "curve").exists()
    single = attack_digits(tmp_path / "run", samples=3)
    with pytest.raises(StoreError, match="folder of a single run"):
        robustcode.curve(*words, single.path, samples=3, progress=False)


def test_a_file_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file") as caught:
        read_proved(tmp_path / "nowhere")
    assert "Errno" not in str(caught.value)


def test_no_suite_and_no_attack_is_the_quick_suite() -> None:
    assert describe(model="m", data="d", threat="linf:1").suite == "quick"
    assert describe(model="m", data="d", threat="linf:1", attacks=["fgsm"]).suite is None


# ---- where folders lie


def test_an_earlier_run_counts_by_what_it_holds_and_not_by_how_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    attack_digits(Path("first"), "linf:0.05", samples=5)
    run = attack_digits(Path("second"), samples=5, warm="first")
    assert attack_digits(Path("second"), samples=5, warm=tmp_path / "first").path == run.path
    os.rename("first", "moved")
    attack_digits(Path("second"), samples=5, warm="./moved")
    attack_digits(Path("other"), "linf:0.06", samples=5)
    with pytest.raises(StoreError, match=r"request\.warm is"):
        attack_digits(Path("second"), samples=5, warm="other")


def test_the_spec_of_a_warm_run_works_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    attack_digits(Path("first"), "linf:0.05", samples=5)
    run = attack_digits(Path("second"), samples=5, warm="first")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = ["run", "../second/spec.toml", "--quiet", "--out", "again"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    monkeypatch.chdir(tmp_path)
    assert load_run("elsewhere/again").records.equals(run.records)


# ---- long names


def test_long_names_break_after_their_separators(tmp_path: Path) -> None:
    name = "after pgd:steps=100,restarts=3,loss=margin"
    lines = _folded(name, 20).split("\n")
    assert all(len(line) <= 20 + 2 for line in lines)
    assert all(line.endswith((":", ",")) for line in lines[:-1])
    assert "".join(map(str.strip, lines)) == name
    run = attack_digits(tmp_path / "run", samples=3, attacks=["pgd:steps=2", "pgd:steps=3,draws=2"])
    page = report([run.path], tmp_path / "r")["html"].read_text()
    assert "pgd:<wbr>steps=3,<wbr>draws=2" in page
    assert re.search(r"\d,<wbr>\d", page) is None, "a number is broken in two"
