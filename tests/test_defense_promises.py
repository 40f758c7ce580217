"""Every registered defence keeps what a defence promises, and a defective one is caught."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from robustcode.checkpoint import save_checkpoint
from robustcode.components import Component, Scalar, construct
from robustcode.defenses import DEFENSES, Defense, GaussianNoise, Identity
from robustcode.errors import ContractError
from robustcode.seeds import Streams
from robustcode.testing import Check, DefenseFactory, check_defense, defense_checks
from robustcode.testing.defense_contract import Network

# For defences whose defaults do not suit five classes of 8x8 images, or that have none.
SETTINGS: Mapping[str, Mapping[str, Scalar]] = {
    "random-ensemble": {"checkpoints": "other.safetensors"},
}
GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def in_a_folder_with_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an ensemble: the same network, with its classes in another order."""
    other = Network()
    other.head.data = other.head.data.flip(0)
    save_checkpoint(other, tmp_path / "other.safetensors", {})
    monkeypatch.chdir(tmp_path)


def from_registry(name: str) -> DefenseFactory:
    component = Component(name, SETTINGS.get(name, {}))

    def factory(model: nn.Module, mates: Tensor) -> Defense:
        defense: Defense = component.build(DEFENSES, "test", model=model, mates=mates)
        return defense

    return factory


@pytest.mark.parametrize("name", list(DEFENSES))
def test_the_suite_knows_settings_for_each_defence(name: str) -> None:
    cls = DEFENSES.get(name)
    assert dataclasses.is_dataclass(cls)
    none = dataclasses.MISSING
    required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is none}
    missing = required - {"model", "mates"} - set(SETTINGS.get(name, {}))
    assert not missing, f"write an example of {', '.join(missing)} for {name!r} into SETTINGS here"


@pytest.mark.parametrize("check", defense_checks(), ids=str)
@pytest.mark.parametrize("name", list(DEFENSES))
def test_defence_keeps_its_promises(name: str, check: Check[DefenseFactory]) -> None:
    check.run(from_registry(name))


def numbers(streams: Streams, x: Tensor) -> Tensor:
    return streams.normal(*x.shape[1:], dtype=x.dtype)


@dataclass(frozen=True, kw_only=True)
class GlobalNoise(GaussianNoise):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x + self.sigma * torch.randn_like(x))
        return scores


@dataclass(frozen=True, kw_only=True)
class PrivateNoise(GaussianNoise):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        noise = torch.randn(x.shape, generator=GENERATOR, dtype=x.dtype)
        scores: Tensor = self.model(x + self.sigma * noise)
        return scores


@dataclass(frozen=True, kw_only=True)
class SilentNoise(GaussianNoise):
    stochastic: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class NoNoise(Identity):
    stochastic: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class NoiseByPlace(GaussianNoise):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x + self.sigma * numbers(streams, x).roll(1, 0))
        return scores


@dataclass(frozen=True, kw_only=True)
class BatchCentred(Identity):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x - x.mean(0))
        return scores


@dataclass(frozen=True, kw_only=True)
class NoMates(Identity):
    batch_coupled: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class SilentMates(Identity):
    mates: Tensor

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model((x + self.mates[:1].to(x)) / 2)
        return scores


@dataclass(frozen=True, kw_only=True)
class Rounded(Identity):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model((x * 15).round() / 15)
        return scores


@dataclass(frozen=True, kw_only=True)
class PassedThrough(Identity):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x.square().detach() + (x - x.detach()))
        return scores


@dataclass(frozen=True, kw_only=True)
class OtherSurrogate(Identity):
    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        return 1.01 * self.logits(x, streams)


@dataclass(frozen=True, kw_only=True)
class FlatSurrogate(Rounded):
    differentiable: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Doubtful(Identity):
    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        return super().decide(x, streams) - 7


@dataclass(frozen=True, kw_only=True)
class Fractional(Identity):
    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        return super().decide(x, streams).float()


@dataclass(frozen=True, kw_only=True)
class Overwriting(Identity):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        with torch.no_grad():
            x.clamp_(0.2, 0.8)
        scores: Tensor = self.model(x)
        return scores


@dataclass(frozen=True, kw_only=True)
class Learning(Identity):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        with torch.enable_grad():
            self.model(x.detach()).sum().backward()
        return scores


@dataclass(frozen=True, kw_only=True)
class Dearer(Identity):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = (self.model(x) + self.model(x)) / 2
        return scores


@dataclass(frozen=True, kw_only=True)
class Watchful(GaussianNoise):
    """Noisier for every image it has judged before."""

    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        grown = self.sigma * getattr(self.model, "seen", 0) / 20
        return GaussianNoise(model=self.model, sigma=grown).logits(x, streams).argmax(1)


@dataclass(frozen=True, kw_only=True)
class Crashing(Identity):
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        raise IndexError("off by one")


DEFECTS: list[tuple[type[Defense], str]] = [
    (GlobalNoise, "torch's global generator is not as it was"),
    (PrivateNoise, "two calls with the same streams give scores .* apart"),
    (SilentNoise, "it declares stochastic = False and two draws are .* apart"),
    (NoNoise, "it declares stochastic = True and two draws are 0 apart"),
    (NoiseByPlace, "rows .* get scores .* apart by themselves"),
    (BatchCentred, "rows .* get scores .* apart by themselves"),
    (NoMates, "it declares batch_coupled = True, .* with other mates scores are 0 apart"),
    (SilentMates, "it declares batch_coupled = False, needs_mates = False"),
    (Rounded, "the gradients of . of 6 rows are not the derivative|has no gradient on 6 of 6"),
    (PassedThrough, "the gradients of . of 6 rows are not the derivative"),
    (OtherSurrogate, "the surrogate's scores are .* away"),
    (FlatSurrogate, "the surrogate has no gradient on 6 of 6 rows"),
    (Doubtful, "it decided for .*classes are 0 to 4"),
    (Fractional, "decisions on 6 images are torch.float32"),
    (Overwriting, "the inputs changed"),
    (Learning, r"parameters got a \.grad"),
    (Dearer, "6 rows took 12 passes of the model; it declares passes = 1"),
    (Watchful, "two estimates of the accuracy without attack"),
    (Crashing, "it raised IndexError: off by one"),
]


@pytest.mark.parametrize(
    ("cls", "reason"), DEFECTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_defective_defence_is_caught(cls: type[Defense], reason: str) -> None:
    def factory(model: nn.Module, mates: Tensor) -> Defense:
        return construct(cls, {}, "test", model=model, mates=mates)

    with pytest.raises(ContractError, match=reason):
        check_defense(factory)


def test_a_sound_defence_keeps_every_promise() -> None:
    kept = check_defense(lambda model, mates: GaussianNoise(model=model, sigma=0.1))
    assert kept == [check.name for check in defense_checks()]
