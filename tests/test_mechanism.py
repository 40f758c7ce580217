"""Whose gradient is followed decides how robust coded inference looks, and who is adversarial.

On the digits, with the network that is shipped for them; the orders are those of the research notes
on coded smoothing, section 5.3, which found them with other data and networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import robustcode
from robustcode.cli import app
from robustcode.findings import Facts
from robustcode.store import Run, load_run
from robustcode.suites import SUITES
from robustcode.threat import Norm

# Its runs are made once, by one worker.
pytestmark = pytest.mark.xdist_group("mechanism")

K, SAMPLES = 64, 64
# PGD of ten steps leaves a twentieth of the plain model's samples right.
EPS = "linf:0.15"
FEW_STEPS = "steps=10,step=0.25"


def attacked(out: Path, adversary: str, *attacks: str, **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "threat": EPS,
        "defense": f"coded-smoothing:k={K}",
        "samples": SAMPLES,
        "draws": 5,
        "batch_size": SAMPLES,
        "progress": False,
    }
    return robustcode.attack(
        "digits_cnn",
        "digits",
        out=out,
        adversary=adversary,
        attacks=list(attacks),
        **{**settings, **changes},
    )


def left(run: Run) -> dict[str, float]:
    return {attack["name"]: attack["accuracy"] for attack in run.summary["attacks"]}


# ---- the mechanism


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The summed cross-entropy differentiated through the codec, as of any classifier."""
    out = tmp_path_factory.mktemp("stock") / "run"
    ascent = f"pgd:{FEW_STEPS},random_start=false,loss=ce"
    return attacked(out, "batch:gradient=joint", ascent)


