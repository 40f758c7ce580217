"""The noise of smoothing: what it proves in closed form, and nothing that a set can refute."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from robustcode.errors import ConfigError
from robustcode.noise import KINDS, Gaussian, Kind, Laplace, Noise, Uniform
from robustcode.seeds import Streams
from robustcode.threat import Norm

SIGMA = 0.4
NOISES = [kind(sigma=SIGMA) for kind in KINDS.values()]
# Each kind as scipy has it, with the same standard deviation.
DENSITIES = {
    Gaussian: stats.norm(scale=SIGMA),
    Uniform: stats.uniform(-math.sqrt(3) * SIGMA, 2 * math.sqrt(3) * SIGMA),
    Laplace: stats.laplace(scale=SIGMA / math.sqrt(2)),
}
PROBABILITIES = [0.5, 0.6, 0.9, 0.99, 0.9999]
# Cells of the grids below along one value, and the error that so coarse a sum makes.
CELLS, SUMMED = 401, 3e-3

each = pytest.mark.parametrize("noise", NOISES, ids=list(KINDS))


@each
@pytest.mark.parametrize("probability", PROBABILITIES)
def test_a_threshold_on_one_value_is_lost_exactly_at_the_radius(
    noise: Noise, probability: float
) -> None:
    """A class behind a threshold t away has probability cdf(t), and the move by t leaves half."""
    density = DENSITIES[type(noise)]
    threshold = density.ppf(probability)
    assert noise.radius(probability) == pytest.approx(threshold, abs=1e-12)
    for share in (0.3, 1.0, 1.6):
        moved = density.cdf(threshold - share * threshold)
        assert noise.left(probability, share * threshold) == pytest.approx(moved, abs=1e-12)


@each
@pytest.mark.parametrize("probability", PROBABILITIES)
def test_probability_is_what_the_radius_takes(noise: Noise, probability: float) -> None:
    assert noise.probability(noise.radius(probability)) == pytest.approx(probability, abs=1e-12)


@each
def test_half_and_less_prove_nothing(noise: Noise) -> None:
    assert [noise.radius(p) for p in (0.0, 0.3, 0.5)] == [0.0, 0.0, 0.0]
    assert noise.probability(0.0) == pytest.approx(0.5, abs=1e-15)


@each
def test_what_is_left_shrinks_from_the_probability_to_nothing(noise: Noise) -> None:
    for probability in (0.0, 0.2, 0.8, 1.0):
        left = [noise.left(probability, distance) for distance in np.linspace(0, 30, 60)]
        assert left[0] == pytest.approx(probability, abs=1e-12)
        assert sorted(left, reverse=True) == left


@each
@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("probability", [0.3, 0.7, 0.95])
def test_no_set_of_two_values_loses_more(noise: Noise, probability: float, share: float) -> None:
    """The worst set by Neyman and Pearson, summed on a grid, for moves in several directions."""
    distance = share * max(noise.radius(probability), 0.3 * SIGMA)
    norm = next(iter(noise.units))
    for direction in [(1.0, 0.0), (0.7, 0.3), (0.5, 0.5), (0.5, -0.5)]:
        unit = np.array(direction) / np.linalg.norm(direction, 2 if norm is Norm.L2 else 1)
        here, there = grids(noise, distance * unit)
        left = least(here, there, probability)
        assert left >= noise.left(probability, distance) - SUMMED
        if direction == (1.0, 0.0):  # along one value nothing is given away
            assert left == pytest.approx(noise.left(probability, distance), abs=SUMMED)


def grids(noise: Noise, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mass of each cell of a plane under the noise, and under the noise after a move."""
    density = DENSITIES[type(noise)]
    edges = np.linspace(-8 * SIGMA, 8 * SIGMA, CELLS + 1)

    def mass(value: float) -> np.ndarray:
        return np.diff(density.cdf(edges - value))

    here = np.outer(mass(0.0), mass(0.0))
    there = np.outer(mass(move[0]), mass(move[1]))
    return here.ravel(), there.ravel()


