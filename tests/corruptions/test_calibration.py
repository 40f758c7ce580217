"""Calibration error: closed forms, sources whose truth is known, and other libraries' bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve

from robustcode.calibration import BINS, calibration, reliability

Floats = NDArray[np.float64]


def source(samples: int, over: float, seed: int) -> tuple[Floats, Floats]:
    """Confidences like a network's, and whether each is right: too confident by ``over``."""
    generator = np.random.default_rng(seed)
    stated = 0.1 + 0.9 * generator.beta(4, 1, samples)
    right = generator.random(samples) < np.clip(stated - over, 0, 1)
    return stated, right.astype(float)


def test_a_small_case_by_hand() -> None:
    """Two bins: confidence 0.6 of which a half is right, and 0.9 of which all are."""
    stated, right = [0.6, 0.6, 0.6, 0.6, 0.9, 0.9], [1, 1, 0, 0, 1, 1]
    found = calibration(stated, right, bins=2)
    assert found.ece == pytest.approx(abs((4 * 0.6 + 2 * 0.9) / 6 - 4 / 6)), "one bin above 0.5"
    # Products of the distances of two different samples; equal confidences are not parted.
    first, second = [0.4, 0.4, -0.6, -0.6], [0.1, 0.1]
    pairs = [
        np.mean([a[i] * a[j] for i in range(len(a)) for j in range(len(a)) if i != j])
        for a in (first, second)
    ]
    assert found.squared == pytest.approx((4 * pairs[0] + 2 * pairs[1]) / 6)
    assert [part.samples for part in reliability(stated, right, bins=4)] == [4, 2]
    assert [part.right for part in reliability(stated, right, bins=4)] == [0.5, 1.0]
    confidences = [part.confidence for part in reliability(stated, right, bins=4)]
    assert confidences == pytest.approx([0.6, 0.9])


def test_the_order_of_a_data_set_does_not_matter() -> None:
    """Data sets are often sorted by class, and networks often equally sure of many images.

    A classifier that says 0.5 of everything and is right on the first class, of two, is calibrated.
    """
    assert calibration([0.5] * 100, [1] * 50 + [0] * 50).squared < 0
    generator = np.random.default_rng(0)
    stated, right = source(600, 0.05, 1)
    for digits in (1, 2, 9):
        rounded = np.round(stated, digits)
        by_class, mixed = np.argsort(right), generator.permutation(600)
        found = [calibration(rounded[order], right[order]) for order in (by_class, mixed)]
        assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_equal_confidences_leave_no_bias() -> None:
    """Ten of them, of 100 samples, where each is right as often as it says."""
    squares = []
    for seed in range(250):
        stated = np.round(source(100, 0.0, seed)[0], 1)
        right = np.random.default_rng(1000 + seed).random(100) < stated
        squares.append(calibration(stated, right).squared)
    assert abs(np.mean(squares)) < 4 * np.std(squares) / math.sqrt(len(squares))


def test_empty_bins_are_no_bins() -> None:
    assert [part.samples for part in reliability([0.01, 0.99], [0, 1])] == [1, 1]
    assert math.isfinite(calibration([0.99, 0.99], [1, 1]).ece)


def test_a_calibrated_source_has_no_error_on_average_and_a_plain_one() -> None:
    """Mean over 250 data sets: nothing but chance in ``squared``; ``ece`` never sees the truth."""
    found = [calibration(*source(300, 0.0, seed)) for seed in range(250)]
    squares = np.array([one.squared for one in found])
    error = squares.std() / math.sqrt(len(squares))
    assert abs(squares.mean()) < 4 * error
    assert (squares < 0).mean() == pytest.approx(0.5, abs=0.15)
    assert np.mean([one.ece for one in found]) > 0.03


@pytest.mark.parametrize("over", [0.05, 0.1])
def test_an_error_is_found_without_bias(over: float) -> None:
    found = [calibration(*source(300, over, seed)) for seed in range(250)]
    squares = np.array([one.squared for one in found])
    # Every confidence is above ``over`` here: the distance is the same everywhere.
    assert abs(squares.mean() - over**2) < 4 * squares.std() / math.sqrt(len(squares))


@pytest.mark.parametrize("over", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("samples", [200, 1000])
def test_its_interval_covers_the_truth(over: float, samples: int) -> None:
    found = [calibration(*source(samples, over, seed)) for seed in range(200)]
    covered = np.mean([one.low <= over <= one.high for one in found])
    # 95 % less three deviations of a share of 200.
    assert covered > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)
    assert all(one.low <= one.error <= one.high for one in found)


def test_an_interval_shrinks_with_the_data_and_is_never_empty() -> None:
    few, many = (calibration(*source(n, 0.0, 3)) for n in (200, 20_000))
    assert 0 < many.high - many.low < few.high - few.low
    certain = calibration([1.0] * 50, [1.0] * 50)
    assert (certain.error, certain.low) == (0.0, 0.0)
    assert certain.high > 0


def test_batches_make_it_larger() -> None:
    """What is computed batch by batch and averaged grows as batches shrink; this does not."""
    stated, right = source(2000, 0.0, 1)
    whole = calibration(stated, right).ece
    parts = [calibration(stated[i : i + 100], right[i : i + 100]) for i in range(0, 2000, 100)]
    assert np.mean([part.ece for part in parts]) > 2 * whole
    squares = [part.squared for part in parts]
    assert abs(np.mean(squares)) < 4 * np.std(squares) / math.sqrt(len(squares))


def test_its_bins_are_those_of_scikit_learn() -> None:
    stated, right = source(5000, 0.07, 2)
    shares, confidences = calibration_curve(right, stated, n_bins=BINS, strategy="uniform")
    mine = reliability(stated, right)
    assert [part.right for part in mine] == pytest.approx(shares)
    assert [part.confidence for part in mine] == pytest.approx(confidences)
    weights = np.array([part.samples for part in mine]) / 5000
    wanted = float((weights * np.abs(shares - confidences)).sum())
    assert calibration(stated, right).ece == pytest.approx(wanted)


def test_a_bin_has_its_upper_end() -> None:
    """As Guo et al. 2017 have it: (0.2, 0.4] and so on, and 0 with the first."""
    places = reliability([0.0, 0.2, 0.4, 0.41, 1.0], [0, 0, 0, 0, 0], bins=5)
    assert [part.samples for part in places] == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("stated", "right"),
    [([0.5], [1]), ([0.5, 1.2], [1, 0]), ([0.5, math.nan], [1, 0]), ([0.5, 0.5], [1, 0.5])],
)
def test_what_is_no_confidence_is_refused(stated: list[float], right: list[float]) -> None:
    with pytest.raises(ValueError, match=r"confidence|right"):
        calibration(stated, right)
