"""What a hard look at the main job found: each of these once gave a wrong number or a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustcode
from robustcode import cli
from robustcode.attacks import PGD
from robustcode.components import Component, settings_of
from robustcode.config import describe
from robustcode.errors import ConfigError, ContractError, EngineError, StoreError
from robustcode.findings import Facts
from robustcode.plan import build_attacks
from robustcode.store import Run, RunFolder
from robustcode.suites import SUITES
from robustcode.threat import Norm
from robustcode.values import read_indices


class Faulty(nn.Module):
    """Ten random linear scores, on which a fault acts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(x.flatten(1))
        return scores


class Overwriting(Faulty):
    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return super().forward(x)


class Whole(Faulty):
    def forward(self, x: Tensor) -> Tensor:
        return (1000 * super().forward(x)).long()


class OneAtATime(Faulty):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise ValueError("one at a time")
        return super().forward(x)


class Leaving(Faulty):
    """Ends the process in the first batch after the one image it is tried on."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise SystemExit(0)
        return super().forward(x)


class Disk(Faulty):
    """Fails like a disk would, far into the run."""

    calls: ClassVar[int] = 0  # of all copies: there is one disk

    def forward(self, x: Tensor) -> Tensor:
        Disk.calls += 1
        if Disk.calls > 40:
            raise OSError(5, "the weights' server went away")
        return super().forward(x)


class Full(Faulty):
    """Finds memory for the first image only."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            raise MemoryError
        return super().forward(x)


