"""A run survives whatever stops it, and its records are the same bytes however it was worked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

import robustcode
from robustcode.attacks import ATTACKS, Attack, Target
from robustcode.cli import app
from robustcode.config import describe
from robustcode.engine import evaluate
from robustcode.errors import ConfigError, ContractError, EngineError, StoreError
from robustcode.memory import BatchLimit
from robustcode.seeds import Streams
from robustcode.store import Run, RunFolder, load_run
from robustcode.threat import ThreatModel

COMMON = [
    "--model",
    "digits_cnn",
    "--data",
    "digits",
    "--samples",
    "60",
    "--batch-size",
    "10",
    "--threat",
    "linf:0.1",
    "--defense",
    "gaussian-noise:sigma=0.1",
    "--draws",
    "20",
    "--attack",
    "pgd:steps=5,draws=2",
    "--attack",
    "noise:tries=2",
    "--quiet",
]


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "robustcode", "attack", *COMMON, "--out", str(out), *more]


def run_command(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, *more), capture_output=True, text=True, timeout=300)


def run_here(out: Path) -> int:
    """The exit status of the same command in this process, where it is not about processes."""
    return CliRunner().invoke(app, command(out)[3:]).exit_code


def shard_bytes(out: Path) -> dict[str, bytes]:
    """Every record and adversarial file by name."""
    files = [*out.glob("records/*"), *out.glob("adversarial/*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(files)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    done = run_command(out)
    assert done.returncode == 0, done.stderr
    return out


def test_stdout_is_the_product_and_stderr_the_progress(uninterrupted: Path, tmp_path: Path) -> None:
    again = run_command(uninterrupted)
    assert again.returncode == 0
    assert "worst case" in again.stdout
    assert again.stderr == ""


def test_a_finished_run_is_not_run_again(uninterrupted: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in uninterrupted.glob("records/*")}
    summary = (uninterrupted / "summary.json").read_bytes()
    assert run_here(uninterrupted) == 0
    assert {f: f.stat().st_mtime_ns for f in uninterrupted.glob("records/*")} == before
    assert (uninterrupted / "summary.json").read_bytes() == summary


@pytest.mark.parametrize("finished_shards", [pytest.param(0, marks=pytest.mark.long), 2])
def test_a_killed_run_resumed_gives_the_same_bytes(
    uninterrupted: Path, tmp_path: Path, finished_shards: int
) -> None:
    out = tmp_path / "killed"
    running = subprocess.Popen(command(out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None:
        if (out / "diagnosis.json").exists() and len(list(out.glob("records/*.jsonl"))) >= (
            finished_shards
        ):
            break
        time.sleep(0.002)
    assert running.poll() is None, "the run ended before it could be killed"
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (out / "summary.json").exists()
    with pytest.raises(StoreError, match=r"not finished|no manifest"):
        load_run(out)
    kept = {f: f.stat().st_mtime_ns for f in out.glob("records/*.jsonl")}
    manifest = out / "manifest.json"
    listed = json.loads(manifest.read_text())["shards"]["done"] if manifest.exists() else 0
    done = run_command(out)
    assert done.returncode == 0, done.stderr
    assert shard_bytes(out) == shard_bytes(uninterrupted)
    untouched = [file for file, when in kept.items() if file.stat().st_mtime_ns == when]
    assert len(untouched) >= listed, "a finished shard was repeated"


@pytest.mark.parametrize("damage", ["truncated", "corrupted", "deleted", "adversarial"])
def test_a_damaged_shard_is_found_by_its_hash_and_redone(
    uninterrupted: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "damaged"
    subprocess.run(["cp", "-r", str(uninterrupted), str(out)], check=True)
    victim = out / "records" / "shard-00002.jsonl"
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:-100])
    elif damage == "corrupted":
        victim.write_bytes(victim.read_bytes().replace(b'"correct": 1.0', b'"correct": 0.0', 1))
    elif damage == "deleted":
        victim.unlink()
    else:
        (out / "adversarial" / "shard-00002.safetensors").write_bytes(b"nothing")
    others = {f: f.stat().st_mtime_ns for f in out.glob("records/*") if f != victim}
    if damage != "adversarial":
        with pytest.raises(StoreError, match="missing or altered"):
            _ = load_run(out).records
    assert run_here(out) == 0
    assert shard_bytes(out) == shard_bytes(uninterrupted)
    assert {f: f.stat().st_mtime_ns for f in others} == others


def test_workers_give_the_bytes_of_one_process(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "workers"
    done = run_command(out, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert shard_bytes(out) == shard_bytes(uninterrupted)


def test_a_lost_worker_is_said_and_the_run_resumes(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "lost"
    running = subprocess.Popen(
        command(out, "--workers", "2"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("records/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.005)
    children = subprocess.run(
        # -ww: whole lines; ps cuts them to 80 columns where it finds no terminal
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(running.pid)],
        capture_output=True,
        text=True,
    ).stdout
    workers = [int(line.split()[0]) for line in children.splitlines() if "spawn_main" in line]
    if not workers:
        running.kill()
        _, said = running.communicate()
        pytest.fail(f"no workers among {children!r}; stderr: {said}")
    os.kill(workers[-1], signal.SIGKILL)
    _, said = running.communicate(timeout=120)
    assert running.returncode == EngineError.exit_code, said
    assert "same command again" in said
    assert run_command(out).returncode == 0
    assert shard_bytes(out) == shard_bytes(uninterrupted)


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    out = tmp_path / "orphans"
    running = subprocess.Popen(
        command(out, "--workers", "2"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("records/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.005)
    running.kill()
    running.wait()
    time.sleep(2)
    before = shard_bytes(out)
    time.sleep(1)
    assert shard_bytes(out) == before, "an orphaned worker goes on writing"


def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "shared"
    with RunFolder(out).locked():
        done = run_command(out)
    assert done.returncode == 2
    assert "in use by another" in done.stderr


def test_a_folder_of_another_spec_is_refused_by_the_first_difference(uninterrupted: Path) -> None:
    done = run_command(uninterrupted, "--seed", "1")
    assert done.returncode == 2
    assert "request.seed is 0 there and 1 here" in done.stderr


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = run_command(tmp_path)
    assert done.returncode == 2
    assert "'thesis.tex'" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_spec_of_a_run_repeats_it(uninterrupted: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "robustcode", "run", str(uninterrupted / "spec.toml"), "--quiet"]
    done = subprocess.run(
        [*words, "--out", str(tmp_path / "again")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert shard_bytes(tmp_path / "again") == shard_bytes(uninterrupted)


def test_the_worst_proposals_are_kept_and_allowed(uninterrupted: Path) -> None:
    run = load_run(uninterrupted)
    kept = load_file(uninterrupted / "adversarial" / "shard-00001.safetensors")
    assert kept["sample"].tolist() == list(range(10, 20))
    from robustcode.data import load_data

    x = load_data("digits").images(kept["sample"])
    ThreatModel.parse("linf:0.1").check(kept["x_adv"], x, by="the store")
    chosen = run.records[run.records.selected].set_index("sample").distance
    measured = ThreatModel.parse("linf:0.1").distance(kept["x_adv"], x)
    for sample, distance in zip(kept["sample"].tolist(), measured.tolist(), strict=True):
        assert distance == pytest.approx(chosen.get(sample, 0.0), abs=1e-7)


class Flat(nn.Module):
    """Two classes told apart by the mean of the image."""

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).mean(1) - 0.5
        return torch.stack([-score, score], dim=1)


class Hungry(Flat):
    """The same, but out of memory on more than three images at a time."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return super().forward(x)


