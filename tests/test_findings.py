"""Every fault is planted and found; what is sound raises nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode import facts as facts_module  # test_facts by its own name would be collected
from robustcode.attacks import PGD, LossName
from robustcode.checks import Examination, examine
from robustcode.checks.catalogue import every
from robustcode.checks.catalogue.noise_as_strong import compare_attacks
from robustcode.defenses import DEFENSES, Defense
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.identity import Identity
from robustcode.errors import ContractError
from robustcode.findings import Facts, Finding, Severity
from robustcode.models import MODELS
from robustcode.plan import PlannedAttack
from robustcode.records import Record
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel

PILOT = 32
LINF = ThreatModel.parse("linf:0.1")


# The checks that this file is about, of those that try an attack.
PROBES = {
    "larger-eps-more-robust",
    "not-converged",
    "whole-box-holds",
    "draws-too-few",
    "fixed-draw-holds",
    "behind-transfer",
}


@dataclass(frozen=True)
class Probed:
    """What these checks found, and what they cost once the facts were known."""

    findings: tuple[Finding, ...]
    forwards: int
    backwards: int


def probe(exam: Examination) -> Probed:
    assert exam.facts
    report = examine(exam, [check for check in every() if check.code in PROBES])
    passes = [(line.forwards, line.backwards) for line in report.looked]
    return Probed(report.findings, *(sum(kind) for kind in zip(*passes, strict=True)))


@dataclass(frozen=True)
class World:
    """A small network that knows the digits, and pilot samples it was not trained on."""

    net: nn.Module
    x: Tensor
    y: Tensor
    samples: Tensor
    mates: Tensor

    def facts(
        self, defense: Defense, x: Tensor | None = None, training: tuple[str, ...] = ()
    ) -> tuple[Facts, dict[str, Finding]]:
        x = x if x is not None else self.x
        samples = self.samples[: len(x)]
        facts, report = facts_module.test_facts(defense, x, samples, 0, training)
        findings = report.findings
        assert len({finding.code for finding in findings}) == len(findings)
        return facts, {finding.code: finding for finding in findings}

    def probe(
        self, defense: Defense, attack: PGD, threat: ThreatModel = LINF, seed: int = 0
    ) -> Probed:
        return probe(self.examination(defense, attack, threat, seed))

    def examination(
        self, defense: Defense, attack: PGD, threat: ThreatModel = LINF, seed: int = 0
    ) -> Examination:
        return Examination(
            defense=defense,
            x=self.x,
            y=self.y,
            samples=self.samples,
            seed=seed,
            threat=threat,
            plan_of=lambda facts: [PlannedAttack("pgd", attack)],
        )

    def probed(
        self, defense: Defense, attack: PGD, threat: ThreatModel = LINF
    ) -> dict[str, Finding]:
        return {found.code: found for found in self.probe(defense, attack, threat).findings}


@pytest.fixture(scope="module")
def world() -> World:
    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(np.asarray(pixels) / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(np.asarray(classes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MODELS.get("digits_cnn")()
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(8):
            for rows in torch.randperm(1400).split(64):
                optimizer.zero_grad()
                F.cross_entropy(net(images[rows]), labels[rows]).backward()
                optimizer.step()
    net.eval().requires_grad_(False)
    pilot = slice(1400, 1400 + PILOT)
    return World(net, images[pilot], labels[pilot], torch.arange(1400, 1400 + PILOT), images[:200])


class Around(nn.Module):
    """A network with something before it and something after."""

    def __init__(
        self,
        net: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda scores: scores,
    ) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


def around(
    world: World,
    before: Callable[[Tensor], Tensor] = lambda x: x,
    after: Callable[[Tensor], Tensor] = lambda scores: scores,
) -> Identity:
    return Identity(model=Around(world.net, before, after).eval())


# ---- facts: what is sound


SOUND = ["identity", "gaussian-noise", "bit-depth", "jpeg", "random-resize-pad", "coded-smoothing"]


def sound(world: World, name: str) -> Defense:
    given: dict[str, Any] = {"mates": world.mates, "k": 8} if name == "coded-smoothing" else {}
    return made(name, world.net, **given)


def made(name: str, model: nn.Module, **given: Any) -> Defense:
    return cast("Callable[..., Defense]", DEFENSES.get(name))(model=model, **given)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_defence_is_what_it_declares(world: World, name: str) -> None:
    defense = sound(world, name)
    facts, findings = world.facts(defense)
    assert findings == {}
    # How noisy its gradients are is measured, not declared.
    assert (facts.noise > 0) == defense.stochastic
    assert replace(facts, noise=0.0) == Facts(
        stochastic=defense.stochastic,
        differentiable=defense.differentiable,
        batch_coupled=defense.batch_coupled,
        classes=10,
    )


@pytest.mark.parametrize("name", SOUND)
def test_one_pilot_sample_is_enough_for_a_sound_defence(world: World, name: str) -> None:
    defense = sound(world, name)
    facts, findings = world.facts(defense, world.x[:1])
    assert findings == {}
    assert facts.stochastic == defense.stochastic


def test_log_probabilities_are_logits(world: World) -> None:
    assert world.facts(around(world, after=lambda scores: scores.log_softmax(1)))[1] == {}


# ---- facts: each fault


def test_probabilities_are_no_logits(world: World) -> None:
    _, findings = world.facts(around(world, after=lambda scores: scores.softmax(1)))
    assert findings["probabilities-as-logits"].severity is Severity.WARNING


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_numbers_are_found_with_their_samples(
    world: World, value: float
) -> None:
    faulty = world.x[[3, 8]]

    def spoil(x: Tensor) -> Tensor:
        hit = (x[:, None] == faulty).flatten(2).all(2).any(1)
        return torch.where(hit[:, None], value, 0.0)

    class Spoilt(Around):
        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.net(x) + spoil(x)
            return scores

    facts, findings = world.facts(Identity(model=Spoilt(world.net).eval()))
    assert set(findings) == {"non-finite-logits"}  # the others are tested as usual
    assert findings["non-finite-logits"].severity is Severity.FAILURE
    assert findings["non-finite-logits"].samples == (1403, 1408)
    assert "on 2 of 32 samples" in findings["non-finite-logits"].what
    assert not facts.stochastic


def test_a_model_whose_logits_are_all_nan_is_a_finding_and_no_crash(world: World) -> None:
    facts, findings = world.facts(around(world, after=lambda scores: scores * float("nan")))
    assert set(findings) == {"non-finite-logits"}
    assert not facts.stochastic


def no_graph(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy().copy())


@pytest.mark.parametrize("cut", [torch.detach, no_graph])
def test_a_cut_graph_is_a_missing_gradient(world: World, cut: Callable[[Tensor], Tensor]) -> None:
    facts, findings = world.facts(around(world, before=cut))
    assert set(findings) == {"missing-gradient", "declared-differentiable"}
    assert {found.severity for found in findings.values()} == {Severity.FAILURE}
    assert not facts.differentiable


def test_a_graph_that_reaches_only_the_weights_is_a_missing_gradient(world: World) -> None:
    net = MODELS.get("digits_cnn")().eval()
    _, findings = world.facts(Identity(model=Around(net, before=torch.detach).eval()))
    assert "missing-gradient" in findings


def test_rounding_leaves_a_zero_gradient(world: World) -> None:
    facts, findings = world.facts(around(world, before=lambda x: (8 * x).round() / 8))
    assert set(findings) == {"zero-gradient", "declared-differentiable"}
    assert findings["zero-gradient"].severity is Severity.FAILURE
    assert findings["zero-gradient"].figures["share"] == 1
    assert not facts.differentiable


@pytest.mark.parametrize(("count", "severity"), [(1, Severity.WARNING), (12, Severity.FAILURE)])
def test_a_zero_gradient_is_as_severe_as_it_is_frequent(
    world: World, count: int, severity: Severity
) -> None:
    blind = world.x[:count]

    def before(x: Tensor) -> Tensor:
        hit = (x[:, None] == blind).flatten(2).all(2).any(1)
        return torch.where(hit[:, None, None, None], x.detach(), x)

    facts, findings = world.facts(around(world, before=before))
    assert set(findings) == {"zero-gradient"}
    assert findings["zero-gradient"].severity is severity
    assert findings["zero-gradient"].samples == tuple(range(1400, 1400 + count))
    assert f"on {count} of 32 samples" in findings["zero-gradient"].what
    assert facts.differentiable


def test_large_logits_leave_cross_entropy_without_a_gradient_but_not_the_margin(
    world: World,
) -> None:
    facts, findings = world.facts(around(world, after=lambda scores: 1000 * scores))
    assert set(findings) == {"vanishing-loss"}
    assert findings["vanishing-loss"].figures["share"] > 0.9
    assert findings["vanishing-loss"].severity is Severity.WARNING
    assert facts.differentiable


def test_a_root_at_zero_gives_a_gradient_that_is_no_number(world: World) -> None:
    _, findings = world.facts(around(world, before=lambda x: x.sqrt()))
    assert set(findings) == {"non-finite-gradient"}
    dark = (world.x == 0).flatten(1).any(1)
    assert findings["non-finite-gradient"].samples == tuple(world.samples[dark].tolist())


@dataclass(frozen=True, kw_only=True)
class Rounded(Defense):
    """Rounds its input and says so, but offers no surrogate."""

    differentiable: ClassVar[bool] = False

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model((8 * x).round() / 8)
        return scores


@dataclass(frozen=True, kw_only=True)
class Boastful(Rounded):
    """Says its rounding can be differentiated, and has a surrogate that can."""

    differentiable: ClassVar[bool] = True

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        return scores


def test_it_is_the_surrogate_that_must_have_a_gradient(world: World) -> None:
    facts, findings = world.facts(Rounded(model=world.net))
    assert set(findings) == {"zero-gradient"}
    assert "surrogate" in findings["zero-gradient"].what
    assert not facts.differentiable


def test_a_surrogate_steps_in_where_the_declared_gradient_is_not_there(world: World) -> None:
    facts, findings = world.facts(Boastful(model=world.net))
    assert set(findings) == {"declared-differentiable"}
    assert not facts.differentiable


@dataclass(frozen=True, kw_only=True)
class SilentNoise(GaussianNoise):
    """Random, by its streams, and does not say so."""

    stochastic: ClassVar[bool] = False


def test_a_defence_that_says_it_is_deterministic_must_be(world: World) -> None:
    facts, findings = world.facts(SilentNoise(model=world.net, sigma=0.01))
    assert set(findings) == {"declared-deterministic"}
    assert findings["declared-deterministic"].severity is Severity.WARNING
    assert facts.stochastic


@dataclass(frozen=True, kw_only=True)
class RarelyNoisy(Defense):
    """Random on one draw in twenty."""

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        noisy = streams.uniform(1) < 0.05
        scores: Tensor = self.model(x)
        return scores + noisy * streams.normal(10)


def test_rare_randomness_is_seen_even_on_one_sample(world: World) -> None:
    facts, findings = world.facts(RarelyNoisy(model=world.net), world.x[:1])
    assert set(findings) == {"declared-deterministic"}
    assert facts.stochastic


def test_randomness_from_the_global_generator_is_not_reproducible(world: World) -> None:
    shaken = around(world, before=lambda x: x + 0.01 * torch.randn_like(x))
    facts, findings = world.facts(shaken)
    assert set(findings) == {"declared-deterministic", "not-reproducible"}
    assert findings["not-reproducible"].severity is Severity.WARNING
    assert facts.stochastic
    _, findings = world.facts(GaussianNoise(model=shaken.model))
    assert set(findings) == {"not-reproducible"}


def test_a_defence_that_says_it_is_stochastic_must_be(world: World) -> None:
    facts, findings = world.facts(GaussianNoise(model=world.net, sigma=0.0))
    assert set(findings) == {"declared-stochastic"}
    assert findings["declared-stochastic"].severity is Severity.WARNING
    assert not facts.stochastic


def test_rounding_is_not_randomness(world: World) -> None:
    def rounded(scores: Tensor) -> Tensor:
        return scores * (1 + 1e-6 * torch.rand_like(scores))

    facts, findings = world.facts(around(world, after=rounded))
    assert findings == {}
    assert not facts.stochastic
    facts, findings = world.facts(GaussianNoise(model=around(world, after=rounded).model, sigma=0))
    assert set(findings) == {"declared-stochastic"}


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_inputs_must_lie_in_the_box(world: World, value: float) -> None:
    x = world.x.clone()
    x[5, 0, 2, 2] = value
    _, findings = world.facts(Identity(model=world.net), x)
    assert findings["inputs-outside-box"].severity is Severity.FAILURE
    assert findings["inputs-outside-box"].samples == (1405,)


def test_training_mode_is_named(world: World) -> None:
    _, findings = world.facts(Identity(model=world.net), training=("the model", "0", "1", "2"))
    assert set(findings) == {"train-mode"}
    assert "4 modules came in training mode (the model, 0, 1, ..)" in findings["train-mode"].what


def test_statistics_of_the_batch_couple_it(world: World) -> None:
    norm = nn.BatchNorm2d(1, track_running_stats=False).requires_grad_(False)
    _, findings = world.facts(around(world, before=norm))
    assert set(findings) == {"declared-uncoupled"}
    norm = nn.BatchNorm2d(1).requires_grad_(False).eval()
    assert world.facts(around(world, before=norm))[1] == {}


def test_scores_of_another_shape_are_refused(world: World) -> None:
    with pytest.raises(ContractError, match=r"shape \(16,\) for 16 inputs"):
        world.facts(around(world, after=lambda scores: scores[:, 0]))


# ---- probes


@pytest.mark.parametrize(
    ("name", "threat"),
    [
        *(("identity", threat) for threat in ("linf:1e-7", "linf:0.1", "l2:0.5", "l1:2")),
        ("bit-depth", "linf:0.05"),
        ("gaussian-noise", "linf:0.1"),
        ("gaussian-noise", "l2:0.5"),
    ],
)
def test_a_sound_evaluation_raises_nothing_and_is_cheap(
    world: World, name: str, threat: str
) -> None:
    result = world.probe(sound(world, name), PGD(), ThreatModel.parse(threat))
    assert result.findings == ()
    # A random defence is tried with one known draw, with more draws and by transfer besides.
    assert result.forwards + result.backwards <= (520 if name == "gaussian-noise" else 360) * PILOT


@pytest.mark.parametrize("seed", range(3))
def test_the_noise_of_a_stochastic_defence_raises_nothing(world: World, seed: int) -> None:
    threat, attack = ThreatModel.parse("linf:1e-7"), PGD(steps=20)
    assert world.probe(GaussianNoise(model=world.net), attack, threat, seed).findings == ()


def test_coded_inference_raises_nothing(world: World) -> None:
    few = replace(world, x=world.x[:12], y=world.y[:12], samples=world.samples[:12])
    assert few.probe(sound(world, "coded-smoothing"), PGD(steps=5, step=0.25)).findings == ()


@pytest.mark.parametrize("name", ["identity", "gaussian-noise"])
def test_every_pass_is_counted(world: World, name: str) -> None:
    counting = Around(world.net).eval()
    defense = made(name, counting)
    seen, back = [], []

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(len(inputs[0]))
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda gradient: back.append(len(gradient)))

    counting.register_forward_pre_hook(count)
    # Out of order: passes are counted by sample, not by place.
    order = torch.arange(PILOT).flip(0)
    turned = replace(world, x=world.x[order], y=world.y[order], samples=world.samples[order])
    exam = turned.examination(defense, PGD(steps=10))
    before = sum(seen)  # whether it remembers is asked first of all
    report = examine(exam)
    assert (int(exam.ledger.forwards.sum()), int(exam.ledger.backwards.sum())) == (
        sum(seen),
        sum(back),
    )
    assert sum(line.forwards for line in report.looked) == sum(seen) - before


def test_the_pilot_is_reproducible_and_leaves_the_global_generator_alone(world: World) -> None:
    state = torch.get_rng_state()
    attack = PGD(steps=3, step=0.02)
    results = [world.probe(GaussianNoise(model=world.net), attack) for _ in range(2)]
    assert results[0] == results[1]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["identity", "gaussian-noise"])
def test_too_few_steps_have_not_converged(world: World, name: str) -> None:
    found = world.probed(sound(world, name), PGD(steps=4, step=0.05, random_start=False))
    # Of a random defence the plain model is attacked beside it, with steps enough.
    beside = {"behind-transfer"} if name == "gaussian-noise" else set()
    assert set(found) == {"not-converged"} | beside
    assert found["not-converged"].severity is Severity.WARNING
    assert found["not-converged"].figures["longer_steps"] == 20
    assert "20 steps instead of 4 take a further" in found["not-converged"].what


def test_the_pilot_lets_broken_samples_leave_whatever_the_plan_says(world: World) -> None:
    defense = Identity(model=world.net)
    results = [
        world.probe(defense, PGD(steps=4, step=0.05, until_broken=until_broken))
        for until_broken in (True, False)
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("name", "attack"),
    [("identity", PGD(steps=50, restarts=3)), ("gaussian-noise", PGD(steps=10, draws=10))],
)
def test_convergence_that_was_not_tested_is_said_so(world: World, name: str, attack: PGD) -> None:
    found = world.probed(sound(world, name), attack)
    assert set(found) == {"convergence-untested"}
    assert found["convergence-untested"].severity is Severity.INFO


class Rippled(nn.Module):
    """Two classes; brightness moves the margin up and down with a period of 0.02.

    From just beside a crest, at .5, steps of .02 go from crest to crest and never meet a trough,
    while steps of .01 fall into the first.
    """

    def forward(self, x: Tensor) -> Tensor:
        lead = torch.cos(2 * torch.pi / 0.02 * (x.flatten(1).mean(1) - 0.5 - 0.0005))
        return torch.stack([lead, -lead], dim=1)


def test_a_larger_eps_that_breaks_less_is_found() -> None:
    x, y = torch.full((PILOT, 1, 4, 4), 0.5), torch.zeros(PILOT, dtype=torch.int64)
    world = World(Rippled(), x, y, torch.arange(PILOT), x)
    defense = Identity(model=world.net)
    assert not {"zero-gradient", "missing-gradient"} & set(world.facts(defense)[1])
    result = world.probe(defense, PGD(step=0.1, random_start=False))
    found = {finding.code: finding for finding in result.findings}
    assert found["larger-eps-more-robust"].severity is Severity.WARNING
    assert found["larger-eps-more-robust"].figures["accuracy"] == 0
    assert found["larger-eps-more-robust"].figures["larger_eps_accuracy"] == 1
    assert found["larger-eps-more-robust"].samples == tuple(range(PILOT))


def uphill(x: Tensor) -> Tensor:
    """The value of x with the opposite gradient."""
    return 2 * x.detach() - x


@pytest.mark.parametrize("threat", ["linf:0.1", "l2:1", "l1:4"])
def test_a_reversed_gradient_holds_the_whole_box(world: World, threat: str) -> None:
    defense = around(world, before=uphill)
    assert world.facts(defense)[1] == {}  # a gradient is there; only the attack shows its worth
    found = world.probed(defense, PGD(steps=10), ThreatModel.parse(threat))
    assert found["whole-box-holds"].severity is Severity.FAILURE
    assert found["whole-box-holds"].figures["accuracy"] > 0.8
    assert found["whole-box-holds"].figures["reachable"] == len(found["whole-box-holds"].samples)


def test_a_random_defence_without_a_gradient_holds_the_whole_box(world: World) -> None:
    found = world.probed(GaussianNoise(model=around(world, before=uphill).model), PGD(steps=10))
    assert found["whole-box-holds"].figures["accuracy"] > 0.5


def test_cross_entropy_alone_need_not_break_the_whole_box(world: World) -> None:
    scaled = around(world, after=lambda scores: 1000 * scores)
    assert "whole-box-holds" not in world.probed(scaled, PGD(loss=LossName.MARGIN))


@pytest.mark.parametrize(
    # 16 samples: with the whole box 40 steps; before that 10 of the plan, and 50 for longer.
    ("threat", "steps"),
    [("linf:0", 16 * 40), ("linf:1", 16 * (40 + 10 + 50)), ("linf:0.6", 16 * (40 + 20 + 50))],
)
def test_only_what_can_be_learnt_from_a_budget_is_paid_for(
    world: World, threat: str, steps: int
) -> None:
    result = world.probe(GaussianNoise(model=world.net), PGD(steps=10), ThreatModel.parse(threat))
    assert result.findings == ()
    # Then 20 for transfer, 10 with one draw and with four, and up to 20 on a known draw and as many
    # on the plain model, until a sample is broken.
    known = 0 if threat == "linf:0" else 16 * (20 + 10 * (1 + 4) + 40)
    assert steps <= result.backwards <= steps + known


def test_a_defence_that_is_never_right_is_not_attacked(world: World) -> None:
    wrong = Identity(model=Around(world.net, after=lambda scores: -scores).eval())
    result = world.probe(wrong, PGD())
    assert result == Probed((), PILOT, 0)


# ---- after the run


def records(
    correct: dict[str, list[float]], clean: float = 1.0, draws: int | None = None
) -> pd.DataFrame:
    """Verdicts by attack, one number for each sample; votes if there were draws."""

    def votes(share: float) -> tuple[int, ...] | None:
        return None if draws is None else (round(share * draws), draws - round(share * draws))

    rows = [
        Record(
            sample=sample,
            label=0,
            clean=0,
            attack=attack,
            prediction=0,
            correct=share,
            votes=votes(share),
            choosing=None,
            clean_correct=clean,
            clean_votes=votes(clean),
            selected=True,
            distance=0.1,
            forwards=1,
            backwards=1,
            seed=0,
        )
        for attack, shares in correct.items()
        for sample, share in enumerate(shares)
    ]
    return pd.DataFrame(rows)


def test_an_attack_must_beat_noise() -> None:
    table = records({"pgd": [1, 1, 1, 0], "noise": [1, 1, 0, 1], "strong": [0, 0, 0, 1]})
    (finding,) = compare_attacks(table, {"noise"})
    assert (finding.code, finding.severity) == ("noise-as-strong", Severity.WARNING)
    assert finding.figures == {"attack": 0.75, "noise": 0.75, "clean": 1.0, "samples": 4}
    assert finding.samples == (2,)
    assert "pgd leaves 75.0% of 4 samples right" in finding.what


def test_the_strongest_noise_is_the_one_to_beat() -> None:
    table = records({"pgd": [1, 1, 0, 1], "weak": [1, 1, 1, 1], "noise": [1, 0, 0, 1]})
    (finding,) = compare_attacks(table, {"weak", "noise"})
    assert finding.figures["noise"] == 0.5


def test_an_attack_that_leaves_nothing_right_needs_no_comparison() -> None:
    assert compare_attacks(records({"pgd": [0, 0], "noise": [0, 0]}), {"noise"}) == []


def test_without_noise_there_is_nothing_to_say() -> None:
    assert compare_attacks(records({"pgd": [1, 1]}), set()) == []
    assert compare_attacks(records({"noise": [1, 1]}), {"noise"}) == []


def test_where_neither_breaks_anything_eps_may_be_too_small() -> None:
    (finding,) = compare_attacks(records({"pgd": [1, 1], "noise": [1, 1]}), {"noise"})
    assert finding.severity is Severity.INFO


@pytest.mark.parametrize(
    ("attack", "severity"),
    # 50 samples with 100 draws each: two standard errors of a difference are 0.02.
    [(0.895, Severity.INFO), (0.905, Severity.INFO), (0.86, None)],
)
def test_the_judges_noise_is_allowed_for(attack: float, severity: Severity | None) -> None:
    table = records({"pgd": [attack] * 50, "noise": [0.9] * 50}, clean=0.9, draws=100)
    found = compare_attacks(table, {"noise"})
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_noise_that_breaks_as_much_of_a_random_defence_is_found() -> None:
    table = records({"pgd": [0.6] * 50, "noise": [0.6] * 50}, clean=0.9, draws=100)
    (finding,) = compare_attacks(table, {"noise"})
    assert finding.severity is Severity.WARNING
