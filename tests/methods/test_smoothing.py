"""Randomized smoothing where the truth is known, and what packing must not change."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import torch
from scipy.stats import binom, norm
from torch import Tensor, nn

from robustcode.adversary import Batch
from robustcode.certificates import Certificate, Status
from robustcode.checkpoint import load_classifier
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import CodedSmoothing, Defense, GaussianNoise, Identity
from robustcode.defenses.smoothing import Smoothing as Smoothed
from robustcode.errors import ConfigError
from robustcode.methods import METHODS, Claim
from robustcode.methods.course import LEAD, STEP
from robustcode.methods.smoothing import Smoothing
from robustcode.noise import KINDS, Kind
from robustcode.seeds import Streams
from robustcode.stopping import looks, needed
from robustcode.threat import Norm, ThreatModel

SHAPE = (1, 2, 2)
# A test that repeats a proof allows for what has a probability of one in a million.
RARE = 1e-6


class Halves(nn.Module):
    """Class 1 where ``weight`` times the image exceeds ``offset``, else 0; notes its calls."""

    def __init__(self, weight: tuple[float, ...], offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight), requires_grad=False)
        self.offset = offset
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        score = x.flatten(1) @ self.weight.to(x) - self.offset
        return torch.stack([-score, score], dim=1)


def claim_of(model: nn.Module, threat: str, radii: tuple[float, ...] = (), **other: Any) -> Claim:
    if "defense" not in other:
        other["defense"] = Identity(model=model)
    parsed = ThreatModel.parse(threat)
    settings: dict[str, Any] = {"classes": 2, "example": torch.full((1, *SHAPE), 0.5)}
    return Claim(threat=parsed, radii=radii or (parsed.eps,), **{**settings, **other})


def proved(method: str, claim: Claim, x: Tensor, y: Tensor, seed: int = 0) -> list[Certificate]:
    smoothing = Component.parse(method).build(METHODS, "test")
    streams = Streams.of(seed, "certify", torch.arange(len(x)) * 3 + 1)
    return smoothing.prepare(claim).prove(x, y, streams, lambda done: None)


def copies(count: int) -> tuple[Tensor, Tensor]:
    """The same image of the same class, under other numbers."""
    return torch.full((count, *SHAPE), 0.5), torch.ones(count, dtype=torch.int64)


# Half-spaces whose boundary lies in the worst direction for each noise and norm, and how far it is.
WORST = [
    (Norm.L2, Kind.GAUSSIAN, (3.0, 4.0, 0.0, 0.0), 0.25 / 5),
    (Norm.LINF, Kind.GAUSSIAN, (1.0, -1.0, 1.0, 1.0), 0.25 / 4),
    (Norm.L1, Kind.GAUSSIAN, (1.0, 0.0, 0.0, 0.0), 0.25),
    (Norm.L1, Kind.UNIFORM, (1.0, 0.0, 0.0, 0.0), 0.25),
    (Norm.L1, Kind.LAPLACE, (1.0, 0.0, 0.0, 0.0), 0.25),
]
worst = pytest.mark.parametrize(
    ("threat", "noise", "weight", "distance"), WORST, ids=[f"{w[0]}-{w[1]}" for w in WORST]
)


def half_space(weight: tuple[float, ...], score: float = 0.25) -> Halves:
    return Halves(weight, 0.5 * sum(weight) - score)


def sigma_of(threat: Norm, noise: Kind, distance: float, sigmas: float = 1.2) -> float:
    """The sigma that a boundary is about so many of away, in the noise's own norm."""
    return distance / KINDS[noise].units[threat](4) / sigmas


@pytest.mark.parametrize("estimator", ["sequential", "fixed", "anytime"])
@worst
def test_a_half_space_is_certified_beyond_its_distance_no_more_often_than_alpha(
    threat: Norm, noise: Kind, weight: tuple[float, ...], distance: float, estimator: str
) -> None:
    """At its very distance the probability is p0 itself, where the error is largest."""
    x, y = copies(600)
    sigma = sigma_of(threat, noise, distance)
    method = f"smoothing:sigma={sigma},noise={noise},estimator={estimator},alpha=0.05,draws=120"
    certificates = proved(method, claim_of(half_space(weight), f"{threat}:{distance}"), x, y)
    false = sum(proof.radius >= distance for proof in certificates)
    assert false <= binom.ppf(1 - RARE, len(x), 0.05)
    if estimator == "sequential":  # it spends all of alpha, up to what the lattice leaves
        assert false >= binom.ppf(RARE, len(x), 0.97 * 0.05)


