"""A gate is raised by the fault that was planted for it, and by nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import robustcode
from robustcode import facts as facts_module  # test_facts by its own name would be collected
from robustcode.adversary import Adversary, Batch, Gradient, Solo
from robustcode.attacks import PGD, LossName, Transfer
from robustcode.checkpoint import load_classifier
from robustcode.checks import Examination, examine
from robustcode.checks.catalogue.behind_transfer import behind_transfer, pilot_behind_transfer
from robustcode.checks.catalogue.cross_gradient import cross_gradient
from robustcode.checks.catalogue.draws_too_few import draws_too_few
from robustcode.checks.catalogue.fixed_draw_holds import fixed_draw_holds
from robustcode.checks.one_draw import OneDraw
from robustcode.checks.pilot import Pilot
from robustcode.data import load_data
from robustcode.defenses import DEFENSES, Defense
from robustcode.defenses.coded_batch import coded_inference
from robustcode.defenses.coded_smoothing import CodedSmoothing
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.random_resize_pad import RandomResizePad
from robustcode.findings import Finding, Severity
from robustcode.gradients import draws_for
from robustcode.plan import PlannedAttack
from robustcode.records import Record, table_of
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import ThreatModel

ROWS = 32
DRAWS = 20
LINF = ThreatModel.parse("linf:0.1")
SEEDS = range(3)


@dataclass(frozen=True)
class World:
    """A trained network of the digits, samples that are attacked and others beside them."""

    net: nn.Module
    x: Tensor
    y: Tensor
    mates: Tensor

    def pilot(self, defense: Defense, seed: int = 0, adversary: Adversary | None = None) -> Pilot:
        """All samples under attack, the defence tested beforehand."""
        samples = torch.arange(len(self.x))
        facts, report = facts_module.test_facts(defense, self.x, samples, seed, [])
        assert not [finding for finding in report.findings if finding.severity != "info"]
        adversary = adversary or Solo()
        defense = defense.facing(adversary, samples[:0], self.x[:0])
        ledger = Ledger(samples)
        target = DefendedTarget(
            defense, ledger, stochastic=facts.stochastic, differentiable=facts.differentiable
        )
        given = defense, defense, target, ledger, facts, self.x, self.y, samples
        return Pilot(*given, seed, DRAWS, adversary.batched)

    def first(self, count: int) -> World:
        return replace(self, x=self.x[:count], y=self.y[:count])


@pytest.fixture(scope="module")
def world() -> World:
    net = load_classifier("digits_cnn", classes=10).eval().requires_grad_(False)
    data = load_data("digits")
    samples, others = torch.arange(ROWS), torch.arange(100, 300)
    return World(net, data.images(samples), data.targets(samples), data.images(others))


def everyone(pilot: Pilot) -> Tensor:
    return torch.arange(len(pilot.x))


SOUND = ["gaussian-noise", "random-resize-pad", "coded-smoothing"]


def sound(world: World, name: str) -> Defense:
    if name == "gaussian-noise":
        return GaussianNoise(model=world.net, sigma=0.1)
    if name == "random-resize-pad":
        return RandomResizePad(model=world.net)
    return CodedSmoothing(model=world.net, mates=world.mates, k=16)


def explained(finding: Finding | None, code: str) -> Finding:
    """The finding, once it is complete: a reader can tell from it what was seen and what to do."""
    assert finding is not None
    assert finding.code == code
    assert finding.remedy
    assert all(math.isfinite(value) for value in finding.figures.values())
    assert finding.figures["samples"] > 0
    assert any(character.isdigit() for character in finding.what)
    return finding


# ---- one known draw


def uphill(x: Tensor) -> Tensor:
    """The value of x with the opposite gradient."""
    return 2 * x.detach() - x


class Reversed(GaussianNoise):
    """Noise, before which the gradient turns round."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        return super().logits(uphill(x), streams)


class Masked(GaussianNoise):
    """Noise, after which scores say the class and hardly more: a saturated defence."""

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores = super().logits(x, streams)
        lead = (scores - scores.mean(1, keepdim=True)).detach()
        return lead + 1e-3 * uphill(scores)


