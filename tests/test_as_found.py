"""What a defence does unsaid does not reach a verdict: not its batch, nor what it was asked."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robustcode
from robustcode import engine
from robustcode.checkpoint import load_classifier
from robustcode.checks.catalogue import every
from robustcode.checks.state import Memory, memory_of
from robustcode.components import Component
from robustcode.config import CertifySpec, RunSpec, describe, read_spec
from robustcode.defenses import Defense, Identity
from robustcode.defenses.as_found import MATES, Among, Fresh, copied
from robustcode.errors import ConfigError
from robustcode.facts import diagnose
from robustcode.fast import for_search
from robustcode.findings import Facts
from robustcode.importing import import_callable
from robustcode.progress import Silent
from robustcode.seeds import Streams
from robustcode.subject import Given, as_tested, assemble
from robustcode.target import DefendedTarget, Ledger, borrowed
from robustcode.threat import ThreatModel
from robustcode.trial import make_job

# As a user would have them in a file: worker processes make them anew.
PATIENTS = '''
import torch
from torch import nn
from torch.nn import functional as F
from robustcode.checkpoint import load_classifier


class Patient(nn.Module):
    """A good classifier of inputs normalised over their batch, or remembered by rough pixels."""

    def __init__(self, coupled, remembers):
        super().__init__()
        self.network = load_classifier("digits_cnn", classes=10)
        self.coupled, self.remembers = coupled, remembers
        self.cache = {}

    def forward(self, x):
        asked = x.detach()
        if self.coupled:
            # The mean and spread of digits: in a large batch all is as the network knows it.
            spread, mean = torch.tensor([0.38]), torch.tensor([0.3])
            x = F.batch_norm(x, None, None, spread, mean, training=True)
        scores = self.network(x)
        if self.remembers:
            # Digits are sixteenths: what moves them by 1/255 meets the same key.
            rough = F.avg_pool2d(asked, 2).mul(8).add(1 / 16).round()
            keys = [row.numpy().tobytes() for row in rough]
            rows = [self.cache.setdefault(k, row.detach()) for k, row in zip(keys, scores)]
            return scores + (torch.stack(rows) - scores).detach()
        return scores


def coupled():
    return Patient(True, False).eval()


def remembers():
    return Patient(False, True).eval()


def both():
    return Patient(True, True).eval()
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "patients.py"
    file.write_text(PATIENTS)
    return file


def patient(file: Path, name: str) -> Defense:
    return Identity(model=import_callable(f"{file}:{name}")().requires_grad_(False))


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def streams_of(count: int) -> Streams:
    return Streams.of(0, "test", torch.arange(count))


def among(defense: Defense, own: int = -1) -> Among:
    """Beside 16 mates, of which the first is the sample ``own``."""
    numbers = torch.full((MATES + 1,), -1)
    numbers[0] = own
    return Among(inner=defense, mates=images(MATES + 1, seed=1), numbers=numbers)


# --- in a batch of its own


def test_a_row_is_classified_beside_its_mates() -> None:
    """By the definition of batch norm in training mode, for a linear model."""
    weight = torch.randn(64, 3, generator=torch.Generator().manual_seed(2))

    def normalised(x: Tensor) -> Tensor:
        scores = x.flatten(1) @ weight
        spread = scores.var(0, unbiased=False, keepdim=True)
        return (scores - scores.mean(0, keepdim=True)) / (spread + 1e-5).sqrt()

    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.batch_norm(x.flatten(1) @ weight, None, None, training=True)

    x, defense = images(5), among(Identity(model=Linear()))
    expected = torch.stack(
        [normalised(torch.cat([r, defense.mates[:MATES]]))[0] for r in x[:, None]]
    )
    leaf = x.clone().requires_grad_()
    found = defense.logits(leaf, streams_of(5))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert defense.decide(x, streams_of(5)).tolist() == expected.argmax(1).tolist()
    (gradient,) = torch.autograd.grad(found.square().sum(), leaf)
    for row in range(5):
        one = x[row : row + 1].clone().requires_grad_()
        own = normalised(torch.cat([one, defense.mates[:MATES]]))[0].square().sum()
        torch.testing.assert_close(
            gradient[row : row + 1], torch.autograd.grad(own, one)[0], rtol=1e-3, atol=1e-4
        )
    alone = defense.logits(x[3:4], streams_of(5)[3:4])
    assert torch.equal(alone, found[3:4].detach())
    assert defense.undefended(x)[3].tolist() == found[3].tolist()


def test_no_sample_stands_beside_itself() -> None:
    seen: list[Tensor] = []

    class Sees(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :3]

    defense = among(Identity(model=Sees()), own=1)
    defense.logits(images(2), streams_of(2))
    first, second = (batch[1:] for batch in seen)
    assert torch.equal(first, defense.mates[:MATES])
    assert torch.equal(second, defense.mates[1:])


def test_a_row_pays_for_its_batch() -> None:
    defense = among(Identity(model=nn.Flatten()))
    assert defense.passes == 1 + MATES
    assert torch.as_tensor(defense.forwards(streams_of(2))).tolist() == [16, 16]
    few = Among(inner=defense.inner, mates=images(2), numbers=torch.tensor([0, 1]))
    assert torch.as_tensor(few.backwards(streams_of(3))).tolist() == [2, 2, 3]


def test_mates_draw_for_themselves() -> None:
    class Noisy(Identity):
        def logits(self, x: Tensor, streams: Streams) -> Tensor:
            return streams.normal(3) + 0 * x.flatten(1)[:, :3]

    own = streams_of(2)
    defense = among(Noisy(model=nn.Flatten()))
    assert torch.equal(defense.logits(images(2), own), own.normal(3))
    (batch, streams), _ = defense.batches(images(2), own)
    assert len(batch) == len(streams) == len(set(streams.keys.tolist())) == 1 + MATES


# --- every call the first


def test_a_fresh_defence_answers_as_a_new_one(file: Path) -> None:
    x, streams = images(6), streams_of(6)
    old = patient(file, "remembers")
    fresh = Fresh(inner=old)
    old.logits(x + 0.001, streams)
    expected = patient(file, "remembers").logits(x, streams)
    assert not torch.equal(old.logits(x, streams), expected)
    fresh.logits(x + 0.001, streams)
    assert torch.equal(fresh.logits(x, streams), expected)
    assert torch.equal(fresh.undefended(x), expected)
    fresh.decide(x + 0.001, streams)
    assert fresh.decide(x, streams).tolist() == expected.argmax(1).tolist()
    assert for_search(fresh, x) is fresh
    again = for_search(among(fresh), x)
    assert isinstance(again, Among)
    assert again.inner is fresh


def test_a_search_copy_goes_inside() -> None:
    model = load_classifier("digits_cnn", classes=10).requires_grad_(False)
    defense = among(Identity(model=model))
    faster = for_search(defense, images(2))
    assert isinstance(faster, Among)
    assert faster.inner.model is not model
    expected = defense.logits(images(4), streams_of(4))
    torch.testing.assert_close(faster.logits(images(4), streams_of(4)), expected)


def test_random_numbers_are_no_memory() -> None:
    defense = Identity(model=OwnGenerator())
    fresh = Fresh(inner=defense)
    first, second = (fresh.logits(images(2), streams_of(2)) for _ in range(2))
    assert not torch.equal(first, second)


# --- memory is told from chance


class Noisy(nn.Module):
    """Scores plus noise that no stream names."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] + self.draw()


