"""The published logs of Cohen et al. 2019: their own table, and what they would have cost here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np
import pytest

from robustcode.statistics import lower_bound
from robustcode.stopping import fixed, probability_at, radius_at, sequential

ROOT = Path(__file__).parents[2]
LOGS = ROOT / ".." / "shared" / "data" / "results" / "smoothing_cohen2019"
# Section 1.1 of the research notes, by sigma: the shares certified at 0, .25, .. 2.25, the
# abstentions and the average certified radius.
TABLE = {
    0.12: [0.814, 0.586, 0, 0, 0, 0, 0, 0, 0, 0, 0.038, 0.270],
    0.25: [0.748, 0.600, 0.428, 0.266, 0, 0, 0, 0, 0, 0, 0.086, 0.429],
    0.5: [0.652, 0.546, 0.414, 0.320, 0.234, 0.152, 0.094, 0.052, 0, 0, 0.166, 0.538],
    1.0: [0.472, 0.392, 0.340, 0.278, 0.216, 0.174, 0.140, 0.118, 0.100, 0.076, 0.290, 0.542],
}
IMAGENET = {
    0.25: ([0, 0.5, 1], [0.667, 0.494, 0], 0.477),
    0.5: ([0, 0.5, 1, 1.5], [0.572, 0.458, 0.372, 0.286], 0.733),
    1.0: ([0, 0.5, 1, 1.5, 2, 2.5, 3], [0.436, 0.378, 0.326, 0.260, 0.194, 0.148, 0.122], 0.875),
}

pytestmark = pytest.mark.skipif(
    not LOGS.is_dir(), reason="the logs of Cohen et al. 2019 are not on this machine"
)


@pytest.fixture(scope="module")
def replay() -> Iterator[ModuleType]:
    names = ("_published_logs", "smoothing_replay")
    for name in names:
        path = ROOT / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    yield sys.modules[names[-1]]
    for name in names:
        del sys.modules[name]


def test_the_published_table_to_the_digit(replay: ModuleType) -> None:
    logs = [replay.log(LOGS, "CIFAR-10", sigma) for sigma in TABLE]
    for sigma, *row in replay.table(logs, [0.25 * step for step in range(10)]):
        assert [round(value, 3) for value in row] == TABLE[sigma]


@pytest.mark.parametrize("sigma", IMAGENET)
def test_the_published_table_of_imagenet(replay: ModuleType, sigma: float) -> None:
    radii, shares, mean = IMAGENET[sigma]
    one = replay.log(LOGS, "ImageNet", sigma)
    assert [round(one.certified(radius), 3) for radius in radii] == shares
    assert round(one.mean_radius, 3) == mean


@pytest.mark.parametrize(("data", "sigma"), [("CIFAR-10", s) for s in TABLE] + [("ImageNet", 0.5)])
def test_counts_give_back_the_radii_they_are_read_from(
    replay: ModuleType, data: str, sigma: float
) -> None:
    one = replay.log(LOGS, data, sigma)
    chances = one.chances()
    known = one.predicted != -1
    assert np.isnan(chances[~known]).all()
    bounds = lower_bound(np.rint(chances[known] * 100_000), 100_000, one.alpha)
    radii = [radius_at(bound, sigma) for bound in bounds]
    # Three digits are printed. A radius near 0 is a matter of a few successes.
    np.testing.assert_allclose(radii, one.radius[known], rtol=0.00501, atol=2e-5)


@pytest.mark.parametrize(
    ("data", "sigma"), [("CIFAR-10", s) for s in TABLE] + [("ImageNet", s) for s in IMAGENET]
)
def test_the_logs_are_of_the_alpha_that_is_supposed(
    replay: ModuleType, data: str, sigma: float
) -> None:
    """Near the largest radius few are possible; each one printed is of a whole number of failures.

    At the other alpha some would not be.
    """
    one = replay.log(LOGS, data, sigma)
    printed = one.radius[(one.predicted != -1) & (one.radius > 2.9 * sigma)]
    shares = {}
    for alpha in (0.01, 0.001):
        bounds = lower_bound(100_000 - np.arange(400), 100_000, alpha)
        possible = [float(f"{radius_at(bound, sigma):.3}") for bound in bounds]
        shares[alpha] = np.isclose(printed[:, None], possible, atol=1e-9).any(axis=1).mean()
    assert shares[one.alpha] == 1
    assert max(shares.values()) > min(shares.values())


def test_a_radius_costs_a_thirtieth_and_loses_nothing(replay: ModuleType) -> None:
    one, p0 = replay.log(LOGS, "CIFAR-10", 0.5), probability_at(0.75, 0.5)
    ours = replay.spent(sequential(p0, 0.001, 125_000), one)
    whole = replay.spent(fixed(p0, 0.001, 100_000), one)
    assert whole.draws == 100_100
    assert whole.accuracy == pytest.approx(one.certified(0.75), abs=0.005)
    assert ours.saving > 30
    assert ours.accuracy > whole.accuracy - 0.0015


def test_a_curve_costs_a_twelfth_and_is_above_that_of_ten_thousand_draws(
    replay: ModuleType,
) -> None:
    one = replay.log(LOGS, "CIFAR-10", 1.0)
    mean, accuracy = replay.curve(one, 20_000, 2, np.random.default_rng(0))
    assert 100_100 / mean > 12
    tenth = replay.fixed_curve(one, 10_000, 4)
    # Of 2 x 500 streams; those that are not clear either way are a few in a hundred.
    assert (accuracy[:4] > tenth - 0.005).all()


@pytest.mark.long
def test_the_median_radius_costs_a_thirtieth(replay: ModuleType) -> None:
    savings = []
    for data, sigma, radii in replay.CELLS:
        one = replay.log(LOGS, data, sigma)
        for radius in radii:
            p0 = probability_at(radius, sigma)
            ours = replay.spent(sequential(p0, 0.001, 125_000), one)
            whole = replay.spent(fixed(p0, 0.001, 100_000), one)
            savings.append(ours.saving)
            assert ours.accuracy > whole.accuracy - 0.0015, (data, sigma, radius)
    assert len(savings) == 14
    assert median(savings) > 30
