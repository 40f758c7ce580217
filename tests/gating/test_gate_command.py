"""The gate of a build: what passes, what fails, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

import robustcode
from robustcode.cli import app, call
from robustcode.errors import ConfigError, StoreError
from robustcode.partial import Gap
from robustcode.records import Record, table_of, to_lines
from robustcode.reports.gating.asked import share
from robustcode.reports.gating.baseline import Loss
from robustcode.reports.gating.measured import What
from robustcode.statistics import Difference, mcnemar, paired_difference
from robustcode.summary import summarise

PEERS_NOISE = "foolbox:L2AdditiveGaussianNoiseAttack"
COST = {
    "attack_seconds": dict.fromkeys(("fgsm", "noise", "pgd", PEERS_NOISE), 0.0),
    "judge_forwards": 0,
    "seconds": 0.0,
    "cpu_seconds": 0.0,
    "peak_memory_mb": 1.0,
}
DRAWS = 20
FAILURE = {
    "code": "zero-gradient",
    "severity": "failure",
    "what": "the gradient is zero \u001b[31m everywhere",
    "remedy": "attack a surrogate",
    "figures": {"zeros": 1.0},
    "samples": [1],
}
Command = Callable[..., tuple[int, list[str], str]]


def a_run(
    folder: Path,
    robust: Sequence[bool | float],
    clean: Sequence[bool | float] | None = None,
    *,
    first: int = 0,
    draws: int | None = None,
    attack: str = "fgsm",
    findings: Sequence[Mapping[str, Any]] = (),
    spec: Mapping[str, Any] | None = None,
    data: str = "d" * 64,
) -> Path:
    """A finished run of one attack, with the given verdicts on the samples from ``first`` on."""
    clean = [True if draws is None else 1.0] * len(robust) if clean is None else clean
    records = [
        Record(
            sample=sample,
            label=sample % 10,
            clean=sample % 10,
            attack=attack,
            prediction=None,
            correct=right,
            votes=_votes(sample, right, draws),
            choosing=None if draws is None else float(right),
            clean_correct=unharmed,
            clean_votes=_votes(sample, unharmed, draws),
            selected=right < unharmed,
            distance=0.1,
            forwards=1,
            backwards=1,
            seed=0,
        )
        for sample, (right, unharmed) in enumerate(zip(robust, clean, strict=True), first)
    ]
    made = [{"name": attack, "settings": {"draws": 1}, "control": attack == "noise"}]
    summary = summarise(table_of(records), made, draws, [{"cost": COST}])
    lines = to_lines(records)
    listed = {"records/shard-00000.jsonl": hashlib.sha256(lines).hexdigest()}
    manifest = {
        "schema": 1,
        "status": "complete",
        "request": {"attacks": [{"name": attack}]},
        "data_sha256": {"digits": data},
        "versions": {"robustcode": "0.1.0"},
        "shards": {"expected": 1, "done": 1, "files": {"shard-00000": {"sha256": listed}}},
    }
    asked = {"command": "attack", "model": "digits_cnn", "data": "digits", "threat": "linf:0.1"}
    (folder / "records").mkdir(parents=True)
    (folder / "records/shard-00000.jsonl").write_bytes(lines)
    (folder / "spec.toml").write_text(tomli_w.dumps({**asked, **(spec or {})}))
    files = {"manifest": manifest, "summary": summary, "findings": list(findings)}
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def _votes(sample: int, right: bool | float, draws: int | None) -> tuple[int, ...] | None:
    if draws is None:
        return None
    return tuple(round(right * draws) if label == sample % 10 else 0 for label in range(10))


def right(count: int, of: int) -> list[bool]:
    return [sample < count for sample in range(of)]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command as a shell calls it: exit code, lines on stdout, and stderr."""

    def called(*words: object) -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "argv", ["robustcode", "gate", *map(str, words)])
        code = call(app)
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return called


@pytest.mark.parametrize(("count", "of"), [(1, 7), (30, 40), (39, 40), (40, 40), (113, 200)])
def test_what_counts_is_the_lower_end_of_the_exact_interval(
    count: int, of: int, tmp_path: Path
) -> None:
    run = a_run(tmp_path / "run", right(count, of))
    least = float(beta.ppf(0.025, count, of - count + 1))
    assert robustcode.gate(run, min_robust=least - 1e-9).holds
    assert not robustcode.gate(run, min_robust=least + 1e-9).holds


