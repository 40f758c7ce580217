"""The `certify` command: its run folder, its summary, and what it has to do with attacks."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

import robustcode
from robustcode.bracket import NO_PROOFS, Proof, Proofs, bracket, proofs_for
from robustcode.certificates import Certificate, Status, from_lines, table_of, to_lines
from robustcode.certified import certified_of
from robustcode.cli import app, call
from robustcode.components import Component
from robustcode.errors import ConfigError, ContractError, StoreError
from robustcode.statistics import proportion
from robustcode.store import Run, load_run

SAMPLES = 40
THREAT = "linf:0.02"


def certify_digits(out: Path, method: str = "crown", **spec: Any) -> Run:
    named = {"threat": THREAT, "samples": SAMPLES, "batch_size": 16, **spec}
    return robustcode.certify(
        "digits_cnn", "digits", method=method, out=out, progress=False, **named
    )


def attack_digits(out: Path, **spec: Any) -> Run:
    named = {"threat": THREAT, "samples": SAMPLES, "attacks": ["pgd:steps=10"], **spec}
    return robustcode.attack("digits_cnn", "digits", out=out, progress=False, **named)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return certify_digits(tmp_path_factory.mktemp("certified") / "run")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return attack_digits(tmp_path_factory.mktemp("attacked") / "run")


def content(run: Path, folder: str = "certificates") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / folder).iterdir())}


def test_the_summary_counts_its_certificates(certified: Run) -> None:
    table, said = certified.certificates, certified.summary["certified"]
    assert list(table["sample"]) == list(range(SAMPLES))
    right = table.status == "certified"
    assert 0 < right.sum() < SAMPLES
    value, low, high = proportion(int(right.sum()), SAMPLES)
    assert (said["accuracy"], said["low"], said["high"]) == (value, low, high)
    assert said["correct"] == right.sum()
    assert said["abstained"] + said["undecided"] + said["wrong"] + said["correct"] == SAMPLES
    assert said["threat"] == THREAT
    assert said["method"].startswith("crown")
    assert said["forwards"] == table.forwards.sum() > 0
    assert certified.summary["robust"] is None
    assert certified.summary["schema"] == 1
    assert certified.summary["clean"]["correct"] == (table.prediction == table.label).sum()


def test_what_crown_certifies_withstands_and_what_pgd_breaks_is_not_certified(
    certified: Run, attacked: Run
) -> None:
    found = bracket(certified, attacked)
    assert found.certified.value == certified.summary["certified"]["accuracy"]
    assert found.attacked.value == attacked.summary["robust"]["accuracy"]
    assert found.certified.value <= found.attacked.value
    assert found.width == pytest.approx(float((found.table.state == "undecided").mean()))
    assert set(found.table.state) <= {"certified", "undecided", "broken"}


def test_an_interrupted_run_ends_in_the_same_bytes(certified: Run, tmp_path: Path) -> None:
    again = certify_digits(tmp_path / "run")
    assert content(again.path) == content(certified.path)
    # As if it had been killed before the last shard was listed.
    manifest = json.loads((again.path / "manifest.json").read_text())
    manifest["shards"]["files"].popitem()
    manifest["status"] = "running"
    (again.path / "manifest.json").write_text(json.dumps(manifest))
    (again.path / "summary.json").unlink()
    with pytest.raises(StoreError, match="not finished"):
        load_run(again.path)
    assert content(certify_digits(again.path).path) == content(certified.path)


def test_workers_write_the_same_bytes(certified: Run, tmp_path: Path) -> None:
    assert content(certify_digits(tmp_path / "run", workers=2).path) == content(certified.path)


def test_shards_of_another_size_hold_the_same_proofs(certified: Run, tmp_path: Path) -> None:
    other = certify_digits(tmp_path / "run", batch_size=7)
    kept = ["sample", "prediction", "status", "radius"]
    pd.testing.assert_frame_equal(other.certificates[kept], certified.certificates[kept])


def test_the_command_prints_what_is_proved_and_repeats_from_its_spec(tmp_path: Path) -> None:
    words = "certify --model digits_cnn --data digits --samples 12 --threat linf:0.02 --quiet"
    words += f" --method ibp --radii 0.001,1/255 --out {tmp_path / 'run'}"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    for word in ("clean", "certified at 0.001", "certified at 0.02", "right but not proved"):
        assert word in done.stdout
    run = load_run(tmp_path / "run")
    assert [point["radius"] for point in run.summary["certified"]["curve"]] == [
        0.001,
        pytest.approx(1 / 255),
        0.02,
    ]
    heights = [point["correct"] for point in run.summary["certified"]["curve"]]
    assert heights == sorted(heights, reverse=True)
    words = f"run {tmp_path / 'run' / 'spec.toml'} --out {tmp_path / 'again'} --quiet"
    again = CliRunner().invoke(app, words.split())
    assert again.exit_code == 0, again.output
    assert content(tmp_path / "again") == content(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "crwon"}, "Did you mean 'crown'"),
        ({"method": "crown:sigma=1"}, "sigma"),
        ({"defense": "gaussian-noise:sigma=0.1"}, "smoothing"),
        ({"defense": "coded-smoothing:k=8"}, "coded"),
        ({"defense": "jpeg"}, "JPEG"),
        ({"method": "smoothing:sigma=0", "threat": "l2:0.1"}, "sigma"),
        ({"method": "smoothing:sigma=0.25,alpha=0", "threat": "l2:0.1"}, "alpha"),
        ({"method": "smoothing:sigma=0.25,alpha=1.5", "threat": "l2:0.1"}, "alpha"),
        ({"method": "smoothing:sigma=0.25,draws=100", "threat": "l2:2"}, "draws"),
        ({"radii": (-1.0,)}, "radii"),
        ({"threat": "linf:0"}, "nothing moves"),
        ({"samples": 0}, "samples"),
    ],
    ids=str,
)
def test_a_request_in_vain_is_one_sentence_and_leaves_nothing(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        certify_digits(tmp_path / "run", **change)
    assert len(str(refused.value)) > 20
    assert not (tmp_path / "run").exists()


def test_a_radius_beyond_all_draws_is_told_with_the_draws_it_would_take(tmp_path: Path) -> None:
    # alpha ** (1 / n) must exceed Phi(radius / sigma) when all n draws agree.
    least = math.floor(math.log(0.001) / norm.logcdf(4)) + 1
    with pytest.raises(ConfigError, match=f"{least:,}"):
        certify_digits(tmp_path / "run", "smoothing:sigma=0.25,draws=1000", threat="l2:1")


def test_an_attack_leaves_alone_what_is_certified_when_asked(
    certified: Run, attacked: Run, tmp_path: Path
) -> None:
    spared = attack_digits(tmp_path / "run", certified=certified.path, skip_certified=True)
    proved = set(certified.certificates.query("status == 'certified'")["sample"])
    assert set(spared.records.query("proved")["sample"]) == proved
    assert spared.records.query("proved").forwards.sum() == 0
    assert spared.summary["robust"]["correct"] == attacked.summary["robust"]["correct"]
    assert spared.summary["certified"]["correct"] == len(proved)


def test_certificates_are_set_beside_the_attacks_of_a_smaller_eps(
    certified: Run, tmp_path: Path
) -> None:
    nearer = attack_digits(tmp_path / "run", certified=certified.path, threat="linf:0.01")
    assert nearer.summary["certified"]["correct"] == certified.summary["certified"]["correct"]
    with pytest.raises(ConfigError, match=r"reach to 0\.02 at most"):
        attack_digits(tmp_path / "far", certified=certified.path, threat="linf:0.03")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threat": "l2:0.1"}, "norm"),
        ({"defense": "bit-depth"}, "defence"),
    ],
    ids=str,
)
def test_certificates_of_something_else_are_refused(
    change: dict[str, Any], says: str, certified: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        attack_digits(tmp_path / "run", certified=certified.path, **change)


def forged(run: Run, out: Path) -> Run:
    """The same run of certificates, had the method certified all that it found right."""
    subprocess.run(["cp", "-r", run.path, out], check=True)
    manifest = json.loads((out / "manifest.json").read_text())
    for entry in manifest["shards"]["files"].values():
        for name in entry["sha256"]:
            proofs = from_lines((out / name).read_bytes(), name)
            lies = [
                Certificate(**{**vars(p), "status": Status.CERTIFIED, "radius": 0.02})
                for p in proofs
            ]
            (out / name).write_bytes(to_lines(lies))
            entry["sha256"][name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest))
    return load_run(out)


def test_certified_and_broken_stops_the_run_with_both_witnesses(
    certified: Run,
    attacked: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lying = forged(certified, tmp_path / "forged")
    with pytest.raises(ContractError, match="both certified and broken") as stopped:
        bracket(lying, attacked)
    assert "crown" in str(stopped.value)
    assert "pgd" in str(stopped.value)
    words = "attack --model digits_cnn --data digits --samples 40 --threat linf:0.02 --quiet"
    words += f" --attack pgd:steps=10 --out {tmp_path / 'run'} --certified {lying.path}"
    monkeypatch.setattr(sys, "argv", ["robustcode", *words.split()])
    assert call(app) == ContractError.exit_code == 3
    said = capsys.readouterr().err
    assert "both certified and broken" in said
    assert "Traceback" not in said
    # The adversarial witness is there to be looked at.
    assert list((tmp_path / "run" / "adversarial").iterdir())
    words = f"report {lying.path} {attacked.path} --out {tmp_path / 'report'}"
    monkeypatch.setattr(sys, "argv", ["robustcode", *words.split()])
    assert call(app) == 3


def test_a_random_defence_contradicts_a_proof_only_beyond_chance() -> None:
    proofs = Proofs({3: Proof(0.5, "smoothing proves it")})

    def records(right: int) -> pd.DataFrame:
        row = {"sample": 3, "finished": True, "votes": (100 - right, right), "label": 1}
        row |= {"prediction": 0, "attack": "pgd", "distance": 0.1, "correct": right / 100}
        return pd.DataFrame([row])

    proofs.refuse_broken(records(35), "here")  # less than half, by chance
    with pytest.raises(ContractError):
        proofs.refuse_broken(records(5), "here")
    NO_PROOFS.refuse_broken(records(5), "here")


def test_a_report_of_both_sides_has_one_bracket(
    certified: Run, attacked: Run, tmp_path: Path
) -> None:
    files = robustcode.report([certified.path, attacked.path], tmp_path / "report")
    page = json.loads(files["json"].read_text())
    rows = {row["name"]: row for row in page["rows"] if row["kind"] == "bracket"}
    ends = [row for name, row in rows.items() if name.startswith("certified by crown")]
    assert ends[0]["value"] == certified.summary["certified"]["accuracy"]
    assert rows["left by the attacks"]["value"] == attacked.summary["robust"]["accuracy"]
    assert ends[0]["value"] + rows["undecided"]["value"] + rows["broken"]["value"] == (
        pytest.approx(1)
    )
    assert "true robust accuracy of digits_cnn" in page["verdict"]
    assert (tmp_path / "report" / "bracket-digits-cnn.svg").exists()
    alone = robustcode.report([certified.path], tmp_path / "alone")
    assert "nothing was attacked" in alone["md"].read_text()


def test_side_by_side_each_attacked_run_stands_with_what_is_proved_of_it(
    certified: Run, attacked: Run, tmp_path: Path
) -> None:
    other = attack_digits(tmp_path / "other", defense="bit-depth")
    runs = [attacked.path, other.path, certified.path]
    text = robustcode.report(runs, tmp_path / "report")["md"].read_text()
    heads, *rows = [line for line in text.splitlines() if line.startswith("|")]
    start = next(n for n, line in enumerate([heads, *rows]) if "certified, %" in line)
    table = [[cell.strip() for cell in line.split("|")] for line in [heads, *rows][start:]]
    column = table[0].index("certified, %")
    plain, quantised = table[2], table[3]
    said = certified.summary["certified"]
    low, high = (f"{100 * said[end]:.1f}" for end in ("low", "high"))
    assert plain[column] == f"{100 * said['accuracy']:.1f} ({low} to {high})"
    assert quantised[column] == ""


def test_the_log_beside_them_is_that_of_the_certificates(certified: Run) -> None:
    lines = (certified.path / "certificates.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["idx", "label", "predict", "radius", "correct", "time"]
    table = certified.certificates
    cells = [line.split("\t") for line in lines[1:]]
    assert [int(row[0]) for row in cells] == list(table["sample"])
    assert [float(row[3]) for row in cells] == list(table.radius)
    assert sum(int(row[4]) for row in cells) == certified.summary["clean"]["correct"]


def test_certificates_read_back_as_they_were_written() -> None:
    proofs = [
        Certificate(sample=3, label=1, prediction=None, status=Status.ABSTAINED, radius=0.0),
        Certificate(
            sample=9, label=1, prediction=1, status=Status.CERTIFIED, radius=0.5, alpha=0.001
        ),
    ]
    assert from_lines(to_lines(proofs), "here") == proofs
    assert list(table_of(proofs).status) == ["abstained", "certified"]
    with pytest.raises(StoreError, match="here"):
        from_lines(b'{"sample": 3}\n', "here")


def run_of(command: str, table: pd.DataFrame, **changed: Any) -> Run:
    """A finished run as its readers see it, of a random defence that makes 100 decisions."""
    spec: dict[str, Any] = {"command": command, "threat": "l2:0.5", "model": "net"}
    spec |= {"adversary": {"name": "solo"}, "defense": "gaussian-noise:sigma=0.25,votes=1"}
    manifest: dict[str, Any] = {"checkpoint_sha256": "a", "data_sha256": {"x": "b"}}
    summary = {
        "certified": {"method": "smoothing", "subject": "gaussian-noise:sigma=0.25,votes=1"},
        "stochastic": {"draws": 100},
    }
    manifest |= {key: value for key, value in changed.items() if key.endswith("sha256")}
    spec |= {key: value for key, value in changed.items() if not key.endswith("sha256")}
    run = Run(Path(command), spec, manifest, summary, [])
    run.__dict__["certificates" if command == "certify" else "records"] = table
    return run


def proofs_of_noise(share: float, radius: float = 0.5, count: int = 20) -> pd.DataFrame:
    proofs = [
        Certificate(
            sample=sample,
            label=1,
            prediction=1,
            status=Status.CERTIFIED,
            radius=radius,
            share=share,
            alpha=0.001,
            draws=1000,
        )
        for sample in range(count)
    ]
    return table_of(proofs)


def attacks_on_noise(right: int, wrong: int, count: int = 20) -> pd.DataFrame:
    """What is missing from 100 decisions abstained."""
    row = {"finished": True, "selected": True, "votes": (wrong, right), "label": 1}
    row |= {"prediction": 0, "attack": "pgd", "distance": 0.1, "correct": right / 100}
    return pd.DataFrame([{"sample": n, "clean_correct": 1.0, **row} for n in range(count)])


def test_the_lower_end_for_a_random_defence_is_of_single_decisions_too() -> None:
    # Most decisions are proved right, of each sample: that is no accuracy of 1, but of .5.
    found = bracket(
        run_of("certify", proofs_of_noise(0.5)), run_of("attack", attacks_on_noise(60, 40))
    )
    assert (found.table.state == "certified").all()
    assert found.certified.value == 0.5
    assert found.attacked.value == pytest.approx(0.6)


def test_a_share_of_the_certificates_eps_is_not_asked_of_a_larger_one() -> None:
    table = proofs_of_noise(0.99, radius=1.0)
    near = run_of("attack", attacks_on_noise(60, 40))
    with pytest.raises(ContractError, match="both certified and broken"):
        bracket(run_of("certify", table), near)
    # All radii to 1 are proved, but only that most decisions are right there.
    far = run_of("attack", attacks_on_noise(60, 40), threat="l2:1")
    assert bracket(run_of("certify", table), far).certified.value == 0.5


def test_a_proof_that_may_be_false_is_never_certain_however_sure_many_votes_are() -> None:
    certified = run_of("certify", proofs_of_noise(1.0))
    attacked = run_of("attack", attacks_on_noise(100, 0))
    proofs = proofs_for(
        certified,
        "l2:0.5",
        Component.parse(attacked.spec["defense"]),
        "solo",
        attacked.spec,
        attacked.manifest,
        "attack",
    )
    assert len(proofs.by_sample) == 20
    assert not proofs.certain


def test_abstentions_are_decisions_that_are_not_right() -> None:
    certified = run_of("certify", proofs_of_noise(0.9))
    fair, silent = attacks_on_noise(95, 5, count=1), attacks_on_noise(0, 0, count=1)
    bracket(certified, run_of("attack", fair))
    table = pd.concat([fair, silent.assign(sample=1)])
    with pytest.raises(ContractError, match="sample 1 is both"):
        bracket(certified, run_of("attack", table))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mean": [0.5], "std": [0.25]}, "mean"),
        ({"model": "other"}, "model"),
        ({"model_code_sha256": "c"}, "model_code"),
        ({"defense_files_sha256": {"f": "c"}}, "defense_files"),
        ({"mates_sha256": "c"}, "mates"),
    ],
    ids=str,
)
def test_equal_weights_do_not_make_one_defence(change: dict[str, Any], says: str) -> None:
    certified = run_of("certify", proofs_of_noise(0.5))
    with pytest.raises(ConfigError, match=says):
        bracket(certified, run_of("attack", attacks_on_noise(60, 40), **change))


def test_certificates_of_a_batch_are_of_its_very_samples() -> None:
    batch = {"adversary": {"name": "batch"}}
    certified = run_of("certify", proofs_of_noise(0.5), samples=20, **batch)
    table = attacks_on_noise(60, 40)
    bracket(certified, run_of("attack", table, samples=20, **batch))
    with pytest.raises(ConfigError, match="samples"):
        bracket(certified, run_of("attack", table[:10], samples=10, **batch))


def test_false_proofs_are_counted_among_all_samples_that_could_have_one() -> None:
    # 3 of 3,000 are proved, and of no sample is the claim true: all 3 may well be false.
    table = proofs_of_noise(0.5, count=3000)
    table.loc[3:, "radius"] = 0.0
    said = certified_of(table, "smoothing", "", "l2:0.5", 0.5)
    assert said["correct"] == said["false_at_most"] == 3


def test_proofs_that_do_not_reach_the_attacks_eps_are_not_set_beside_them(
    certified: Run, tmp_path: Path
) -> None:
    further = attack_digits(tmp_path / "far", threat="linf:0.03", samples=8)
    page = json.loads(
        robustcode.report([certified.path, further.path], tmp_path / "out")["json"].read_text()
    )
    assert not [row for row in page["rows"] if row["kind"] == "bracket"]
    assert "crown certifies" not in page["verdict"]


def test_the_verdict_on_several_attacked_runs_tells_each_bracket(
    certified: Run, attacked: Run, tmp_path: Path
) -> None:
    other = attack_digits(
        tmp_path / "other", threat="linf:0.01", samples=8, attacks=["fgsm"], seed=3
    )
    page = json.loads(
        robustcode.report([certified.path, attacked.path, other.path], tmp_path / "out")[
            "json"
        ].read_text()
    )
    assert page["verdict"].count("the true robust accuracy") == 2