@pytest.mark.parametrize("fault", [Reversed, Masked])
def test_a_known_draw_that_holds_has_a_misleading_gradient(
    world: World, fault: type[GaussianNoise]
) -> None:
    pilot = world.pilot(fault(model=world.net, sigma=0.1))
    found = explained(fixed_draw_holds(pilot, LINF, everyone(pilot)), "fixed-draw-holds")
    assert found.severity is Severity.WARNING
    figures = found.figures
    assert figures["held"] - figures["plain"] >= 0.1 * figures["samples"]
    # Those that hold are named, by their numbers in the split.
    assert figures["held"] - figures["plain"] <= len(found.samples) <= figures["held"]
    assert set(found.samples) <= set(range(ROWS))
    assert "transfer" in found.remedy


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SOUND)
def test_one_known_draw_of_a_sound_defence_falls_as_the_plain_model_does(
    world: World, name: str, seed: int
) -> None:
    pilot = world.first(16).pilot(sound(world, name), seed)
    assert fixed_draw_holds(pilot, LINF, everyone(pilot)) is None


@pytest.mark.parametrize("eps", [0.1, 0.15])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_known_draw_of_a_whole_batch_falls_too(world: World, eps: float, seed: int) -> None:
    """Who is broken is still in the batch: without them the others would be attacked in another."""
    defense = CodedSmoothing(model=world.net, mates=world.mates, k=64)
    pilot = world.first(16).pilot(defense, seed, Batch())
    assert fixed_draw_holds(pilot, LINF.with_eps(eps), everyone(pilot)) is None


@pytest.mark.parametrize("adversary", [Solo(), Batch()])
def test_a_known_draw_costs_what_a_draw_costs(world: World, adversary: Adversary) -> None:
    defense = CodedSmoothing(model=world.net, mates=world.mates, k=16).facing(
        adversary, torch.arange(0), world.x[:0]
    )
    one = OneDraw(inner=defense)
    batches = torch.zeros(12, dtype=torch.int64) if adversary.batched else None
    streams = Streams.of(0, "test", torch.arange(12), batches)
    for asked in ("forwards", "backwards"):
        known, inner = getattr(one, asked)(streams), getattr(defense, asked)(streams)
        assert torch.equal(torch.as_tensor(known), torch.as_tensor(inner))


@pytest.mark.parametrize("name", SOUND)
def test_a_known_draw_is_the_same_whatever_is_asked_for_it(world: World, name: str) -> None:
    defense = sound(world, name)
    streams = Streams.of(0, "test", torch.arange(ROWS))
    one = OneDraw(inner=defense)
    scores = one.logits(world.x, streams)
    assert torch.equal(scores, one.logits(world.x, streams.child("another")))
    assert torch.equal(scores, one.surrogate(world.x, streams))
    other = OneDraw(inner=defense, seed=1)
    assert not torch.equal(scores, other.logits(world.x, streams))


def test_a_defence_that_is_never_right_has_nothing_to_hold(world: World) -> None:
    pilot = world.pilot(GaussianNoise(model=world.net, sigma=0.1))
    wrong = replace(pilot, y=(pilot.y + 1) % 10)
    assert fixed_draw_holds(wrong, LINF, everyone(wrong)) is None


# ---- draws


@dataclass(frozen=True, kw_only=True)
class Shaken(Defense):
    """The plain scores, and to each a random linear function of the input of mean zero.

    Where the input is the middle of the box it changes nothing; its gradient is ``size`` in each
    pixel and class, and another one at each draw.
    """

    stochastic = True

    model: nn.Module
    size: float = 3.0
    votes: int = 9
    mean: bool = True

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        slopes = streams.normal(scores.shape[1], x[0].numel())
        return scores + self.size * (slopes @ (x - 0.5).flatten(1)[:, :, None])[:, :, 0]


def test_more_draws_break_more_where_one_tells_hardly_anything(world: World) -> None:
    pilot = world.pilot(Shaken(model=world.net))
    assert pilot.facts.noise > 2
    attack = PGD(step=0.1, loss=LossName.MARGIN)
    threat = LINF.with_eps(0.15)
    found = explained(draws_too_few(pilot, attack, threat, everyone(pilot)), "draws-too-few")
    assert found.severity is Severity.WARNING
    assert (found.figures["draws"], found.figures["more_draws"]) == (1, 4)
    assert found.figures["accuracy"] >= 0.05
    assert found.samples
    assert "draws=4" in found.remedy


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SOUND)
def test_draws_of_a_sound_evaluation_are_enough(world: World, name: str, seed: int) -> None:
    """With as many as the noise asks for, as a suite takes; and one is enough where it is small."""
    pilot = world.first(16).pilot(sound(world, name), seed)
    draws = draws_for(pilot.facts.noise)
    attack = PGD(step=0.1, loss=LossName.MARGIN, draws=draws)
    assert draws_too_few(pilot, attack, LINF, everyone(pilot)) is None


