"""Auto-PGD: its schedule, its losses and its verdicts, held against what others publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import APGD, APGDCE, APGDDLR, APGDPM, APGDT, APGDMargin
from robustcode.attacks.losses import dlr, probability_margin, targeted_dlr, targeted_margin
from robustcode.attacks.steps import Halving, checkpoints
from robustcode.attacks.targets import TargetOrder, targets_of
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.identity import Identity
from robustcode.fast import for_search
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import Norm, ThreatModel

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
CIFAR_A = {
    "mean": (125.3 / 255, 123.0 / 255, 113.9 / 255),
    "std": (63.0 / 255, 62.1 / 255, 66.7 / 255),
}
ALL = (APGDCE, APGDDLR, APGDMargin, APGDPM, APGDT)


def target_of(
    model: nn.Module, samples: Tensor, width: int = 128, sigma: float = 0.0
) -> DefendedTarget:
    defense = GaussianNoise(model=model, sigma=sigma) if sigma else Identity(model=model)
    return DefendedTarget(
        defense, Ledger(samples), stochastic=sigma > 0, differentiable=True, width=width
    )


def digits(count: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The shipped model, and the first test digits it gets right."""
    model = load_classifier("digits_cnn", classes=10).eval()
    data = load_data("digits")
    x, y = data.images(range(2 * count)), data.targets(range(2 * count))
    with torch.no_grad():
        rows = (model(x).argmax(1) == y).nonzero().squeeze(1)[:count]
    return model, x[rows], y[rows], rows


def test_checkpoints_are_those_of_the_paper() -> None:
    """Section 3.2: w_j = ceil(p_j n) with p = 0, .22, .41, .57, .70, .80, .87, .93, .99, 1."""
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(1)) == [1]


def halving(losses: list[float], steps: int = 100) -> Halving:
    """The control of one row whose loss went like this."""
    threat = ThreatModel(Norm.LINF, 0.1)
    pace = Halving.start(threat, torch.tensor([losses[0]]), steps, 0.75)
    for loss in losses[1:]:
        pace.saw(torch.tensor([loss]))
    return pace


def test_a_step_halves_where_the_loss_swings_and_not_where_it_rises() -> None:
    for losses, halves in (([float(i) for i in range(23)], False), ([0.0, 1.0] * 11 + [0.0], True)):
        pace = halving(losses)
        top = torch.tensor([max(losses)])
        back = pace.checked(22, torch.zeros(1, 1), top)
        assert back is not None
        assert back.tolist() == [halves]
        assert pace.size.tolist() == pytest.approx([0.1 if halves else 0.2])
        assert pace.checked(23, torch.zeros(1, 1), top) is None


def test_a_step_halves_where_the_best_has_not_moved_since_the_last_look() -> None:
    pace = halving([float(i) for i in range(23)])
    top = torch.tensor([22.0])
    pace.checked(22, torch.zeros(1, 1), top)
    for i in range(19):  # rising all the time, but from below
        pace.saw(torch.tensor([float(i - 30)]))
    back = pace.checked(41, torch.zeros(1, 1), top)
    assert back is not None
    assert back.tolist() == [True]


