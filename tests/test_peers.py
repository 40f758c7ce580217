"""The attacks of torchattacks, foolbox and the official AutoAttack behind our own judge."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustcode
from robustcode import cli, engine, shard
from robustcode.attacks import ATTACKS, Attack
from robustcode.attacks.facade import Facade
from robustcode.checkpoint import load_classifier
from robustcode.components import Component, settings_of
from robustcode.data import load_data
from robustcode.defenses import GaussianNoise, Identity
from robustcode.errors import ConfigError, ContractError, PluginError, UnknownNameError
from robustcode.listing import listing
from robustcode.plan import build_attacks
from robustcode.seeds import Streams
from robustcode.store import Run
from robustcode.target import DefendedTarget, Ledger
from robustcode.testing.surroundings import global_state_kept
from robustcode.threat import Norm, ThreatModel

THREATS = {
    Norm.LINF: ThreatModel(Norm.LINF, 0.15),
    Norm.L2: ThreatModel(Norm.L2, 1.0),
    Norm.L1: ThreatModel(Norm.L1, 4.0),
}
LINF = THREATS[Norm.LINF]
# What needs a value, and the names that stand for nothing one can run.
SETTINGS = {"foolbox:VirtualAdversarialAttack": {"steps": 3}}
REFUSED = {
    "torchattacks": {"LGV", "MultiAttack"},
    "foolbox": {"BinarizationRefinementAttack", "GenAttack", "SpatialAttack"},
}


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier and inputs that it gets right."""
    model, data = load_classifier("digits_cnn", classes=10).eval(), load_data("digits")
    places = list(range(12))
    x, y = data.images(places), data.targets(places)
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return model, x[right][:6], y[right][:6]


def peer(text: str) -> Attack:
    attack: Attack = Component.parse(text).build(ATTACKS, "test")
    return attack


def needs(package: str) -> None:
    if not ATTACKS.families[package].installed:
        pytest.skip(f"needs {package}: {ATTACKS.families[package].install}")


def target_of(
    model: nn.Module, count: int, sigma: float = 0.0
) -> tuple[DefendedTarget, Ledger, Streams]:
    samples = torch.arange(count)
    ledger = Ledger(samples)
    defense = GaussianNoise(model=model, sigma=sigma) if sigma else Identity(model=model)
    target = DefendedTarget(defense, ledger, stochastic=sigma > 0, differentiable=True)
    return target, ledger, Streams.of(0, "test", samples)


def perturbed(
    attack: Attack, digits: tuple[nn.Module, Tensor, Tensor], threat: ThreatModel = LINF
) -> tuple[Tensor, Ledger]:
    model, x, y = digits
    target, ledger, streams = target_of(model, len(x))
    return attack.perturb(target, x.clone(), y.clone(), threat, streams), ledger


# --- names


def test_a_library_name_keeps_its_colon() -> None:
    assert Component.parse("torchattacks:PGD") == Component("torchattacks:PGD")
    assert Component.parse("foolbox:LinfPGD:steps=10,rel_stepsize=1/40") == Component(
        "foolbox:LinfPGD", {"steps": "10", "rel_stepsize": "1/40"}
    )
    for text in ("torchattacks:PGD", "torchattacks:PGD:steps=10", "autoattack:rand"):
        assert str(Component.parse(text)) == text


def test_peers_are_not_counted_among_our_own() -> None:
    assert not [name for name in ATTACKS if ":" in name]
    assert set(ATTACKS.families) == {"autoattack", "foolbox", "torchattacks"}


