"""The attack that undoes each patient, written by hand, and models that have nothing to hide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.adversary import ADVERSARIES, Adversary, Batch
from robustcode.checkpoint import load_classifier
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import DEFENSES, Defense
from robustcode.defenses.base import ABSTAIN
from robustcode.defenses.jpeg import JPEG
from robustcode.seeds import Streams
from robustcode.testing.patients import PATIENTS, Patient
from robustcode.testing.patients.base import shipped
from robustcode.testing.patients.detector import SureOrSilent
from robustcode.testing.patients.distances import KernelScores
from robustcode.testing.patients.memory import GrowingExemplars
from robustcode.testing.patients.readout import training_digits
from robustcode.threat import ThreatModel
from robustcode.values import numbers

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
# Test digits that a patient is asked about at once, those of them that are attacked, and draws of
# a random one that it is judged by.
ASKED, ATTACKED, DRAWS = 128, 64, 50
# Of every attack here; a step is a fraction of eps. Draws of a random patient that one step
# averages where somebody knows that it is random.
STEPS, STEP, AVERAGED = 40, 0.1, 8
# Steps where an honest model is attacked: enough for those with gradients to follow.
FEW = 20

Scores = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Measured:
    """What is left of a patient: shares of samples it gets right, of draws too if it is random.

    A detector's refusal of a clean image is wrong, of an attacked one right.

    Attributes:
        samples: those attacked, in the order of their batch, by their index in the test split.
        clean: of the first ``ASKED`` test digits, without attack.
        plain: of ``samples``, under PGD with cross-entropy through the patient's own gradient,
            judged by the patient as the attack has left it.
        by_hand: of ``samples``, under the attack of somebody who has read the patient's code,
            judged by a fresh patient.
    """

    samples: tuple[int, ...]
    clean: float
    plain: float
    by_hand: float


@dataclass(frozen=True)
class Honest:
    """A model that is as robust as it looks.

    Attributes:
        name: what it is.
        spec: model, data, threat, defence, checkpoint, mean and std, as ``robustcode.attack`` is
            given them; the threat is one that leaves some samples right and some not.
        samples: how many of the test split, from the first, are attacked within seconds.
        files: what must be there of the shared data.
    """

    name: str
    spec: dict[str, str]
    samples: int = 64
    files: tuple[Path, ...] = ()


@pytest.fixture(scope="session")
def measured() -> Callable[[str], Measured]:
    """What is left of a patient, by its name; each is measured once."""
    return _measured


@cache
def _measured(name: str) -> Measured:
    patient = PATIENTS[name]
    threat = ThreatModel.parse(patient.spec["threat"])
    # Patients may use the global generator; no other test is to notice.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        asked = _first_digits(patient)
        votes = DRAWS if patient.stochastic else 1
        right = _right(_fresh(patient), asked, asked.x, votes)
        attacked = asked.of((right > 0.5).nonzero().squeeze(1)[:ATTACKED])
        trusting = _fresh(patient)
        plain = _ascend(
            _Drawn(trusting, attacked), attacked, threat, _cross_entropy, until_broken=True
        )
        # Of a stock defence the flaw is whom it faces: each sample for itself is the remedy.
        reader = _fresh(patient, Batch())
        by_hand = _ascend(
            BY_HAND[name](reader, attacked),
            attacked,
            threat,
            _negative_margin,
            draws=AVERAGED if patient.stochastic and not patient.coupled else 1,
        )
        return Measured(
            tuple(attacked.samples.tolist()),
            float(right.mean()),
            float(_right(trusting, attacked, plain, votes).mean()),
            float(_right(_fresh(patient), attacked, by_hand, votes).mean()),
        )


@dataclass(frozen=True)
class _Batch:
    """Samples in the order in which they are one batch."""

    samples: Tensor
    x: Tensor
    y: Tensor

    def of(self, rows: Tensor) -> _Batch:
        return _Batch(self.samples[rows], self.x[rows], self.y[rows])


def _first_digits(patient: Patient) -> _Batch:
    digits = load_data("digits")
    samples = torch.arange(ASKED)
    found = _Batch(samples, digits.images(samples), digits.targets(samples))
    # What is right in the order of the classes is shown at its best.
    return found.of(found.y.argsort(stable=True)) if patient.name == "rows_before" else found


def _fresh(patient: Patient, adversary: Adversary | None = None) -> Defense:
    """The patient as nobody has asked it anything yet; facing ``adversary``, or its own."""
    if "adversary" not in patient.spec:
        return patient.fresh()
    stock = Component.parse(patient.spec["defense"])
    mates = training_digits()[0][:256]
    defense: Defense = stock.build(DEFENSES, "defense", model=shipped(), mates=mates)
    own: Adversary = Component.parse(patient.spec["adversary"]).build(ADVERSARIES, "adversary")
    return defense.facing(adversary or own, torch.arange(0), mates[:0])


def _streams(defense: Defense, purpose: str, batch: _Batch) -> Streams:
    batches = torch.arange(len(batch.samples)) // defense.batch
    return Streams.of(0, purpose, batch.samples, batches)


class _Drawn:
    """The scores of a defence, in a draw of their own at every call."""

    def __init__(self, defense: Defense, batch: _Batch) -> None:
        self._defense = defense
        self._streams = _streams(defense, "attack", batch)
        self._calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self._calls += 1
        return self._defense.logits(x, self._streams.child("call", self._calls))


def _right(defense: Defense, batch: _Batch, x: Tensor, draws: int) -> Tensor:
    """The share of decisions on ``x`` that are right, or refuse what is not clean, (batch,)."""
    streams = _streams(defense, "judge", batch)
    decided = torch.stack([defense.decide(x, streams.child("draw", n)) for n in range(draws)])
    right = decided == batch.y
    if defense.detector and not torch.equal(x, batch.x):
        right |= decided == ABSTAIN
    return right.float().mean(0)


def _cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(scores, y, reduction="none")


def _negative_margin(scores: Tensor, y: Tensor) -> Tensor:
    own = F.one_hot(y, scores.shape[1]).bool()
    return scores.masked_fill(own, -torch.inf).amax(1) - scores[own]


def _ascend(
    scores: Scores,
    batch: _Batch,
    threat: ThreatModel,
    loss: Loss,
    draws: int = 1,
    until_broken: bool = False,
    steps: int = STEPS,
) -> Tensor:
    """PGD in linf from a random start: the last iterate, or the first one that looks broken."""
    x, y, eps = batch.x, batch.y, threat.eps
    start = 2 * Streams.of(0, "start", batch.samples).uniform(x[0].numel()) - 1
    x_adv = (x + eps * start.view_as(x)).clamp(0, 1)
    broken = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(steps):
        leaf = x_adv.clone().requires_grad_()
        found = [scores(leaf) for _ in range(draws)]
        total = torch.stack([loss(one, y).sum() for one in found]).sum()
        # Where nothing leads back to the input the gradient is zero.
        (gradient,) = torch.autograd.grad(total, leaf, materialize_grads=True)
        if until_broken:
            broken |= found[0].argmax(1) != y
        moved = x_adv + STEP * eps * gradient.sign() * ~broken[:, None, None, None]
        x_adv = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)
    return x_adv


def _inside(defense: Defense, batch: _Batch) -> Scores:
    """The model in the patient: their decisions on one input alone are the same."""
    return defense.model.get_submodule("model")


def _passing_through(defense: Defense, batch: _Batch) -> Scores:
    """The patient's scores with the gradient that its model has in the rewritten input (BPDA)."""
    inner = defense.model if isinstance(defense, JPEG) else defense.model.get_submodule("model")
    ask = _Drawn(defense, batch)
    seen: list[Tensor] = []

    def note(module: nn.Module, given: tuple[Tensor]) -> None:
        seen.append(given[0].detach())

    def scores(x: Tensor) -> Tensor:
        handle = inner.register_forward_pre_hook(note)
        ask(x.detach())
        handle.remove()
        rewritten = seen.pop()  # what it was asked last is what the patient answers by
        found: Tensor = inner(x + (rewritten - x).detach())
        return found

    return scores


