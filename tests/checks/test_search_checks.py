"""Each check of a search is raised by the fault that was planted for it, and not by sound ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import ATTACKS, FGSM, PGD, Attack, LossName
from robustcode.attacks.base import Target
from robustcode.checkpoint import load_classifier
from robustcode.checks import Examination, Report, examine
from robustcode.checks.beaten import ALARMS, LUCK, too_many
from robustcode.checks.catalogue import every
from robustcode.checks.catalogue.large_eps_above_chance import budgets
from robustcode.checks.catalogue.loss_still_rising import last_rise
from robustcode.checks.catalogue.unstable_loss import roughness
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import DEFENSES, Defense
from robustcode.defenses.identity import Identity
from robustcode.findings import Finding
from robustcode.plan import PlannedAttack
from robustcode.seeds import Streams
from robustcode.testing.patients import PATIENTS
from robustcode.threat import ThreatModel

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
LINF = ThreatModel.parse("linf:0.1")
OURS = (
    "gradient-free-better",
    "large-eps-above-chance",
    "loss-still-rising",
    "noise-as-strong",
    "optimises-at-inference",
    "passes-undeclared",
    "silent-success",
    "single-step-better",
    "too-few-classes",
    "unstable-loss",
    "weak-loss",
)
FAST, MORE = range(2), range(2, 12)


def exam_of(
    defense: Defense,
    threat: ThreatModel = LINF,
    attacks: Sequence[Attack] = (),
    seed: int = 0,
    samples: Tensor | None = None,
) -> Examination:
    data = load_data("digits")
    samples = torch.arange(seed, 500, 16)[:32] if samples is None else samples
    defense.model.eval().requires_grad_(False)
    planned = [PlannedAttack(f"attack-{number}", attack) for number, attack in enumerate(attacks)]
    return Examination(
        defense=defense,
        x=data.images(samples),
        y=data.targets(samples),
        samples=samples,
        threat=threat,
        seed=seed,
        plan_of=lambda facts: planned,
    )


def report(exam: Examination, *codes: str) -> Report:
    return examine(exam, [check for check in every() if check.code in (codes or OURS)])


def finding(exam: Examination, code: str) -> Finding | None:
    found = report(exam, code).findings
    assert len(found) <= 1
    return found[0] if found else None


def raised(exam: Examination, code: str) -> Finding:
    found = finding(exam, code)
    assert found is not None
    return found


def patient(name: str) -> Defense:
    return PATIENTS[name].fresh()


def sound(name: str = "digits_cnn") -> Identity:
    return Identity(model=load_classifier(name, classes=10))


def stock(name: str) -> Defense:
    fields: dict[str, Any] = {"model": load_classifier("digits_cnn", classes=10)}
    return DEFENSES.get(name)(**fields)


class Around(nn.Module):
    """The shipped classifier behind something that is done to its input or its gradient."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = load_classifier("digits_cnn", classes=10)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.inner, x)


# ---- sound networks


@pytest.mark.parametrize("network", ["digits_cnn", "digits_cnn:adversarial"])
@pytest.mark.parametrize("threat", ["linf:0.1", "l2:0.5"])
@pytest.mark.parametrize("seed", FAST)
def test_nothing_is_said_of_a_sound_network(network: str, threat: str, seed: int) -> None:
    exam = exam_of(sound(network), ThreatModel.parse(threat), seed=seed)
    assert [found.what for found in report(exam).findings] == []


@pytest.mark.long
@pytest.mark.parametrize("network", ["digits_cnn", "digits_cnn:adversarial"])
@pytest.mark.parametrize("threat", ["linf:0.1", "linf:0.2", "l2:0.5", "l1:2"])
def test_nothing_is_said_on_other_samples_and_seeds(network: str, threat: str) -> None:
    budget = ThreatModel.parse(threat)
    said = [
        found.what
        for seed in MORE
        for found in report(exam_of(sound(network), budget, seed=seed)).findings
    ]
    assert said == []