def test_a_misspelt_library_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"'PGD' is not key=value\. Did you mean 'torchattacks'"):
        Component.parse("torchatacks:PGD")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torchattacks:PDG", r"no attack 'PDG'\. Did you mean .*'torchattacks:PGD'"),
        ("foolbox:LinfPDG", r"no attack 'LinfPDG'\. Did you mean 'foolbox:LinfPGD'"),
        ("torchattacks", r"'torchattacks' is no attack by itself; .* as torchattacks:PGD\. Known"),
        ("foolbox:steps=3", r"'foolbox' is no attack by itself"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(text: str, said: str) -> None:
    needs(text.partition(":")[0])
    with pytest.raises(UnknownNameError, match=said):
        peer(text)


def test_listing_imports_no_library() -> None:
    code = (
        "import sys; from robustcode.listing import listing; print(listing('attacks')[-1]['name'],"
        "sorted({'torchattacks', 'foolbox', 'autoattack'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "torchattacks:PGD []"


def test_a_library_is_listed_with_settings() -> None:
    needs("foolbox")
    entries = {entry["name"]: entry for entry in listing("foolbox")}
    assert entries["foolbox:LinfPGD"]["settings"]["steps"] == 40
    assert "turns and shifts" in entries["foolbox:SpatialAttack"]["summary"]


@pytest.mark.parametrize("library", ["torchattacks", "foolbox", "autoattack"])
def test_a_missing_library_is_one_sentence(
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ATTACKS, "_made", {})
    monkeypatch.setitem(sys.modules, library, None)
    words = ["attack", "--model", "digits_cnn", "--data", "digits", "--threat", "linf:0.1"]
    words += ["--attack", f"{library}:PGD", "--out", str(tmp_path / "run")]
    assert cli.call(lambda **mode: cli.app(words, **mode)) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert f"attack '{library}:PGD' needs {library}, which is not installed; pip" in said.err
    assert not (tmp_path / "run").exists()
    summary = {entry["name"]: entry["summary"] for entry in listing("attacks")}
    assert "not here: pip" in summary[f"{library}:{ATTACKS.families[library].example}"]
    with pytest.raises(ConfigError, match="not installed; pip"):
        listing(library)


def test_a_library_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ATTACKS, "_made", {})
    monkeypatch.delitem(sys.modules, "torchattacks", raising=False)
    (tmp_path / "torchattacks.py").write_text("import a_missing_dependency\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="cannot use torchattacks: No module named 'a_missing"):
        peer("torchattacks:PGD")


def test_a_wrong_norm_is_one_sentence() -> None:
    needs("torchattacks")
    with pytest.raises(ConfigError) as error:
        build_attacks([Component("torchattacks:PGD")], Norm.L2, "attacks")
    assert str(error.value) == "attack 'torchattacks:PGD' does not work in l2, only in linf"
    needs("foolbox")
    with pytest.raises(ConfigError, match="'foolbox:L2PGD' does not work in linf, only in l2"):
        build_attacks([Component("foolbox:L2PGD")], Norm.LINF, "attacks")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torchattacks:PGD:setps=3", r"unknown key 'setps'\. Did you mean 'steps'"),
        ("torchattacks:PGD:eps=0.3", r"unknown key 'eps'"),
        ("torchattacks:PGD:steps=many", "not a whole number"),
        ("torchattacks:Pixle:pixel_mapping=x", "refuses these settings: ValueError"),
        ("foolbox:VirtualAdversarialAttack", "needs steps; write steps=VALUE"),
        ("foolbox:HopSkipJumpAttack:constraint=l2", "unknown key 'constraint'"),
        ("torchattacks:LGV", "cannot be run by itself"),
    ],
)
def test_wrong_settings_are_one_sentence(text: str, said: str) -> None:
    needs(text.partition(":")[0])
    with pytest.raises(ConfigError, match=said):
        peer(text)


# --- every attack of the libraries


@pytest.mark.parametrize("library", ["torchattacks", "foolbox"])
def test_every_attack_can_be_made(library: str) -> None:
    needs(library)
    names = [f"{library}:{short}" for short in ATTACKS.families[library].names()]
    assert len(names) > 35
    refused = {}
    for name in names:
        try:
            attack = Component(name, SETTINGS.get(name, {})).build(ATTACKS, "test")
        except ConfigError as wrong:
            refused[name.partition(":")[2]] = str(wrong)
            continue
        assert attack.norms
        assert repr(attack).startswith(f"{name}(")
        # What a record says of the settings makes the same attack again.
        assert Component(name, settings_of(attack)).build(ATTACKS, "test") == attack
    optional = {name for name, said in refused.items() if "needs numba" in said}
    assert optional <= {name for name in refused if "BrendelBethge" in name}
    assert set(refused) - optional == REFUSED[library]