@worst
def test_what_is_certified_of_a_half_space_approaches_its_distance(
    threat: Norm, noise: Kind, weight: tuple[float, ...], distance: float
) -> None:
    x, y = copies(10)
    model = half_space(weight)
    setting = f"sigma={sigma_of(threat, noise, distance)},noise={noise}"
    radii = tuple(share * distance for share in (0.25, 0.5, 0.75, 0.9, 0.95))
    claim = claim_of(model, f"{threat}:{radii[0]}", radii)
    # A rung that holds is given up with probability .05 at most, by design: here of 10, few.
    certificates = proved(f"smoothing:{setting}", claim, x, y)
    assert sum(proof.radius in radii[-2:] for proof in certificates) >= 7
    for proof in proved(f"smoothing:{setting},estimator=fixed", claim, x[:3], y[:3]):
        assert 0.93 * distance < proof.radius < distance
        assert proof.draws == proof.forwards
        assert 20_000 + STEP <= (proof.draws or 0) <= 20_100


@pytest.mark.parametrize("estimator", ["sequential", "fixed", "anytime"])
def test_a_coin_gets_no_class(estimator: str) -> None:
    x, y = copies(150)
    model = half_space((1.0, 0.0, 0.0, 0.0), score=0.0)
    method = f"smoothing:sigma=0.3,estimator={estimator},draws=200,alpha=0.01"
    certificates = proved(method, claim_of(model, "l2:0.1", (0.0, 0.1)), x, y)
    named = [proof for proof in certificates if proof.prediction is not None]
    # Each of the two classes may be the chosen one, and alpha holds for the chosen one.
    assert len(named) <= binom.ppf(1 - RARE, len(x), 0.01)
    for proof in certificates:
        if proof.prediction is None:
            assert (proof.status, proof.radius, proof.bound) == (Status.ABSTAINED, 0.0, None)


def test_no_draw_is_made_to_name_a_class_unless_a_radius_of_0_asks_for_it() -> None:
    x, y = copies(5)
    model = half_space((1.0, 0.0, 0.0, 0.0), score=0.0)  # a coin
    method = "smoothing:sigma=0.3,draws=5000"
    spared = proved(method, claim_of(model, "l2:0.4"), x, y)
    asked = proved(method, claim_of(model, "l2:0.4", (0.0, 0.4)), x, y)
    assert 5 * sum(p.forwards for p in spared) < sum(p.forwards for p in asked)


def test_scores_that_are_not_numbers_are_no_votes() -> None:
    class Sometimes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            """Class 1, or not a number where the first value is above .5 plus a quartile."""
            broken = x.flatten(1)[:, 0] > 0.5 + norm.ppf(0.75)
            return (
                torch.tensor([[0.0, 1.0]]).repeat(len(x), 1).masked_fill(broken[:, None], math.nan)
            )

    class Never(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 2), math.nan)

    x, y = copies(3)
    method = "smoothing:sigma=1,estimator=fixed,draws=20000"
    for proof in proved(method, claim_of(Sometimes(), "l2:0.1"), x, y):
        assert proof.prediction == 1
        assert proof.radius == pytest.approx(norm.ppf(0.75), abs=0.05)
    for proof in proved(method, claim_of(Never(), "l2:0.1"), x, y):
        assert proof.status is Status.ABSTAINED
        assert proof.draws == 100


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    model = load_classifier("digits_cnn", classes=10).eval().requires_grad_(False)
    data, rows = load_data("digits"), torch.arange(40)
    return model, data.images(rows), data.targets(rows)


def of_digits(digits: tuple[nn.Module, Tensor, Tensor], eps: float, **other: Any) -> Claim:
    model, x, _ = digits
    return claim_of(model, f"l2:{eps}", **{"classes": 10, "example": x[:1], **other})


