"""Who in a batch is adversarial: runs against coded batches are runs like any other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

import robustcode
from robustcode import engine, shard
from robustcode.adversary import ADVERSARIES, Batch, Collusion, Mates, Solo
from robustcode.attacks import Attack
from robustcode.checks.catalogue import every
from robustcode.cli import app, call
from robustcode.config import RunSpec, describe, read_spec
from robustcode.data import load_data
from robustcode.defenses import DEFENSES
from robustcode.errors import ConfigError, EngineError, RobustcodeError
from robustcode.findings import Facts
from robustcode.judge import judge
from robustcode.memory import BatchLimit
from robustcode.progress import Silent
from robustcode.seeds import Streams
from robustcode.store import Run, load_run
from robustcode.subject import Given, Subject, assemble
from robustcode.target import borrowed
from robustcode.trial import make_job

# They share runs, which each worker would make for itself.
pytestmark = pytest.mark.xdist_group("adversary")

K = 8
SAMPLES = 24
SETTINGS: dict[str, Any] = {
    "defense": f"coded-smoothing:k={K},ratio=0.75",
    "samples": SAMPLES,
    "draws": 5,
    "attacks": ["pgd:steps=2"],
    "batch_size": SAMPLES,
    "progress": False,
}
EPS = "linf:0.1"


def attacked(
    out: Path, adversary: str = "batch", threat: str = EPS, tried: bool = False, **changes: Any
) -> Run:
    """A run against coded batches, whose attacks a pilot has ``tried`` or not.

    The defence's facts are tested in either case. Trying the attacks takes four times as long as
    the run, and has no part in its records.
    """
    facts = [check for check in every() if tried or not check.of_the_attack]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "every", lambda: facts)
        return robustcode.attack(
            "digits_cnn", "digits", threat, out, adversary=adversary, **{**SETTINGS, **changes}
        )


def lines(out: Path) -> bytes:
    """All records in the order of their samples, whatever shards they are in."""
    return b"".join(file.read_bytes() for file in sorted(out.glob("records/*.jsonl")))


def pictures(out: Path) -> dict[str, Tensor]:
    parts = [load_file(file) for file in sorted(out.glob("adversarial/*.safetensors"))]
    for part in parts:
        part["x"] = part["x"] / part.pop("scale")
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return attacked(tmp_path_factory.mktemp("runs") / "batch", tried=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A run of eight samples by its adversary, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("small")

    @cache
    def made(adversary: str) -> Run:
        out = folder / adversary.replace(":", " ")
        return attacked(out, adversary, samples=8, tried=":" not in adversary)

    return made


# ---- what a run says


def test_a_batch_is_judged_whole_and_once_more_among_strangers(batch: Run) -> None:
    records, said = batch.records, batch.summary["rebatched"]
    assert records.rebatched.notna().all()
    assert ((records.rebatched * 5) % 1 == 0).all()
    chosen = records[records.selected]
    assert said["samples"] == len(chosen)
    assert said["accuracy"] == pytest.approx(chosen.rebatched.mean())
    assert said["low"] < said["accuracy"] < said["high"]
    # Other draws, other mates.
    assert (records.rebatched != records.correct).any()
    assert batch.summary["adversary"] == "batch"


def test_every_draw_of_the_judge_is_of_whole_batches_or_of_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Tensor, Streams]] = []

    def judged(defense: Any, x: Tensor, streams: Streams, *given: Any) -> Any:
        asked.append((x.clone(), streams))
        return judge(defense, x, streams, *given)

    monkeypatch.setattr(shard, "judge", judged)
    run = attacked(tmp_path / "run")
    whole = torch.arange(SAMPLES) // K
    shared = [streams.together for _, streams in asked]
    # Clean and proposal, each to report and to choose by; then the proposal among strangers.
    assert [one is not None for one in shared] == [True] * 4 + [False]
    assert all(torch.equal(one.samples, whole) for one in shared if one is not None)
    assert all(torch.equal(streams.samples, torch.arange(SAMPLES)) for _, streams in asked)
    x_adv = asked[2][0]
    assert torch.equal(asked[4][0], x_adv)
    assert not torch.equal(asked[0][0], x_adv)
    assert all(sum(votes) == 5 for votes in run.records.votes)


def test_an_attack_is_given_whole_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of samples that are wrong by themselves."""
    ask, rows = shard._ask, []

    def asked(attack: Attack, target: Any, x: Tensor, *given: Any) -> Tensor:
        together = given[-1].together
        rows.append(together.samples)
        return ask(attack, target, x, *given)

    monkeypatch.setattr(shard, "_ask", asked)
    run = attacked(tmp_path / "run")
    assert (run.records.clean != run.records.label).any()
    (given,) = rows
    assert torch.equal(given, torch.arange(SAMPLES) // K)


@pytest.mark.parametrize("adversary", ["solo", "collusion", "mates"])
def test_who_is_among_strangers_to_begin_with_is_judged_once(
    adversary: str, small: Callable[[str], Run]
) -> None:
    run = small(adversary)
    assert run.records.rebatched.isna().all()
    assert run.summary["rebatched"] is None
    assert run.summary["adversary"] == adversary


def test_each_adversary_has_a_number_of_its_own(tmp_path: Path) -> None:
    """Solo, whole batch, collusion and malicious mates, on the same defence and samples."""
    robust, clean = {}, {}
    named = ["solo", "batch", "collusion", "mates", "batch:gradient=joint"]
    for number, adversary in enumerate(named):
        run = attacked(tmp_path / str(number), adversary, attacks=["pgd:steps=10,step=0.3"])
        assert run.summary["adversary"] == adversary
        robust[adversary] = run.summary["robust"]["accuracy"]
        clean[adversary] = run.summary["clean"]["accuracy"]
    # Who changes no image of the sample's own has the least power.
    assert robust["mates"] > max(robust["solo"], robust["batch"], robust["collusion"]) + 0.1
    assert robust["batch"] < robust["batch:gradient=joint"] - 0.1
    # Nobody has done anything yet: these are one number, up to the noise of 24 x 5 decisions.
    assert max(clean.values()) - min(clean.values()) < 0.15


def test_several_users_do_more_harm_than_one(tmp_path: Path) -> None:
    """By little: neighbours have a fifth of the weight of a sample's own image."""
    robust = {
        adversary: attacked(
            tmp_path / adversary,
            adversary,
            "linf:0.06",
            attacks=["pgd:steps=20,step=0.15,draws=4,loss=margin"],
            draws=20,
            samples=48,
        ).summary["robust"]["accuracy"]
        for adversary in ("solo", "collusion")
    }
    assert robust["collusion"] < robust["solo"]


def test_malicious_mates_who_may_do_anything_do_harm(tmp_path: Path) -> None:
    run = attacked(
        tmp_path / "run", "mates", "linf:1", attacks=["pgd:steps=40,loss=margin,draws=4"], draws=20
    )
    assert run.summary["robust"]["accuracy"] < run.summary["clean"]["accuracy"] - 0.05


@pytest.mark.parametrize("adversary", ["collusion", "collusion:users=2", "mates", "mates:users=2"])
def test_every_image_of_the_adversary_is_kept_and_within_its_budget(
    adversary: str, small: Callable[[str], Run]
) -> None:
    users = 2 if "users" in adversary else K - 1
    found = pictures(small(adversary).path)["x_adv"]
    owns = adversary.startswith("collusion")
    assert found.shape == (8, users + owns, 8, 8)
    x = load_data("digits").images(range(8))
    if owns:
        assert (found[:, :1] - x).abs().amax((1, 2, 3)).le(0.1 + 1e-6).all()
    spec = describe(model="digits_cnn", data="digits", threat=EPS, adversary=adversary, **_plain(8))
    before, _ = assemble(spec, Given()).batch(torch.arange(8))
    assert (found - before).abs().max() <= 0.1 + 1e-6
    moved = (found - before).flatten(2).abs().amax(2)
    assert (moved > 0.01).any(0).all()  # each of them has a part in it


def _plain(samples: int | None) -> dict[str, Any]:
    return {**{key: SETTINGS[key] for key in ("defense", "attacks")}, "samples": samples}


# ---- the null test


@pytest.mark.parametrize("adversary", ["solo", "batch", "collusion", "mates"])
def test_no_budget_takes_nothing(adversary: str, tmp_path: Path) -> None:
    run = attacked(
        tmp_path / "run", adversary, "linf:0", draws=100, attacks=["pgd:steps=2", "noise:tries=2"]
    )
    robust, clean = run.summary["robust"], run.summary["clean"]
    # 2400 decisions on either side, of .25 variance at most: 4 standard errors of a difference.
    assert abs(robust["accuracy"] - clean["accuracy"]) < 4 * (2 * 0.25 / 2400) ** 0.5
    assert 0.5 < clean["accuracy"] < 0.9  # there was something to take
    assert (run.records.distance == 0).all()


# ---- the same bytes


@pytest.mark.parametrize(
    ("size", "workers"), [(2 * K, 1), pytest.param(K, 2, marks=pytest.mark.long)]
)
def test_workers_and_shards_give_the_same_bytes(
    size: int, workers: int, batch: Run, tmp_path: Path
) -> None:
    attacked(tmp_path / "run", batch_size=size, workers=workers)
    assert lines(tmp_path / "run") == lines(batch.path)
    found = pictures(tmp_path / "run")
    assert all(torch.equal(found[key], value) for key, value in pictures(batch.path).items())


def test_who_begins_with_a_later_shard_has_the_same_bytes(batch: Run, tmp_path: Path) -> None:
    """As a worker process does, which makes everything anew from the spec and the facts."""
    spec, _ = read_spec(batch.path / "spec.toml")
    assert isinstance(spec, RunSpec)
    facts = Facts(**json.loads((batch.path / "diagnosis.json").read_text())["facts"])
    subject = assemble(spec, Given())
    with borrowed(subject.defense.model):
        make_job(spec, subject, facts)(subject.shards(K)[1], tmp_path, 1, Silent())
    assert lines(tmp_path).splitlines() == lines(batch.path).splitlines()[K : 2 * K]
    whole = pictures(batch.path)["x_adv"]
    assert torch.equal(pictures(tmp_path)["x_adv"], whole[K : 2 * K])


def test_a_lost_shard_is_done_again_with_the_same_bytes(batch: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    attacked(out, batch_size=K)
    (out / "records" / "shard-00001.jsonl").unlink()
    (out / "summary.json").unlink()
    kept = (out / "records" / "shard-00002.jsonl").stat().st_mtime_ns
    attacked(out, batch_size=K)
    assert lines(out) == lines(batch.path)
    assert (out / "records" / "shard-00002.jsonl").stat().st_mtime_ns == kept


def test_an_interrupted_run_goes_on_with_the_same_bytes(
    batch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "run", []
    ask = shard._ask

    def interrupted(*given: Any) -> Tensor:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ask(*given)

    with monkeypatch.context() as patched:
        patched.setattr(shard, "_ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            attacked(out, batch_size=K)
    assert len(list(out.glob("records/*.jsonl"))) == 1
    attacked(out, batch_size=K)
    assert lines(out) == lines(batch.path)


def test_a_run_is_repeated_from_its_spec(batch: Run, tmp_path: Path) -> None:
    out = tmp_path / "again"
    words = ["run", str(batch.path / "spec.toml"), "--out", str(out), "--quiet"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert lines(out) == lines(batch.path)
    assert "batch" in (out / "spec.toml").read_text()


def test_all_settings_of_the_adversary_are_kept_in_the_spec(small: Callable[[str], Run]) -> None:
    """Those that were not named too: another default would be another run."""
    kept = load_run(small("batch:gradient=joint").path).spec["adversary"]
    assert kept == {"name": "batch", "gradient": "joint", "reach": 3}


def test_another_adversary_is_another_run(batch: Run) -> None:
    with pytest.raises(RobustcodeError, match="adversary"):
        attacked(batch.path, "solo")


# ---- batches and shards


def subject_of(samples: int | None, adversary: str = "batch", **changes: Any) -> Subject:
    spec = describe(
        model="digits_cnn",
        data="digits",
        threat=EPS,
        adversary=adversary,
        **{**_plain(samples), **changes},
    )
    return assemble(spec, Given())


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [(1, 8), (8, 8), (10, 8), (11, 8), (13, 16), (16, 16), (20, 16), (21, 24), (500, 40)],
)
def test_no_batch_straddles_two_shards(asked: int, sizes: int) -> None:
    subject = subject_of(40)
    shards = subject.shards(asked)
    assert torch.equal(torch.cat(shards), torch.arange(40))
    assert {len(part) for part in shards[:-1]} <= {sizes}
    whose = [set(_batches(subject, part)) for part in shards]
    assert sum(map(len, whose)) == len(set.union(*whose)) == 5
    assert [len(part) for part in subject_of(40, "solo").shards(10)] == [10] * 4


def _batches(subject: Subject, samples: Tensor) -> list[int]:
    numbers = subject.batches(samples)
    assert numbers is not None
    return numbers.tolist()


def test_neighbours_in_the_run_share_a_batch_whatever_their_indices() -> None:
    indices = [3 * i + 1 for i in range(20)]
    subject = subject_of(None, indices=tuple(reversed(indices)))
    assert _batches(subject, subject.samples) == [0] * 8 + [1] * 8 + [2] * 4
    picked = torch.tensor([indices[17], indices[2], indices[9]])
    assert _batches(subject, picked) == [2, 0, 1]
    assert subject_of(20, "solo").batches(picked) is None


# ---- where a batch would fall apart


def test_memory_that_runs_out_never_splits_a_batch(
    batch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halves of a batch, each filled up by clean mates, would be other batches."""
    ask = shard._ask

    def judged(defense: Any, x: Tensor, *given: Any) -> Any:
        if len(x) > K + 1:
            raise MemoryError
        return judge(defense, x, *given)

    def asked(attack: Attack, target: Any, x: Tensor, *given: Any) -> Tensor:
        if len(x) > K + 1:
            raise MemoryError
        return ask(attack, target, x, *given)

    monkeypatch.setattr(shard, "judge", judged)
    monkeypatch.setattr(shard, "_ask", asked)
    attacked(tmp_path / "run")
    assert lines(tmp_path / "run") == lines(batch.path)


def test_a_limit_of_rows_that_belong_together_shrinks_by_them() -> None:
    sizes = []

    def work(rows: slice) -> None:
        sizes.append(rows.stop - rows.start)
        if sizes[-1] > 8:
            raise MemoryError

    BatchLimit(40, 8).map(work, 36)
    assert sizes == [36, 16, 8, 8, 8, 8, 4]

    def never(rows: slice) -> None:
        raise MemoryError

    with pytest.raises(EngineError, match="runs out of memory"):
        BatchLimit(40, 8).map(never, 36)


def test_who_is_broken_stays_in_the_batch_of_the_others(tmp_path: Path) -> None:
    """Else clean mates fill its place, and what is found for the others is of another batch.

    A fixed draw is where attacks let go of broken samples: 31 % stayed right instead of none.
    """
    robust = [
        attacked(
            tmp_path / attack,
            defense="coded-smoothing:k=16,ratio=0.75,fixed=true",
            threat="linf:0.15",
            samples=48,
            batch_size=48,
            attacks=[attack],
        ).summary["robust"]["accuracy"]
        for attack in ("pgd:steps=20", "pgd:steps=20,until_broken=false")
    ]
    assert robust[0] == robust[1] < 0.1


def test_a_broken_sample_is_attacked_by_every_attack(tmp_path: Path) -> None:
    attacks = ["pgd:steps=10", "noise:tries=2", "pgd:steps=2"]
    with pytest.raises(ConfigError, match="takes broken samples out of their batch"):
        attacked(tmp_path / "cascade", attacks=attacks, cascade=True)
    assert not (tmp_path / "cascade" / "records").exists()
    run = attacked(tmp_path / "run", threat="linf:0.3", attacks=attacks)
    assert (run.records.correct == 0).any()
    assert run.records.carried.isna().all()
    searched = run.records[run.records.attack != "noise"]
    assert (searched.backwards > 0).all()


# ---- what is refused, and how


@pytest.mark.parametrize("adversary", ["collusion", "mates"])
@pytest.mark.parametrize("threat", ["l2:0.5", "l1:5"])
def test_several_users_do_not_share_one_budget(tmp_path: Path, adversary: str, threat: str) -> None:
    with pytest.raises(ConfigError, match="one budget would be shared by all of them; take linf"):
        attacked(tmp_path / "run", adversary, threat=threat)


@pytest.mark.parametrize("adversary", ["batch", "collusion", "mates"])
@pytest.mark.parametrize("defense", sorted(set(DEFENSES) - {"coded-smoothing", "random-ensemble"}))
def test_where_inputs_do_not_act_on_each_other_there_is_only_solo(
    adversary: str, defense: str
) -> None:
    if DEFENSES.get(defense).batch_coupled:
        pytest.skip("inputs of a batch act on each other in it")
    with pytest.raises(ConfigError, match=r"do not act on each other .* take the adversary solo"):
        subject_of(8, adversary, defense=defense)


def words(out: Path, *more: str) -> list[str]:
    return [
        *("attack", "--model", "digits_cnn", "--data", "digits", "--threat", EPS),
        *("--samples", "8", "--attack", "pgd:steps=2", "--draws", "5", "--out", str(out)),
        *("--quiet", *more),
    ]


CODED = ("--defense", SETTINGS["defense"])
REFUSED = {
    "no coupling": (("--adversary", "batch"), "do not act on each other"),
    "a typo": ((*CODED, "--adversary", "bach"), "Did you mean 'batch'?"),
    "too many users": (
        (*CODED, "--adversary", "collusion:users=8"),
        "users = 8: a batch of k = 8 has 7 others",
    ),
    "a setting of another": ((*CODED, "--adversary", "mates:reach=3"), "reach"),
    "a gradient that is none": ((*CODED, "--adversary", "batch:gradient=mean"), "own"),
    "no reach": ((*CODED, "--adversary", "batch:reach=0"), "reach = 0"),
    "a module that is none": (
        ("--defense", "coded-smoothing:k=8,module=frnt", "--adversary", "batch"),
        "no module 'frnt'",
    ),
    "the plain model of mates": (
        (*CODED, "--adversary", "mates", "--attack", "transfer:steps=2"),
        "leave out transfer",
    ),
}


@pytest.mark.parametrize(("more", "said"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_makes_no_sense_is_refused_in_a_sentence(
    more: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["robustcode", *words(tmp_path / "run", *more)])
    assert call(app) == ConfigError.exit_code == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert len(printed.splitlines()) == 1


def test_the_adversaries_are_listed_with_their_settings() -> None:
    done = CliRunner().invoke(app, ["list", "adversaries", "--json"])
    assert done.exit_code == 0, done.output
    listed = {entry["name"]: entry["settings"] for entry in json.loads(done.output)}
    assert listed == {
        "solo": {},
        "batch": {"gradient": "own", "reach": 3},
        "collusion": {"users": 0},
        "mates": {"users": 0},
    }
    assert "collusion" in CliRunner().invoke(app, ["list", "adversaries"]).output


def test_an_adversary_is_one_of_four() -> None:
    kinds = {name: ADVERSARIES.get(name) for name in ADVERSARIES}
    assert kinds == {"solo": Solo, "batch": Batch, "collusion": Collusion, "mates": Mates}
    assert [kind.batched for kind in (Solo, Batch, Collusion, Mates)] == [False, True, False, False]
    assert [kind.stacked for kind in (Solo, Batch, Collusion, Mates)] == [False, False, True, True]


def test_a_table_of_a_batch_run_has_its_own_column(batch: Run) -> None:
    assert isinstance(batch.records, pd.DataFrame)
    assert batch.records.rebatched.dtype == float