@pytest.mark.parametrize("name", ["gaussian-noise", "random-resize-pad"])
def test_nothing_is_said_of_a_sound_random_defence(name: str) -> None:
    assert [found.what for found in report(exam_of(stock(name))).findings] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["gaussian-noise", "random-resize-pad"])
def test_nothing_is_said_of_random_defences_with_other_seeds(name: str) -> None:
    exams = [exam_of(stock(name), seed=seed) for seed in MORE]
    assert [found.what for exam in exams for found in report(exam).findings] == []


CIFAR_A = {
    "mean": tuple(v / 255 for v in (125.3, 123.0, 113.9)),
    "std": tuple(v / 255 for v in (63.0, 62.1, 66.7)),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "weights", "data", "threat"),
    [
        ("cifar_cnn_a", "verification/cifar_cnn_a_adv.model", "cifar10", "linf:2/255"),
        ("cifar_cnn_a", "verification/cifar_cnn_a_adv.model", "cifar10", "linf:8/255"),
        ("mnist_cnn_a", "verification/mnist_cnn_a_adv.model", "mnist", "linf:0.3"),
        ("mnist_cnn_a", "convex_adversarial/mnist_0_1.pth", "mnist", "linf:0.1"),
        ("mnist_trades_cnn", "trades/mnist_smallcnn.pt", "mnist", "linf:0.3"),
    ],
)
def test_nothing_is_said_of_published_networks(
    model: str, weights: str, data: str, threat: str
) -> None:
    checkpoint = SHARED / "checkpoints" / weights
    if not checkpoint.exists():
        pytest.skip(f"needs the published checkpoint {weights} in ../shared/data")
    scale = CIFAR_A if data == "cifar10" else {}
    network = load_classifier(model, checkpoint=checkpoint, classes=10, **scale)
    network.eval().requires_grad_(False)
    images = load_data(f"{data}:{SHARED / data}")
    said = []
    for seed in range(3):
        samples = torch.arange(seed, 512, 16)
        exam = Examination(
            defense=Identity(model=network),
            x=images.images(samples),
            y=images.targets(samples),
            samples=samples,
            threat=ThreatModel.parse(threat),
            seed=seed,
        )
        said += [found.what for found in report(exam).findings]
    assert said == []


@pytest.mark.parametrize("name", ["gaussian-noise", "random-resize-pad", "bit-depth", "jpeg"])
def test_stock_defences_take_no_gradient_and_declare_their_passes(name: str) -> None:
    exam = exam_of(stock(name), samples=torch.arange(4))
    assert not report(exam, "optimises-at-inference", "passes-undeclared").findings


# ---- what luck allows


@pytest.mark.parametrize("tried", [1, 2, 15, 16, 32, 44, 45, 64])
def test_luck_is_called_none_in_one_pilot_of_a_hundred(tried: int) -> None:
    alarms = math.fsum(
        math.comb(tried, k) * LUCK**k * (1 - LUCK) ** (tried - k)
        for k in range(tried + 1)
        if too_many(k, tried)
    )
    assert alarms <= ALARMS


@pytest.mark.parametrize(("tried", "least"), [(2, 2), (15, 2), (16, 3), (44, 3), (45, 4)])
def test_so_many_are_no_luck(tried: int, least: int) -> None:
    assert [too_many(k, tried) for k in (least - 1, least)] == [False, True]


# ---- unstable-loss


@pytest.mark.parametrize("name", ["winners_take_all", "sign_activation", "quantised"])
def test_a_loss_that_jumps_is_unstable(name: str) -> None:
    assert raised(exam_of(patient(name)), "unstable-loss").figures["roughness"] > 0.7


def test_a_loss_without_a_gradient_need_not_jump() -> None:
    assert finding(exam_of(patient("clipped_gradient")), "unstable-loss") is None