def test_a_run_that_keeps_what_it_must_passes_in_one_sentence(
    gate: Command, tmp_path: Path
) -> None:
    run = a_run(tmp_path / "run", right(180, 200))
    code, lines, errors = gate(run, "--min-robust", ".8", "--min-clean", "90%")
    assert (code, errors) == (0, "")
    assert [line.partition(":")[0] for line in lines[:-1]] == ["holds"] * 2
    assert not any("worst-case" in line for line in lines[:-1]), "it is said once"
    assert lines[-1].startswith(f"{run} passes the gate, 3 of 3: worst-case accuracy of 90.0 %")


def test_a_run_whose_lower_end_falls_short_fails_in_one_sentence(
    gate: Command, tmp_path: Path
) -> None:
    """90 % of 200 were seen to be right; that it is as much of all there are is not shown."""
    run = a_run(tmp_path / "run", right(180, 200))
    code, lines, errors = gate(run, "--min-robust", "0.9", "--min-clean", ".9")
    assert (code, errors) == (1, "")
    assert [line.partition(":")[0] for line in lines[:-1]] == ["holds", "holds"]
    assert lines[-1] == (
        f"{run} fails the gate, 1 of 3: worst-case accuracy of 90.0 % (95 % interval 85.0 to "
        "93.8 %, 200 samples, the worst of 1 attack in linf:0.1) has its lower end at 85.0 %, "
        "below the minimum of 90.0 %."
    )


def test_too_few_samples_are_said_to_be_too_few(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(20, 20))
    code, lines, _ = gate(run, "--min-robust", ".9")
    assert code == 1
    # (alpha / 2) ** (1 / n): what is shown by no error in n.
    assert f"with all of them right the lower end is {100 * 0.025 ** (1 / 20):.1f} %" in lines[-1]


@pytest.mark.parametrize("text", [".45", "0.45", "45%", " 45 % ", 0.45, "9/20"])
def test_a_share_is_read_as_it_is_written(text: Any) -> None:
    assert share(text, "min_robust") == 0.45


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "30",
            "--min-robust = 30 is not a share between 0 and 1; was it a percentage? Then write "
            "30% or 0.3",
        ),
        ("-0.1", "not a share"),
        ("nan", "not a share"),
        ("inf", "not a share"),
        ("120%", "not a share"),
        ("most", "--min-robust = 'most' is not a number; write 45% or 0.45"),
    ],
)
def test_what_is_no_share_is_refused(text: str, said: str, gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(3, 4))
    code, lines, errors = gate(run, f"--min-robust={text}")
    assert (code, lines) == (2, [])
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("alpha", ["0", "1", "5", "nan", "1e-17"])
def test_an_alpha_that_is_no_probability_is_refused(
    alpha: str, gate: Command, tmp_path: Path
) -> None:
    run = a_run(tmp_path / "run", right(3, 4))
    code, _, errors = gate(run, "--min-robust", ".1", "--alpha", alpha)
    assert code == 2
    assert f"--alpha = {alpha} is not a probability between 0 and 1; write 0.05 or 5%" in errors
    # Python has no options: what is wrong is called as it is there.
    with pytest.raises(ConfigError, match=r"^alpha = .* is not a probability"):
        robustcode.gate(run, min_robust=0.1, alpha=alpha)


@settings(deadline=None)
@given(st.integers(0, 25), st.integers(0, 25), st.sampled_from([0.001, 0.01, 0.05, 0.2]))
def test_a_loss_is_what_the_exact_test_says(lost: int, won: int, alpha: float) -> None:
    p_value = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    found = a_loss(lost, won, 100, alpha)
    assert found.significant == (lost > won and p_value <= alpha)