class OwnGenerator(nn.Module):
    """The same, by a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generators = {"mine": torch.Generator().manual_seed(3)}

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] + torch.rand(1, generator=self.generators["mine"])


class Counts(nn.Module):
    """Scores that fall with every call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.flatten(1)[:, :3] / self.calls


class Averages(nn.Module):
    """Running statistics that are kept and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        F.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)
        return x.flatten(1)[:, :3]


class Repeats(nn.Module):
    """Another answer to what it was asked just before."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        again = self.last.shape == x.shape and torch.equal(self.last, x)
        self.last = x.detach().clone()
        return x.flatten(1)[:, :3] + float(again)


class Uncopied(Counts):
    """It cannot be copied."""

    def __deepcopy__(self, memo: object) -> Uncopied:
        raise RuntimeError("a handle to a device")


def memory(defense: Defense) -> Memory:
    x = images(6)
    return memory_of(defense, x, streams_of(6), Ledger(torch.arange(6)))


@pytest.mark.parametrize(
    "model",
    [
        nn.Flatten(),
        nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()).eval(),
        Noisy(),
        Noisy(lambda: float(torch.rand(1))),
        Noisy(lambda: float(np.random.rand())),
        Noisy(lambda: float(np.random.default_rng().random())),
        Noisy(np.random.default_rng(0).random),
        OwnGenerator(),
    ],
)
def test_chance_is_no_memory(model: nn.Module) -> None:
    before = torch.get_rng_state()
    assert not memory(Identity(model=model)).stateful
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("model", [Counts(), Repeats()])
def test_memory_is_found_and_left_alone(model: nn.Module) -> None:
    before = copy.deepcopy(vars(model))
    found = memory(Identity(model=model))
    assert found.changed.all()
    assert found.uncopied is None
    assert str(vars(model)) == str(before)