class Dropping(Faulty):
    """Draws from torch's global generator in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.3, training=True))


def pictures(count: int = 12) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 1, 8, 8), torch.arange(count) % 10


def attack(model: nn.Module, out: Path, *attacks: str, **more: Any) -> Run:
    torch.manual_seed(0)
    data = pictures()
    return robustcode.attack(
        model, data, "linf:0.1", out, attacks=attacks or ("fgsm",), progress=False, **more
    )


def names(components: list[Component]) -> list[str]:
    return [planned.name for planned in build_attacks(components, Norm.LINF, "attacks")]


@pytest.mark.parametrize("suite", sorted(SUITES))
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("more", [[], ["pgd:steps=20"], ["pgd:loss=margin,steps=7", "pgd"]])
def test_attacks_spelt_out_keep_their_names(suite: str, stochastic: bool, more: list[str]) -> None:
    """Randomness is keyed to the name: with another one, spec.toml would not repeat its run."""
    facts = Facts(stochastic=stochastic, differentiable=True, batch_coupled=False, classes=10)
    components = [*SUITES[suite](facts, Norm.LINF), *map(Component.parse, more)]
    planned = build_attacks(components, Norm.LINF, "attacks")
    spelt_out = [Component(p.component.name, settings_of(p.attack)) for p in planned]
    assert names(spelt_out) == [p.name for p in planned]
    assert len(set(names(spelt_out))) == len(planned)


def test_one_attack_written_twice_is_one_under_its_plain_name() -> None:
    twice = [Component.parse("pgd:steps=5"), Component.parse("pgd:steps=5")]
    assert names(twice) == names(twice[:1]) == ["pgd"]


def test_settings_in_names_do_not_depend_on_how_they_were_written() -> None:
    one = [Component.parse(text) for text in ("pgd:loss=margin,step=1/4", "pgd:loss=ce")]
    other = [Component.parse(text) for text in ("pgd:step=0.25,loss=margin", "pgd")]
    assert names(one) == names(other) == ["pgd:step=0.25,loss=margin", "pgd"]


@pytest.mark.parametrize("model", [Overwriting, Whole, OneAtATime, Leaving, Disk])
def test_a_model_that_fails_broke_its_contract(tmp_path: Path, model: type[Faulty]) -> None:
    with pytest.raises(ContractError):
        attack(model().eval(), tmp_path / "run", batch_size=1)


def test_memory_that_is_short_for_one_sample_ends_the_pilot_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="one sample alone"):
        attack(Full().eval(), tmp_path / "run")


def test_the_pilot_does_not_depend_on_the_caller_s_generator(tmp_path: Path) -> None:
    model = Dropping().eval()
    data, found = pictures(), []
    for number in range(2):
        torch.manual_seed(number)
        state = torch.get_rng_state()
        out = tmp_path / str(number)
        robustcode.attack(model, data, "linf:0.1", out, attacks=["fgsm"], draws=5, progress=False)
        assert torch.equal(torch.get_rng_state(), state)
        found.append((out / "findings.json").read_bytes())
    assert found[0] == found[1]


def test_scores_that_an_attack_makes_nan_are_broken_as_the_judge_has_it(tmp_path: Path) -> None:
    class Overflowing(nn.Module):
        """Right on every image until one is bright enough to overflow."""

        def forward(self, x: Tensor) -> Tensor:
            mean = x.flatten(1).mean(1)
            overflow = torch.where(mean > 0.55, float("nan"), 0.0)
            return torch.stack([2 - mean + overflow, mean], dim=1)

    data = torch.full((4, 1, 8, 8), 0.5), torch.zeros(4, dtype=torch.int64)
    run = robustcode.attack(
        Overflowing().eval(), data, "linf:0.1", tmp_path / "run", attacks=["pgd"], progress=False
    )
    assert run.summary["clean"]["accuracy"] == 1
    assert run.summary["robust"]["accuracy"] == 0


def test_samples_of_one_class_are_samples(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "zeros.npz",
        images=np.full((4, 1, 8, 8), 0.5, np.float32),
        labels=np.zeros(4, np.int64),
    )
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()\n"
    )
    run = robustcode.attack(
        f"{tmp_path}/net.py:make",
        f"npz:{tmp_path}/zeros.npz",
        "linf:0.1",
        tmp_path / "run",
        attacks=["fgsm"],
        progress=False,
    )
    assert run.summary["samples"] == 4


def test_an_edited_model_file_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    source = (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        mean = x.flatten(1).mean(1)\n"
        "        return torch.stack([mean * (k % 3 - 1) for k in range(10)], 1)\n"
    )

    def run() -> Run:
        spec = f"{file}:Net"
        out = tmp_path / "run"
        return robustcode.attack(
            spec, "digits", "linf:0.1", out, attacks=["fgsm"], samples=4, progress=False
        )

    file.write_text(source)
    run()
    run()
    file.write_text(source.replace("% 3", "% 4"))
    with pytest.raises(StoreError, match="model_code_sha256"):
        run()


def test_workers_refuse_a_model_that_is_another_one_in_each(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import os, torch\nfrom torch import nn\n"
        "def make():\n"
        "    torch.manual_seed(os.getpid())\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()\n"
    )
    with pytest.raises(ConfigError, match="seed what is random"):
        robustcode.attack(
            f"{tmp_path}/net.py:make",
            "digits",
            "linf:0.1",
            tmp_path / "run",
            attacks=["fgsm"],
            samples=4,
            batch_size=2,
            workers=2,
            progress=False,
        )


def test_an_interrupt_is_a_sentence_and_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("robustcode.engine.evaluate", interrupted)
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", "linf:0.1"]
    words += ["--out", str(tmp_path / "run")]
    assert cli.call(lambda **mode: cli.app(words, **mode)) == 4
    assert capsys.readouterr().err.startswith("robustcode: interrupted")


def test_long_names_are_printed_whole_and_findings_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", "linf:0"]
    words += ["--samples", "2", "--quiet", "--out", str(tmp_path / "run")]
    long = "pgd:steps=1,loss=margin,random_start=false,until_broken=false,held_out={}"
    for held_out in (7, 8):
        words += ["--attack", long.format(held_out)]
    words += ["--attack", "noise"]
    assert cli.call(lambda **mode: cli.app(words, **mode)) == 0
    said = capsys.readouterr().out
    assert "…" not in said
    for finding in json.loads((tmp_path / "run" / "summary.json").read_text())["findings"]:
        assert finding["what"] in said


@pytest.mark.parametrize("text", ["[1e400]", "[true, false]", "[" * 100_000])
def test_indices_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "indices.json").write_text(text)
    with pytest.raises(ConfigError, match="whole numbers"):
        read_indices(tmp_path / "indices.json")


def test_numbers_of_numpy_are_numbers() -> None:
    spec = describe(
        model="digits_cnn", data="digits", threat="linf:0.1", samples=np.int64(5), seed=np.int8(3)
    )
    assert json.loads(json.dumps(spec.request()))["samples"] == 5


@pytest.mark.parametrize("samples", ["5", 5.5])
def test_samples_that_are_no_number(samples: object) -> None:
    with pytest.raises(ConfigError, match="whole number"):
        describe(model="digits_cnn", data="digits", threat="linf:0.1", samples=samples)


def test_one_attack_may_be_given_without_a_list() -> None:
    spec = describe(model="digits_cnn", data="digits", threat="linf:0.1", attacks="pgd:steps=3")
    assert [str(attack) for attack in spec.attacks] == ["pgd:steps=3"]


def test_a_function_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pass a module or a name"):
        attack(lambda x: x, tmp_path / "run")  # type: ignore[arg-type]


def test_a_callable_that_exits_made_no_model(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make():\n    raise SystemExit(0)\n")
    with pytest.raises(ConfigError, match="could not make a model"):
        robustcode.attack(
            f"{tmp_path}/net.py:make", "digits", "linf:0.1", tmp_path / "run", progress=False
        )


def test_an_endless_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="step = inf"):
        PGD(step=float("inf"))


def test_a_manifest_that_holds_no_object_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(StoreError, match="holds a list"):
        RunFolder(tmp_path).open({}, {})
    with pytest.raises(StoreError, match="holds a list"):
        robustcode.load_run(tmp_path)


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path: Path) -> None:
    attack(Faulty().eval(), tmp_path / "run")
    leftover = tmp_path / "run" / "records" / ".shard-00000.jsonl.99.tmp"
    leftover.touch()
    attack(Faulty().eval(), tmp_path / "run")
    assert not leftover.exists()