def _smooth_signs(defense: Defense, batch: _Batch) -> Scores:
    """The network with a steep tanh where it takes signs."""
    body, head = defense.model.children()
    below = nn.Sequential(*list(body.children())[:-1])
    return lambda x: head(torch.tanh(2 * below(x)))


def _distances(defense: Defense, batch: _Batch) -> Scores:
    """Minus the squared distances, of which the patient's scores are a steep function."""
    kernel = defense.model
    assert isinstance(kernel, KernelScores)
    return lambda x: -kernel.square_distances(x)


def _in_both_views(defense: Defense, batch: _Batch) -> Scores:
    """What the detector compares, added up: both are to be sure of the same wrong class."""
    assert isinstance(defense, SureOrSilent)
    model, faint = defense.model, defense.faint

    def scores(x: Tensor) -> Tensor:
        rest = (x - faint).clamp(min=0) / (1 - faint)
        return model(x).log_softmax(1) + model(rest).log_softmax(1)

    return scores


def _frozen(defense: Defense, batch: _Batch) -> Scores:
    """The patient's scores, with nothing learnt from what they are asked for."""
    learner = defense.model
    assert isinstance(learner, GrowingExemplars)
    return lambda x: learner.scores_of(learner.features(x))


BY_HAND: dict[str, Callable[[Defense, _Batch], Scores]] = {
    "saturated_softmax": _inside,
    "scaled_logits": _inside,
    "quantised": _passing_through,
    "thermometer": _passing_through,
    "JPEGWithoutSurrogate": _passing_through,
    "sign_activation": _smooth_signs,
    "winners_take_all": _passing_through,
    "clipped_gradient": _inside,
    "detached_input": _inside,
    # Random: the patient itself, over many draws and to the end.
    "noisy_input": _Drawn,
    "random_resize": _Drawn,
    "barrage": _Drawn,
    "SureOrSilent": _in_both_views,
    "purified": _inside,
    # A margin's gradient does not fade, so no mate's can drown it.
    "batch_norm_in_training": _Drawn,
    "nearest_mates": _inside,
    "rows_before": _inside,
    # The patient itself, by the gradient of each sample's own loss.
    "coded_joint_gradient": _Drawn,
    "kernel_scores": _distances,
    "cached_answers": _inside,
    "growing_exemplars": _frozen,
}
"""What somebody who has read the patient's code follows in place of its scores."""