def test_a_line_is_not_rough_and_hidden_noise_is() -> None:
    """A line bends by rounding alone; of independent values, the bend has six times the variance.

    A move has two: the ratio is 3.
    """
    weight = Streams.of(0, "line", torch.arange(1)).normal(64, 2)[0]

    def line(_: nn.Module, x: Tensor) -> Tensor:
        return x.flatten(1) @ weight

    def noise(_: nn.Module, x: Tensor) -> Tensor:
        # As good as random, but the same for the same input.
        return line(_, x) + (line(_, x) * 1e6).sin() * 3

    for change, low, high in ((line, 0.0, 1e-6), (noise, 2.0, 4.0)):
        exam = exam_of(Identity(model=Around(change)))
        exam.y = exam.calls.first.argmax(1)
        usual = float(roughness(exam, torch.arange(len(exam.x))).nan_to_num().median())
        assert low <= usual <= high


# ---- silent-success


@dataclass(frozen=True, kw_only=True)
class Forgetful(Attack):
    """Asks about where PGD leads, and proposes the sample itself."""

    steps: int = 20

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        target.logits(PGD(steps=self.steps).perturb(target, x, y, threat, streams), streams)
        return x.clone()


@dataclass(frozen=True, kw_only=True)
class Mindful(Attack):
    """A user's own attack that returns what it found."""

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        return PGD(steps=20).perturb(target, x, y, threat, streams)


class Passed(nn.Module):
    """Right everywhere but where the mean is .02 to .05 over one half; the slope leads past that.

    An attack of 10 steps of 2/255 goes through it and ends beyond.
    """

    def forward(self, x: Tensor) -> Tensor:
        moved = x.flatten(1).mean(1) - 0.5
        inside = (moved > 0.02) & (moved < 0.05)
        lead = 5 - moved - 10 * inside.float()
        return torch.stack([lead, torch.zeros_like(lead)], dim=1)


def grey_exam(attack: Attack) -> Examination:
    samples = torch.arange(8)
    model = Passed().eval()
    return Examination(
        defense=Identity(model=model),
        x=torch.full((8, 1, 8, 8), 0.5),
        y=torch.zeros(8, dtype=torch.int64),
        samples=samples,
        threat=LINF,
        plan_of=lambda facts: [PlannedAttack("of-others", attack)],
    )


@pytest.mark.parametrize(
    "text", ["torchattacks:PGD:random_start=false", "foolbox:LinfPGD:steps=10,rel_stepsize=0.08"]
)
def test_attacks_that_return_the_last_point_of_their_path_are_found_out(text: str) -> None:
    pytest.importorskip(text.partition(":")[0])
    attack: Attack = Component.parse(text).build(ATTACKS, "test")
    found = raised(grey_exam(attack), "silent-success")
    assert found.figures["silent"] == 8
    assert found.samples == tuple(range(8))


def test_an_attack_of_the_users_own_is_watched_as_well() -> None:
    exam = exam_of(sound(), attacks=[Forgetful()])
    found = raised(exam, "silent-success")
    rows = exam.right[:8]
    own = exam.pilot.held(PGD(steps=20), LINF, rows) <= 0
    # Starts differ, so at most a sample or two do.
    assert abs(found.figures["silent"] - float(own.sum())) <= 2
    assert finding(exam_of(sound(), attacks=[Mindful()]), "silent-success") is None


def test_an_attack_that_is_too_dear_to_be_watched_is_not_judged() -> None:
    exam = exam_of(sound("digits_cnn:adversarial"), attacks=[Forgetful(steps=500)])
    (line,) = report(exam, "silent-success").looked
    assert (line.status, "more than 200 passes" in line.said) == ("untested", True)


def test_where_nothing_is_attacked_that_is_the_reason() -> None:
    """And not that no sample is right, or that there are too few: nobody has looked."""
    exam = replace(exam_of(sound()), threat=None, y=torch.zeros(0, dtype=torch.int64))
    attacks = ("whole-box-holds", "silent-success", "behind-transfer")
    data = ("one-class", "duplicated-samples", "mislabelled-samples")
    said = {line.code: line.said for line in report(exam, *attacks, *data).looked}
    assert {said[code] for code in attacks} == {"nothing is attacked"}
    assert all(said[code].endswith("looked at in runs of attacks only") for code in data[:2])
    assert said[data[2]] == "labels are checked in runs of attacks only"