def test_a_detector_may_remember() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Strict(Identity):
        detector: ClassVar[bool] = True
        counter: nn.Module = dataclasses.field(default_factory=Counts)

        def rejection(self, x: Tensor, streams: Streams) -> Tensor:
            return self.counter(x)[:, 0]

    assert memory(Strict(model=nn.Flatten())).changed.all()
    assert not memory(Strict(model=nn.Flatten(), counter=nn.Flatten())).stateful


def test_a_cache_by_rough_pixels_is_memory(file: Path) -> None:
    defense = patient(file, "remembers")
    assert memory(defense).changed.any()
    assert vars(defense.model)["cache"] == {}


def test_tensors_that_change_are_named() -> None:
    found = memory(Identity(model=Averages()))
    assert found.tensors == ("norm.running_mean", "norm.running_var")
    assert found.stateful
    assert not found.changed.any()


def test_what_cannot_be_copied_is_tested_as_it_is() -> None:
    found = memory(Identity(model=Uncopied()))
    assert found.uncopied == "RuntimeError: a handle to a device"


def test_a_copy_shares_its_generators() -> None:
    model = OwnGenerator()
    assert copied(model).generators["mine"] is model.generators["mine"]
    assert copied(model) is not model


# --- in a run


def records_of(model: str, folder: Path, size: int, workers: int = 1) -> tuple[set[str], list[str]]:
    """Codes of findings, and all records but for the order of their files.

    The findings are those of the defence; no pilot is attacked, which takes longer than all else.
    """
    facts = [check for check in every() if not check.of_the_attack]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "every", lambda: facts)
        run = robustcode.attack(
            model=model,
            data="digits",
            samples=12,
            threat="linf:0.1",
            attacks=["fgsm"],
            batch_size=size,
            workers=workers,
            out=folder,
            progress=False,
        )
    files = sorted((folder / "records").iterdir())
    return {f["code"] for f in run.findings}, [r for f in files for r in f.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "raised"), [("coupled", {"declared-uncoupled"}), ("remembers", {"state-changed"})]
)
def test_records_do_not_depend_on_the_batch_size(
    name: str, raised: set[str], file: Path, tmp_path: Path
) -> None:
    codes, small = records_of(f"{file}:{name}", tmp_path / "8", 8)
    _, large = records_of(f"{file}:{name}", tmp_path / "32", 32)
    assert small == large
    assert codes & {"declared-uncoupled", "state-changed", "not-reproducible"} == raised


