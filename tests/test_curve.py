"""Robust accuracy over a range of eps: each run starts where the last one ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

import robustcode
from robustcode.attacks import PGD, Warm
from robustcode.attacks.losses import LossName
from robustcode.cli import app
from robustcode.curves import Curve, threats_of
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.errors import ConfigError, EngineError, StoreError
from robustcode.reports import render, report
from robustcode.seeds import Streams
from robustcode.store import load_run
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import ThreatModel

SAMPLES = 40
EPS = "0,.02,.06,.1"
STEPS = ("fgsm", "pgd:steps=10,loss=margin", "noise:tries=2")


def trace_digits(out: Path, eps: str = EPS, **spec: Any) -> Curve:
    plain = {"attacks": STEPS, "samples": SAMPLES, "batch_size": 20}
    return robustcode.curve(
        "digits_cnn", "digits", "linf", eps, out, progress=False, **{**plain, **spec}
    )


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Curve:
    return trace_digits(tmp_path_factory.mktemp("curve") / "digits")


def proposals(run: Path) -> dict[str, Tensor]:
    shards = [load_file(file) for file in sorted(run.glob("adversarial/*.safetensors"))]
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}


def test_accuracy_never_rises_with_eps(curve: Curve) -> None:
    right = [point["robust"]["correct"] for point in curve.points]
    assert right == sorted(right, reverse=True)
    assert right[0] > right[-1]


def test_with_no_eps_it_is_the_clean_accuracy_and_costs_nothing(curve: Curve) -> None:
    first = curve.points[0]
    assert first["robust"]["accuracy"] == first["clean"]["accuracy"]
    assert first["passes"] == 0
    assert (curve.runs[0].records.distance == 0).all()
    assert "noise-as-strong" not in {f["code"] for f in curve.runs[0].findings}


def test_what_is_broken_stays_broken_by_the_same_input_and_costs_nothing(curve: Curve) -> None:
    for smaller, larger in zip(curve.runs[1:], curve.runs[2:], strict=False):
        before, after = proposals(smaller.path), proposals(larger.path)
        broken = before["broken"]
        assert broken.any()
        assert after["broken"][broken].all()
        assert torch.equal(after["x_adv"][broken], before["x_adv"][broken])
        rows = larger.records[larger.records["sample"].isin(before["sample"][broken].tolist())]
        assert (rows.forwards + rows.backwards).sum() == 0
        assert rows.finished.all()


def test_what_is_broken_is_what_the_records_say(curve: Curve) -> None:
    for run in curve.runs:
        right = run.records.groupby("sample").correct.apply(lambda rows: all(rows))
        found = proposals(run.path)
        assert (~right).tolist() == found["broken"].tolist()
        assert right.index.tolist() == found["sample"].tolist()


def test_the_same_call_resumes_and_changes_nothing(curve: Curve, tmp_path: Path) -> None:
    out = tmp_path / "copy" / "digits"
    again = trace_digits(out)
    for run, other in zip(curve.runs, again.runs, strict=True):
        for file in run.path.glob("*/*"):
            assert (other.path / file.relative_to(run.path)).read_bytes() == file.read_bytes()
    shutil.rmtree(out / "eps-03")
    written = (out / "eps-02" / "summary.json").read_bytes()
    trace_digits(out)
    assert (out / "eps-02" / "summary.json").read_bytes() == written
    assert proposals(out / "eps-03")["x_adv"].equal(proposals(curve.path / "eps-03")["x_adv"])


def test_curve_json_says_what_the_runs_say(curve: Curve) -> None:
    content = json.loads((curve.path / "curve.json").read_text())
    assert content["asked"] == ["linf:0.0", "linf:0.02", "linf:0.06", "linf:0.1"]
    assert not content["stopped"]
    for point in content["points"]:
        run = load_run(curve.path / point["run"])
        assert point["robust"] == run.summary["robust"]
        assert point["threat"] == run.summary["threat"]
        assert point["passes"] == (run.records.forwards + run.records.backwards).sum()


def test_time_that_runs_out_leaves_the_rest_for_the_same_command(
    curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False] * 60)
    with monkeypatch.context() as patch:
        late = lambda deadline: deadline is not None and next(asked, True)  # noqa: E731
        patch.setattr("robustcode.budget.past", late)
        patch.setattr("robustcode.workers.past", late)
        stopped = trace_digits(tmp_path / "run", max_seconds=1000)
    assert stopped.stopped
    assert len(stopped.runs) < 4
    assert json.loads((tmp_path / "run" / "curve.json").read_text())["stopped"]
    whole = trace_digits(tmp_path / "run")
    assert not whole.stopped
    assert [p["robust"] for p in whole.points] == [p["robust"] for p in curve.points]


def test_the_command_prints_one_line_an_eps(curve: Curve, tmp_path: Path) -> None:
    words = ["curve", "--model", "digits_cnn", "--data", "digits", "--threat", "linf", "--quiet"]
    words += ["--eps", "10/255,5/255", "--samples", "20", "--attack", "fgsm"]
    words += ["--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "passes" in lines[0]
    assert lines[1].startswith("linf:5/255 ")
    assert lines[2].startswith("linf:10/255 ")
    late = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "late"), "--max-seconds", "1e-9"])
    assert late.exit_code == EngineError.exit_code
    assert "linf:10/255 was not begun" in late.stdout


@pytest.mark.parametrize(
    ("norm", "eps", "said"),
    [
        ("linf:0.1", "1/255", "is no norm"),
        ("linf", "", "names no budget"),
        ("linf", "1/255,x", "not a number"),
        ("l2", ".5,1/2", "names a budget twice"),
    ],
)
def test_a_list_that_is_no_list_of_budgets_is_refused(norm: str, eps: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        threats_of(norm, eps)


def test_budgets_are_put_in_order() -> None:
    assert [t.eps for t in threats_of("l2", [1, "1/2", 0])] == [0, 0.5, 1]
    assert [*map(str, threats_of("linf", ".1,.2"))] == ["linf:0.1", "linf:0.2"]
    assert [*map(str, threats_of("linf", "51/255,8/255"))] == ["linf:8/255", "linf:51/255"]
    assert str(threats_of("linf", [8 / 255])[0]) == "linf:8/255"


# ---- the attack


class Spy(nn.Module):
    """A classifier that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach().clone())
        return x.flatten(1)[:, :2] * 10