def test_norms_are_those_of_the_library() -> None:
    needs("foolbox")
    needs("torchattacks")
    assert {
        name: "+".join(sorted(ATTACKS.get(name).norms))
        for name in (
            "torchattacks:PGD",
            "torchattacks:PGDL2",
            "torchattacks:APGD",
            "torchattacks:EADEN",
            "torchattacks:JSMA",
            "foolbox:LInfFMNAttack",
            "foolbox:L0FMNAttack",
            "foolbox:L2AdditiveGaussianNoiseAttack",
            "foolbox:HopSkipJumpAttack",
            "foolbox:InversionAttack",
        )
    } == {
        "torchattacks:PGD": "linf",
        "torchattacks:PGDL2": "l2",
        "torchattacks:APGD": "l2+linf",
        "torchattacks:EADEN": "l1+l2",
        "torchattacks:JSMA": "l1",
        "foolbox:LInfFMNAttack": "linf",
        "foolbox:L0FMNAttack": "l1",
        "foolbox:L2AdditiveGaussianNoiseAttack": "l2",
        "foolbox:HopSkipJumpAttack": "l2+linf",
        "foolbox:InversionAttack": "l1+l2+linf",
    }


@pytest.mark.parametrize(
    "text",
    [
        "torchattacks:APGD:steps=5",
        "torchattacks:APGDT:steps=5",
        "torchattacks:AutoAttack",
        "torchattacks:CW:steps=5",
        "torchattacks:DeepFool:steps=5",
        "torchattacks:DIFGSM",
        "torchattacks:EADL1:max_iterations=20,binary_search_steps=2",
        "torchattacks:FAB:steps=5",
        "torchattacks:GN",
        "torchattacks:JSMA",
        "torchattacks:OnePixel:steps=3",
        "torchattacks:PGDRSL2",
        "torchattacks:SPSA:nb_sample=16",
        "torchattacks:Square:n_queries=30",
        "torchattacks:VNIFGSM",
        "foolbox:BoundaryAttack:steps=10",
        "foolbox:DatasetAttack",
        "foolbox:EADAttack:steps=10",
        "foolbox:GaussianBlurAttack:steps=20",
        "foolbox:HopSkipJumpAttack:steps=1,max_gradient_eval_steps=20",
        "foolbox:L1FMNAttack:steps=10",
        "foolbox:L2CarliniWagnerAttack:steps=5,binary_search_steps=2",
        "foolbox:L2RepeatedAdditiveGaussianNoiseAttack:repeats=3",
        "foolbox:LinfDeepFoolAttack:steps=5",
        "foolbox:VirtualAdversarialAttack:steps=2",
    ],
)
def test_an_attack_keeps_the_rules(text: str, digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Range, budget, no gradient left behind, generators as they were, the same twice."""
    needs(text.partition(":")[0])
    attack, (model, x, _) = peer(text), digits
    for norm in sorted(attack.norms):
        with global_state_kept():
            x_adv, ledger = perturbed(attack, digits, THREATS[norm])
        THREATS[norm].check(x_adv, x, text)
        assert not x_adv.requires_grad
        assert all(p.grad is None for p in model.parameters())
        assert attack.needs_gradient == bool(ledger.backwards.any())
        assert not model.training
        torch.rand(7)  # whatever the global generator is at
        assert torch.equal(perturbed(attack, digits, THREATS[norm])[0], x_adv)


def test_what_torchattacks_finds_is_what_it_finds_alone(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    needs("torchattacks")
    import torchattacks

    model, x, y = digits
    alone = torchattacks.PGD(model, eps=0.15, alpha=0.02, steps=7, random_start=False)(x, y)
    x_adv, ledger = perturbed(peer("torchattacks:PGD:alpha=0.02,steps=7,random_start=no"), digits)
    assert torch.equal(x_adv, alone)
    assert ledger.forwards.tolist() == ledger.backwards.tolist() == [7] * len(x)


def test_what_foolbox_finds_is_what_it_finds_alone(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    needs("foolbox")
    import foolbox

    model, x, y = digits
    attack = foolbox.attacks.deepfool.LinfDeepFoolAttack(steps=7)
    classifier = foolbox.models.pytorch.PyTorchModel(model, (0, 1), device="cpu")
    alone = attack.run(classifier, x, foolbox.criteria.Misclassification(y), early_stop=0.15)
    x_adv, ledger = perturbed(peer("foolbox:LinfDeepFoolAttack:steps=7"), digits)
    assert torch.equal(x_adv, LINF.project(alone, x))
    assert (ledger.backwards >= 7).all()


# --- through the main job


def run(out: Path, threat: str, *attacks: str, **more: Any) -> Run:
    chosen = {"samples": 20, "batch_size": 8, "progress": False} | more
    return robustcode.attack(
        chosen.pop("model", "digits_cnn"), "digits", threat, out, attacks=attacks, **chosen
    )


def records(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "records").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("threat", "text"),
    [
        ("linf:0.15", "torchattacks:PGD:alpha=0.03"),
        ("l2:1", "torchattacks:PGDL2"),
        ("l1:4", "torchattacks:JSMA"),
        ("linf:0.15", "foolbox:LinfPGD"),
        ("l2:1", "foolbox:L2DeepFoolAttack:steps=20"),
        ("l1:4", "foolbox:L1BasicIterativeAttack"),
    ],
)
def test_a_peer_is_run_judged_and_recorded(tmp_path: Path, threat: str, text: str) -> None:
    needs(text.partition(":")[0])
    model = load_classifier("digits_cnn", classes=10).train()
    with global_state_kept():
        done = run(tmp_path / "run", threat, text, model=model)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    (row,) = done.summary["attacks"]
    assert row["name"] == Component.parse(text).name
    assert row["accuracy"] < done.summary["clean"]["accuracy"] - 0.3
    rows = records(tmp_path / "run")
    eps = ThreatModel.parse(threat).eps
    assert max(r["distance"] for r in rows) <= eps * (1 + 1e-5) + 1e-5
    # A sample that is wrong by itself is not attacked, and every other one is paid for.
    assert all((r["forwards"] > 0) == r["clean_correct"] for r in rows)
    assert all((r["backwards"] > 0) == r["clean_correct"] for r in rows)


def test_a_run_with_peers_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("torchattacks")
    attacks = ("torchattacks:PGD:steps=3", "foolbox:LinfPGD:steps=3")
    run(tmp_path / "whole", "linf:0.1", *attacks)
    real, calls = shard.run_shard, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(engine, "run_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", "linf:0.1", *attacks)
    torch.rand(1)  # whatever the global generator is at
    run(tmp_path / "parts", "linf:0.1", *attacks)
    assert calls == 4
    for folder in ("records", "adversarial"):
        files = sorted((tmp_path / "whole" / folder).iterdir())
        assert len(files) == 3
        for file in files:
            assert file.read_bytes() == (tmp_path / "parts" / folder / file.name).read_bytes()


def test_a_spec_with_peers_runs_again(tmp_path: Path) -> None:
    needs("torchattacks")
    needs("foolbox")
    attacks = ("torchattacks:PGD", "torchattacks:PGD:steps=3,alpha=8/255", "foolbox:LinfPGD")
    first = run(tmp_path / "run", "linf:0.1", *attacks)
    assert [row["name"] for row in first.summary["attacks"]] == [
        "torchattacks:PGD",
        "torchattacks:PGD:alpha=0.03137254901960784,steps=3",
        "foolbox:LinfPGD",
    ]
    spec = str(tmp_path / "run" / "spec.toml")
    words = ["run", spec, "--out", str(tmp_path / "again"), "--quiet"]
    assert cli.call(lambda **mode: cli.app(words, **mode)) == 0
    assert records(tmp_path / "again") == records(tmp_path / "run")


def test_one_sentence_when_an_attack_fails(tmp_path: Path) -> None:
    """Written for colour pictures only."""
    needs("torchattacks")
    with pytest.raises(ContractError, match=r"torchattacks:TIFGSM\(.*\) failed: RuntimeError: G"):
        run(tmp_path / "run", "linf:0.1", "torchattacks:TIFGSM")


# --- what is between


def test_queries_are_charged_to_their_samples(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, _ = digits
    target, ledger, streams = target_of(model, len(x))
    facade = Facade(target, x, LINF, streams)
    facade((x + 0.1).clamp(0, 1))
    assert ledger.forwards.tolist() == [1, 1, 1, 1, 1, 1]
    facade(x[[4, 2]].double())
    assert ledger.forwards.tolist() == [1, 1, 2, 1, 2, 1]
    facade((x[[5, 5, 5, 0, 0, 1, 1, 1]] + 0.02).clamp(0, 1))
    assert ledger.forwards.tolist() == [3, 4, 2, 1, 2, 4]
    facade(x.flip(0))
    assert ledger.forwards.tolist() == [4, 5, 3, 2, 3, 5]
    facade(torch.zeros_like(x))  # nobody's: by place
    assert ledger.forwards.tolist() == [5, 6, 4, 3, 4, 6]
    assert facade(x[:0]).shape == (0, 10)
    target, ledger, streams = target_of(model, 3)
    Facade(target, x[[0, 0, 1]], LINF, streams)(x[[0, 0, 1]])  # two samples may look the same
    assert ledger.forwards.tolist() == [1, 1, 1]


def test_a_stochastic_target_gives_fresh_draws(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, _ = digits
    target, _, streams = target_of(model, len(x), sigma=0.1)
    facade = Facade(target, x, LINF, streams)
    once, again = facade(x), facade(x)
    assert (once != again).any(1).all()
    both = facade(x[[1, 1, 3, 1]])
    assert len({tuple(row) for row in both.tolist()}) == 4
    # The same calls get the same draws.
    assert torch.equal(Facade(target, x, LINF, streams)(x), once)


def test_foreign_gradients_stop_at_the_input(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, x, y = digits
    model = nn.Sequential(network, nn.Tanh()).eval()  # whose slope is computed from its scores
    assert all(p.requires_grad for p in model.parameters())
    target, ledger, streams = target_of(model, len(x))
    facade = Facade(target, x, LINF, streams)
    facade.train()
    x_adv = x.clone().requires_grad_()
    scores = facade(x_adv)
    kept = scores.clone()
    scores.detach().fill_(3.0)  # foreign code writes into scores
    for _ in range(2):
        nn.functional.cross_entropy(kept, y, reduction="sum").backward(retain_graph=True)
    assert x_adv.grad is not None
    plain = x.clone().requires_grad_()
    nn.functional.cross_entropy(model(plain), y, reduction="sum").backward()
    assert plain.grad is not None
    assert torch.allclose(x_adv.grad, 2 * plain.grad)
    model.zero_grad()
    x_adv.grad = None
    nn.functional.cross_entropy(facade(x_adv), y).backward()
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    assert ledger.backwards.tolist() == [3] * len(x)
    assert next(facade.parameters()).device == x.device


def test_a_target_without_gradient_gives_zeros() -> None:
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([(x > 0.5).flatten(1).sum(1).float(), torch.ones(len(x))], 1)

    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    target, _, streams = target_of(Steps(), 3)
    x_adv = x.clone().requires_grad_()
    Facade(target, x, LINF, streams)(x_adv).sum().backward()
    assert x_adv.grad is not None
    assert not x_adv.grad.any()


# --- the official AutoAttack, and what any library may do wrong


Answer = Callable[[Tensor, float], Any]


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[dict[str, Any]]]:
    """A package of the official one's interface that answers as a test likes."""

    def install(answer: Answer) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []

        class AutoAttack:
            def __init__(self, model: nn.Module, **settings: Any) -> None:
                made.append(settings)
                self.model = model
                self.apgd_targeted = SimpleNamespace(n_target_classes=9)
                self.fab = SimpleNamespace(n_target_classes=9)

            def run_standard_evaluation(self, x: Tensor, y: Tensor, bs: int) -> Any:
                print("initial accuracy: 100 %")
                warnings.warn("there are 10 classes", stacklevel=1)
                sys.settrace(None)
                random.seed(0)
                np.random.seed(0)
                torch.manual_seed(0)
                assert bs == len(x) == len(y)
                with torch.no_grad():
                    assert self.model(x).shape == (len(x), 10)
                found = answer(x.clone(), made[-1]["eps"])
                x.fill_(7.0)
                return found

        package = ModuleType("autoattack")
        vars(package)["AutoAttack"] = AutoAttack
        monkeypatch.setitem(sys.modules, "autoattack", package)
        return made

    return install


def test_the_official_package_gets_what_it_asks_for(
    official: Callable[[Answer], list[dict[str, Any]]],
    digits: tuple[nn.Module, Tensor, Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = official(lambda x, eps: x)

    def tracing(*_: Any) -> None: ...

    for version, norm in (("standard", Norm.L2), ("plus", Norm.L1), ("rand", Norm.LINF)):
        before = sys.gettrace()
        with global_state_kept():
            sys.settrace(tracing)
            perturbed(peer(f"autoattack:{version}"), digits, ThreatModel(norm, 0.5))
            kept = sys.gettrace()
            sys.settrace(before)
        assert kept is tracing
    assert [m["version"] for m in made] == ["standard", "plus", "rand"]
    assert [m["norm"] for m in made] == ["L2", "L1", "Linf"]
    assert all(m["verbose"] is False and str(m["device"]) == "cpu" for m in made)
    assert all(isinstance(m["seed"], int) for m in made)
    said = capsys.readouterr()
    assert said.out == said.err == ""
    with pytest.raises(UnknownNameError, match="Did you mean 'autoattack:standard'"):
        peer("autoattack:standart")


def test_the_official_package_is_judged_like_any_other(
    official: Callable[[Answer], list[dict[str, Any]]], tmp_path: Path
) -> None:
    official(lambda x, eps: (x + eps).clamp(0, 1))
    done = run(tmp_path / "run", "linf:0.5", "autoattack:standard")
    assert done.summary["attacks"][0]["name"] == "autoattack:standard"
    assert done.summary["robust"]["accuracy"] < 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, eps: x * float("nan"), "returned NaN"),
        (lambda x, eps: x[:1], "for torch.float32 of shape"),
        (lambda x, eps: x - eps, "left [0, 1] by"),
        (lambda x, eps: [1], "returned list, not a tensor"),
    ],
)
def test_what_is_not_allowed_stops_the_run(
    official: Callable[[Answer], list[dict[str, Any]]],
    digits: tuple[nn.Module, Tensor, Tensor],
    answer: Answer,
    said: str,
) -> None:
    official(answer)
    with pytest.raises(ContractError) as error:
        perturbed(peer("autoattack:standard"), digits)
    assert str(error.value).startswith("autoattack:standard ")
    assert said in str(error.value)