@pytest.fixture(scope="module")
def proper(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Each sample's own gradient, by the margin, and the plain model's."""
    out = tmp_path_factory.mktemp("proper") / "run"
    return attacked(
        out,
        "batch",
        f"pgd:{FEW_STEPS},random_start=false,loss=margin",
        f"transfer:{FEW_STEPS}",
        f"transfer-pgd:before=10,{FEW_STEPS}",
    )


def test_the_plain_model_has_little_left(tmp_path: Path) -> None:
    plain = attacked(
        tmp_path / "run", "solo", f"pgd:{FEW_STEPS},loss=margin", defense="identity", draws=1
    )
    assert plain.summary["clean"]["accuracy"] > 0.95
    assert left(plain)["pgd"] < 0.1


def test_the_stock_attack_overrates_coded_inference(stock: Run, proper: Run) -> None:
    assert stock.summary["clean"]["accuracy"] == proper.summary["clean"]["accuracy"] > 0.95
    stocks, own = left(stock)["pgd"], left(proper)
    assert stocks >= own["pgd"] + 0.15
    assert stocks >= own["transfer"] + 0.15


def test_its_own_gradient_does_hardly_worse_than_from_the_transfer_example(proper: Run) -> None:
    own = left(proper)
    assert own["pgd"] <= own["transfer-pgd"] + 0.05
    # The plain model's gradient is already a good one; what is added must not be lost again.
    assert own["transfer-pgd"] <= own["transfer"] + 0.05


def test_the_findings_say_so(stock: Run, proper: Run) -> None:
    found = [
        {finding["code"]: finding["severity"] for finding in run.findings}
        for run in (stock, proper)
    ]
    assert [each["cross-gradient"] for each in found] == ["warning", "info"]
    # A small finding is no fault: nothing else is wrong with an attack that follows its own way.
    assert set(found[1]) == {"cross-gradient"}


# ---- who is adversarial

CODED = "coded-smoothing:k=8,ratio=1"


@pytest.fixture(scope="module")
def adversaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("adversaries")
    settings = {"defense": CODED, "samples": 16, "threat": "linf:0.1", "draws": 10}
    return {
        name: attacked(folder / name, name, "pgd:steps=5,step=0.4,loss=margin", **settings)
        for name in ("solo", "batch", "collusion")
    }


def test_each_adversary_has_a_run_that_names_it_and_numbers_of_its_own(
    adversaries: dict[str, Run],
) -> None:
    for name, run in adversaries.items():
        assert run.path.name == name
        assert run.spec["adversary"]["name"] == run.summary["adversary"] == name
        assert load_run(run.path).records.equals(run.records)
    assert len({tuple(run.records.correct) for run in adversaries.values()}) == 3


def test_a_report_sets_the_adversaries_side_by_side(
    adversaries: dict[str, Run], tmp_path: Path
) -> None:
    folders = [str(run.path) for run in adversaries.values()]
    ended = CliRunner().invoke(app, ["report", *folders, "--out", str(tmp_path / "report")])
    assert ended.exit_code == 0, ended.output
    text = (tmp_path / "report" / "report.md").read_text().replace("\\", "")
    table = text.partition("Side by side")[2].partition("\nNote ")[0]
    named = f"digits_cnn with {CODED}"
    names = {"solo": named, "batch": f"{named} against batch"}
    names["collusion"] = f"{named} against collusion"
    for name, run in adversaries.items():
        (row,) = [line for line in table.splitlines() if f"| {names[name]} |" in line]
        for what in ("clean", "robust"):
            # Halves may be rounded either way.
            percent = 100 * run.summary[what]["accuracy"]
            assert {f"{percent - 1e-9:.1f}", f"{percent + 1e-9:.1f}"} & set(row.split())


# ---- the suite


def facts(**changes: Any) -> Facts:
    """Those of coded smoothing with sixteen images in a batch."""
    given = {"stochastic": True, "differentiable": True, "batch_coupled": True, "classes": 10}
    return Facts(**{**given, "noise": 2.3, **changes})


@pytest.mark.parametrize(("noise", "draws"), [(0.1, 1), (2.3, 3), (1000.0, 64)])
def test_the_adaptive_suite_meets_a_random_defence_from_every_side(
    noise: float, draws: int
) -> None:
    planned = [
        (component.name, dict(component.settings))
        for component in SUITES["adaptive"](facts(noise=noise), Norm.LINF)
    ]
    settings = dict(planned)
    assert {"noise", "transfer", "transfer-pgd", "pgd", "apgd-margin", "aggmo"} == set(settings)
    assert settings["apgd-margin"]["hold"] is True
    losses = {given["loss"] for name, given in planned if name == "pgd"}
    assert losses == {"ce", "margin"}
    followed = [given for name, given in planned if name not in ("noise", "transfer")]
    assert [given["draws"] for given in followed] == [draws] * len(followed)


@pytest.mark.parametrize("name", ["quick", "adaptive"])
def test_who_perturbs_no_sample_has_no_plain_model_to_attack(name: str) -> None:
    planned = {component.name for component in SUITES[name](facts(adversary="mates"), Norm.LINF)}
    assert planned
    assert not any(attack.startswith("transfer") for attack in planned)
    known = SUITES[name](facts(adversary="mates", stochastic=False, noise=0.0), Norm.LINF)
    assert not any(component.name.startswith("transfer") for component in known)


def test_the_adaptive_suite_runs_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = "attack --model digits_cnn --data digits --defense coded-smoothing:k=8"
    command += f" --suite adaptive --threat linf:0.1 --samples 8 --draws 3 --quiet --out {out}"
    ended = CliRunner().invoke(app, command.split())
    assert ended.exit_code == 0, ended.output
    run = load_run(out)
    draws = {each["name"]: each["settings"].get("draws") for each in run.summary["attacks"]}
    assert draws.pop("transfer") is None
    del draws["noise"]  # those on which it compares its tries
    assert len(draws) == 5
    assert len(set(draws.values())) == 1
    assert run.summary["robust"]["accuracy"] < run.summary["clean"]["accuracy"]