def flat_data(count: int = 20) -> tuple[Tensor, Tensor]:
    x = torch.linspace(0.3, 0.7, count).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return x, (x.flatten(1).mean(1) > 0.5).long()


def attack_flat(out: Path, model: nn.Module, *attacks: str) -> Run:
    return robustcode.attack(
        model, flat_data(), "linf:0.05", out, attacks=attacks or ("pgd:steps=5",), progress=False
    )


def test_running_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    fed, hungry = (attack_flat(tmp_path / kind.__name__, kind().eval()) for kind in (Flat, Hungry))
    # What a broken sample is still charged before it leaves depends on who leaves with it.
    passes = ["forwards", "backwards"]
    assert hungry.records.drop(columns=passes).equals(fed.records.drop(columns=passes))


def test_halving_takes_back_what_the_failed_try_had_spent() -> None:
    spent = [0] * 10

    def work(rows: slice) -> slice:
        for row in range(rows.start, rows.stop):
            spent[row] += 1
        if rows.stop - rows.start > 4:
            raise MemoryError
        return rows

    def undo(rows: slice) -> None:
        spent[rows] = [0] * (rows.stop - rows.start)

    limit = BatchLimit(10)
    done = limit.map(work, 10, undo)
    assert spent == [1] * 10
    assert [r for rows in done for r in range(rows.start, rows.stop)] == list(range(10))
    assert limit.size == 2