def _published(name: str, model: str, data: str, file: str, threat: str, **norms: str) -> Honest:
    checkpoint, folder = SHARED / "checkpoints" / file, SHARED / data
    spec = {"model": model, "data": f"{data}:{folder}", "checkpoint": str(checkpoint), **norms}
    few = 16 if model == "cifar_resnet20" else 64  # it is dear
    return Honest(name, {**spec, "threat": threat}, few, (checkpoint, folder))


DIGITS = {"model": "digits_cnn", "data": "digits"}
NOISE = "gaussian-noise:sigma=0.2,votes=16"
A, M = "cifar_cnn_a", "mnist_cnn_a"
CIFAR_A = {"mean": "125.3/255,123.0/255,113.9/255", "std": "63.0/255,62.1/255,66.7/255"}
RESNET = {"mean": ".485,.456,.406", "std": ".229,.224,.225"}
ADV, MIX, ADV_M = (
    f"verification/{m}.model" for m in ("cifar_cnn_a_adv", "cifar_cnn_a_mix", "mnist_cnn_a_adv")
)
WK17, TRADES = "mipverify/WK17a_linf0.1.pth", "trades/mnist_smallcnn.pt"
R20 = "resnet_cifar10/resnet20-12fca82f.th"


def honest_models() -> tuple[Honest, ...]:
    """Nine models that are as robust as they look, each with a threat that leaves some right."""
    return (
        Honest("plain", {**DIGITS, "threat": "linf:0.1"}),
        Honest("adversarial", {**DIGITS, "model": "digits_cnn:adversarial", "threat": "linf:0.2"}),
        Honest("noise and a vote", {**DIGITS, "defense": NOISE, "threat": "linf:0.1"}),
        _published("cifar_cnn_a_adv", A, "cifar10", ADV, "linf:2/255", **CIFAR_A),
        _published("cifar_cnn_a_mix", A, "cifar10", MIX, "linf:2/255", **CIFAR_A),
        _published("mnist_cnn_a_adv", M, "mnist", ADV_M, "linf:0.3"),
        _published("WK17a", M, "mnist", WK17, "linf:0.15"),
        _published("trades", "mnist_trades_cnn", "mnist", TRADES, "linf:0.3"),
        _published("resnet20", "cifar_resnet20", "cifar10", R20, "linf:1/255", **RESNET),
    )


@pytest.fixture(scope="session")
def weighed() -> Callable[[Honest], Measured]:
    """What is left of an honest model's first samples, under the attacks that patients get."""
    return _weighed


def _weighed(honest: Honest) -> Measured:
    spec = honest.spec
    mean, std = (numbers(spec[key], key) if key in spec else () for key in ("mean", "std"))
    file = Path(spec["checkpoint"]) if "checkpoint" in spec else None
    model = load_classifier(spec["model"], file, mean, std, classes=10)
    named = Component.parse(spec.get("defense", "identity"))
    defense: Defense = named.build(DEFENSES, "defense", model=model)
    threat, draws = ThreatModel.parse(spec["threat"]), AVERAGED if defense.stochastic else 1
    data, samples = load_data(spec["data"]), torch.arange(honest.samples)
    images = _Batch(samples, data.images(samples), data.targets(samples))
    scores = _Drawn(defense, images)
    plain = _ascend(scores, images, threat, _cross_entropy, steps=FEW)
    better = _ascend(scores, images, threat, _negative_margin, draws, steps=FEW)
    left = (_right(defense, images, x, draws).mean() for x in (images.x, plain, better))
    return Measured(tuple(samples.tolist()), *map(float, left))


@pytest.fixture(params=honest_models(), ids=lambda one: one.name)
def honest(request: pytest.FixtureRequest) -> Honest:
    """Each honest model in turn, of those whose files are there."""
    found: Honest = request.param
    for file in found.files:
        if not file.exists():
            pytest.skip(f"needs {file.name} in ../shared/data")
    return found


@pytest.fixture(scope="session")
def honest_ones() -> dict[str, Honest]:
    """All honest models by name, whether or not their files are there."""
    return {one.name: one for one in honest_models()}