def attack_of(run: str, samples: Tensor, steps: int = 3) -> tuple[Spy, Tensor, Tensor]:
    """What Warm asks and proposes for digits, under linf:.2 on a classifier of its own."""
    spy, x = Spy(), load_data("digits").images(samples)
    y = (x.flatten(1)[:, 1] > x.flatten(1)[:, 0]).long()
    target = DefendedTarget(
        Identity(model=spy), Ledger(samples), stochastic=False, differentiable=True
    )
    found = Warm(run=run, steps=steps).perturb(
        target, x, y, ThreatModel.parse("linf:0.2"), Streams.of(0, "search", samples)
    )
    return spy, x, found


def test_it_starts_where_the_earlier_run_left_a_sample(curve: Curve) -> None:
    earlier = proposals(curve.runs[2].path)
    standing = (~earlier["broken"]).nonzero().squeeze(1)
    samples = earlier["sample"][standing]
    spy, x, _ = attack_of(str(curve.runs[2].path), samples)
    assert torch.equal(spy.asked[0], earlier["x_adv"][standing])
    assert not torch.equal(spy.asked[0], x)


def test_what_stands_is_shown_as_the_last_search_left_it(curve: Curve) -> None:
    """The first attack to break a sample has broken it; of a standing one nobody has."""
    table = curve.runs[2].records
    selected = table[table.selected].set_index("sample")
    standing = selected[selected.correct.astype(bool)]
    broken = selected[~selected.correct.astype(bool) & selected.clean_correct.astype(bool)]
    assert set(standing.attack) == {"pgd"}
    assert len(broken) > 0
    assert broken.carried.isna().all()


def test_it_asks_nothing_of_what_the_earlier_run_broke(curve: Curve) -> None:
    earlier = proposals(curve.runs[3].path)
    broken = earlier["broken"].nonzero().squeeze(1)
    spy, _, found = attack_of(str(curve.runs[3].path), earlier["sample"][broken])
    assert spy.asked == []
    assert torch.equal(found, earlier["x_adv"][broken])


def test_what_is_no_longer_allowed_is_a_start_and_no_proposal(curve: Curve) -> None:
    earlier = proposals(curve.runs[3].path)
    threat = ThreatModel.parse("linf:0.01")
    samples = earlier["sample"]
    x, y = load_data("digits").images(samples), load_data("digits").targets(samples)
    target = DefendedTarget(
        Identity(model=Spy()), Ledger(samples), stochastic=False, differentiable=True
    )
    warm = Warm(run=str(curve.runs[3].path), steps=2)
    found = warm.perturb(target, x, y.clamp(max=1), threat, Streams.of(0, "search", samples))
    threat.check(found, x, by="warm")


def test_samples_the_earlier_run_lacks_start_at_themselves(curve: Curve) -> None:
    spy, x, _ = attack_of(str(curve.runs[3].path), torch.arange(100, 110))
    assert torch.equal(spy.asked[0], x)


