"""The `corrupt` command: its run folder, its numbers, and what must not move them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robustcode
from robustcode import answers, shard, spoiling, store
from robustcode.calibration import calibration
from robustcode.cli import app, call
from robustcode.components import Component
from robustcode.config import CorruptSpec, describe_corruptions, read_spec
from robustcode.corruptions import CORRUPTIONS, Scale, every
from robustcode.defenses import DEFENSES, Confidence, Defense, Identity
from robustcode.errors import ConfigError, StoreError
from robustcode.seeds import Streams
from robustcode.spoiling import Cell, hear
from robustcode.statistics import clustered, proportion
from robustcode.store import Run, load_run

SAMPLES = 40
WHICH = {"corruptions": ["gaussian_noise", "weather"], "severities": [1, 5]}


def corrupt(out: Path, **spec: Any) -> Run:
    named = {"samples": SAMPLES, **WHICH, **spec}
    return robustcode.corrupt("digits_cnn", "digits", out, progress=False, **named)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return corrupt(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("noisy") / "run"
    return corrupt(out, defense="gaussian-noise:sigma=0.3", draws=4)


def content(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "corruptions").iterdir())}


def test_there_is_an_answer_for_each_sample_in_each_cell(plain: Run) -> None:
    table = plain.answers
    cells = table.groupby(["corruption", "severity"]).size()
    assert len(cells) == 1 + 5 * 2
    assert set(cells) == {SAMPLES}
    assert list(table["sample"].unique()) == list(range(SAMPLES))
    assert list(table.columns) == list(answers.COLUMNS)
    assert plain.records.empty
    assert plain.certificates.empty


def test_the_summary_is_recomputed_from_the_answers(plain: Run, noisy: Run) -> None:
    """Accuracy, NLL and calibration of each cell, and plain means of these, by another way."""
    for run, draws in ((plain, None), (noisy, 4)):
        table, summary = run.answers, run.summary
        for cell in summary["corruptions"]:
            chosen = f"corruption == '{cell['corruption']}' and severity == {cell['severity']}"
            own = table.query(chosen)
            right = own["correct"].to_numpy(dtype=float)
            assert cell["accuracy"] == pytest.approx(right.mean())
            wanted = proportion(int(right.sum()), SAMPLES) if draws is None else None
            wanted = wanted or clustered(right, draws or 1)
            assert (cell["low"], cell["high"]) == pytest.approx(wanted[1:])
            assert cell["nll"] == pytest.approx(-own["likelihood"].mean())
            hit = (own["likeliest"] == own["label"]).to_numpy(dtype=float)
            found = calibration(own["confidence"], hit)
            assert (cell["ece"], cell["calibration"]) == pytest.approx((found.ece, found.error))
        spoilt = table.query("corruption != 'clean'")
        means = summary["corruption_means"]
        assert means["all"]["accuracy"] == pytest.approx(spoilt["correct"].astype(float).mean())
        assert means["all"]["nll"] == pytest.approx(-spoilt["likelihood"].mean())
        assert list(means["groups"]) == ["noise", "weather"]
        lines = [cell for cell in summary["corruptions"] if cell["group"] == "weather"]
        accuracies = [cell["accuracy"] for cell in lines]
        assert means["groups"]["weather"]["accuracy"] == pytest.approx(np.mean(accuracies))
        assert means["groups"]["weather"]["cells"] == len(lines) == 8
        for what in ("nll", "ece"):
            wanted_mean = np.mean([cell[what] for cell in lines])
            assert means["groups"]["weather"][what] == pytest.approx(wanted_mean)
        squares = [cell["calibration_squared"] for cell in summary["corruptions"]]
        wanted_root = np.sqrt(max(0.0, float(np.mean(squares))))
        assert means["all"]["calibration"] == pytest.approx(wanted_root)


def test_it_says_nothing_of_attacks_and_proofs(plain: Run) -> None:
    summary = plain.summary
    assert (summary["schema"], summary["samples"]) == (1, SAMPLES)
    assert (summary["robust"], summary["attacks"], summary["certified"]) == (None, [], None)
    assert summary["cost"]["forwards"] == 11 * SAMPLES
    assert summary["corruption_scale"] == "cifar-10-c"
    assert summary["corruption_frost"] == "drawn"
    assert summary["clean"]["samples"] == SAMPLES


def test_clean_is_what_an_attack_run_says_of_it(plain: Run, tmp_path: Path) -> None:
    attacked = robustcode.attack(
        *("digits_cnn", "digits", "linf:0.01", tmp_path / "run"),
        attacks=["noise"],
        samples=SAMPLES,
        progress=False,
    )
    assert plain.summary["clean"]["accuracy"] == attacked.summary["clean"]["accuracy"]
    mine = plain.answers.query("severity == 0").set_index("sample")["prediction"]
    theirs = attacked.records.set_index("sample")["clean"]
    assert list(mine) == list(theirs)


def test_batches_do_not_matter(noisy: Run, tmp_path: Path) -> None:
    """Answers agree but for the last digits of passes of another size."""
    again = corrupt(tmp_path / "run", defense="gaussian-noise:sigma=0.3", draws=4, batch_size=7)
    one, other = noisy.answers, again.answers
    same = ["sample", "corruption", "severity", "prediction", "correct", "likeliest"]
    assert one[same].equals(other[same])
    assert np.allclose(one["likelihood"], other["likelihood"], atol=1e-4)


def test_a_corruption_is_the_same_whatever_else_is_asked_for(plain: Run, tmp_path: Path) -> None:
    alone = corrupt(tmp_path / "run", corruptions=["fog"], severities=[5], samples=20)
    asked = "corruption == 'fog' and severity == 5"
    mine = alone.answers.query(asked).set_index("sample")["likelihood"]
    theirs = plain.answers.query(asked).set_index("sample")["likelihood"]
    assert np.allclose(mine, theirs[:20], atol=1e-5)


def test_another_seed_is_another_run(plain: Run, tmp_path: Path) -> None:
    other = corrupt(tmp_path / "run", seed=1, corruptions=["fog"], severities=[5])
    asked = "corruption == 'fog' and severity == 5"
    mine = other.answers.query(asked)["likelihood"].to_numpy()
    assert not np.allclose(mine, plain.answers.query(asked)["likelihood"].to_numpy())


def test_a_damaged_cell_is_done_again_to_the_same_bytes(plain: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(plain.path, out)
    before = content(out)
    (out / "corruptions" / "shard-00003.jsonl").unlink()
    (out / "corruptions" / "shard-00005.jsonl").write_text("damaged")
    with pytest.raises(StoreError, match=r"shard-0000[35]"):
        _ = load_run(out).answers
    again = corrupt(out)
    assert content(out) == before
    assert again.summary["corruptions"] == plain.summary["corruptions"]


def test_a_killed_run_goes_on_to_the_same_bytes(
    plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    wrote = store.write_atomic
    left = 4

    def dies(path: Path, data: bytes) -> str:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return wrote(path, data)

    monkeypatch.setattr(shard, "write_atomic", dies)
    with pytest.raises(KeyboardInterrupt):
        corrupt(out)
    with pytest.raises(StoreError, match="not finished"):
        load_run(out)
    with pytest.raises(StoreError, match="not whole"):
        load_run(out, partial=True)
    monkeypatch.undo()
    corrupt(out)
    assert content(out) == content(plain.path)


@pytest.mark.long
def test_workers_write_the_same_bytes(plain: Run, tmp_path: Path) -> None:
    corrupt(tmp_path / "run", workers=2)
    assert content(tmp_path / "run") == content(plain.path)


def test_its_spec_repeats_it(
    plain: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "again"
    spec = str(plain.path / "spec.toml")
    described, _ = read_spec(Path(spec))
    assert isinstance(described, CorruptSpec)
    assert described.scale == "cifar-10-c"
    monkeypatch.setattr(sys, "argv", ["robustcode", "run", spec, "--out", str(out), "--quiet"])
    assert call(app) == 0
    assert content(out) == content(plain.path)
    told = capsys.readouterr().out
    assert "mean of weather" in told
    assert "frost is drawn" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--corruptions", "nois"], "Did you mean 'noise'"),
        (["--corruptions", "fog,fog"], "corruptions name fog twice"),
        (["--corruptions", "fog:pictures=x"], "unknown key 'pictures'"),
        (["--corruptions", "frost:pictures=nowhere"], "holds no PNG or JPEG"),
        (["--severities", "0"], "severity 0 is not among"),
        (["--severities", "high"], "not a whole number"),
        (["--scale", "cifar"], "Did you mean 'cifar-10-c'"),
        (["--samples", "0"], "at least 1 sample"),
        (["--draws", "0"], "at least 1 is needed"),
    ],
)
def test_a_faulty_request_is_one_sentence(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    words = ["corrupt", "--model", "digits_cnn", "--data", "digits", "--out", str(out), *options]
    monkeypatch.setattr(sys, "argv", ["robustcode", *words])
    assert call(app) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_nobody_is_adversarial() -> None:
    with pytest.raises(ConfigError, match="nobody chooses a corruption"):
        CorruptSpec(model="m", data="d", adversary=Component("whole-batch"))


def test_all_are_asked_for_where_none_is_named() -> None:
    spec = describe_corruptions(model="m", data="d")
    assert [cell.name for cell in spoiling.cells_of(spec)[1::5]] == every()
    assert len(spoiling.cells_of(spec)) == 76


def test_images_of_a_few_pixels_are_refused(tmp_path: Path) -> None:
    data = torch.zeros(4, 1, 7, 9), torch.zeros(4, dtype=torch.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(63, 2))
    with pytest.raises(ConfigError, match="7 x 9 pixels are too small"):
        robustcode.corrupt(model, data, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


# What is heard of a defence.


def streams(count: int) -> Streams:
    return Streams.of(0, "test", torch.arange(count))


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 3).double().requires_grad_(False)


def test_one_pass_gives_decision_and_probabilities() -> None:
    model, x = linear(), torch.rand(5, 6, dtype=torch.float64)
    verdict, scores, passes = hear(Identity(model=model), x, streams(5), 1, 3)
    assert torch.allclose(scores, model(x).log_softmax(1))
    assert verdict.majority().tolist() == model(x).argmax(1).tolist()
    assert passes.tolist() == [1] * 5


def test_probabilities_are_a_mean_over_all_votes_of_all_draws() -> None:
    """By a loop over the same draws."""
    defense = DEFENSES.get("smoothing")(model=linear(), sigma=0.5, votes=3)  # type: ignore[call-arg]
    x = torch.rand(4, 6, dtype=torch.float64)
    verdict, scores, passes = hear(defense, x, streams(4), 5, 3)
    votes = [streams(4).child("draw", d).child("vote", v) for d in range(5) for v in range(3)]
    mean = torch.stack([defense.logits(x, own).softmax(1) for own in votes]).mean(0)
    assert torch.allclose(scores.exp(), mean)
    assert passes.tolist() == [15] * 4
    decided = [defense.decide(x, streams(4).child("draw", d)) for d in range(5)]
    right = torch.stack([label == 0 for label in decided]).double().mean(0)
    assert torch.equal(verdict.share_right(torch.zeros(4, dtype=torch.int64)), right)


@dataclass(frozen=True, kw_only=True)
class Contrary(Defense):
    """Its rule is its own: never the class of the highest score."""

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        return scores

    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        return self.model(x).argmin(1)


def test_a_rule_of_the_defences_own_decides() -> None:
    model, x = linear(), torch.rand(5, 6, dtype=torch.float64)
    verdict, scores, passes = hear(Contrary(model=model), x, streams(5), 1, 3)
    assert verdict.majority().tolist() == model(x).argmin(1).tolist()
    assert torch.allclose(scores, model(x).log_softmax(1))
    assert passes.tolist() == [2] * 5


def test_to_abstain_is_not_right() -> None:
    model, x = linear(), torch.rand(5, 6, dtype=torch.float64)
    refusing = Confidence(model=model, threshold=0.999)
    verdict, _, _ = hear(refusing, x, streams(5), 1, 3)
    y = model(x).argmax(1)
    assert verdict.share_right(y).tolist() == [0.0] * 5
    assert verdict.majority().tolist() == [-1] * 5


def test_scores_that_are_no_numbers_have_no_nll(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scores = F.one_hot(torch.zeros(len(x), dtype=torch.int64), 10).to(x)
            return torch.where(x.mean(dim=(1, 2, 3))[:, None] > 0.35, torch.nan, scores)

    run = robustcode.corrupt(
        Broken(), "digits", tmp_path / "run", corruptions=["fog"], severities=[5], progress=False
    )
    clean = run.summary["clean"]
    assert clean["unscored"] > 0
    assert (clean["nll"], clean["ece"], clean["calibration"]) == (None, None, None)
    assert run.answers["prediction"].isna().sum() >= clean["unscored"]


def test_mates_are_spoilt_as_inputs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defence that classifies batches meets images of one weather only."""
    seen: dict[str, list[float]] = {}
    among = spoiling._among_its_like

    def watch(one: spoiling.Spoiling, cell: Cell) -> Defense:
        defense = among(one, cell)
        mates = getattr(defense, "mates", torch.zeros(0))
        seen.setdefault(cell.name, []).append(float(mates.mean()))
        return defense

    monkeypatch.setattr(spoiling, "_among_its_like", watch)
    corrupt(
        tmp_path / "run",
        corruptions=["brightness"],
        severities=[1, 5],
        samples=8,
        defense="coded-smoothing",
        draws=1,
    )
    assert seen["clean"][0] < seen["brightness"][0] < seen["brightness"][1]


