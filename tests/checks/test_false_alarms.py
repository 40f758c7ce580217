"""Where nothing is wrong, a statistical check says so no more often than its page allows.

Each decision is repeated under its own null hypothesis. Runs are compared with the stated rate by
an exact binomial test, at a level at which a right rate fails once in a thousand sets of seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import binom, t
from torch import Tensor

from robustcode.checks.catalogue import (
    behind_transfer,
    draws_too_few,
    fixed_draw_holds,
    larger_eps_more_robust,
    noise_as_strong,
    not_converged,
    one_class,
)
from robustcode.checks.catalogue.label_leakage import sides_changed
from robustcode.checks.catalogue.low_precision import FEWEST, GRIDS, ON_GRID, grid_of
from robustcode.checks.catalogue.null_test import by_chance
from robustcode.gradients import MOST_DRAWS, gradient_noise
from robustcode.seeds import Streams

RUNS = 2000
DRAWS = 20

# A sample's chance of a right decision: the same for all, or each its own.
CHANCES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "half": lambda rng, count: np.full(count, 0.5),
    "nine in ten": lambda rng, count: np.full(count, 0.9),
    "any": lambda rng, count: rng.random(count),
    "three are random": lambda rng, count: 0.5 * (rng.random(count) < 3 / count),
}

# What is decided from two sets of shares of right decisions, one for each sample.
STOCHASTIC: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "larger-eps-more-robust": lambda a, b: larger_eps_more_robust.more_hold(a, b, True),
    "draws-too-few": lambda a, b: draws_too_few.breaks_more(b - a),
    "behind-transfer": lambda a, b: behind_transfer.pilot_beaten(b - a),
    "not-converged": lambda a, b: not_converged.breaks_more(b - a, float((b - a).mean()), True),
}
DETERMINISTIC: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "larger-eps-more-robust": lambda a, b: larger_eps_more_robust.more_hold(a, b, False),
    "fixed-draw-holds": lambda a, b: fixed_draw_holds.holds_more(b > 0, a > 0, len(a)),
}


def is_no_more_than(rate: float, hits: int, runs: int) -> bool:
    return float(binom.sf(hits - 1, runs, rate)) >= 0.001


def pairs(chances: str, draws: int, count: int, runs: int = RUNS) -> list[tuple[Tensor, Tensor]]:
    """Shares of right decisions on the same samples, twice, with nothing between them."""
    rng = np.random.default_rng(count)
    of = np.stack([CHANCES[chances](rng, count) for _ in range(runs)])
    first, second = (torch.from_numpy(rng.binomial(draws, of) / draws) for _ in range(2))
    return list(zip(first, second, strict=True))


def test_a_rate_that_is_too_low_is_noticed() -> None:
    assert is_no_more_than(0.05, 100, RUNS)
    assert not is_no_more_than(0.05, 140, RUNS)


@pytest.mark.parametrize("chances", CHANCES)
@pytest.mark.parametrize(("count", "rate"), [(8, 0.01), (16, 0.005)])
def test_a_stochastic_defence_stands_out_by_chance_as_student_says(
    chances: str, count: int, rate: float
) -> None:
    assert t.sf(3, count - 1) <= rate + 1e-4
    given = pairs(chances, DRAWS, count)
    for code, decide in STOCHASTIC.items():
        hits = sum(decide(first, second) for first, second in given)
        assert is_no_more_than(rate, hits, RUNS), (code, hits / RUNS)


@pytest.mark.parametrize("chances", CHANCES)
def test_a_deterministic_defence_is_held_to_five_percent(chances: str) -> None:
    given = pairs(chances, 1, 30, 1000)
    for code, decide in DETERMINISTIC.items():
        hits = sum(decide(first, second) for first, second in given)
        assert is_no_more_than(0.05, hits, 1000), (code, hits / 1000)


def enumerated(count: int, decide: Callable[[Tensor], bool]) -> float:
    """The highest rate over all shares of samples that differ, where each side is as likely."""
    raised = [
        (more, less)
        for more, less in itertools.product(range(count + 1), repeat=2)
        if more > less
        and more + less <= count
        and decide(torch.tensor([1.0] * more + [-1.0] * less + [0.0] * (count - more - less)))
    ]
    differ = np.linspace(0.02, 1, 50)[:, None]
    more, both = np.array(raised).T[0], np.array(raised).sum(1)
    rates = (binom.pmf(both, count, differ) * binom.pmf(more, both, 0.5)).sum(1)
    return float(rates.max())


@pytest.mark.parametrize("count", [8, 9, 12, 16])
def test_one_draw_of_the_judge_makes_four_percent_at_most(count: int) -> None:
    for code, decide in STOCHASTIC.items():
        rate = enumerated(count, partial(decide, torch.zeros(count)))
        assert rate <= 0.04, (code, rate)


@pytest.mark.parametrize(("count", "rate"), [(8, 0.06), (64, 0.0301), (65, 0.0301)])
def test_records_put_transfer_first_by_chance_as_often_as_said(count: int, rate: float) -> None:
    assert enumerated(count, lambda g: behind_transfer.beaten_in_records(g.numpy())) <= rate


def test_two_of_twelve_show_a_gain_of_one_percent_in_one_run_of_150() -> None:
    raised = [n for n in range(13) if not_converged.breaks_more(gain(n, 12), n / 12, False)]
    assert sum(binom.pmf(n, 12, 0.01) for n in raised) <= 1 / 150
    assert not not_converged.breaks_more(gain(0, 12), 0.0, False)


def gain(broken: int, tried: int) -> Tensor:
    return (torch.arange(tried) < broken).double()


def test_a_gradient_of_half_the_noise_is_not_called_noisy() -> None:
    ratio, values, runs = MOST_DRAWS / 2, 64, 40
    mean = torch.eye(values)[0]

    def scores_of(x: Tensor, streams: Streams) -> Tensor:
        gradient = mean + math.sqrt(ratio / values) * streams.normal(values)
        lead = (x * gradient).sum(1)
        return torch.stack([lead + 1, -lead], dim=1) / 2

    samples, x = torch.arange(16), torch.zeros(16, values)
    found = [gradient_noise(scores_of, x, Streams.of(n, "null", samples)) for n in range(runs)]
    assert is_no_more_than(0.01, sum(noise > MOST_DRAWS for noise in found), runs)
    assert np.median(found) == pytest.approx(ratio, rel=0.05)


def test_an_attack_that_gains_four_standard_errors_is_seldom_called_idle() -> None:
    rng, count = np.random.default_rng(0), 100
    noise = rng.uniform(0.5, 0.9, count)

    def variance(of: np.ndarray) -> float:
        return float((of * (1 - of)).sum()) / DRAWS

    # The same gain on each sample, four standard errors of the difference together.
    less = 4 * math.sqrt(2 * variance(noise)) / count
    attack = noise - less
    less *= math.sqrt(variance(noise) + variance(attack)) / math.sqrt(2 * variance(noise))
    attack = noise - less
    hits = 0
    for _ in range(RUNS):
        first, second = (rng.binomial(DRAWS, of) / DRAWS for of in (attack, noise))
        slack = noise_as_strong.SIGMAS * math.sqrt(variance(first) + variance(second)) / count
        hits += noise_as_strong.gained_nothing(float(first.mean()), float(second.mean()), slack)
    assert is_no_more_than(0.025, hits, RUNS)


# ---- exact tests


def null_draws(rng: np.random.Generator, common: float) -> tuple[Tensor, Tensor]:
    """Decisions of 12 draws twice, on 16 samples, that a common shift of each draw may couple."""
    at = rng.normal(size=(24, 16)) + common * rng.normal(size=(24, 1)) + rng.normal(size=16)
    right = torch.from_numpy((at > 0).astype(float))
    return right[:12], right[12:]


@pytest.mark.parametrize("common", [0.0, 2.0])
def test_the_null_test_is_exact_whatever_the_samples_share(common: float) -> None:
    rng, runs = np.random.default_rng(1), 120
    found = [by_chance(*null_draws(rng, common), seed) for seed in range(runs)]
    for level in (0.05, 0.2):
        assert is_no_more_than(level, sum(p <= level for p in found), runs)


def test_the_null_test_counts_all_ways_to_share_out_the_draws() -> None:
    rng = np.random.default_rng(2)
    first, second = (torch.from_numpy(rng.integers(0, 2, (4, 5)).astype(float)) for _ in range(2))
    both, sums, squares = torch.cat([first, second]), [], []
    for chosen in itertools.combinations(range(8), 4):
        side = torch.full((8,), -1.0, dtype=torch.float64)
        side[list(chosen)] = 1
        apart = side @ both
        sums.append(abs(float(apart.sum())))
        squares.append(float(apart.square().sum()))
    exact = [np.mean(np.array(one) >= one[0]) for one in (sums, squares)]
    # Of 3999 orders; four standard errors.
    assert by_chance(first, second, 0) / 2 == pytest.approx(min(exact), abs=4 * 0.5 / 63)


def test_a_drift_is_no_chance() -> None:
    first, second = null_draws(np.random.default_rng(3), 0.0)
    assert by_chance(first, torch.zeros_like(second), 0) <= 0.001
    # What cancels out over samples is seen too.
    first[:, :8], first[:, 8:], second[:, :8], second[:, 8:] = 1, 0, 0, 1
    assert by_chance(first, second, 0) <= 0.001


@pytest.mark.parametrize("count", [8, 20, 32])
def test_mates_whose_classes_do_not_matter_give_no_label_away(count: int) -> None:
    rng, runs = np.random.default_rng(count), 1000
    found = []
    for _ in range(runs):
        chances = rng.random(count)
        own, mixed = rng.binomial(2, chances), rng.binomial(2, chances)
        found.append(sides_changed([int(one) for one in own - mixed]))
    for level in (0.01, 0.05, 0.2):
        assert is_no_more_than(level, sum(p <= level for p in found), runs)


def test_random_scores_lie_on_no_grid() -> None:
    # By the chance that one score lies so near to a multiple.
    assert len(GRIDS) * (2 * ON_GRID) ** FEWEST <= 2e-31
    scores = Streams.of(0, "grids", torch.arange(500)).normal(FEWEST)
    assert all(grid_of(10 * row[None]) == "" for row in scores)


def test_ten_samples_of_two_classes_are_of_one_in_a_run_of_five_hundred() -> None:
    assert 2.0 ** (1 - one_class.FEWEST) <= 1 / 500