def test_our_own_attacks_are_not_watched() -> None:
    (line,) = report(exam_of(sound(), attacks=[PGD()]), "silent-success").looked
    assert line.status == "not applicable"


# ---- loss-still-rising


def test_an_attack_that_stops_on_its_way_up_is_found_out() -> None:
    short = raised(exam_of(sound(), attacks=[PGD(steps=20, step=0.02)]), "loss-still-rising")
    assert short.figures["rise"] > 0.4


def test_how_far_a_loss_rose_at_the_end() -> None:
    """One that stands still, one that fell, one that goes on evenly and one that left half way."""
    steps = torch.arange(20, dtype=torch.float64)
    left = steps.clone()
    left[12:] = torch.nan
    course = torch.stack([0 * steps, -steps, steps, left], dim=1)
    assert last_rise(course).tolist() == pytest.approx([0, 0, 10 / 19, 2 / 11])


# ---- single-step-better


def test_a_gradient_that_is_true_at_the_data_only_helps_one_step_alone() -> None:
    """Images of the digits are multiples of 1/16; elsewhere no gradient is let through."""

    def at_data(inner: nn.Module, x: Tensor) -> Tensor:
        on_grid = ((16 * x).round() == 16 * x).flatten(1).all(1).view(-1, 1, 1, 1)
        return inner(torch.where(on_grid, x, x.detach()))

    exam = exam_of(Identity(model=Around(at_data)))
    found = raised(exam, "single-step-better")
    one = exam.pilot.held(FGSM(), LINF, exam.right)
    assert found.figures["single_step_accuracy"] == pytest.approx(float(one.mean()))
    assert found.figures["accuracy"] > found.figures["single_step_accuracy"]


# ---- gradient-free-better, noise-as-strong, weak-loss


@pytest.mark.parametrize("name", ["clipped_gradient", "quantised", "winners_take_all"])
def test_a_search_without_gradients_beats_masked_ones(name: str) -> None:
    found = raised(exam_of(patient(name)), "gradient-free-better")
    assert found.figures["broken"] == len(found.samples) >= 3


def test_decisions_are_searched_where_scores_are_flat() -> None:
    """By its flat scores Square breaks 2 of 29, too few to tell; decisions lead to 3 of 16."""
    found = raised(exam_of(patient("saturated_softmax")), "gradient-free-better")
    assert found.what.startswith("in a pilot of PGD")
    assert "HopSkipJump" in found.what


def test_noise_beats_an_attack_that_is_led_astray() -> None:
    def astray(inner: nn.Module, x: Tensor) -> Tensor:
        # The value of x to the last bit, and its gradient the other way round.
        return inner(2 * x.detach() - x)

    exam = exam_of(Identity(model=Around(astray)), ThreatModel.parse("linf:0.4"))
    found = raised(exam, "noise-as-strong")
    assert found.figures["taken"] == len(found.samples) >= 3


def test_a_saturated_loss_is_weak() -> None:
    exam = exam_of(patient("scaled_logits"))
    found = raised(exam, "weak-loss")
    margin = exam.pilot.held(replace(exam.once, loss=LossName.MARGIN), LINF, exam.survivors)
    assert found.figures["gained"] == float((margin <= 0).sum())
    # Who raises the margin already is held against cross-entropy, which adds nothing here.
    own = exam_of(patient("scaled_logits"), attacks=[PGD(steps=20, loss=LossName.MARGIN)])
    assert finding(own, "weak-loss") is None


# ---- large-eps-above-chance


