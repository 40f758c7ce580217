import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from robustcode.statistics import (
    LEAST,
    MOST,
    Proportion,
    any_of,
    clustered,
    holm,
    mcnemar,
    paired_difference,
    paired_p_value,
    proportion,
    wilson,
)

COUNTS = [(0, 1), (1, 1), (0, 50), (1, 50), (25, 50), (50, 50), (997, 1000), (3, 100_000)]
World = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
TRIALS = 1500  # the standard error of a simulated coverage of 95 % is then 0.6 %


@pytest.mark.parametrize(("method", "ours"), [("exact", proportion), ("wilson", wilson)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "trials"), COUNTS)
def test_agrees_with_scipy(
    method: Literal["exact", "wilson"],
    ours: Callable[[int, int, float], Proportion],
    confidence: float,
    successes: int,
    trials: int,
) -> None:
    expected = binomtest(successes, trials).proportion_ci(confidence, method)
    result = ours(successes, trials, confidence)
    assert result == pytest.approx((successes / trials, expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("trials", [7, 40])
def test_covers_the_truth_as_often_as_it_says(trials: int) -> None:
    intervals = [proportion(successes, trials) for successes in range(trials + 1)]
    for truth in np.linspace(0, 1, 401):
        held = [i for i, interval in enumerate(intervals) if interval.low <= truth <= interval.high]
        assert np.sum(binom.pmf(held, trials, truth)) >= 0.95


def test_wilson_covers_less_near_the_ends_as_its_docstring_warns() -> None:
    truth = wilson(1, 50).low - 1e-9  # just outside what one success leaves possible
    held = [i for i in range(51) if wilson(i, 50).low <= truth <= wilson(i, 50).high]
    assert np.sum(binom.pmf(held, 50, truth)) == pytest.approx(0.84, abs=0.005)


def test_fractions_of_0_and_1_get_the_interval_of_single_draws() -> None:
    for right in (0, 1, 30, 50):
        fractions = [1.0] * right + [0.0] * (50 - right)
        assert clustered(fractions, draws=100) == pytest.approx(proportion(right, 50), abs=1e-12)


def test_identical_fractions_never_collapse_the_interval() -> None:
    for fraction in (0.0, 0.2, 0.5, 0.999, 1.0):
        interval = clustered([fraction] * 50, draws=10_000)
        assert interval.high - interval.low > 0.05
        assert interval.low <= fraction <= interval.high


def test_more_draws_of_the_same_samples_do_not_pass_for_more_samples() -> None:
    fractions = np.linspace(0, 1, 50)
    few, many = clustered(fractions, draws=100), clustered(fractions, draws=1_000_000)
    assert few == many


def test_no_interval_is_shorter_than_that_of_all_draws_taken_as_independent() -> None:
    interval = clustered([0.5] * 10_000, draws=2)
    assert interval == pytest.approx(proportion(10_000, 20_000))


def _beta(a: float, b: float) -> World:
    return lambda rng, shape: rng.beta(a, b, shape)


def _mixture(share: float, usual: float, rare: float) -> World:
    """A few samples unlike all others: a set of 50 often holds none of them."""
    return lambda rng, shape: np.where(rng.random(shape) < share, rare, usual)


WORLDS = {
    "beta(.5, .5)": (_beta(0.5, 0.5), 0.5),
    "beta(2, 2)": (_beta(2, 2), 0.5),
    "beta(50, 50)": (_beta(50, 50), 0.5),
    "beta(.02, .98)": (_beta(0.02, 0.98), 0.02),
    "beta(.98, .02)": (_beta(0.98, 0.02), 0.98),
    "beta(1, 99)": (_beta(1, 99), 0.01),
    "beta(19, 1)": (_beta(19, 1), 0.95),
    "all 0.5": (_mixture(0, 0.5, 0), 0.5),
    "all 0.999": (_mixture(0, 0.999, 0), 0.999),
    "3 % broken, others 1": (_mixture(0.03, 1.0, 0), 0.97),
    "5 % broken, others .999": (_mixture(0.05, 0.999, 0), 0.95 * 0.999),
    "5 % broken, others .7": (_mixture(0.05, 0.7, 0), 0.95 * 0.7),
    "4 % broken, others .5": (_mixture(0.04, 0.5, 0), 0.96 * 0.5),
    "4 % right, others .1": (_mixture(0.04, 0.1, 1), 0.96 * 0.1 + 0.04),
    "1 % right, others 0": (_mixture(0.01, 0.0, 1), 0.01),
}


@pytest.mark.parametrize("draws", [1, 10, 100])
@pytest.mark.parametrize("world", WORLDS)
def test_clustered_covers_the_mean_over_samples_and_draws(world: str, draws: int) -> None:
    sample, truth = WORLDS[world]
    rng = np.random.default_rng(0)
    fractions = rng.binomial(draws, sample(rng, (TRIALS, 50))) / draws
    intervals = [clustered(row, draws) for row in fractions]
    assert np.mean([interval.low <= truth <= interval.high for interval in intervals]) >= 0.93


@pytest.mark.parametrize("gain", [0.0, 0.01, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.2])
def test_a_paired_difference_covers_the_truth(gain: float, loss: float) -> None:
    rng = np.random.default_rng(1)
    u = rng.random((TRIALS, 50))
    right = rng.random((TRIALS, 50)) < 0.5  # what both say where they agree
    first = np.where(u < gain, 0, np.where(u < gain + loss, 1, right))
    second = np.where(u < gain, 1, np.where(u < gain + loss, 0, right))
    intervals = [paired_difference(a, b) for a, b in zip(first, second, strict=True)]
    covered = [interval.low <= gain - loss <= interval.high for interval in intervals]
    assert np.mean(covered) >= 0.93


def test_a_paired_difference_covers_when_both_are_fractions() -> None:
    rng = np.random.default_rng(2)
    p = rng.beta(2, 1, (TRIALS, 50))
    first, second = rng.binomial(20, p) / 20, rng.binomial(20, p * 0.9) / 20
    truth = (2 / 3) * 0.9 - 2 / 3
    intervals = [paired_difference(a, b) for a, b in zip(first, second, strict=True)]
    assert np.mean([i.low <= truth <= i.high for i in intervals]) >= 0.93


def test_pairing_leaves_a_shorter_interval_than_two_separate_ones() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 2, 200)
    second = first.copy()
    second[:10] = 1
    paired = paired_difference(first, second)
    single = proportion(int(second.sum()), 200)
    assert paired.high - paired.low < (single.high - single.low)
    assert paired.low <= paired.value <= paired.high


def test_a_paired_difference_changes_sign_with_the_order() -> None:
    forth = paired_difference([0.1, 0.5, 0.9], [0.4, 0.5, 1.0])
    back = paired_difference([0.4, 0.5, 1.0], [0.1, 0.5, 0.9])
    assert forth == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.value == pytest.approx(0.4 / 3)


PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


@given(PAIRS, st.floats(1e-6, MOST))
def test_a_paired_p_value_is_the_least_alpha_that_leaves_out_0(
    pairs: list[tuple[float, float]], alpha: float
) -> None:
    first, second = zip(*pairs, strict=True)
    p_value = paired_p_value(first, second)
    for level in (alpha, 0.05, p_value * 1.0001, p_value * 0.9999):
        if 1e-6 < level < MOST and abs(level / p_value - 1) > 1e-6:
            low, high = paired_difference(first, second, 1 - level)[1:]
            assert (low > 0 or high < 0) == (p_value < level)


def test_a_paired_p_value_by_hand() -> None:
    # Ten samples, each lost: ten effective ones whatever alpha is, and a tail of ten heads.
    assert paired_p_value([1] * 10, [0] * 10) == pytest.approx(2 * 0.5**10)
    assert paired_p_value([0.3, 0.9], [0.9, 0.3]) == 1.0
    assert paired_p_value([0.5] * 9, [0.5] * 9) == 1.0
    assert paired_p_value([0.0] * 2000, [1.0] * 2000) == LEAST


@given(PAIRS)
def test_a_paired_p_value_does_not_ask_which_comes_first(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    assert paired_p_value(first, second) == pytest.approx(paired_p_value(second, first), rel=1e-6)


@pytest.mark.parametrize("samples", [20, pytest.param(80, marks=pytest.mark.long)])
def test_a_paired_p_value_is_no_smaller_than_it_says_for_0_and_1(samples: int) -> None:
    """Exactly, over everything that may be seen when losing and winning are equally likely."""
    p_values = {}
    for differ in range(samples + 1):
        for won in range(differ + 1):
            second = [1] * won + [0] * (differ - won) + [1] * (samples - differ)
            first = [0] * won + [1] * (samples - won)
            p_values[differ, won] = paired_p_value(first, second)
    seen = np.array(list(p_values.values()))
    differ, won = np.array(list(p_values)).T
    for often in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0):
        chance = binom.pmf(differ, samples, often) * binom.pmf(won, differ, 0.5)
        assert chance.sum() == pytest.approx(1)
        for alpha in (0.05, 0.01, 0.001, 0.0001):
            assert chance[seen <= alpha].sum() <= alpha


def _noise(rng: np.random.Generator, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    p = rng.beta(0.3, 0.3, count)
    return rng.binomial(20, p) / 20, rng.binomial(20, p) / 20


def _rare(rng: np.random.Generator, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a few samples lose is what all others win a little of."""
    lost = rng.random(count) < 0.05
    return np.full(count, 0.9), rng.binomial(50, np.where(lost, 0, 0.9 / 0.95)) / 50


def _swapped(rng: np.random.Generator, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    u = rng.random(count)
    first, second = np.where(u < 0.1, 1, 0.5), np.where(u > 0.9, 1, 0.5)
    return rng.binomial(50, first) / 50, rng.binomial(50, second) / 50


def _half(rng: np.random.Generator, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """One of the two is deterministic."""
    p = rng.beta(0.5, 0.5, count)
    return (rng.random(count) < p).astype(float), rng.binomial(20, p) / 20


@pytest.mark.parametrize("world", [_noise, _rare, _swapped, _half])
@pytest.mark.parametrize(
    ("samples", "trials"),
    [(200, 250), *(pytest.param(n, 2000, marks=pytest.mark.long) for n in (20, 50, 400))],
)
def test_a_paired_p_value_is_no_smaller_than_it_says_for_shares(
    world: Callable[[np.random.Generator, int], tuple[NDArray[Any], NDArray[Any]]],
    samples: int,
    trials: int,
) -> None:
    rng = np.random.default_rng(4)
    p_values = np.array([paired_p_value(*world(rng, samples)) for _ in range(trials)])
    for alpha in (0.1, 0.05, 0.01, 0.001):
        # So many false alarms would be seen once in ten thousand times if it kept its word.
        assert (p_values <= alpha).sum() <= binom.isf(1e-4, trials, alpha)


def test_a_paired_p_value_finds_what_is_there() -> None:
    rng = np.random.default_rng(5)
    p = rng.beta(2, 1, 300)
    assert paired_p_value(rng.binomial(20, p) / 20, rng.binomial(20, 0.9 * p) / 20) < 2e-3


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test_of_the_discordant_samples(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)


def test_holm_by_hand() -> None:
    # 4 tests, sorted .005 .010 .030 .040, times 4 3 2 1: .020 .030 .060 .040, running maximum
    # .020 .030 .060 .060 (Holm 1979, section 3; R's p.adjust documents the same rule).
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_its_step_down_procedure_rejects(p_values: list[float]) -> None:
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - rank) * p_values[index] > 0.05:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


@pytest.mark.parametrize("correct", range(9))
@pytest.mark.parametrize("tries", [1, 3, 8])
def test_any_of_counts_the_choices_of_draws_that_are_all_right(correct: int, tries: int) -> None:
    draws = [True] * correct + [False] * (8 - correct)
    choices = [all(choice) for choice in itertools.combinations(draws, tries)]
    assert any_of(correct, 8, tries) == pytest.approx(np.mean(choices))


@pytest.mark.parametrize("truth", [0.0, 0.3, 0.95, 1.0])
def test_any_of_is_unbiased(truth: float) -> None:
    expected = math.fsum(any_of(c, 20, 5) * binom.pmf(c, 20, truth) for c in range(21))
    assert expected == pytest.approx(truth**5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: proportion(0, 0),
        lambda: proportion(3, 2),
        lambda: proportion(-1, 2),
        lambda: proportion(1, 2, confidence=95),
        lambda: wilson(0, 0),
        lambda: clustered([], draws=10),
        lambda: clustered([0.5], draws=0),
        lambda: clustered([1.5], draws=10),
        lambda: clustered([float("nan")], draws=10),
        lambda: clustered([[0.5]], draws=10),
        lambda: clustered([0.5], draws=10, confidence=1.0),
        lambda: paired_difference([], []),
        lambda: paired_difference([0.5], [0.5, 0.5]),
        lambda: paired_p_value([], []),
        lambda: paired_p_value([0.5], [0.5, 0.5]),
        lambda: mcnemar(-1, 3),
        lambda: holm([0.5, 1.5]),
        lambda: any_of(5, 5, 6),
        lambda: any_of(5, 5, 0),
        lambda: any_of(0, 0, 1),
    ],
)
def test_no_number_is_invented_from_what_is_none(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call()
