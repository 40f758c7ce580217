"""What a table of boundaries does is computed, not bounded: held against every way to draw."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom

from robustcode.errors import ConfigError
from robustcode.stopping import Boundaries
from robustcode.stopping.walk import increment

TINY = [
    ((12,), (9,), (8,)),
    ((1, 2, 3), (2, 3, 3), (-1, 0, 2)),
    ((4, 7, 12), (4, 7, 10), (1, 3, 9)),
    ((3, 6, 9, 12), (4, 6, 8, 9), (-1, 2, 5, 8)),
    ((2, 5, 6, 11), (3, 5, 5, 12), (0, 1, 3, 11)),
]


def boundaries(
    looks: Sequence[int], certify: Sequence[int], give_up: Sequence[int], probability: float = 0.7
) -> Boundaries:
    return Boundaries(
        probability=probability,
        alpha=0.1,
        looks=np.array(looks),
        certify=np.array(certify),
        give_up=np.array(give_up),
    )


def enumerated(rule: Boundaries, probability: float) -> tuple[float, float]:
    """Probability of certification and mean draws, over all sequences of draws."""
    certified = taken = 0.0
    for draws in itertools.product((0, 1), repeat=int(rule.looks[-1])):
        chance = np.prod([probability if draw else 1 - probability for draw in draws])
        for look, high, low in zip(rule.looks, rule.certify, rule.give_up, strict=True):
            successes = sum(draws[:look])
            if successes >= high or successes <= low:
                certified += chance * (successes >= high)
                taken += chance * look
                break
    return float(certified), float(taken)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("table", TINY)
def test_agrees_with_every_sequence_of_draws(
    table: tuple[Sequence[int], Sequence[int], Sequence[int]], probability: float
) -> None:
    rule = boundaries(*table)
    certified, taken = enumerated(rule, probability)
    assert rule.power(probability) == pytest.approx(certified, rel=1e-12, abs=1e-15)
    assert rule.draws(probability) == pytest.approx(taken, rel=1e-12)


@pytest.mark.parametrize("draws", [1, 3, 100, 16_000, 125_000])
@pytest.mark.parametrize("probability", [0.5, 0.84, 0.97725, 0.99977, 1e-4])
def test_increments_are_binomial(draws: int, probability: float) -> None:
    held = increment(draws, probability)
    counts = held.least + np.arange(len(held.chances))
    np.testing.assert_allclose(
        held.chances, binom.pmf(counts, draws, probability), rtol=1e-8, atol=1e-30
    )
    outside = binom.cdf(held.least - 1, draws, probability)
    outside += binom.sf(counts[-1], draws, probability)
    assert outside < 1e-30


def test_every_stream_ends_somewhere() -> None:
    ways = boundaries(*TINY[3]).ways(0.6)
    assert ways.certified.sum() + ways.given_up.sum() == pytest.approx(1, abs=1e-14)


def test_the_edge_is_one_success_short_of_certifying() -> None:
    rule = boundaries((4, 7, 12), (4, 7, 10), (1, 3, 9))
    assert rule.ways(0.7).edge[0] == pytest.approx(binom.pmf(3, 4, 0.7))


def test_many_looks_lose_no_digits() -> None:
    """A look after each draw that decides nothing before the last is one binomial tail."""
    looks = range(1, 301)
    rule = boundaries(looks, [*range(2, 301), 240], [-1] * 299 + [239])
    assert rule.power(0.75) == pytest.approx(binom.sf(239, 300, 0.75), rel=1e-11)


@pytest.mark.parametrize("table", TINY)
def test_the_error_is_largest_at_the_threshold(
    table: tuple[Sequence[int], Sequence[int], Sequence[int]],
) -> None:
    rule = boundaries(*table)
    errors = [rule.error(p) for p in np.linspace(0, 0.7, 30)]
    assert np.all(np.diff(errors) >= -1e-15)
    assert rule.error() == errors[-1]
    assert rule.error(0.71) == 0  # true, so no error


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (((5, 5), (6, 5), (-1, 4)), "do not rise"),
        (((0, 5), (1, 5), (-1, 4)), "do not rise"),
        (((3, 5), (3, 5), (3, 4)), "after 3 draws 3 successes certify and 3 give up"),
        (((3, 5), (3, 7), (1, 6)), "after 5 draws 7 successes certify"),
        (((3, 5), (3, 5), (1, 3)), "between them nothing is decided"),
        (((3, 5), (3,), (1, 4)), "one number for each look"),
    ],
)
def test_refuses_tables_that_are_no_rule(
    table: tuple[Sequence[int], Sequence[int], Sequence[int]], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        boundaries(*table)


@pytest.mark.parametrize("probability", [0.49, 1.0, float("nan")])
def test_refuses_probabilities_that_prove_nothing(probability: float) -> None:
    with pytest.raises(ConfigError, match="is not in"):
        boundaries(*TINY[0], probability=probability)


def test_tables_cannot_be_changed_afterwards() -> None:
    rule = boundaries(*TINY[0])
    with pytest.raises(ValueError, match="read-only"):
        rule.certify[0] = 1
