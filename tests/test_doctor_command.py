"""The doctor's command, and the suite that goes by what it finds."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import robustcode
from robustcode.checkpoint import load_classifier
from robustcode.cli import _print_checks, _print_findings, _tell, app
from robustcode.commands import command_of, next_suite
from robustcode.components import Component
from robustcode.config import describe
from robustcode.repair import Repair, remedies
from robustcode.store import Run, load_run
from robustcode.summary import ANSWERED
from robustcode.threat import Norm

DIGITS = ["--model", "digits_cnn", "--data", "digits", "--threat", "linf:0.15"]


class Detached(nn.Module):
    """The shipped classifier, whose input is cut from the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.model = load_classifier("digits_cnn", classes=10)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.detach())


def doctored(out: Path, *words: str) -> tuple[Any, Run]:
    done = CliRunner().invoke(app, ["doctor", *DIGITS, *words, "--out", str(out), "--quiet"])
    assert done.exit_code == 0, done.output
    return done, load_run(out)


def adaptive(out: Path, model: nn.Module, **spec: Any) -> Run:
    given: dict[str, Any] = {"suite": "adaptive", "samples": 24, "progress": False} | spec
    return robustcode.attack(model, "digits", "linf:0.15", out, **given)


def codes(run: Run, severity: str) -> set[str]:
    return {f["code"] for f in run.findings if f["severity"] == severity}


# ---- the command


def test_the_doctor_looks_at_samples_spread_over_those_it_is_given(tmp_path: Path) -> None:
    done, run = doctored(tmp_path / "run", "--samples", "63")
    assert run.records["sample"].unique().tolist() == list(range(0, 63, 2))
    assert [attack["name"] for attack in run.summary["attacks"]] == ["noise", "pgd"]
    # Nothing is wrong with it: the next thing to do is to attack it in earnest.
    assert codes(run, "failure") == codes(run, "warning") == set()
    assert "--samples 63 --threat linf:0.15 --suite standard" in run.summary["next"]
    assert run.summary["next"] in done.stdout.replace("\n", " ")
    assert (tmp_path / "run" / "report" / "report.html").exists()
    # It tells how much it looked at, and whether to believe what it saw.
    assert "32 of 63 samples, spread over all" in done.stdout
    assert (
        "verdict: nothing was found that weakens the evidence, on 32 of 63 samples" in done.stdout
    )
    # What is to be run next stands beside the run, wherever that is.
    assert run.summary["next"].endswith(f"--out {shlex.quote(str(tmp_path / 'run-standard'))}")


def test_every_check_has_a_line_and_what_applies_is_printed(tmp_path: Path) -> None:
    done, run = doctored(tmp_path / "run", "--samples", "32", "--defense", "bit-depth:bits=2")
    lines = run.summary["checks"]
    assert len({line["code"] for line in lines}) == len(lines) > 30
    for line in lines:
        printed = f" {line['code']} " in done.stdout
        assert printed == (line["status"] != "not applicable")


def test_the_evaluation_that_is_named_is_the_one_that_is_tested(tmp_path: Path) -> None:
    named = tmp_path / "my indices.json"
    named.write_text(str(list(range(32))))
    words = ("--indices", str(named), "--attack", "pgd:steps=2,step=0.05")
    done, run = doctored(tmp_path / "run", *words)
    assert [attack["name"] for attack in run.summary["attacks"]] == ["pgd"]
    assert "not-converged" in codes(run, "warning")
    assert "--suite adaptive" in run.summary["next"]
    # A spec holds the indices and not the file, which only the command line knows.
    assert "--indices FILE" in run.summary["next"]
    assert f"--indices {shlex.quote(str(named))} " in done.stdout
    assert "verdict: do not rely on these accuracies" in done.stdout


def test_what_no_attack_answers_is_to_be_mended_first(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        {"code": code, "severity": "warning", "what": "It is.", "remedy": f"mend {code}"}
        for code in ("weak-loss", "train-mode")
    ]
    accuracy = {"accuracy": 0.5}
    said = {"data": "digits", "threat": "linf:0.1", "samples": 9, "tested": 9, "next": None}
    told = {"clean": accuracy, "robust": accuracy, "attacks": [], "checks": [], "findings": found}
    _print_checks({**said, **told})
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:6] == [
        "to mend first; then this again with another --out:",
        "  warning: train-mode: mend train-mode",
        "to attack with, or to mend:",
        "  warning: weak-loss: mend weak-loss",
    ]
    assert lines[-1] == "verdict: the evidence is weakened"


def test_the_call_is_the_command(tmp_path: Path) -> None:
    _, told = doctored(tmp_path / "command", "--samples", "40")
    run = robustcode.doctor(
        *("digits_cnn", "digits", "linf:0.15", tmp_path / "call"), samples=40, progress=False
    )
    assert run.summary["checks"] == told.summary["checks"]
    assert run.records.equals(told.records)
    # Objects cannot be written down as a command.
    model = load_classifier("digits_cnn", classes=10)
    passed = robustcode.doctor(
        *(model, "digits", "linf:0.15", tmp_path / "object"), samples=40, progress=False
    )
    assert passed.summary["next"] is None