def a_loss(lost: int, won: int, samples: int, alpha: float) -> Loss:
    return Loss(
        what=What.ROBUST,
        samples=samples,
        trimmed=0,
        gap=Difference((won - lost) / samples, -1.0, 1.0),
        alpha=alpha,
        p_value=mcnemar(lost, won),
        lost=lost,
        won=won,
    )


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_a_loss_is_seen_where_there_is_none_no_more_often_than_is_said(alpha: float) -> None:
    """By enumeration: where two are equally good, each of n that differ is a fair coin."""
    for n in (*range(1, 13), 20, 35, 60):
        alarms = [k for k in range(n + 1) if a_loss(k, n - k, 100, alpha).significant]
        assert sum(float(binom.pmf(k, n, 0.5)) for k in alarms) <= alpha / 2 + 1e-12


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 0), (6, 0), (0, 6), (12, 3), (13, 3)])
def test_a_run_is_held_against_its_baseline_sample_by_sample(
    lost: int, won: int, gate: Command, tmp_path: Path
) -> None:
    both = right(20, 40)
    before = a_run(tmp_path / "before", [*both, *[True] * lost, *[False] * won])
    after = a_run(tmp_path / "after", [*both, *[False] * lost, *[True] * won])
    code, lines, _ = gate(after, "--baseline", before)
    worse = lost > won and binomtest(lost, lost + won).pvalue <= 0.05
    assert code == (1 if worse else 0)
    p_value = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    count = 40 + lost + won
    gap = paired_difference(
        [*both, *[True] * lost, *[False] * won], [*both, *[False] * lost, *[True] * won]
    )
    told = [f"{100 * value:+.1f}" for value in gap]
    assert lines[-1].endswith(
        f"worst-case accuracy shows {'a' if worse else 'no'} significant loss against the baseline "
        f"on the same {count} samples ({told[0]} points, 95 % interval {told[1]} to {told[2]}; "
        f"{lost} lost, {won} won, exact McNemar p = {p_value:.2g})."
    )


def test_clean_accuracy_must_not_be_lost_either(gate: Command, tmp_path: Path) -> None:
    robust = right(10, 60)
    before = a_run(tmp_path / "before", robust, right(60, 60))
    after = a_run(tmp_path / "after", robust, right(40, 60))
    code, lines, _ = gate(after, "--baseline", before)
    assert code == 1
    assert lines[0].startswith("holds: worst-case accuracy shows no significant loss")
    assert "clean accuracy shows a significant loss" in lines[-1]
    assert "(-33.3 points, " in lines[-1]


def test_a_random_defence_is_held_against_its_baseline_by_the_paired_interval(
    tmp_path: Path,
) -> None:
    for step in (0, 2, 3, 4, 6, 16):
        before = [0.8] * 30
        after = [0.8] * 20 + [max(0.0, 0.8 - step / DRAWS)] * 10
        folders = [
            a_run(tmp_path / f"{name}-{step}", shares, draws=DRAWS)
            for name, shares in (("before", before), ("after", after))
        ]
        verdict = robustcode.gate(folders[1], baseline=folders[0])
        worst, clean, _ = verdict.conditions
        assert worst.holds == (paired_difference(before, after).high >= 0)
        assert clean.holds
        assert "McNemar" not in worst.said