def test_without_a_run_it_is_pgd_on_the_margin_from_the_sample() -> None:
    samples = torch.arange(30)
    _, x, found = attack_of("", samples, steps=4)
    y = (x.flatten(1)[:, 1] > x.flatten(1)[:, 0]).long()
    target = DefendedTarget(
        Identity(model=Spy()), Ledger(samples), stochastic=False, differentiable=True
    )
    plain = PGD(steps=4, loss=LossName.MARGIN, random_start=False)
    threat, streams = ThreatModel.parse("linf:0.2"), Streams.of(0, "search", samples)
    assert torch.equal(found, plain.perturb(target, x, y, threat, streams))


def test_a_run_that_is_none_or_of_other_data_is_refused(curve: Curve, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run folder"):
        Warm(run=str(tmp_path))
    warm = Warm(run=str(curve.runs[1].path))
    target = DefendedTarget(
        Identity(model=Spy()), Ledger(torch.arange(2)), stochastic=False, differentiable=True
    )
    with pytest.raises(ConfigError, match="same data"):
        warm.perturb(
            *(target, torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)),
            *(ThreatModel.parse("linf:0.2"), Streams.of(0, "search", torch.arange(2))),
        )


def test_a_run_may_start_from_one_other_and_no_two(curve: Curve, tmp_path: Path) -> None:
    earlier = str(curve.runs[3].path)
    with pytest.raises(ConfigError, match="leave out one of the two"):
        robustcode.attack(
            *("digits_cnn", "digits", "linf:.2", tmp_path / "two"),
            warm=earlier,
            attacks=[f"warm:run={earlier}"],
            samples=10,
            progress=False,
        )


def test_the_spec_of_a_warm_run_repeats_it(curve: Curve, tmp_path: Path) -> None:
    last = curve.runs[-1]
    done = CliRunner().invoke(
        app, ["run", str(last.path / "spec.toml"), "--out", str(tmp_path / "again"), "--quiet"]
    )
    assert done.exit_code == 0, done.output
    assert proposals(tmp_path / "again")["x_adv"].equal(proposals(last.path)["x_adv"])
    assert last.summary["attacks"][0]["name"] == "warm"


def test_a_random_defence_has_a_curve_too(tmp_path: Path) -> None:
    traced = trace_digits(
        tmp_path / "run",
        eps=".05,.15",
        defense="gaussian-noise:sigma=0.1",
        attacks=["pgd:steps=5,draws=2"],
        samples=20,
        draws=20,
    )
    first, second = (point["robust"]["accuracy"] for point in traced.points)
    # Twice the standard error of a mean of 20 shares of 20 draws, at its largest.
    assert second < first + 2 * np.sqrt(0.25 / 400)


# ---- the report


def test_the_report_of_a_curve_is_that_of_its_runs(curve: Curve, tmp_path: Path) -> None:
    whole = report([curve.path], tmp_path / "one")
    parts = report(sorted(curve.path.glob("eps-*")), tmp_path / "other")
    assert [f.read_bytes() for f in whole.values()] == [f.read_bytes() for f in parts.values()]
    page = whole["md"].read_text()
    assert "How robust is digits\\_cnn as eps grows?" in page
    assert "](curve-digits-cnn-linf.svg)" in page
    for point in curve.points:
        robust = point["robust"]
        cells = (
            *(point["threat"], SAMPLES, f"{100 * robust['accuracy']:.1f}"),
            *(
                f"{100 * robust['low']:.1f} to {100 * robust['high']:.1f}",
                0,
                f"{point['passes']:,}",
            ),
        )
        assert f"| {' | '.join(map(str, cells))} |" in page
    assert whole["curve-digits-cnn-linf.svg"].read_bytes().startswith(b"<?xml")


def test_runs_of_two_defences_are_no_curve(
    curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which figures there are: to draw them takes longer than all else.
    blank = {"svg": b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'}
    monkeypatch.setattr(render, "drawn", lambda drawing: blank)
    other = robustcode.attack(
        *("digits_cnn:adversarial", "digits", "linf:.1", tmp_path / "other"),
        attacks=["fgsm"],
        samples=SAMPLES,
        progress=False,
    )
    files = report([curve.runs[-1].path, other.path], tmp_path / "two")
    assert "curve-digits-cnn-linf.svg" not in files
    both = report([curve.path, other.path], tmp_path / "three")
    assert "curve-digits-cnn-linf.svg" in both
    assert any(name.startswith("comparison-digits") for name in both)


def test_a_curve_without_points_is_refused(tmp_path: Path) -> None:
    (tmp_path / "curve.json").write_text('{"points": []}')
    with pytest.raises(StoreError, match="without points"):
        report([tmp_path], tmp_path / "out")