def test_draws_are_not_compared_where_nothing_could_show(world: World) -> None:
    pilot = world.pilot(Shaken(model=world.net))
    quiet = replace(pilot, facts=replace(pilot.facts, noise=0.2))
    assert draws_too_few(quiet, PGD(), LINF, everyone(quiet)) is None
    dear = PGD(draws=7)  # 7 samples at most could be paid for
    said = draws_too_few(pilot, dear, LINF, everyone(pilot))
    assert said is not None
    assert (said.code, said.severity) == ("draws-untested", Severity.INFO)
    assert "draws=28" in said.remedy
    assert int(pilot.ledger.forwards.sum()) == 0


def test_what_the_plain_model_breaks_and_the_attack_does_not_shows_in_the_pilot(
    world: World,
) -> None:
    pilot = world.pilot(Reversed(model=world.net, sigma=0.1))
    attack = PGD(steps=10, step=0.2, loss=LossName.MARGIN)
    held = pilot.held(attack, LINF, everyone(pilot))
    found = pilot_behind_transfer(pilot, LINF, everyone(pilot), held)
    assert found is not None
    assert (found.code, found.severity) == ("behind-transfer", Severity.WARNING)
    assert found.figures["best"] > found.figures["transfer"] + 0.1
    assert found.samples
    # Held against itself nothing is behind.
    moved = pilot.held(Transfer(step=0.1), LINF, everyone(pilot))
    assert pilot_behind_transfer(pilot, LINF, everyone(pilot), moved) is None


# ---- all gates of a pilot together


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_evaluation_passes_every_gate(world: World, name: str, seed: int) -> None:
    few = world.first(12)
    attack = PGD(steps=10, step=0.2, loss=LossName.MARGIN)
    exam = Examination(
        defense=sound(few, name),
        x=few.x,
        y=few.y,
        samples=torch.arange(len(few.x)),
        seed=seed,
        threat=LINF,
        plan_of=lambda facts: [PlannedAttack("pgd", attack)],
        draws=DRAWS,
    )
    found = [finding for finding in examine(exam).findings if finding.severity != "info"]
    assert {finding.code for finding in found} <= {"not-converged"}


# ---- gradients of neighbours


class Linear(nn.Module):
    """Scores of two classes: twice the mean brightness above a half, times a steepness."""

    def __init__(self, steepness: float) -> None:
        super().__init__()
        self.steepness = steepness

    def forward(self, x: Tensor) -> Tensor:
        lead = self.steepness * (2 * x.flatten(1).mean(1) - 1)
        return torch.stack([-lead / 2, lead / 2], dim=1)


def coded(model: nn.Module, mates: Tensor, k: int) -> CodedSmoothing:
    return CodedSmoothing(model=model, mates=mates, k=k)


def bright(levels: Collection[float]) -> Tensor:
    return torch.tensor(list(levels))[:, None, None, None].expand(-1, 1, 4, 4).clone()


def crossed(
    defense: Defense, x: Tensor, y: Tensor, gradient: Gradient = Gradient.JOINT, seed: int = 0
) -> Finding | None:
    return cross_gradient(defense, x, y, torch.arange(len(x)), seed, gradient)


K = 16


def confident_but_one() -> tuple[Tensor, Tensor]:
    """Sixteen bright images of the bright class, of which one is labelled as dark."""
    x, y = bright([0.9] * K), torch.ones(K, dtype=torch.int64)
    y[5] = 0
    return x, y


@pytest.mark.parametrize(
    ("gradient", "severity"), [(Gradient.JOINT, Severity.WARNING), (Gradient.OWN, Severity.INFO)]
)
def test_one_misclassified_neighbour_owns_the_joint_gradient(
    gradient: Gradient, severity: Severity
) -> None:
    x, y = confident_but_one()
    defense = coded(Linear(20.0), bright([0.5] * K), K)
    found = explained(crossed(defense, x, y, gradient), "cross-gradient")
    assert found.severity is severity
    assert found.figures["ratio"] < 0.1
    # Its neighbours are confident: their own step is the other way, and they are most of them.
    assert found.figures["signs"] < 0.7
    assert ("gradient=own" in found.remedy) == (gradient is Gradient.JOINT)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_of_equal_size_are_each_samples_own(seed: int) -> None:
    defense = coded(Linear(1.0), bright([0.5] * K), K)
    x, y = bright([0.5] * K), torch.arange(K) % 2
    assert crossed(defense, x, y, seed=seed) is None