def test_only_the_samples_of_both_are_compared_and_the_rest_is_counted(
    gate: Command, tmp_path: Path
) -> None:
    """The samples that one run alone has are all wrong there, and decide nothing."""
    before = a_run(tmp_path / "before", [*[True] * 30, *[False] * 10], first=0)
    after = a_run(tmp_path / "after", [*[True] * 20, *[False] * 25], first=10)
    code, lines, _ = gate(after, "--baseline", before)
    assert code == 0
    assert "the same 30 samples, 25 samples of one run alone left out" in lines[-1]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"spec": {"threat": "linf:0.2"}}, "its threat is linf:0.1, that of"),
        ({"data": "e" * 64}, "its data (digits) are not those of"),
        ({"attack": "pgd"}, "attacked by"),
        ({"first": 100}, "no sample in common"),
        ({"first": 5, "robust": [True] * 8, "spec": {"adversary": {"name": "batch"}}}, "adversary"),
    ],
)
def test_what_was_not_evaluated_alike_is_no_baseline(
    other: dict[str, Any], said: str, gate: Command, tmp_path: Path
) -> None:
    run = a_run(tmp_path / "run", right(6, 8))
    before = a_run(tmp_path / "before", **{"robust": right(8, 8), **other})
    code, lines, errors = gate(run, "--baseline", before)
    assert (code, lines) == (2, [])
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("severity", "allowed", "code"),
    [
        ("failure", "warning", 1),
        ("failure", "failure", 0),
        ("warning", "warning", 0),
        ("warning", "none", 1),
        ("info", "none", 0),
        ("catastrophe", "warning", 1),
    ],
)
def test_findings_fail_the_gate_by_their_severity(
    severity: str, allowed: str, code: int, gate: Command, tmp_path: Path
) -> None:
    found = [{**FAILURE, "severity": severity}]
    run = a_run(tmp_path / "run", right(40, 40), findings=found)
    ended, lines, _ = gate(run, "--min-robust", ".5", "--allow-findings", allowed)
    assert ended == code
    assert ("zero-gradient" in lines[-1]) == bool(code)
    assert "\u001b" not in "".join(lines)
    # What takes something from the numbers is told, whether or not it fails the gate.
    let = not code and severity != "info"
    told = [line for line in lines if line.startswith("let through: ")]
    assert (
        told
        == [f"let through: {severity} zero-gradient: the gradient is zero [31m everywhere"] * let
    )
    assert (f"1 {severity} let through" in lines[0]) == let


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing was asked"),
        (("--min-certified", ".3"), "holds no certificates"),
        (("--min-robust", ".3", "--allow-findings", "all"), "--allow-findings = 'all' is unknown"),
        (("--min-robust", ".3", "--baseline", "nowhere"), "nowhere"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_no_verdict(
    words: tuple[str, ...], said: str, gate: Command, tmp_path: Path
) -> None:
    run = a_run(tmp_path / "run", right(6, 8))
    code, lines, errors = gate(run, *words)
    assert (code, lines) == (2, [])
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("attack", ["noise", PEERS_NOISE])
def test_what_only_noise_was_tried_on_is_not_robust(
    attack: str, gate: Command, tmp_path: Path
) -> None:
    run = a_run(tmp_path / "run", right(40, 40), attack=attack)
    code, _, errors = gate(run, "--min-robust", ".5")
    assert code == 2
    assert "noise alone" in errors


def test_an_attack_that_may_change_nothing_is_none(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(40, 40), spec={"threat": "linf:0"})
    code, _, errors = gate(run, "--min-robust", ".5")
    assert code == 2
    assert "lets nothing be changed" in errors
    assert gate(run, "--min-clean", ".5")[0] == 0


def test_what_was_taken_for_proved_is_told(tmp_path: Path) -> None:
    run = robustcode.load_run(a_run(tmp_path / "run", right(40, 40)))
    run.summary["proved"] = 30
    said = robustcode.gate(run, min_robust=0.5).conditions[0].said
    assert "30 samples taken for proved and not attacked" in said


def test_a_run_is_not_its_own_baseline(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(30, 40))
    code, lines, errors = gate(run, "--baseline", run.parent / "." / "run")
    assert (code, lines) == (2, [])
    assert "its own baseline" in errors


@pytest.mark.parametrize(("samples", "code"), [(5, 2), (6, 1)])
def test_too_few_samples_to_show_a_loss_give_no_verdict(
    samples: int, code: int, gate: Command, tmp_path: Path
) -> None:
    """All that both have are lost: 2 ** (1 - n) is the exact p-value."""
    before = a_run(tmp_path / "before", [True] * samples)
    after = a_run(tmp_path / "after", [False] * samples)
    ended, _, errors = gate(after, "--baseline", before)
    assert ended == code
    assert ("no loss can be told from chance" in errors) == (code == 2)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"draws": 20}, {"draws": 4}, "it was judged by 20 draws"),
        (
            {"spec": {"proved": [1, 2]}},
            {},
            "2 samples of it and 0 of ",
        ),
    ],
)
def test_a_baseline_that_was_searched_more_surely_is_refused(
    one: dict[str, Any], other: dict[str, Any], said: str, gate: Command, tmp_path: Path
) -> None:
    runs = [
        a_run(tmp_path / name, [1.0 if "draws" in how else True] * 20, **how)
        for name, how in (("run", one), ("before", other))
    ]
    code, lines, errors = gate(runs[0], "--baseline", runs[1])
    assert (code, lines) == (2, [])
    assert said in errors


def test_a_summary_that_does_not_fit_to_its_folder_gives_no_verdict(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(20, 40))
    found = [{key: FAILURE[key] for key in ("code", "severity", "what", "remedy")}]
    change(run / "summary.json", findings=found)
    with pytest.raises(StoreError, match=r"tells of the finding 'zero-gradient' and findings"):
        robustcode.gate(run, min_robust=0.3)
    change(run / "summary.json", findings=[], threat="linf:0.5")
    with pytest.raises(StoreError, match=r"of threat linf:0.5 and spec.toml of linf:0.1"):
        robustcode.gate(run, min_robust=0.3)