def test_passes_of_the_pilot_are_those_of_its_checks(tmp_path: Path) -> None:
    _, run = doctored(tmp_path / "run", "--samples", "32")
    diagnosis = run.summary["checks"]
    attacks = sum(int(run.records[kind].sum()) for kind in ("forwards", "backwards"))
    judged = 3 * 32  # the samples themselves, and two proposals of each
    # Whether it remembers is asked before everything else, by no check.
    judged += 16 * 9 + 16
    spent = sum(line["forwards"] + line["backwards"] for line in diagnosis)
    assert run.summary["cost"]["forwards"] + run.summary["cost"]["backwards"] == pytest.approx(
        spent + attacks, abs=judged
    )


def test_what_one_attack_answered_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"severity": "info", "what": "none", "remedy": "give a surrogate"}
    codes = ("zero-gradient", "whole-box-holds")
    done = [{**found, "code": code, "what": f"none{ANSWERED}square helps"} for code in codes]
    _print_findings([*done, {**found, "code": "weak-loss"}])
    assert capsys.readouterr().out.splitlines() == [
        "info: weak-loss: none",
        "    give a surrogate",
        "answered: zero-gradient, whole-box-holds: square helps",
    ]


def test_lines_are_folded_for_a_terminal_and_whole_for_a_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _tell("  passed  one-class  ", "samples are of more classes than one")
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    _tell("  passed  one  ", "samples are of more classes than one")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  passed  one  samples are of more", f"{' ' * 15}classes than one"]


# ---- the command that is to be run next


@pytest.mark.parametrize(
    ("suite", "severity", "following"),
    [
        ("standard", "warning", "adaptive"),
        (None, "failure", "adaptive"),
        ("adaptive", "failure", "strong"),
        ("strong", "failure", None),
        ("standard", "info", None),
    ],
)
def test_what_is_run_next(suite: str | None, severity: str, following: str | None) -> None:
    assert next_suite(suite, [{"severity": severity}]) == following


def test_a_spec_is_written_as_the_command_it_came_from() -> None:
    spec = describe(
        model="my net.py:make",
        data="digits",
        threat="linf:8/255",
        defense="gaussian-noise:sigma=0.1",
        suite="standard",
        samples=50,
        mean=(0.5,),
        std=(0.25,),
        seed=3,
    )
    assert command_of(spec, "run 1") == (
        "robustcode attack --model 'my net.py:make' --mean 0.5 --std 0.25 --data digits "
        "--samples 50 --defense gaussian-noise:sigma=0.1 --threat linf:8/255 --suite standard "
        "--seed 3 --out 'run 1'"
    )


# ---- repair


def test_a_cut_graph_is_mended_and_the_report_says_so(tmp_path: Path) -> None:
    standard = adaptive(tmp_path / "fooled", Detached(), suite=None, attacks=["pgd"])
    run = adaptive(tmp_path / "run", Detached())
    plain = adaptive(tmp_path / "plain", load_classifier("digits_cnn", classes=10))
    assert standard.summary["robust"]["accuracy"] > 0.8
    assert run.summary["robust"]["accuracy"] == plain.summary["robust"]["accuracy"] < 0.1
    (kept,) = (repair for repair in run.summary["repairs"] if repair["kept"])
    assert kept["change"].startswith("mended:")
    assert kept["before"] > 0.8 > 0.1 > kept["after"]
    # What is answered no longer forbids to rely on the number.
    assert "missing-gradient" in codes(standard, "failure")
    assert codes(run, "failure") == set()
    assert "answered: mended" in next(
        f["what"] for f in run.findings if f["code"] == "missing-gradient"
    )
    assert plain.summary["repairs"] == []


def test_a_mended_plan_is_the_same_for_any_batch(tmp_path: Path) -> None:
    runs = [
        adaptive(tmp_path / f"{size}", Detached(), batch_size=size, workers=workers, samples=12)
        for size, workers in ((12, 1), (4, 1))
    ]
    one, other = (run.records[["sample", "attack", "correct", "prediction"]] for run in runs)
    assert one.equals(other)


def test_the_resolved_spec_names_the_attacks_that_were_added(tmp_path: Path) -> None:
    run = adaptive(tmp_path / "run", Detached(), samples=8)
    text = (tmp_path / "run" / "spec.toml").read_text()
    assert 'name = "mended"' in text
    assert torch.equal(torch.tensor(run.spec["samples"]), torch.tensor(8))


def kept(change: str, after: float, finding: str = "zero-gradient") -> Repair:
    return Repair(finding=finding, change=change, before=1.0, after=after, samples=32, kept=True)


@pytest.mark.parametrize(
    ("finding", "after", "norm", "blind"),
    [
        ("zero-gradient", 0.5, Norm.LINF, {"square", "hopskipjump"}),
        ("zero-gradient", 0.5, Norm.L1, {"square"}),
        ("zero-gradient", 0.0, Norm.LINF, set()),
        ("not-converged", 0.5, Norm.LINF, set()),
    ],
)
def test_where_gradients_mislead_and_something_stands_none_is_relied_on(
    finding: str, after: float, norm: Norm, blind: set[str]
) -> None:
    change = "mended:way=identity,attack=apgd-margin,steps=20,draws=1"
    first, *others = map(Component.parse, remedies([kept(change, after, finding)], norm))
    assert first.name == "mended"
    assert int(first.settings["steps"]) > 20
    assert {one.name for one in others} == blind