def test_one_sample_that_does_not_fit_ends_the_run() -> None:
    def work(rows: slice) -> None:
        raise MemoryError

    with pytest.raises(EngineError, match="one sample alone"):
        BatchLimit(4).map(work, 4)


@pytest.fixture
def cheat() -> Iterator[None]:
    """Attacks that break their contract, registered for one test."""

    class Cheat(Attack):
        def perturb(
            self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
        ) -> Tensor:
            return (x + 2 * threat.eps).clamp(0, 1)

    class Crash(Attack):
        def perturb(
            self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
        ) -> Tensor:
            raise KeyError("weights")

    ATTACKS.register("cheat")(Cheat)
    ATTACKS.register("crash")(Crash)
    yield
    for name in ("cheat", "crash"):
        del ATTACKS._loaded[name]


@pytest.mark.usefixtures("cheat")
@pytest.mark.parametrize(
    ("name", "said"), [("cheat", "moved an input by 0.1"), ("crash", "failed")]
)
def test_an_attack_that_breaks_its_contract_stops_the_run(
    tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(ContractError, match=said):
        attack_flat(tmp_path / name, Flat().eval(), name)
    assert ContractError.exit_code == 3


def test_the_model_is_given_back_as_it_came(tmp_path: Path) -> None:
    linear, dropout = nn.Linear(16, 2), nn.Dropout(0.5)
    model = nn.Sequential(nn.Flatten(), linear, dropout)
    model.train()
    linear.eval()
    linear.weight.requires_grad_(False)
    kept = linear.weight.detach().clone()
    attack_flat(tmp_path / "run", model)
    assert [m.training for m in model] == [True, False, True]
    assert not linear.weight.requires_grad
    assert linear.bias.requires_grad
    assert linear.weight.grad is None
    assert linear.bias.grad is None
    assert torch.equal(linear.weight, kept)


def test_the_model_s_threads_and_generator_are_given_back(tmp_path: Path) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    attack_flat(tmp_path / "run", Flat().eval())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_checkpoint_that_changed_is_another_run(tmp_path: Path) -> None:
    linear = nn.Linear(16, 2)
    model = nn.Sequential(nn.Flatten(), linear).eval()
    attack_flat(tmp_path / "run", model)
    with torch.no_grad():
        linear.bias.add_(1)
    with pytest.raises(StoreError, match="checkpoint_sha256"):
        attack_flat(tmp_path / "run", model)


def test_a_full_disk_is_a_sentence_and_nothing_finished_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = describe(
        model="digits_cnn",
        data="digits",
        threat="linf:0.1",
        samples=30,
        batch_size=10,
        attacks=["fgsm"],
    )
    real, written = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        if Path(target).parent.name == "records":
            written.append(target)
            if len(written) == 2:
                raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(StoreError, match="No space left on device; make room"):
        evaluate(spec, tmp_path / "run", show=False)
    assert len(list((tmp_path / "run" / "records").iterdir())) == 1
    monkeypatch.undo()
    assert evaluate(spec, tmp_path / "run", show=False).summary["samples"] == 30


def test_a_run_without_samples_or_attacks_cannot_be_described() -> None:
    with pytest.raises(ConfigError, match="at least 1 sample"):
        describe(model="digits_cnn", data="digits", threat="linf:0.1", samples=0)


def test_an_unfinished_run_is_not_finished_by_other_versions(
    uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "older"
    subprocess.run(["cp", "-r", str(uninterrupted), str(out)], check=True)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / "records" / "shard-00001.jsonl").unlink()
    done = run_command(out)
    assert done.returncode == 2
    assert "versions.torch is '1.0' there" in done.stderr