def test_losses_agree_with_their_formulas() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, -2.0], [1.0, 5.0, 2.0, 0.5]])
    y, goal = torch.tensor([0, 0]), torch.tensor([1, 2])
    # Equations 6 and 7 of arXiv:2003.01690, by hand.
    assert dlr(logits, y).tolist() == pytest.approx([-2 / 3, 4 / 4])
    assert targeted_dlr(goal)(logits, y).tolist() == pytest.approx([-2 / 4, 1 / (5 - 0.75)])
    assert targeted_margin(goal)(logits, y).tolist() == [-2.0, 1.0]
    p = logits.softmax(1)
    expected = [float(p[0, 1] - p[0, 0]), float(p[1, 1] - p[1, 0])]
    assert probability_margin(logits, y).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_ratios_do_not_see_the_scale_of_the_logits(scale: float) -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, -2.0]])
    y, goal = torch.tensor([0]), torch.tensor([1])
    assert dlr(scale * logits, y).item() == pytest.approx(dlr(logits, y).item())
    loss = targeted_dlr(goal)
    assert loss(scale * logits, y).item() == pytest.approx(loss(logits, y).item())


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.__name__)
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("tied", [False, True])
def test_few_classes_and_ties_are_no_accident(attack: type[APGD], classes: int, tied: bool) -> None:
    """One sample of one class, whose scores may all be equal: whatever comes, a proposal does."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, classes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if tied else parameter)
    samples, threat = torch.tensor([7]), ThreatModel(Norm.LINF, 0.1)
    x, y = torch.full((1, 3, 2, 2), 0.5), torch.tensor([0])
    streams = Streams.of(0, "search", samples)
    x_adv = attack(steps=5).perturb(target_of(model, samples), x, y, threat, streams)
    threat.check(x_adv, x, by="it")
    nothing = attack(steps=5).perturb(target_of(model, samples), x[:0], y[:0], threat, streams[:0])
    assert nothing.shape == (0, 3, 2, 2)


def test_malt_ranks_by_distance_and_logits_by_score() -> None:
    """On a linear model the ranking by gap over dual norm is that by distance, in closed form."""
    weight = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-4.0, 3.0], [0.0, -1.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 4, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(weight)  # type: ignore[operator]
    x, y, samples = torch.tensor([[0.8, 0.4]]), torch.tensor([0]), torch.arange(1)
    logits = model(x)[0].detach()
    streams = Streams.of(0, "targets", samples)
    for norm, dual in ((Norm.LINF, 1), (Norm.L2, 2), (Norm.L1, torch.inf)):
        threat = ThreatModel(norm, 0.1)
        distance = [
            float((logits[0] - logits[k]) / (weight[k] - weight[0]).norm(p=dual)) for k in (1, 2, 3)
        ]
        expected = [k for _, k in sorted(zip(distance, (1, 2, 3), strict=True))]
        for order, ranked in ((TargetOrder.MALT, expected), (TargetOrder.LOGITS, [1, 3, 2])):
            found = targets_of(
                target_of(model, samples), x, y, threat, streams, count=9, order=order
            )
            assert found.tolist() == [ranked], (norm, order)


def verdicts(attack: APGD, width: int, size: int, sigma: float = 0.0) -> tuple[Tensor, Tensor]:
    """Proposals for 24 digits in batches of ``size``, and which of them break the model."""
    model, x, y, samples = digits(24)
    found = []
    for rows in torch.arange(len(x)).split(size):
        target = target_of(model, samples[rows], width, sigma)
        streams = Streams.of(0, "search", samples[rows])
        threat = ThreatModel(Norm.LINF, 0.08)
        found.append(attack.perturb(target, x[rows], y[rows], threat, streams))
    x_adv = torch.cat(found)
    with torch.no_grad():
        return x_adv, model(x_adv).argmax(1) != y


@pytest.mark.parametrize("attack", [APGDCE(steps=20, restarts=2), APGDT(steps=10, targets=5)])
def test_verdicts_do_not_depend_on_the_batch_or_on_the_width(attack: APGD) -> None:
    whole, broken = verdicts(attack, width=128, size=24)
    assert 0 < int(broken.sum()) < len(broken)
    for width, size in ((7, 24), (128, 5), (1, 1)):
        other, also = verdicts(attack, width, size)
        assert torch.equal(also, broken)
        assert (other - whole).abs().amax() < 1e-4


def test_a_random_target_is_searched_to_the_end_and_its_goals_compared() -> None:
    attack = APGDT(steps=4, targets=3, draws=2, held_out=4)
    model, x, y, samples = digits(6)
    ledger = Ledger(samples)
    target = DefendedTarget(
        GaussianNoise(model=model, sigma=0.3), ledger, stochastic=True, differentiable=True
    )
    threat = ThreatModel(Norm.LINF, 0.3)
    attack.perturb(target, x, y, threat, Streams.of(0, "search", samples))
    # For each of 3 targets: a start and 4 steps of 2 draws, the last without its gradient, and two
    # candidates on 4 draws; besides 2 draws to rank the targets.
    assert ledger.backwards.tolist() == [3 * 2 * 4] * 6
    assert ledger.forwards.tolist() == [2 + 3 * (2 * 5 + 2 * 4)] * 6


def official(name: str, eps: float) -> dict[str, Any]:
    file = SHARED / "results" / "autoattack_official.json"
    if not file.exists():
        pytest.skip("needs results/autoattack_official.json in ../shared/data")
    entries = json.loads(file.read_text())["entries"].values()
    (entry,) = (e for e in entries if name in e["checkpoint"] and e["eps"] == pytest.approx(eps))
    return dict(entry)


@pytest.mark.parametrize("eps", [2 / 255, 8 / 255])
def test_targeted_apgd_leaves_no_more_than_all_of_autoattack(eps: float) -> None:
    """On this network the rest of AutoAttack finds nothing that targeted APGD does not.

    64 of the 256 samples that the official code was run on, its verdicts sample by sample.
    """
    entry = official("cifar_cnn_a_adv.model", eps)
    model = load_classifier(
        "cifar_cnn_a", checkpoint=SHARED / entry["checkpoint"], classes=10, **CIFAR_A
    ).eval()
    data = load_data(f"cifar10:{SHARED / 'cifar10'}")
    x, y = data.images(range(64)), data.targets(range(64))
    with torch.no_grad():
        rows = (model(x).argmax(1) == y).nonzero().squeeze(1)
        defense = for_search(Identity(model=model), x[:2])
        target = DefendedTarget(defense, Ledger(rows), stochastic=False, differentiable=True)
        threat, streams = ThreatModel(Norm.LINF, eps), Streams.of(0, "search", rows)
        x_adv = APGDT().perturb(target, x[rows], y[rows], threat, streams)
        threat.check(x_adv, x[rows], by="it")
        robust = rows[model(x_adv).argmax(1) == y[rows]]
    theirs = {i for i in entry["robust_idx"] if i < 64}
    assert len(set(robust.tolist()) ^ theirs) <= 1