def test_where_nobody_has_a_gradient_nobody_has_anothers() -> None:
    """So confident that cross-entropy is flat to the last digit, for every sample alike."""
    defense = coded(Linear(1e4), bright([0.9] * K), K)
    assert crossed(defense, bright([0.9] * K), torch.ones(K, dtype=torch.int64)) is None


def test_a_sample_by_itself_has_no_neighbour(world: World) -> None:
    defense = coded(world.net, world.mates, K)
    assert crossed(defense, world.x[:1], world.y[:1]) is None


def test_a_model_without_a_gradient_is_no_matter_of_its_neighbours(world: World) -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = world.net(x.detach())
            return scores

    assert crossed(coded(Cut(), world.mates, K), world.x[:K], world.y[:K]) is None


class Ordered(nn.Module):
    """A model that remembers what it was asked last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.asked = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.asked = x.detach()
        scores: Tensor = self.net(x)
        return scores


def order_of(defense: CodedSmoothing, model: Ordered, x: Tensor) -> Tensor:
    """The permutation whose coded images the model was asked about, int64 (k,)."""
    encoder = torch.tensor(defense.code.encoder, dtype=torch.float64)
    placed = torch.linalg.lstsq(encoder, model.asked.double().flatten(1)).solution
    far = torch.cdist(placed, x.double().flatten(1))
    assert float(far.min(1).values.max()) < 1e-3
    return far.argmin(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ratio_is_that_of_gradients_taken_one_by_one(world: World, seed: int) -> None:
    model = Ordered(world.net)
    defense = coded(model, world.mates, K)
    x, y = world.x[:K], world.y[:K]
    found = explained(crossed(defense, x, y, seed=seed), "cross-gradient")
    permutation = order_of(defense, model, x)
    leaf = x.clone().requires_grad_()
    scores = coded_inference(world.net, leaf, defense.code, permutation)
    losses = torch.nn.functional.cross_entropy(scores, y, reduction="none")
    # Row i, column j: the gradient of loss i in sample j.
    each = torch.stack(
        [torch.autograd.grad(loss, leaf, retain_graph=True)[0].flatten(1) for loss in losses]
    )
    own = each[torch.arange(K), torch.arange(K)]
    others = each.sum(0) - own
    ratio = float((own.norm(dim=1) / others.norm(dim=1)).median())
    signs = float((own.sign() == (own + others).sign()).float().mean())
    # The gate's own gradients leave out all but three coded images' worth, one in a hundred.
    assert found.figures["ratio"] == pytest.approx(ratio, rel=0.03)
    assert found.figures["signs"] == pytest.approx(signs, abs=0.02)


# ---- behind transfer

SAMPLES = 200


def table(
    rights: dict[str, Any], carried: dict[str, Any] | None = None, proved: Collection[int] = ()
) -> pd.DataFrame:
    """Verdicts of each attack, sample by sample, as a run keeps them."""
    shares: dict[str, list[float]] = {name: [float(s) for s in v] for name, v in rights.items()}
    carried = carried or {}
    rows = [
        Record(
            sample=sample,
            label=0,
            clean=0,
            attack=name,
            prediction=0,
            correct=share,
            votes=None,
            choosing=None,
            clean_correct=1.0,
            clean_votes=None,
            selected=True,
            distance=0.1,
            forwards=1,
            backwards=1,
            seed=0,
            carried=carried.get(name, {}).get(sample),
            proved=sample in proved,
        )
        for name, values in shares.items()
        for sample, share in enumerate(values)
    ]
    return table_of(rows)


def left(count: int, of: int = SAMPLES) -> np.ndarray[Any, Any]:
    """The first ``count`` are right."""
    return (np.arange(of) < count).astype(float)


def test_an_attack_that_knows_the_defence_must_not_be_behind() -> None:
    own = {"pgd": left(150), "aggmo": left(140), "transfer": left(100), "noise": left(20)}
    (found,) = behind_transfer(table(own), {"pgd", "aggmo"})
    explained(found, "behind-transfer")
    assert found.severity is Severity.WARNING
    assert found.figures == {"best": 0.7, "transfer": 0.5, "samples": SAMPLES}
    assert found.samples == tuple(range(100, 140))
    assert "aggmo, leaves 70.0%" in found.what


def test_the_strongest_of_several_transfers_is_the_one_to_beat() -> None:
    rights = {"pgd": left(150), "transfer:steps=5": left(150), "transfer:steps=9": left(100)}
    (found,) = behind_transfer(table(rights), {"pgd"})
    assert found.figures["transfer"] == 0.5


@pytest.mark.parametrize("transfer", [100, 150])
def test_a_tie_and_an_attack_ahead_of_transfer_are_sound(transfer: int) -> None:
    rights = {"pgd": left(100), "transfer": left(transfer)}
    assert behind_transfer(table(rights), {"pgd"}) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_luck_of_the_draws_is_not_behind(seed: int) -> None:
    """Each of the two breaks what the other does not, one of them two samples more."""
    order = np.random.default_rng(seed).permutation(SAMPLES)
    pgd, transfer = np.ones(SAMPLES), np.ones(SAMPLES)
    transfer[order[:62]], pgd[order[62:122]] = 0, 0
    assert behind_transfer(table({"pgd": pgd, "transfer": transfer}), {"pgd"}) == []


def test_few_samples_show_nothing() -> None:
    rights = {"pgd": left(7, of=7), "transfer": left(0, of=7)}
    assert behind_transfer(table(rights), {"pgd"}) == []
    rights = {"pgd": left(8, of=8), "transfer": left(0, of=8)}
    assert len(behind_transfer(table(rights), {"pgd"})) == 1


@pytest.mark.parametrize("names", [("pgd", "noise"), ("transfer", "noise")])
def test_without_both_there_is_nothing_to_compare(names: tuple[str, str]) -> None:
    rights = {names[0]: left(150), names[1]: left(100)}
    assert behind_transfer(table(rights), {"pgd"}) == []


def test_samples_that_transfer_had_broken_before_or_that_are_proved_do_not_count() -> None:
    rights = {"transfer": left(100), "pgd": left(150)}
    broken = {"pgd": dict.fromkeys(range(100, SAMPLES), "transfer")}
    assert behind_transfer(table(rights, broken), {"pgd"}) == []
    assert behind_transfer(table(rights, proved=range(100, SAMPLES)), {"pgd"}) == []
    # What is left counts as before.
    some = {"pgd": dict.fromkeys(range(180, SAMPLES), "transfer")}
    (found,) = behind_transfer(table(rights, some), {"pgd"})
    assert found.figures["samples"] == 180
    (found,) = behind_transfer(table(rights, proved=range(180, SAMPLES)), {"pgd"})
    assert found.figures["samples"] == 180


def test_transfer_that_came_after_has_only_what_the_others_could_not_break() -> None:
    """PGD broke 100 of 200; of those it left, transfer breaks 20, and may do worse over all."""
    rights = {"pgd": left(100), "transfer": left(80)}
    broken = {"transfer": dict.fromkeys(range(100, SAMPLES), "pgd")}
    assert behind_transfer(table(rights, broken), {"pgd"}) == []


def test_an_attack_that_ran_out_of_budget_is_not_compared() -> None:
    records = table({"pgd": left(150), "transfer": left(100)})
    records.loc[(records.attack == "pgd") & (records["sample"] == 3), "finished"] = False
    assert behind_transfer(records, {"pgd"}) == []


def test_a_reversed_gradient_is_found_behind_transfer_in_a_whole_run(tmp_path: Path) -> None:
    DEFENSES.register("turned")(Reversed)
    found = {}
    try:
        for name in ("turned", "gaussian-noise"):
            run = robustcode.attack(
                "digits_cnn",
                "digits",
                "linf:0.1",
                tmp_path / name,
                defense=f"{name}:sigma=0.1",
                attacks=["transfer", "pgd:steps=10,loss=margin"],
                samples=48,
                draws=10,
                progress=False,
            )
            found[name] = {finding["code"]: finding for finding in run.findings}
    finally:
        del DEFENSES._loaded["turned"]
    assert {"behind-transfer", "fixed-draw-holds"} <= set(found["turned"])
    gates = {"behind-transfer", "fixed-draw-holds", "draws-too-few"}
    assert gates.isdisjoint(found["gaussian-noise"])
    figures = found["turned"]["behind-transfer"]["figures"]
    assert figures["best"] - figures["transfer"] > 0.3