@pytest.mark.parametrize("norm", list(Norm))
def test_beyond_eps_is_rounding_or_a_fault(
    official: Callable[[Answer], list[dict[str, Any]]],
    digits: tuple[nn.Module, Tensor, Tensor],
    norm: Norm,
) -> None:
    """A hair is taken back to eps, and what is allowed is left as it is to the last bit."""
    model, x, y = digits
    inner = 0.25 + x / 2  # no wall in the way
    threat = ThreatModel(norm, {Norm.LINF: 0.1, Norm.L2: 0.5, Norm.L1: 3.0}[norm])
    direction = torch.ones_like(x)
    size = threat.distance(inner + direction, inner)[0]

    def propose(share: float) -> Tensor:
        def answer(x: Tensor, eps: float) -> Tensor:
            moved = x + share * eps * direction / size
            moved[0] = x[0] + 0.5 * eps * direction[0] / size
            return moved

        official(answer)
        return perturbed(peer("autoattack:standard"), (model, inner, y), threat)[0]

    x_adv = propose(1 + 5e-6)
    threat.check(x_adv, inner, "test")
    assert torch.equal(x_adv[0], inner[0] + 0.5 * threat.eps * direction[0] / size)
    assert torch.allclose(threat.distance(x_adv[1:], inner[1:]), torch.tensor(threat.eps))
    with pytest.raises(ContractError, match=f"moved 5 of 6 inputs by up to .* in {norm}; eps"):
        propose(1.001)


def test_nothing_to_do_asks_nobody(
    official: Callable[[Answer], list[dict[str, Any]]],
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    made = official(lambda x, eps: x)
    model, x, y = digits
    attack = peer("autoattack:standard")
    assert perturbed(attack, (model, x[:0], y[:0]))[0].shape == x[:0].shape
    assert torch.equal(perturbed(attack, digits, ThreatModel(Norm.LINF, 0.0))[0], x)
    assert not made
    assert torch.equal(perturbed(attack, (model, x[:1], y[:1]))[0], x[:1])


def test_what_foolbox_leaves_outside_is_taken_in(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    """It says itself that its results need clipping; a minimal one may break nothing at eps."""
    needs("foolbox")
    threat = ThreatModel(Norm.L2, 0.05)
    model, x, y = digits
    x_adv, _ = perturbed(peer("foolbox:L2DeepFoolAttack"), digits, threat)
    threat.check(x_adv, x, "test")
    assert torch.allclose(threat.distance(x_adv, x), torch.tensor(0.05))
    with torch.no_grad():
        assert (model(x_adv).argmax(1) == y).all()