def test_clean_accuracy_of_corruptions_is_that_of_the_answers(tmp_path: Path) -> None:
    run = robustcode.corrupt(
        *("digits_cnn", "digits", tmp_path / "run"),
        corruptions=["contrast"],
        severities=[1],
        samples=10,
        progress=False,
    )
    assert robustcode.gate(run, min_clean=0.1).holds
    with pytest.raises(ConfigError, match=r"common corruptions, .* no worst-case accuracy; ask"):
        robustcode.gate(run, min_robust=0.1)
    with pytest.raises(ConfigError, match="only attacks and certificates are held against"):
        robustcode.gate(a_run(tmp_path / "other", right(3, 4)), baseline=run)
    run.summary["clean"] |= {"accuracy": 1.0, "low": 0.99, "high": 1.0, "samples": 500}
    with pytest.raises(StoreError, match="one was altered"):
        robustcode.gate(run, min_clean=0.9)


def test_a_test_of_an_evaluation_is_not_the_evaluation(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(32, 32))
    change(run / "summary.json", tested=500)
    code, _, errors = gate(run, "--min-robust", ".5")
    assert code == 2
    assert "on 32 of 500 samples" in errors


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_an_unfinished_run_gives_no_verdict(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(32, 32))
    change(run / "manifest.json", status="running")
    code, lines, errors = gate(run, "--min-robust", ".5")
    assert (code, lines) == (2, [])
    assert "not finished" in errors


def test_of_a_curve_one_run_is_gated(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "curve" / "eps-01", right(32, 32))
    (tmp_path / "curve" / "curve.json").write_text("{}")
    code, lines, errors = gate(tmp_path / "curve", "--min-robust", ".5")
    assert (code, lines) == (2, [])
    assert f"is the folder of a curve, which is several runs; name one of them: {run}\n" in errors


def test_a_run_that_was_read_in_part_gives_no_verdict(tmp_path: Path) -> None:
    run = robustcode.load_run(a_run(tmp_path / "run", right(32, 32)))
    with pytest.raises(ConfigError, match="8 of 40 samples are missing"):
        robustcode.gate(replace(run, gap=Gap(8, 40)), min_robust=0.5)


def test_a_number_that_somebody_typed_gives_no_verdict(tmp_path: Path) -> None:
    """A block that fits in itself, and not to the records beside it."""
    run = a_run(tmp_path / "run", right(20, 40))
    better = a_run(tmp_path / "better", right(39, 40))
    block = json.loads((better / "summary.json").read_text())["robust"]
    change(run / "summary.json", robust=block)
    with pytest.raises(StoreError, match="one was altered"):
        robustcode.gate(run, min_robust=0.45)


def test_programs_read_the_same_verdict(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(20, 40))
    code, lines, _ = gate(run, "--min-robust", ".45", "--min-clean", ".5", "--json")
    read = json.loads("\n".join(lines))
    assert code == 1
    assert read["holds"] is False
    assert read["sentence"].startswith(f"{run} fails the gate, 1 of 3: ")
    robust, clean, findings = read["conditions"]
    assert (robust["holds"], clean["holds"], findings["holds"]) == (False, True, True)
    assert robust["figures"]["low"] == pytest.approx(beta.ppf(0.025, 20, 21))
    assert robust["figures"]["minimum"] == 0.45