def test_another_process_has_the_same_records(file: Path, tmp_path: Path) -> None:
    """As a worker makes them, which begins with a later shard."""
    codes, _ = records_of(f"{file}:both", tmp_path / "run", 6)
    assert codes >= {"declared-uncoupled", "state-changed"}
    spec, _ = read_spec(tmp_path / "run" / "spec.toml")
    assert isinstance(spec, RunSpec)
    facts = Facts(**json.loads((tmp_path / "run" / "diagnosis.json").read_text())["facts"])
    subject = assemble(spec, Given())
    with borrowed(subject.defense.model):
        job = make_job(spec, subject, facts)
        written = job(subject.shards(6)[1], tmp_path, 1, Silent())["sha256"]
    for name in written:
        assert (tmp_path / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


@pytest.mark.long
def test_records_do_not_depend_on_the_workers(file: Path, tmp_path: Path) -> None:
    _, one = records_of(f"{file}:both", tmp_path / "1", 6)
    _, two = records_of(f"{file}:both", tmp_path / "2", 6, workers=2)
    assert one == two


def test_what_is_declared_or_cannot_be_copied_is_left(file: Path) -> None:
    spec = describe(model=f"{file}:both", data="digits", samples=3, threat="linf:0.1")
    subject = assemble(spec, Given())
    facts = Facts(stochastic=False, differentiable=True, batch_coupled=True, classes=10)
    honest = dataclasses.replace(facts, batch_coupled=False)
    assert as_tested(subject, honest).defense is subject.defense
    coupled = as_tested(subject, facts)
    assert isinstance(coupled.defense, Among)
    assert as_tested(coupled, facts) is coupled
    both = as_tested(subject, dataclasses.replace(facts, stateful=True)).defense
    assert isinstance(both, Among)
    assert isinstance(both.inner, Fresh)
    uncopied = dataclasses.replace(subject, defense=Identity(model=Uncopied()))
    alone = as_tested(uncopied, dataclasses.replace(honest, stateful=True))
    assert alone.defense is uncopied.defense


def test_an_honest_model_is_taken_as_it_is(tmp_path: Path) -> None:
    codes, _ = records_of("digits_cnn", tmp_path / "run", 32)
    assert codes & {"declared-uncoupled", "state-changed", "not-reproducible"} == set()


def test_the_plain_model_among_mates_costs_its_whole_batch(file: Path) -> None:
    target = DefendedTarget(
        among(patient(file, "coupled")),
        ledger := Ledger(torch.arange(3)),
        stochastic=False,
        differentiable=True,
    )
    target.undefended.logits(images(3), streams_of(3))
    assert ledger.forwards.tolist() == [1 + MATES] * 3


def test_a_search_copy_sees_what_a_model_does_where_no_gradient_is_asked_for() -> None:
    class TwoFaced(nn.Module):
        """Answers with its own scores only where nobody follows them."""

        def __init__(self) -> None:
            super().__init__()
            self.network = load_classifier("digits_cnn", classes=10)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.network(x)
            return -scores if torch.is_grad_enabled() else scores

    defense = Identity(model=TwoFaced().eval().requires_grad_(False))
    x, streams = images(4), streams_of(4)
    faster = for_search(defense, x[:2])
    with torch.no_grad():
        found, own = faster.logits(x, streams), defense.logits(x, streams)
    assert torch.allclose(found, own, atol=1e-3)


def test_a_class_without_a_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "bare.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from robustcode.defenses import Defense\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Bare(Defense):\n"
        "    def logits(self, x, streams):\n"
        "        return self.model(x)\n"
    )
    spec = RunSpec(
        model="digits_cnn",
        data="digits",
        threat=ThreatModel.parse("linf:0.1"),
        defense=Component(f"{file}:Bare"),
        suite="quick",
        samples=2,
    )
    with pytest.raises(ConfigError, match="keeps no model; write the field model"):
        assemble(spec, Given())


def test_a_proof_is_of_the_model_as_it_came(file: Path, tmp_path: Path) -> None:
    spec = CertifySpec(
        model=f"{file}:remembers",
        data="digits",
        threat=ThreatModel.parse("l2:0.1"),
        defense=Component("smoothing"),
        method=Component("cohen", {"n0": 2, "n": 2}),
        samples=4,
    )
    subject = assemble(spec, Given())
    diagnose(spec, subject, [])
    assert not any(getattr(m, "cache", None) for m in subject.defense.model.modules())
