"""Transfer offers the target what breaks another model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import PGD, LossName, Transfer
from robustcode.checkpoint import load_classifier, save_checkpoint
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.errors import CheckpointError, ConfigError
from robustcode.models import as_classifier, build_model
from robustcode.plan import build_attacks
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import Norm, ThreatModel

THREAT = ThreatModel(Norm.LINF, 0.1)
ROWS = 32


def digits() -> tuple[Tensor, Tensor]:
    samples = torch.arange(ROWS)
    data = load_data("digits")
    return data.images(samples), data.targets(samples)


def target_of(model: nn.Module) -> tuple[DefendedTarget, Ledger]:
    ledger = Ledger(torch.arange(ROWS))
    defense = Identity(model=model)
    return DefendedTarget(defense, ledger, stochastic=False, differentiable=True), ledger


def streams() -> Streams:
    return Streams.of(0, "test", torch.arange(ROWS))


@pytest.mark.parametrize("text", ["transfer", "transfer:model=digits_cnn:adversarial"])
def test_what_it_proposes_is_pgd_on_the_model_it_names(text: str) -> None:
    """One PGD run by hand on the model that is meant gives the same bytes."""
    x, y = digits()
    plain = load_classifier("digits_cnn", classes=10)
    other = load_classifier("digits_cnn:adversarial", classes=10)
    target, ledger = target_of(plain)
    attack = build_attacks([Component.parse(text)], Norm.LINF, "attacks")[0].attack
    found = attack.perturb(target, x, y, THREAT, streams())
    meant, _ = target_of(plain if text == "transfer" else other)
    by_hand = PGD(steps=40, step=0.2, loss=LossName.MARGIN, until_broken=False)
    assert torch.equal(found, by_hand.perturb(meant, x, y, THREAT, streams()))
    # 40 steps and a last look, for every sample, are charged where the target's own would be.
    assert ledger.forwards.max() == 41
    assert ledger.backwards.max() == 40


def test_another_model_is_given_as_a_file(tmp_path: Path) -> None:
    """The same weights in a file: the same proposals as by the name they are shipped under."""
    x, y = digits()
    file = tmp_path / "other.safetensors"
    save_checkpoint(load_classifier("digits_cnn:adversarial", classes=10), file, {})
    target, _ = target_of(load_classifier("digits_cnn", classes=10))
    named = Transfer(steps=5, model="digits_cnn:adversarial")
    stored = Transfer(steps=5, model="digits_cnn", checkpoint=str(file))
    plain = Transfer(steps=5, model="digits_cnn")
    found = [a.perturb(target, x, y, THREAT, streams()) for a in (named, stored, plain)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_mean_and_std_reach_the_other_model() -> None:
    x, y = digits()
    target, _ = target_of(load_classifier("digits_cnn", classes=10))
    text = "transfer:steps=5,model=digits_cnn:adversarial,mean=0.3,std=0.5"
    attack = build_attacks([Component.parse(text)], Norm.LINF, "attacks")[0].attack
    network = load_classifier("digits_cnn:adversarial", classes=10).network
    meant, _ = target_of(as_classifier(network, (0.3,), (0.5,)))
    by_hand = PGD(steps=5, loss=LossName.MARGIN, until_broken=False)
    found = attack.perturb(target, x, y, THREAT, streams())
    assert torch.equal(found, by_hand.perturb(meant, x, y, THREAT, streams()))


def test_what_breaks_another_network_lowers_the_accuracy_of_this_one() -> None:
    x, y = digits()
    plain, wide = load_classifier("digits_cnn", classes=10), ThreatModel(Norm.LINF, 0.25)
    target, _ = target_of(plain)
    found = Transfer(model="digits_cnn:adversarial").perturb(target, x, y, wide, streams())
    with torch.no_grad():
        right = [(plain(at).argmax(1) == y).float().mean().item() for at in (x, found)]
    assert right[1] <= right[0] - 0.2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("transfer:model=digits_cn", "Did you mean 'digits_cnn'"),
        ("transfer:model=digits_cnn,checkpoint=nowhere.pth", "there is no checkpoint nowhere.pth"),
        ("transfer:model=wide_resnet28_10", "has no weights of its own"),
        ("transfer:checkpoint=some.pth", "name it with model=NAME"),
        ("transfer:model=digits_cnn,mean=0.5", "give one value of each per channel"),
    ],
)
def test_a_model_that_cannot_be_had_is_said_when_planning(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"attacks\[0\] \(attack 'transfer'\)") as raised:
        build_attacks([Component.parse(text)], Norm.LINF, "attacks")
    assert says in str(raised.value)


def test_weights_of_another_architecture_are_said_when_planning(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_checkpoint(nn.Linear(3, 2), file, {})
    text = f"transfer:model=digits_cnn,checkpoint={file}"
    with pytest.raises(CheckpointError, match="digits_cnn"):
        build_attacks([Component.parse(text)], Norm.LINF, "attacks")


def test_a_model_for_other_data_is_said_with_what_it_lacks(tmp_path: Path) -> None:
    x, y = digits()
    target, _ = target_of(load_classifier("digits_cnn", classes=10))
    file = tmp_path / "five.safetensors"
    save_checkpoint(build_model("digits_cnn", 5), file, {})
    few = Transfer(model="digits_cnn", checkpoint=str(file))
    with pytest.raises(ConfigError, match=r"scores have the shape \(1, 5\) and labels go up to 9"):
        few.perturb(target, x, y, THREAT, streams())
    flat = Transfer(model="digits_cnn")
    with pytest.raises(ConfigError, match=r"does not take inputs of shape \(3, 8, 8\)"):
        flat.perturb(target, x.expand(-1, 3, -1, -1), y, THREAT, streams())


def test_the_other_model_is_read_once(tmp_path: Path) -> None:
    """A second batch does not go to the file, which may be on a slow disk, or gone."""
    x, y = digits()
    target, _ = target_of(load_classifier("digits_cnn", classes=10))
    file = tmp_path / "other.safetensors"
    save_checkpoint(load_classifier("digits_cnn", classes=10), file, {})
    attack = Transfer(steps=1, model="digits_cnn", checkpoint=str(file))
    file.unlink()
    attack.perturb(target, x, y, THREAT, streams())


def test_an_empty_batch_is_no_matter() -> None:
    x, y = digits()
    target, _ = target_of(load_classifier("digits_cnn", classes=10))
    rows = slice(0)
    found = Transfer(model="digits_cnn").perturb(target, x[rows], y[rows], THREAT, streams()[rows])
    assert found.shape == (0, 1, 8, 8)