def test_masked_gradients_leave_more_than_chance_at_half_the_box() -> None:
    exam = exam_of(patient("clipped_gradient"))
    found = raised(exam, "large-eps-above-chance")
    grey = load_classifier("digits_cnn", classes=10)(torch.full((1, 1, 8, 8), 0.5)).argmax()
    stuck = load_data("digits").targets(torch.tensor(found.samples))
    assert found.figures["missed"] == float((stuck != grey).sum()) > 0
    assert found.figures["eps"] == 0.5
    # Every budget on the way is a point of the curve, which never rises.
    curve = [accuracy for _, accuracy in sorted(exam.points["eps"].items())]
    assert len(curve) == 4
    assert curve == sorted(curve, reverse=True)


@pytest.mark.parametrize(
    ("given", "largest", "tried"),
    [
        ("linf:8/255", "linf:0.5", [16 / 255, 32 / 255, 64 / 255, 0.5]),
        ("l2:1", "l2:4", [2, 4]),
        ("linf:0.5", "linf:0.5", []),
        ("linf:0.7", "linf:0.5", []),
    ],
)
def test_budgets_double_up_to_half_the_box(given: str, largest: str, tried: list[float]) -> None:
    found = budgets(ThreatModel.parse(given), ThreatModel.parse(largest))
    assert [threat.eps for threat in found] == pytest.approx(tried)


# ---- what happens inside


def _grad(inner: nn.Module, x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = ASKED_BEFORE(inner(leaf).sum(), leaf)
    return inner(x + 0.01 * slope.sign())


def _backward(inner: nn.Module, x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        inner(leaf).sum().backward()
    assert leaf.grad is not None
    return inner(x + 0.01 * leaf.grad.sign())


def _func(inner: nn.Module, x: Tensor) -> Tensor:
    slope = torch.func.grad(lambda images: inner(images).sum())(x.detach())
    return inner(x + 0.01 * slope.sign())


# As a module of a user's may have it by another name.
ASKED_BEFORE = torch.autograd.grad


@pytest.mark.parametrize(
    # The first use of torch.func takes two seconds.
    "change",
    [_grad, _backward, pytest.param(_func, marks=pytest.mark.long)],
)
def test_gradients_inside_a_defence_are_counted(
    change: Callable[[nn.Module, Tensor], Tensor],
) -> None:
    before = torch.autograd.grad, torch.autograd.graph._engine_run_backward
    exam = exam_of(Identity(model=Around(change)), samples=torch.arange(4))
    # One for the draw, one for the decision.
    assert raised(exam, "optimises-at-inference").figures["gradients"] == 2
    assert (torch.autograd.grad, torch.autograd.graph._engine_run_backward) == before


def test_purification_is_noticed() -> None:
    assert finding(exam_of(patient("purified")), "optimises-at-inference")


@dataclass(frozen=True, kw_only=True)
class Thrice(Defense):
    """Asks its model three times, and declares what it is told to."""

    model: nn.Module
    declared: int = 1

    @property
    def passes(self) -> int:
        return self.declared

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        views = [self.model(view) for view in (x, x.flip(-1), x.flip(-2))]
        return torch.stack(views).mean(0)


def test_passes_are_counted_against_what_is_declared() -> None:
    network = load_classifier("digits_cnn", classes=10)
    four = torch.arange(4)
    found = raised(exam_of(Thrice(model=network), samples=four), "passes-undeclared")
    assert (found.figures["passes"], found.figures["declared"]) == (6, 2)
    declared = exam_of(Thrice(model=network, declared=3), samples=four)
    assert finding(declared, "passes-undeclared") is None


# ---- too-few-classes


@pytest.mark.parametrize(("classes", "said"), [(2, True), (3, True), (4, False), (10, False)])
def test_classes_are_counted(classes: int, said: bool) -> None:
    def cut(inner: nn.Module, x: Tensor) -> Tensor:
        return inner(x)[:, :classes]

    exam = exam_of(Identity(model=Around(cut)), samples=torch.arange(4))
    assert (finding(exam, "too-few-classes") is not None) == said