def least(here: np.ndarray, there: np.ndarray, probability: float) -> float:
    """The least mass after the move of any set that has ``probability`` before it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(here > 0, there / here, np.inf)
    order = np.argsort(ratio, kind="stable")
    before = np.cumsum(here[order])
    last = int(np.searchsorted(before, probability))
    inside = there[order][:last].sum()
    missing = probability - (before[last - 1] if last else 0.0)
    return float(inside + missing * ratio[order][last])


@each
def test_drawn_noise_has_the_law_and_the_spread_that_it_names(noise: Noise) -> None:
    drawn = noise.draw(Streams.of(0, "noise", torch.arange(400)), (5, 10), torch.float64)
    values = drawn.flatten().numpy()
    assert drawn.shape == (400, 5, 10)
    # One in a million runs with another seed would fail each of these; this seed does not.
    assert stats.kstest(values, DENSITIES[type(noise)].cdf).pvalue > 1e-6
    error = math.sqrt((stats.kurtosis(values, fisher=False) - 1) / (4 * len(values)))
    assert values.std() == pytest.approx(SIGMA, rel=5 * error)


@each
def test_noise_of_a_row_is_its_own_whatever_is_beside_it(noise: Noise) -> None:
    streams = Streams.of(0, "noise", torch.arange(6))
    whole = noise.draw(streams, (1, 3, 3), torch.float32)
    assert whole.dtype is torch.float32
    assert torch.equal(
        noise.draw(streams[torch.tensor([4, 1])], (1, 3, 3), torch.float32), whole[[4, 1]]
    )


def test_laplace_noise_is_finite_at_the_ends_of_its_stream() -> None:
    class Ends(Streams):
        def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor([[0.0, 1 - 2.0**-53]], dtype=dtype)

    ends = Ends(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    low, high = Laplace(sigma=1.0).draw(ends, (2,), torch.float64)[0].tolist()
    assert math.isfinite(low)
    assert low < -20
    assert high > 20
    assert math.isfinite(high)


@pytest.mark.parametrize(
    ("kind", "units"),
    [
        (Kind.GAUSSIAN, {Norm.L2: 1.0, Norm.L1: 1.0, Norm.LINF: 0.125}),
        (Kind.UNIFORM, {Norm.L1: 1.0}),
        (Kind.LAPLACE, {Norm.L1: 1.0}),
    ],
)
def test_a_ball_in_another_norm_lies_within_the_proved_one(
    kind: Kind, units: dict[Norm, float]
) -> None:
    assert {norm: unit(64) for norm, unit in KINDS[kind].units.items()} == units
    corners = Streams.of(0, "corners", torch.arange(50)).normal(64)
    for norm, unit in units.items():
        order = {Norm.LINF: math.inf, Norm.L2: 2, Norm.L1: 1}
        own = next(iter(units))
        moves = corners / torch.linalg.vector_norm(corners, order[norm], dim=1, keepdim=True)
        moves = torch.cat([moves, moves.sign() / moves.sign().norm(order[norm], 1, keepdim=True)])
        assert (torch.linalg.vector_norm(unit * moves, order[own], dim=1) <= 1 + 1e-6).all()


def test_certainty_cannot_be_had_from_chance() -> None:
    uniform = Uniform(sigma=1.0)
    assert uniform.probability(uniform.lam) == 1.0
    assert uniform.log_cdf(uniform.lam + 1) == 0.0
    assert uniform.log_cdf(-uniform.lam - 1) == -math.inf
    assert math.isinf(Gaussian(sigma=1.0).radius(1.0))
    assert math.isinf(Laplace(sigma=1.0).radius(1.0))
    assert Gaussian(sigma=1.0).log_cdf(8.0) == pytest.approx(-6.22e-16, rel=1e-3)


@pytest.mark.parametrize("sigma", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize("kind", list(Kind))
def test_an_impossible_spread_is_refused(kind: Kind, sigma: float) -> None:
    with pytest.raises(ConfigError, match="a standard deviation is finite and >= 0"):
        KINDS[kind](sigma=sigma)
