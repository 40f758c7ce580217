"""Checks of draws, batches and samples are raised by the fault they are for, and not without it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcode.checkpoint import load_classifier
from robustcode.checks import CHECKS, Examination, examine
from robustcode.checks.base import Looked, Page
from robustcode.checks.catalogue.label_leakage import sides_changed
from robustcode.checks.catalogue.low_precision import grid_of
from robustcode.checks.catalogue.one_draw_luck import lucky_break, one_draw_error
from robustcode.data import Dataset, from_arrays, load_data
from robustcode.defenses import DEFENSES, Defense
from robustcode.defenses.as_found import Among
from robustcode.defenses.coded_smoothing import CodedSmoothing
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.identity import Identity
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel

LINF = ThreatModel.parse("linf:0.1")
CHOSEN = torch.arange(200)
PILOT = CHOSEN[torch.linspace(0, 199, 32).long()]

SAMPLES = ["duplicated-samples", "low-precision", "mislabelled-samples", "one-class"]
BATCH = ["batch-size-matters", "cross-gradient", "label-leakage", "mates-matter", "order-matters"]
CODES = [*SAMPLES, *BATCH, "adapts-at-test-time", "null-test", "one-draw-luck"]


@dataclass(frozen=True)
class World:
    """A trained network of the digits, all of them, and clean images beside them."""

    net: nn.Module
    data: Dataset
    mates: Tensor

    def exam(self, defense: Defense, data: Dataset | None = None, **given: Any) -> Examination:
        data = data or self.data
        samples = given.pop("samples", PILOT)
        about = {"threat": LINF, "data": data, "chosen": CHOSEN, **given}
        x, y = data.images(samples), data.targets(samples)
        return Examination(defense=defense, x=x, y=y, samples=samples, **about)


@pytest.fixture(scope="module")
def world() -> World:
    net = load_classifier("digits_cnn", classes=10).eval().requires_grad_(False)
    train = load_data("digits", split="train")
    return World(net, load_data("digits"), train.images(torch.arange(400)))


def asked(code: str, exam: Examination) -> tuple[Looked, list[Finding]]:
    report = examine(exam, [CHECKS.get(code)()])
    return report.looked[0], list(report.findings)


def raised(code: str, exam: Examination) -> Finding:
    """Its one finding, which says with numbers what was seen and what to do."""
    (finding,) = asked(code, exam)[1]
    assert finding.code == code
    assert finding.remedy
    assert any(character.isdigit() for character in finding.what)
    assert all(math.isfinite(value) for value in finding.figures.values())
    return finding


def made(fault: Any, net: nn.Module) -> Defense:
    """A defence with a fault, or one around a model with it."""
    if issubclass(fault, nn.Module):
        return Identity(model=fault(net))
    defense: Defense = fault(model=net)
    return defense


# ---- what is sound


@pytest.mark.parametrize(
    "name",
    ["identity", "gaussian-noise", "random-resize-pad", "bit-depth", "jpeg", "coded-smoothing"],
)
def test_a_stock_defence_is_doubted_by_none(world: World, name: str) -> None:
    pool = {"mates": world.mates, "k": 16} if name == "coded-smoothing" else {}
    make: Any = DEFENSES.get(name)
    exam = world.exam(make(model=world.net, **pool), draws=6)
    report = examine(exam, [CHECKS.get(code)() for code in CODES])
    assert {f.code for f in report.findings if f.severity is not Severity.INFO} == set()
    assert {line.status for line in report.looked} <= {"passed", "info", "not applicable"}


@pytest.mark.parametrize("code", CODES)
def test_a_check_has_a_whole_page(code: str) -> None:
    page: Page = CHECKS.get(code).page()
    assert all([page.title, page.raised, page.why, page.remedy, page.false_alarms])


@pytest.mark.parametrize("code", CODES)
def test_a_check_finds_its_way_without_data_labels_or_threat(world: World, code: str) -> None:
    exam = replace(world.exam(Identity(model=world.net)), data=None, threat=None, y=PILOT[:0])
    exam.chosen = PILOT[:0]
    assert asked(code, exam)[0].status in ("passed", "not applicable")


# ---- no attack, one lucky draw


class Tiring(GaussianNoise):
    """Noise that grows with every call, of whichever copy."""

    calls: ClassVar[list[int]] = []

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        self.calls.append(1)
        scores: Tensor = self.model(x + 0.01 * len(self.calls) * streams.normal(*x.shape[1:]))
        return scores


class Placed(GaussianNoise):
    """Noise for the second half of each batch alone, other noise at each draw."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        noise = streams.normal(*x.shape[1:])
        noise[: len(x) // 2] *= 0.01
        scores: Tensor = self.model(x + noise)
        return scores


class Turned(Identity):
    """The second half of each batch is turned upside down."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        half = len(x) // 2
        scores: Tensor = self.model(torch.cat([x[:half], x[half:].flip(2)]))
        return scores


class Adapting(nn.Module):
    """It takes from each input what the inputs so far have in common, in a buffer of its own."""

    mean: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.zeros(1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.mul_(0.98).add_(x.mean(0), alpha=0.02)
        scores: Tensor = self.model(x - 2 * self.mean)
        return scores


class AdaptingEverywhere(Adapting):
    """The same with a mean that all copies share, so that no copy is the first to be asked."""

    common: ClassVar[Tensor] = torch.zeros(1, 8, 8)

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        del self.mean
        self.mean = self.common

    def __deepcopy__(self, memo: dict[int, Any]) -> AdaptingEverywhere:
        return self


def test_what_a_copy_learns_is_named_and_kept_from_the_verdicts(world: World) -> None:
    exam = world.exam(Identity(model=Adapting(world.net)))
    assert "(mean)" in raised("state-changed", exam).what
    assert raised("adapts-at-test-time", exam).severity is Severity.WARNING
    assert asked("null-test", exam)[0].status == "passed"


class Remembering(nn.Module):
    """What was asked before is answered as before, and what is near it too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.answers: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(x).clone()
        for asked, answers in self.answers:
            apart = (x[:, None] - asked[None]).flatten(2).abs().amax(2)
            near = apart.min(1)
            scores = torch.where(near.values[:, None] < 0.1, answers[near.indices], scores)
        self.answers.append((x.detach(), scores.detach()))
        return scores


def test_a_cache_learns_nothing_from_others(world: World) -> None:
    exam = world.exam(Identity(model=Remembering(world.net)))
    assert raised("state-changed", exam).severity is Severity.FAILURE
    assert asked("adapts-at-test-time", exam)[0].status == "passed"


@pytest.mark.parametrize("fault", [Tiring, Placed, Turned, AdaptingEverywhere])
def test_an_accuracy_that_changes_without_an_attack_fails(world: World, fault: Any) -> None:
    finding = raised("null-test", world.exam(made(fault, world.net)))
    assert finding.severity is Severity.FAILURE


def test_ten_draws_are_wrong_more_often_than_one(world: World) -> None:
    exam = world.exam(GaussianNoise(model=world.net, sigma=0.4))
    finding = raised("one-draw-luck", exam)
    assert finding.severity is Severity.INFO
    figures = finding.figures
    assert figures["clean_any"] < figures["clean_expected"] - 0.1
    assert figures["attacked_expected"] == float(exam.held.mean())


def test_a_judge_of_one_draw_is_a_warning(world: World) -> None:
    exam = world.exam(GaussianNoise(model=world.net), draws=1)
    assert raised("one-draw-luck", exam).severity is Severity.WARNING


def test_the_share_that_ten_draws_get_right_is_a_power_of_that_of_one() -> None:
    chances = torch.tensor([0.5, 0.9, 0.99, 1.0], dtype=torch.float64)
    runs = torch.distributions.Binomial(20, chances.expand(20_000, 4)).sample()
    found = [lucky_break(run / 20, 20, 10) for run in runs]
    # Unbiased: the mean of 20,000 estimates, whose standard deviation is below .13.
    assert np.mean(found) == pytest.approx(float(chances.pow(10).mean()), abs=4 * 0.13 / 141)
    assert one_draw_error(chances) == pytest.approx(math.sqrt(0.25 + 0.09 + 0.0099) / 4)


# ---- batches


class Seeded(Identity):
    """Noise that a seed makes anew in each call: each place has its own, and it never varies."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        scores: Tensor = self.model(x + 0.2 * noise)
        return scores


@dataclass(frozen=True, kw_only=True)
class Together(Defense):
    """A sample is mixed with the mean of the rows of its call, and declares that it is coupled."""

    batch_coupled: ClassVar[bool] = True

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(0.6 * x + 0.4 * x.mean(0, keepdim=True))
        return scores


class Alone(Identity):
    """One input alone is turned upside down."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x.flip(2) if len(x) == 1 else x)
        return scores


class Mixed(nn.Module):
    """A sample is mixed with the mean of its batch, and nobody says so."""

    def __init__(self, model: nn.Module, own: float = 0.35) -> None:
        super().__init__()
        self.model = model
        self.own = own

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(self.own * x + (1 - self.own) * x.mean(0, keepdim=True))
        return scores


class Polling(nn.Module):
    """What a sample is taken for is what its batch is taken for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        scores: Tensor = self.model(x + 0.5 * noise)
        return scores + 2 * scores.mean(0, keepdim=True)


@pytest.mark.parametrize("fault", [Seeded, Turned])
def test_scores_by_place_fail(world: World, fault: Any) -> None:
    exam = world.exam(fault(model=world.net))
    assert raised("order-matters", exam).severity is Severity.FAILURE


def test_two_rows_that_change_much_are_enough(world: World) -> None:
    class First(Identity):
        def logits(self, x: Tensor, streams: Streams) -> Tensor:
            scores: Tensor = self.model(torch.cat([x[:1].flip(2), x[1:]]))
            return scores

    finding = raised("order-matters", world.exam(First(model=world.net)))
    assert set(finding.samples) == {int(PILOT[0]), int(PILOT[-1])}


def test_one_input_alone_that_is_another_fails(world: World) -> None:
    exam = world.exam(Alone(model=world.net))
    assert raised("batch-size-matters", exam).severity is Severity.FAILURE
    assert asked("declared-uncoupled", exam)[1] == []


def test_a_coupled_defence_has_its_mates_from_its_stream_and_not_from_the_call(
    world: World,
) -> None:
    exam = world.exam(Together(model=world.net))
    assert raised("batch-size-matters", exam).severity is Severity.FAILURE


def test_what_a_batch_changes_is_said_once(world: World) -> None:
    exam = world.exam(Identity(model=Mixed(world.net)))
    assert raised("declared-uncoupled", exam).severity is Severity.FAILURE
    assert asked("batch-size-matters", exam)[0].status == "not applicable"


def test_decisions_that_mates_make_are_counted(world: World) -> None:
    exam = world.exam(Identity(model=Mixed(world.net)))
    finding = raised("mates-matter", exam)
    assert finding.severity is Severity.WARNING
    assert finding.figures["faulty"] == len(finding.samples) > 0.25 * finding.figures["samples"]
    # Put into its own batches, as it is evaluated, it is the same.
    numbers = torch.full((16,), -1)
    inside = Among(inner=exam.defense, mates=world.mates[:16], numbers=numbers)
    assert raised("mates-matter", world.exam(inside)).severity is Severity.WARNING


def test_few_images_make_no_other_pool(world: World) -> None:
    exam = world.exam(Identity(model=Mixed(world.net)), data=None)
    exam.data = None
    assert asked("mates-matter", exam)[0].status == "untested"


def test_a_label_that_the_mates_give_away_is_a_warning(world: World) -> None:
    finding = raised("label-leakage", world.exam(Identity(model=Polling(world.net))))
    assert finding.severity is Severity.WARNING
    assert finding.figures["own"] > finding.figures["mixed"] + 0.2


def test_the_exchange_of_sides_is_exact() -> None:
    gains = [3, -1, 2, 0, 1, 1, -2, 4]
    signs = torch.cartesian_prod(*[torch.tensor([-1, 1])] * len(gains))
    sums = (signs * torch.tensor(gains)).sum(1).abs()
    assert sides_changed(gains) == float((sums >= abs(sum(gains))).double().mean())


def test_the_neighbours_gradient_is_told_where_no_batch_is_attacked(world: World) -> None:
    coded = CodedSmoothing(model=world.net, mates=world.mates, k=16)
    finding = raised("cross-gradient", world.exam(coded))
    assert finding.severity is Severity.INFO
    assert finding.figures["ratio"] < 1


def test_the_neighbours_gradient_is_that_of_the_other_losses(world: World) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)
    exam = world.exam(Identity(model=Mixed(linear, own=0.1)))
    x, y = exam.x[:16], exam.y[:16]
    # A linear layer: what a loss pulls at its own mixed input, w_i, is known. Row i is in its own
    # with .1 + .9 / 16 and in each other with .9 / 16.
    mixed = (0.1 * x + 0.9 * x.mean(0)).flatten(1)
    pull = linear(mixed).softmax(1) - nn.functional.one_hot(y, 10)
    pulls = pull @ linear[1].weight
    own = (0.1 + 0.9 / 16) * pulls
    others = 0.9 / 16 * (pulls.sum(0) - pulls)
    ratio = float((own.norm(dim=1) / others.norm(dim=1)).median())
    found = asked("cross-gradient", exam)[1]
    assert [f.figures["ratio"] for f in found] == pytest.approx([ratio] if ratio < 1 else [])
    assert ratio < 1


# ---- samples


class Rounded(Identity):
    """Scores are rounded to a tenth."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        return (10 * super().logits(x, streams)).round() / 10


class Halved(Identity):
    """Scores of half precision."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        return super().logits(x, streams).half()


class Cast(nn.Module):
    """A network under autocast, whose scores come back in single precision."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            scores: Tensor = self.model(x)
        # Not on a grid any more.
        return scores.float() * 1.2345678


class Narrow(nn.Module):
    """A network of half the bits, between casts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(x.bfloat16())
        return scores.float()


@pytest.mark.parametrize("fault", [Rounded, Halved, Cast, Narrow])
def test_less_than_single_precision_is_told(world: World, fault: Any) -> None:
    net = load_classifier("digits_cnn", classes=10).eval().requires_grad_(False)
    finding = raised("low-precision", world.exam(made(fault, net)))
    assert finding.severity is Severity.WARNING
    assert (finding.figures["tensors"] > 0) == (fault is Narrow)
    assert (finding.figures["modules"] > 0) == (fault in (Cast, Narrow))


def test_a_grid_is_told_from_none() -> None:
    scores = Streams.of(0, "scores", torch.arange(40)).normal(10)
    assert grid_of(scores) == ""
    assert grid_of(1000 * scores) == ""
    assert grid_of(scores.bfloat16().float()) in ("half-precision numbers", "bfloat16 numbers")
    assert grid_of((scores * 1000).round() / 1000) == "multiples of 1/1000"
    masked = scores.clone()
    masked[:, 3] = -1e9
    assert grid_of(masked) == ""
    # What masks a class is no sign that the others are fine.
    masked = scores.half().float()
    masked[:, 3] = -1e9
    assert grid_of(masked) == "half-precision numbers"


def data_of(world: World, change: Callable[[Tensor, Tensor], None]) -> Dataset:
    """The digits under attack and others, after a change of images and labels."""
    images, labels = world.data.images(torch.arange(400)), world.data.targets(torch.arange(400))
    change(images, labels)
    return from_arrays(images.numpy(), labels.numpy())


def test_the_same_pixels_twice_count_twice(world: World) -> None:
    def few(images: Tensor, labels: Tensor) -> None:
        images[7], labels[7] = images[3], labels[3]

    def many(images: Tensor, labels: Tensor) -> None:
        images[10:15], labels[10:15] = images[20:25], labels[20:25]

    def contradicting(images: Tensor, labels: Tensor) -> None:
        images[7], labels[7] = images[3], (labels[3] + 1) % 10

    for change, severity, samples in (
        (few, Severity.INFO, (7,)),
        (many, Severity.WARNING, (20, 21, 22, 23, 24)),
        (contradicting, Severity.FAILURE, (7,)),
    ):
        exam = world.exam(Identity(model=world.net), data_of(world, change))
        finding = raised("duplicated-samples", exam)
        assert (finding.severity, finding.samples) == (severity, samples)


def test_samples_of_one_class_are_a_warning(world: World) -> None:
    sevens = (world.data.targets(torch.arange(500)) == 7).nonzero().squeeze(1)
    exam = world.exam(Identity(model=world.net), samples=sevens[:16], chosen=sevens)
    assert raised("one-class", exam).severity is Severity.WARNING


def test_a_label_beyond_the_classes_fails(world: World) -> None:
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).requires_grad_(False)
    exam = world.exam(Identity(model=narrow))
    finding = raised("mislabelled-samples", exam)
    assert finding.severity is Severity.FAILURE
    assert finding.samples == tuple((world.data.targets(CHOSEN) >= 5).nonzero().squeeze(1).tolist())


def test_a_label_that_model_and_a_twin_contradict_is_named(world: World) -> None:
    def swap(images: Tensor, labels: Tensor) -> None:
        place = int(PILOT[5])
        # The same digit, stored twice with loss.
        images[399] = (images[place] + 0.01).clamp(0, 1)
        labels[399] = labels[place]
        labels[place] = (labels[place] + 1) % 10

    finding = raised(
        "mislabelled-samples", world.exam(Identity(model=world.net), data_of(world, swap))
    )
    assert finding.severity is Severity.INFO
    assert finding.samples == (int(PILOT[5]),)
    assert "399" in finding.what