def test_files_are_written_whether_or_not_the_gate_holds(gate: Command, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", right(20, 40))
    names = {"--junit": "junit.xml", "--sarif": "gate.sarif", "--model-card": "README.md"}
    files = {option: tmp_path / "made" / name for option, name in names.items()}
    words = [word for pair in files.items() for word in pair]
    code, lines, _ = gate(run, "--min-robust", ".9", *words)
    assert code == 1
    assert [line for line in lines if line.startswith("wrote: ")] == [
        f"wrote: {file}" for file in files.values()
    ]
    assert all(file.stat().st_size for file in files.values())
    failing = files["--model-card"].read_text()
    assert "This run fails the gate, 1 of 2:\n\n- fails: worst-case accuracy of 50.0 %" in failing
    code, lines, _ = gate(run, "--min-robust", ".1", *words, "--json")
    assert json.loads("\n".join(lines))["written"] == [str(file) for file in files.values()]
    assert "passes the gate, 2 of 2" in files["--model-card"].read_text()
    assert {file.name for file in (tmp_path / "made").iterdir()} == set(names.values())
    same = [word for option in ("--junit", "--sarif") for word in (option, tmp_path / "one")]
    code, _, errors = gate(run, "--min-robust", ".1", *same)
    assert code == 2
    assert "a name of its own" in errors
    assert not (tmp_path / "one").exists()
    code, _, errors = gate(run, "--min-robust", ".1", "--junit", tmp_path)
    assert code == 2
    assert f"cannot write {tmp_path}: it is a folder; name a file in it" in errors
    assert gate(run, "--min-robust", ".1", "--model-card", tmp_path)[2] == errors


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates of two networks, and of the first as if they were for another radius."""
    found = {}
    for name, model in (("one", "digits_cnn"), ("other", "digits_cnn:adversarial")):
        out = tmp_path_factory.mktemp("proved") / name
        robustcode.certify(model, "digits", "linf:0.02", "crown", out, samples=20, progress=False)
        found[name] = out
    found["further"] = found["one"].with_name("further")
    shutil.copytree(found["one"], found["further"])
    for file in ("spec.toml", "summary.json"):
        text = (found["further"] / file).read_text()
        (found["further"] / file).write_text(text.replace("linf:0.02", "linf:0.04"))
    return found


def test_certificates_pass_by_the_lower_end_of_what_is_proved(
    proved: dict[str, Path], gate: Command
) -> None:
    certified = robustcode.load_run(proved["one"]).summary["certified"]
    low = float(beta.ppf(0.025, certified["correct"], 21 - certified["correct"]))
    assert gate(proved["one"], "--min-certified", low - 1e-6)[0] == 0
    assert gate(proved["one"], "--min-certified", low + 1e-6)[0] == 1
    code, _, errors = gate(proved["one"], "--min-robust", ".1")
    assert code == 2
    assert "holds no attacks" in errors


def test_what_an_attack_says_is_certified_is_counted_again(
    proved: dict[str, Path], gate: Command, tmp_path: Path
) -> None:
    run = robustcode.attack(
        *("digits_cnn", "digits", "linf:0.02", tmp_path / "run"),
        attacks=["fgsm"],
        samples=12,
        certified=proved["one"],
        progress=False,
    )
    right = (
        robustcode.load_run(proved["one"]).certificates.query("sample < 12").status == "certified"
    )
    low = float(beta.ppf(0.025, right.sum(), 13 - right.sum()))
    assert robustcode.gate(run, min_certified=low - 1e-6).holds
    assert not robustcode.gate(run, min_certified=low + 1e-6).holds
    change(run.path / "summary.json", certified={**run.summary["certified"], "low": 0.9})
    code, lines, errors = gate(run.path, "--min-certified", ".8")
    assert (code, lines) == (2, [])
    assert "says low = 0.9 of what is certified" in errors
    moved = replace(run, spec={**run.spec, "certified": str(tmp_path / "gone")})
    with pytest.raises(
        ConfigError, match=r"counts cannot be read again: .*gone is not there; gate"
    ):
        robustcode.gate(moved, min_certified=0.1)
    other = replace(run, spec={**run.spec, "certified": str(proved["other"])})
    with pytest.raises(ConfigError, match="speak of something else"):
        robustcode.gate(other, min_certified=0.1)
    typed = replace(run, spec={**run.spec, "certified": None})
    with pytest.raises(ConfigError, match="not of the run that has them; gate that run itself"):
        robustcode.gate(typed, min_certified=0.1)


def test_certificates_are_held_against_certificates_alone(
    proved: dict[str, Path], gate: Command, tmp_path: Path
) -> None:
    code, lines, _ = gate(proved["other"], "--baseline", proved["one"])
    assert code == 0
    assert "certified accuracy shows no significant loss" in lines[-1]
    assert gate(proved["one"], "--baseline", proved["further"])[0] == 2
    unsure = robustcode.load_run(proved["other"])
    unsure.summary["certified"]["alpha"] = 0.5
    with pytest.raises(ConfigError, match=r"false with probability 0\.5, the baseline's with 0;"):
        robustcode.gate(unsure, baseline=proved["one"])
    said = robustcode.gate(unsure, min_certified=0).conditions[0].said
    assert "each false with probability 0.5 at most" in said
    attacked = a_run(tmp_path / "attacked", right(20, 30))
    with pytest.raises(ConfigError, match=r"certificates and .* attacks; compare runs of one"):
        robustcode.gate(proved["one"], baseline=attacked)