def test_a_sample_is_proved_alike_whatever_is_beside_it(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    _, x, y = digits
    smoothing = Smoothing(sigma=0.25, draws=300)
    streams = Streams.of(0, "certify", torch.arange(12))

    def prove(rows: list[int], at_once: int) -> list[Certificate]:
        prover = smoothing.prepare(of_digits(digits, 0.2, rows=at_once))
        return prover.prove(x[rows], y[rows], streams[torch.tensor(rows)], lambda done: None)

    whole = prove(list(range(12)), 256)
    assert len({proof.status for proof in whole}) > 1  # or nothing would be compared
    for at_once in (1, 7, 64):
        assert prove(list(range(12)), at_once) == whole
    assert prove([9, 2, 5], 32) == [whole[9], whole[2], whole[5]]


def test_batches_are_full_and_hold_no_more_than_asked() -> None:
    x, y = copies(50)
    model = half_space((1.0, 0.0, 0.0, 0.0))
    claim = claim_of(model, "l2:0.2", rows=64)
    certificates = proved("smoothing:sigma=0.25,draws=500", claim, x, y)
    assert max(model.calls) == 64
    # Until one sample is left, which wants few draws at each of its looks.
    last = len(looks(500)) + 100 // STEP
    assert sum(size < 64 for size in model.calls) <= last < len(model.calls) // 2
    assert sum(model.calls) == sum(proof.forwards for proof in certificates)
    assert all(proof.forwards == proof.draws for proof in certificates)


def test_progress_names_each_sample_once() -> None:
    x, y = copies(30)
    done: list[int] = []
    prover = Smoothing(sigma=0.25, draws=200).prepare(
        claim_of(half_space((1.0, 0.0, 0.0, 0.0)), "l2:0.1", rows=32)
    )
    prover.prove(x, y, Streams.of(0, "certify", torch.arange(30)), done.append)
    assert sum(done) == 30
    assert max(done) < 30


def test_sequential_agrees_with_all_draws_for_less(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    _, x, y = digits
    claim = of_digits(digits, 0.25)
    few = proved("smoothing:sigma=0.25,draws=3000", claim, x, y)
    all_ = proved("smoothing:sigma=0.25,draws=3000,estimator=fixed", claim, x, y)
    certified = [sum(p.status is Status.CERTIFIED for p in run) for run in (few, all_)]
    # On one stream they differ where a probability is within an error of p0: few of 40.
    assert abs(certified[0] - certified[1]) <= 2
    assert certified[1] > 20
    assert 3 * sum(p.forwards for p in few) < sum(p.forwards for p in all_)
    for one, other in zip(few, all_, strict=True):
        assert one.prediction in (None, other.prediction)


def test_a_curve_decides_each_radius_as_it_would_be_decided_alone(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    """Where the boundaries are those of one radius: they are raised at most where rungs touch."""
    _, x, y = digits
    radii = (0.1, 0.25, 0.4)
    curve = proved("smoothing:sigma=0.25,draws=1000", of_digits(digits, 0.25, radii=radii), x, y)
    for radius in radii:
        alone = proved("smoothing:sigma=0.25,draws=1000", of_digits(digits, radius), x, y)
        assert [p.radius >= radius for p in curve] == [p.radius >= radius for p in alone]
        assert all(p.forwards <= q.forwards for p, q in zip(alone, curve, strict=True))


def test_labels_spare_draws_and_leave_the_certified_ones(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    _, x, y = digits
    y = (y + (torch.arange(len(y)) % 2)) % 10  # every other label is wrong
    claim = of_digits(digits, 0.25)
    plain = proved("smoothing:sigma=0.25,draws=500", claim, x, y)
    spared = proved("smoothing:sigma=0.25,draws=500,labels=true", claim, x, y)
    statuses = [[p.status is Status.CERTIFIED for p in run] for run in (plain, spared)]
    assert statuses[0] == statuses[1]
    wrong = [p for p in spared if p.status is Status.WRONG]
    assert len(wrong) >= 20
    assert all(p.radius == 0 and p.forwards <= 100 and p.bound is None for p in wrong)


def test_the_smoothed_defence_brings_its_noise(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Its certificates are those of its model smoothed by the method, with a share besides."""
    model, x, y = digits
    around = proved("smoothing:sigma=0.2,draws=400", of_digits(digits, 0.15), x, y)
    for defense in (Smoothed(model=model, sigma=0.2), GaussianNoise(model=model, sigma=0.2)):
        own = proved("smoothing:draws=400", of_digits(digits, 0.15, defense=defense), x, y)
        assert [dataclasses.replace(p, share=None) for p in own] == around
    method = Smoothing(draws=400)
    assert method.subject(of_digits(digits, 0.15, defense=Smoothed(model=model))) == ""
    around_subject = Smoothing(sigma=0.2).subject(of_digits(digits, 0.15))
    assert around_subject == "smoothing:sigma=0.2,noise=gaussian"
    smoothed = Component.parse(around_subject)
    assert smoothed.settings["noise"] == "gaussian"


@pytest.mark.parametrize("votes", [1, 5, 6])
def test_share_is_below_what_the_worst_input_leaves_a_decision(votes: int) -> None:
    """Of a half-space all is known: at the worst input a draw is right with Phi(lead / sigma)."""
    x, y = copies(20)
    model, sigma, eps = half_space((1.0, 0.0, 0.0, 0.0)), 0.25, 0.1
    claim = claim_of(model, f"l2:{eps}", defense=Smoothed(model=model, sigma=sigma, votes=votes))
    draw = norm.cdf((0.25 - eps) / sigma)
    truth = binom.sf(votes // 2, votes, draw)
    for proof in proved("smoothing:estimator=fixed,draws=20000", claim, x, y):
        assert proof.bound == pytest.approx(draw, abs=0.02)
        assert proof.share == pytest.approx(truth, abs=0.06)
        assert (proof.share or 0) <= truth
    y[0] = 0
    wrong = proved("smoothing:draws=200", claim, x[:1], y[:1])[0]
    assert (wrong.status, wrong.share) == (Status.WRONG, 0.0)


@dataclass(frozen=True, kw_only=True)
class Forgetful(Defense):
    """Says the other class in a fifth of its draws."""

    stochastic: ClassVar[bool] = True

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores = self.model(x)
        return torch.where(streams.uniform(1) < 0.2, scores.flip(1), scores)


def test_a_random_classifier_is_drawn_afresh_with_the_noise() -> None:
    """Its probability is the mean over both, and the radius follows from that."""
    x, y = copies(5)
    model = half_space((1.0, 0.0, 0.0, 0.0), score=0.6)
    claim = claim_of(model, "l2:0.1", defense=Forgetful(model=model))
    right = norm.cdf(0.6 / 0.4)
    mean = 0.8 * right + 0.2 * (1 - right)
    for proof in proved("smoothing:sigma=0.4,estimator=fixed,draws=20000", claim, x, y):
        assert proof.radius == pytest.approx(0.4 * norm.ppf(mean), abs=0.02)
        assert proof.share is None


def test_passes_of_a_defence_are_counted(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = digits
    coded = CodedSmoothing(model=model, mates=x[20:], k=8)
    claim = of_digits(digits, 0.1, defense=coded)
    for proof in proved("smoothing:sigma=0.1,draws=50", claim, x[:4], y[:4]):
        assert proof.draws is not None
        assert proof.forwards == coded.passes * proof.draws


def test_the_class_is_chosen_by_few_draws_where_it_is_clear() -> None:
    x, y = copies(1)
    for score, draws in ((10.0, STEP), (0.0, 100)):
        model = half_space((1.0, 0.0, 0.0, 0.0), score=score)
        claim = claim_of(model, "l2:0.01")
        smoothing = Component.parse("smoothing:sigma=0.3,labels=true,draws=20")
        prover = smoothing.build(METHODS, "test").prepare(claim)
        streams = Streams.of(4, "certify", torch.arange(1))
        (proof,) = prover.prove(x, 1 - y, streams, lambda done: None)
        if score:
            assert proof.draws == draws == LEAD
        else:
            assert (proof.draws or 0) > LEAD


@pytest.mark.parametrize(
    ("method", "threat", "reason"),
    [
        ("smoothing", "l2:0.1", "no noise: write smoothing:sigma=VALUE"),
        ("smoothing:sigma=0", "l2:0.1", "sigma = 0 smooths nothing; take one above 0"),
        ("smoothing:sigma=-1", "l2:0.1", "sigma = -1 smooths nothing"),
        ("smoothing:sigma=nan", "l2:0.1", "sigma = nan smooths nothing"),
        ("smoothing:sigma=inf", "l2:0.1", "a standard deviation is finite"),
        ("smoothing:sigma=0.1,alpha=0", "l2:0.1", r"alpha = 0 is not between 0 and 1; \.001"),
        ("smoothing:sigma=0.1,alpha=1", "l2:0.1", "alpha = 1 is not between 0 and 1"),
        ("smoothing:sigma=0.1,alpha=nan", "l2:0.1", "alpha = nan is not between 0 and 1"),
        ("smoothing:sigma=0.1,draws=0", "l2:0.1", "draws = 0: make 1 or more"),
        ("smoothing:sigma=0.1,selection=0", "l2:0.1", "selection = 0: make 1 or more"),
        ("smoothing:sigma=0.1,noise=gausian", "l2:0.1", "Did you mean 'gaussian'"),
        ("smoothing:sigma=0.1,estimator=ville", "l2:0.1", "Known: sequential, fixed, anytime"),
        (
            "smoothing:sigma=0.1,noise=laplace",
            "l2:0.1",
            "noise = laplace proves nothing worth having in l2; take gaussian",
        ),
        (
            "smoothing:sigma=0.25",
            "l2:1",
            r"radius 1 in l2 takes 218,\d{3} draws or more with sigma = 0.25 and alpha = 0.001",
        ),
        ("smoothing:sigma=0.1", "l2:0.9", "beyond what any number of draws proves with sigma"),
        ("smoothing:sigma=0.1,noise=uniform", "l1:0.18", "beyond what any number of draws"),
    ],
)
def test_what_is_in_vain_is_refused_before_it_runs(method: str, threat: str, reason: str) -> None:
    x, y = copies(1)
    with pytest.raises(ConfigError, match=reason):
        proved(method, claim_of(half_space((1.0, 0.0, 0.0, 0.0)), threat), x, y)


def test_the_draws_that_an_error_names_suffice() -> None:
    """The radius that takes n draws is certified of a constant by n, and refused with n - 1."""
    model, sigma = half_space((1.0, 0.0, 0.0, 0.0), score=100.0), 0.25
    least = needed(norm.cdf(0.5 / sigma), 0.001)
    claim = claim_of(model, "l2:0.5")
    with pytest.raises(ConfigError, match=f"takes {least:,} draws or more"):
        Smoothing(sigma=sigma, draws=least - 1).prepare(claim)
    x, y = copies(1)
    for estimator in ("sequential", "fixed"):
        method = f"smoothing:sigma={sigma},draws={least},estimator={estimator}"
        assert proved(method, claim, x, y)[0].status is Status.CERTIFIED


def test_noise_upon_noise_and_other_adversaries_are_refused(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    model, x, _ = digits
    smoothed = of_digits(digits, 0.1, defense=Smoothed(model=model))
    with pytest.raises(ConfigError, match="adds noise of its own"):
        Smoothing(sigma=0.1).prepare(smoothed)
    still = of_digits(digits, 0.1, defense=GaussianNoise(model=model, sigma=0.0))
    with pytest.raises(ConfigError, match="sigma = 0 adds no noise"):
        Smoothing().prepare(still)
    coded = CodedSmoothing(model=model, mates=x, k=8)
    batch = of_digits(digits, 0.1, defense=coded, adversary=Batch())
    with pytest.raises(ConfigError, match="take the adversary solo"):
        Smoothing(sigma=0.1).prepare(batch)


@pytest.mark.long
def test_each_estimator_certifies_what_it_can_and_the_sequential_one_by_fewest_draws(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    _, x, y = digits
    claim = of_digits(digits, 0.25)
    runs = [
        proved(f"smoothing:sigma=0.25,draws=10000,estimator={name}", claim, x, y)
        for name in ("sequential", "anytime", "fixed")
    ]
    certified = [Counter(p.status for p in run)[Status.CERTIFIED] for run in runs]
    assert max(certified) - min(certified) <= 1
    passes = [sum(p.forwards for p in run) for run in runs]
    assert all(one < other for one, other in pairwise(passes))
