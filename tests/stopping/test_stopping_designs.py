"""Designs spend alpha, all of it and no more; bounds hold as often as they say."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import rel_entr
from scipy.stats import beta, binom, binomtest

from robustcode.errors import ConfigError
from robustcode.statistics import lower_bound
from robustcode.stopping import (
    Boundaries,
    Design,
    anytime,
    anytime_lower,
    fixed,
    looks,
    needed,
    nested,
    probability_at,
    radius_at,
    sequential,
)
from robustcode.stopping.evidence import above, both, hopeless

RADII = [(0.25, 0.25), (0.25, 0.5), (0.25, 0.75), (0.5, 0.0), (0.5, 0.25), (1.0, 0.25), (1.0, 1.75)]
GRID = [(probability_at(radius, sigma), n) for sigma, radius in RADII for n in (20_000, 125_000)]
GRID += [(probability_at(radius, 1.0), 1_000) for radius in (0.0, 0.5, 1.0, 1.5)]
FINE = [
    (probability_at(0.05 * step, 1.0), n) for step in range(61) for n in (10_000, 100_000, 125_000)
]


# Confidence bounds ----------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("counts", [(0, 1), (1, 1), (3, 50), (99_000, 100_000), (10_000, 10_000)])
def test_the_lower_bound_is_scipys(counts: tuple[int, int], alpha: float) -> None:
    expected = binomtest(*counts).proportion_ci(1 - 2 * alpha, "exact").low
    assert float(lower_bound(*counts, alpha)) == pytest.approx(expected, rel=1e-9)


def test_the_lower_bound_takes_arrays() -> None:
    bounds = lower_bound(np.array([[0], [5]]), np.array([5, 10]), 0.01)
    assert bounds.shape == (2, 2)
    assert bounds[1, 1] == lower_bound(5, 10, 0.01)


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (0, 0)])
def test_no_bound_of_what_is_no_proportion(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        lower_bound(*counts, 0.01)
    with pytest.raises(ValueError, match="is not a proportion"):
        anytime_lower(*counts, 0.01)


@pytest.mark.parametrize(("probability", "draws"), [(0.5, 30), (0.84, 200), (0.999, 10_000)])
def test_fixed_certifies_what_clopper_and_pearson_do(probability: float, draws: int) -> None:
    fewest = int(fixed(probability, 0.01, draws).certify[0])
    assert lower_bound(fewest, draws, 0.01) > probability >= lower_bound(fewest - 1, draws, 0.01)
    assert fixed(probability, 0.01, draws).error() == pytest.approx(
        binom.sf(fewest - 1, draws, probability)
    )


@pytest.mark.parametrize("probability", [0.5, 0.9, probability_at(3.0, 1.0)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_needed_is_where_all_successes_begin_to_certify(probability: float, alpha: float) -> None:
    least = needed(probability, alpha)
    assert lower_bound(least, least, alpha) > probability
    assert least == 1 or lower_bound(least - 1, least - 1, alpha) <= probability
    for design in (fixed, sequential, anytime):
        assert design(probability, alpha, least).power(1.0) in (0, 1)
        if least > 1:
            with pytest.raises(ConfigError, match=f"allow {least} or more"):
                design(probability, alpha, least - 1)
    assert fixed(probability, alpha, least).power(1.0) == 1
    assert sequential(probability, alpha, least).power(1.0) == 1


def test_radius_and_probability_are_inverse() -> None:
    assert probability_at(0.0, 0.5) == 0.5
    assert radius_at(0.3, 0.5) == 0
    with pytest.raises(ConfigError, match="no noise"):
        probability_at(0.5, 0.0)
    with pytest.raises(ConfigError, match="negative"):
        probability_at(-0.5, 1.0)


# Evidence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(5, 5), (9, 10), (17, 40), (0, 3)])
def test_evidence_is_the_mean_likelihood_ratio(counts: tuple[int, int]) -> None:
    successes, draws = counts
    p0, prior = 0.7, beta(0.5, 0.5)

    # q = sin^2 makes the prior flat, so that the ends can be integrated.
    def ratio(angle: float) -> float:
        q = math.sin(angle) ** 2
        gain = (q / p0) ** successes * ((1 - q) / (1 - p0)) ** (draws - successes)
        return float(gain * 2 / math.pi)

    upper = quad(ratio, math.asin(math.sqrt(p0)), math.pi / 2)[0] / prior.sf(p0)
    whole = quad(ratio, 0, math.pi / 2)[0]
    assert float(np.exp(above(*counts, p0))) == pytest.approx(upper, rel=1e-7)
    assert float(np.exp(both(*counts, p0))) == pytest.approx(whole, rel=1e-7)


@pytest.mark.parametrize("probability", [0.3, 0.7, 0.8])
def test_evidence_for_what_is_false_is_one_at_most_on_average(probability: float) -> None:
    counts = np.arange(51)
    mean = binom.pmf(counts, 50, probability) @ np.exp(above(counts, 50, 0.8))
    assert mean <= 1 + 1e-12
    if probability == 0.8:
        assert mean == pytest.approx(1)


def test_giving_up_needs_a_rate_below() -> None:
    when = looks(20_000)
    for probability in (0.5, 0.9, 0.9987):
        most = hopeless(when, probability, 0.0)
        assert (most <= when * probability).all()
        assert (most >= -1).all()
        gains = [
            n * (rel_entr(s / n, probability) + rel_entr(1 - s / n, 1 - probability))
            for s, n in zip(most, when, strict=True)
            if s >= 0
        ]
        goals = [0.5 * math.log(20_000 / n) for s, n in zip(most, when, strict=True) if s >= 0]
        assert (np.array(gains) >= np.array(goals) - 1e-9).all()


# Sequential -----------------------------------------------------------------------------------


def spends_alpha(probability: float, alpha: float, draws: int) -> None:
    rule = sequential(probability, alpha, draws)
    share = rule.error() / alpha
    assert share <= 1
    if draws >= 4 * needed(probability, alpha):
        assert share >= 0.97, (probability, alpha, draws)


@pytest.mark.parametrize("alpha", [0.001, 0.01])
@pytest.mark.parametrize(("probability", "draws"), GRID)
def test_sequential_spends_alpha_and_no_more(probability: float, draws: int, alpha: float) -> None:
    spends_alpha(probability, alpha, draws)


@pytest.mark.long
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05])
@pytest.mark.parametrize(("probability", "draws"), FINE)
def test_sequential_spends_alpha_everywhere(probability: float, draws: int, alpha: float) -> None:
    spends_alpha(probability, alpha, draws)


@pytest.mark.parametrize("design", [sequential, anytime])
@pytest.mark.parametrize("step", [0.15, 0.25])
def test_a_harder_claim_never_certifies_sooner(design: Design, step: float) -> None:
    rungs = [design(probability_at(r, 1.0), 0.001, 20_000) for r in np.arange(0, 3.1, step)]
    assert nested(rungs)


def test_a_design_takes_less_than_half_a_second() -> None:
    start = time.process_time()
    sequential.__wrapped__(probability_at(0.1, 1.0), 0.001, 125_000)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(("probability", "draws"), [(0.9, 2_000), (0.5, 300), (0.97725, 5_000)])
def test_simulated_streams_are_certified_as_often_as_computed(
    probability: float, draws: int
) -> None:
    rule = sequential(probability, 0.01, draws)
    streams, generator = 200_000, np.random.default_rng(draws)
    open_, certified = np.ones(streams, dtype=bool), np.zeros(streams, dtype=bool)
    successes, taken = np.zeros(streams, np.int64), np.zeros(streams)
    for look, step in enumerate(np.diff(rule.looks, prepend=0)):
        successes += generator.binomial(step, probability, streams)
        taken += step * open_
        certified |= open_ & (successes >= rule.certify[look])
        open_ &= (successes < rule.certify[look]) & (successes > rule.give_up[look])
    assert not open_.any()
    error = rule.error()
    spread = math.sqrt(error * (1 - error) / streams)
    assert abs(certified.mean() - error) < 4 * spread
    assert abs(taken.mean() - rule.draws(probability)) < 4 * taken.std() / math.sqrt(streams)


def test_draws_are_near_the_floor_of_information() -> None:
    """No rule of error alpha takes fewer than log(1 / alpha) / KL on average (Wald 1945).

    That is of a rule that always certifies in the end.
    """
    p0 = probability_at(2.0, 1.0)
    rule = sequential(p0, 0.001, 125_000)
    for truth in (0.985, 0.99, 0.995):
        floor = -math.log(0.001) / (rel_entr(truth, p0) + rel_entr(1 - truth, 1 - p0))
        assert rule.power(truth) > 0.99
        assert 0.95 * floor < rule.draws(truth) < 1.3 * floor


def test_looks_depend_on_the_draws_alone() -> None:
    assert looks(20_000)[-1] == 20_000
    np.testing.assert_array_equal(
        sequential(0.6, 0.01, 20_000).looks, sequential(0.99, 0.001, 20_000).looks
    )
    assert looks(5).tolist() == [5]
    with pytest.raises(ConfigError, match="growth"):
        looks(100, 1.0)


@pytest.mark.parametrize(
    ("probability", "alpha", "draws", "says"),
    [
        (0.4, 0.001, 100, "probability = 0.4"),
        (0.9, 1.5, 100, "alpha = 1.5"),
        (0.9, 0.001, 0, "draws = 0"),
        (0.9, 0.001, 50, "allow 66 or more"),
    ],
)
def test_refuses_what_nothing_can_come_of(
    probability: float, alpha: float, draws: int, says: str
) -> None:
    for design in (fixed, sequential, anytime):
        with pytest.raises(ConfigError, match=says):
            design(probability, alpha, draws)


def test_no_design_for_an_alpha_that_errors_are_not_computed_to() -> None:
    design = sequential(0.5, 1e-18, 2_000)
    assert design.error() <= 1e-18
    # The chance of so many successes at one look alone is none that was dropped on the way.
    assert np.max(binom.sf(design.certify - 1, design.looks, 0.5)) <= design.error()
    for make in (fixed, sequential, anytime):
        with pytest.raises(ConfigError, match="below 1e-18"):
            make(0.5, 1e-40, 2_000)


# Anytime --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("probability", [0.5, 0.84, 0.97725, 0.9987])
def test_ville_stays_below_alpha(probability: float, alpha: float) -> None:
    rule = anytime(probability, alpha, 20_000)
    assert 0 < rule.error() < alpha
    assert rule.error() < sequential(probability, alpha, 20_000).error()


def test_anytime_certifies_where_its_bound_is_above() -> None:
    rule = anytime(0.9, 0.01, 5_000)
    sure = rule.certify <= rule.looks
    n, fewest = rule.looks[sure], rule.certify[sure]
    assert (anytime_lower(fewest, n, 0.01) >= 0.9 - 1e-12).all()
    assert (anytime_lower(fewest - 1, n, 0.01) < 0.9).all()


@pytest.mark.parametrize("probability", [0.5, 0.8, 0.9])
def test_the_anytime_bound_holds_at_every_draw(probability: float) -> None:
    """Its chance to be wrong anywhere in 60 draws, exactly."""
    n = np.arange(1, 61)
    wrong = np.array(
        [
            np.searchsorted(anytime_lower(np.arange(m + 1), m, 0.05), probability, side="right")
            for m in n
        ]
    )
    rule = Boundaries(
        probability=probability,
        alpha=0.05,
        looks=n,
        certify=wrong,
        give_up=np.append(np.full(59, -1), wrong[-1] - 1),
    )
    assert 0.002 < rule.error() <= 0.05


def test_the_anytime_bound_is_where_the_evidence_crosses_once() -> None:
    rates = np.linspace(1e-3, 0.999, 999)
    for successes, draws in [(1, 1), (3, 4), (1, 50), (40, 50), (50, 50), (990, 1000)]:
        strong = above(successes, draws, rates) >= -math.log(0.01)
        assert (np.diff(strong.astype(int)) <= 0).all()
        bound = float(anytime_lower(successes, draws, 0.01))
        np.testing.assert_array_equal(strong, rates <= bound)
        assert bound <= lower_bound(successes, draws, 0.01)