def test_a_cell_is_spoilt_by_stream_and_not_by_place() -> None:
    x = torch.rand(6, 3, 16, 16)
    cell = Cell("snow", 3, CORRUPTIONS.get("snow")())
    whole = cell.spoil(x, Scale.CIFAR_10_C, streams(6))
    assert torch.equal(whole[4:5], cell.spoil(x[4:5], Scale.CIFAR_10_C, streams(6)[4:5]))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("confidence", 1.5, "confidence is 1.5"),
        ("likelihood", 0.5, "likelihood is 0.5"),
        ("severity", 6, "severity is 6"),
        ("correct", "yes", "correct is 'yes'"),
    ],
)
def test_answers_that_no_run_wrote_are_refused(key: str, value: Any, said: str, plain: Run) -> None:
    line = json.loads(next(iter(content(plain.path).values())).decode().splitlines()[0])
    damaged = (json.dumps({**line, key: value}) + "\n").encode()
    with pytest.raises(StoreError, match=said):
        answers.read_answers([("file", damaged)])


def test_a_summary_without_its_cells_is_refused(plain: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(plain.path, out)
    summary = json.loads((out / "summary.json").read_text())
    del summary["corruption_means"]
    store.write_json(out / "summary.json", summary)
    with pytest.raises(StoreError, match="corruption_means is missing"):
        load_run(out)
