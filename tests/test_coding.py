"""The spline codec, against scipy, printed vectors and what every spline must keep."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, make_smoothing_spline

from robustcode.coding import Code, chebyshev_first, chebyshev_second, spline_matrix
from robustcode.errors import ConfigError

Array = NDArray[np.float64]

# Sums of up to a few hundred terms of size one, in float64.
ROUNDING = 1e-12

# Rounded to six digits, from an independent program (numpy, dense solves).
ENCODER_4_6 = [
    [1.172516, -0.201646, 0.038463, -0.009333],
    [0.741847, 0.300129, -0.055424, 0.013448],
    [-0.062376, 0.995221, 0.088384, -0.021229],
    [-0.021229, 0.088384, 0.995221, -0.062376],
    [0.013448, -0.055424, 0.300129, 0.741847],
    [-0.009333, 0.038463, -0.201646, 1.172516],
]
DECODER_4_6 = [
    [0.550613, 0.473530, -0.029124, 0.006920, -0.003287, 0.001348],
    [-0.090771, 0.224470, 0.917133, -0.070614, 0.033542, -0.013760],
    [-0.013760, 0.033542, -0.070614, 0.917133, 0.224470, -0.090771],
    [0.001348, -0.003287, 0.006920, -0.029124, 0.473530, 0.550613],
]
DIGITS = 6e-7

codes = st.builds(
    Code,
    st.integers(3, 40),
    # Even n is never one more than a multiple of 2 k.
    st.integers(2, 40).map(lambda half: 2 * half),
    st.sampled_from([0.0, 1e-3, 0.1, 10.0]),
)


def test_points_are_the_zeros_and_extrema_of_chebyshev_polynomials() -> None:
    zeros = chebyshev_first(9)
    extrema = chebyshev_second(10)
    np.testing.assert_allclose(np.cos(9 * np.arccos(zeros)), 0, atol=ROUNDING)
    np.testing.assert_allclose(np.abs(np.cos(9 * np.arccos(extrema))), 1, atol=ROUNDING)
    assert extrema[0] == 1
    assert extrema[-1] == -1
    assert (np.diff(zeros) < 0).all()
    assert (np.diff(extrema) < 0).all()


@pytest.mark.parametrize("points", [chebyshev_first, chebyshev_second])
@pytest.mark.parametrize("count", [2, 3, 16, 101])
def test_points_mirror_exactly(points: Callable[[int], Array], count: int) -> None:
    assert (points(count) == -points(count)[::-1]).all()


def test_encoder_and_decoder_are_the_printed_ones() -> None:
    code = Code(4, 6)
    np.testing.assert_allclose(code.encoder, ENCODER_4_6, atol=DIGITS)
    np.testing.assert_allclose(code.decoder, DECODER_4_6, atol=DIGITS)


def test_coded_inference_of_four_numbers_is_the_printed_one() -> None:
    code = Code(4, 6)
    coded = code.encoder @ [1, -2, 0.5, 3]
    np.testing.assert_allclose(
        coded, [1.567041, 0.154221, -2.072312, 0.112486, 2.499902, 3.330467], atol=DIGITS
    )
    np.testing.assert_allclose(
        code.decoder @ coded, [0.993268, -1.978127, 0.491953, 3.001567], atol=DIGITS
    )
    np.testing.assert_allclose(
        code.decoder @ np.tanh(coded), [0.604214, -0.925906, 0.294589, 1.007162], atol=DIGITS
    )


def test_smoothed_rows_are_the_printed_ones() -> None:
    code = Code(4, 6, c=1e-3 * 4**4)
    assert code.smoothing == pytest.approx(1e-3)
    np.testing.assert_allclose(
        code.encoder[0], [1.127195, -0.113927, -0.018575, 0.005307], atol=DIGITS
    )
    np.testing.assert_allclose(
        code.decoder[0], [0.571908, 0.418653, 0.027729, -0.019512, -0.000531, 0.001754], atol=DIGITS
    )


@pytest.mark.parametrize("n", [5, 16, 128])
@pytest.mark.parametrize("c", [1e-6, 1e-2, 1.0, 100.0])
def test_smoothing_spline_is_scipys(n: int, c: float) -> None:
    knots = np.sort(chebyshev_first(n))
    at = np.linspace(knots[0], knots[-1], 501)
    y = np.random.default_rng(n).normal(size=n)
    lam = c / n**4
    expected = make_smoothing_spline(knots, y, lam=n * lam)(at)
    np.testing.assert_allclose(spline_matrix(knots, at, lam) @ y, expected, atol=1e-11)


@pytest.mark.parametrize("n", [3, 4, 16, 128])
def test_interpolating_spline_is_scipys_natural_one_and_straight_beyond(n: int) -> None:
    knots = np.sort(chebyshev_first(n))
    y = np.random.default_rng(n).normal(size=n)
    reference = CubicSpline(knots, y, bc_type="natural")
    inside = np.linspace(knots[0], knots[-1], 501)
    np.testing.assert_allclose(
        spline_matrix(knots, inside, 0.0) @ y, reference(inside), atol=ROUNDING
    )
    for end, outside in ((knots[0], [-1.5, -1.0]), (knots[-1], [1.0, 1.5])):
        straight = reference(end) + (np.array(outside) - end) * reference(end, 1)
        # Slopes at the ends grow with the square of the number of points.
        np.testing.assert_allclose(
            spline_matrix(knots, np.array(outside), 0.0) @ y, straight, rtol=1e-10
        )


def test_order_of_the_knots_is_the_order_of_the_columns() -> None:
    knots = chebyshev_first(7)
    at = np.linspace(-1, 1, 9)
    shuffle = np.random.default_rng(0).permutation(7)
    np.testing.assert_array_equal(
        spline_matrix(knots[shuffle], at, 1e-3), spline_matrix(knots, at, 1e-3)[:, shuffle]
    )


@given(codes)
def test_rows_sum_to_one_and_straight_sequences_are_kept(code: Code) -> None:
    first, second = chebyshev_first(code.k), chebyshev_second(code.n)
    np.testing.assert_allclose(code.encoder.sum(1), 1, atol=ROUNDING)
    np.testing.assert_allclose(code.decoder.sum(1), 1, atol=ROUNDING)
    np.testing.assert_allclose(code.encoder @ first, second, atol=ROUNDING)
    np.testing.assert_allclose(code.decoder @ second, first, atol=ROUNDING)


@given(codes)
def test_reversed_samples_give_reversed_coded_samples(code: Code) -> None:
    np.testing.assert_allclose(code.encoder[::-1, ::-1], code.encoder, atol=ROUNDING)
    np.testing.assert_allclose(code.decoder[::-1, ::-1], code.decoder, atol=ROUNDING)


def test_more_smoothing_tends_to_the_regression_line() -> None:
    code = Code(8, 12, c=1e9)
    design = np.vander(chebyshev_first(8), 2)
    line = np.vander(chebyshev_second(12), 2) @ np.linalg.pinv(design)
    # Smoothing by lambda leaves a share of about 1 / lambda of what is not straight.
    np.testing.assert_allclose(code.encoder, line, atol=1e-4)


@pytest.mark.parametrize(
    ("n", "own", "least", "cross"),
    [
        (64, 0.50, -0.01, 1.18),
        (96, 0.72, 0.44, 0.80),
        (128, 0.88, 0.74, 0.41),
        (160, 0.95, 0.90, 0.14),
        (192, 0.976, 0.95, 0.056),
        (256, 0.991, None, 0.020),
    ],
)
def test_share_of_a_sample_in_its_own_output_is_the_tabled_one(
    n: int, own: float, least: float | None, cross: float
) -> None:
    code = Code(128, n)
    both = code.decoder @ code.encoder
    gain = np.diag(both)
    others = np.abs(both).sum(1) - np.abs(gain)
    assert gain.mean() == pytest.approx(own, abs=0.006)
    assert others.mean() == pytest.approx(cross, abs=0.006)
    if least is not None:
        assert gain.min() == pytest.approx(least, abs=0.006)


def test_a_code_is_a_value_whose_matrices_are_made_once_and_not_written() -> None:
    code = Code(8, 12)
    assert code == Code(8, 12)
    assert code.encoder is code.encoder
    assert code.encoder.dtype == code.decoder.dtype == np.float64
    assert code.encoder.shape == (12, 8)
    assert code.decoder.shape == (8, 12)
    with pytest.raises(ValueError, match="read-only"):
        code.encoder[0, 0] = 0


def test_what_is_refused_as_degenerate_would_run_every_sample_uncoded() -> None:
    encoder = spline_matrix(chebyshev_first(5), chebyshev_second(11), 0.0)
    np.testing.assert_allclose(encoder[1::2], np.eye(5), atol=ROUNDING)


@pytest.mark.parametrize(
    ("k", "n", "c", "reason"),
    [
        (2, 6, 0.0, "k = 2 to n = 6: .* 3 of each"),
        (4, 2, 0.0, "k = 4 to n = 2: .* 3 of each"),
        (5, 11, 0.0, "codes nothing: .* take n = 10"),
        (5, 21, 0.1, "codes nothing: .* take n = 20"),
        (5, 8, -1.0, r"c = -1\.0"),
        (5, 8, float("nan"), "c = nan"),
    ],
)
def test_impossible_codes_are_refused_with_the_reason(
    k: int, n: int, c: float, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        Code(k, n, c)


@pytest.mark.parametrize(
    ("knots", "lam", "reason"),
    [
        ([0.0, 1.0], 0.0, "3 knots or more; got 2"),
        ([0.0, 1.0, 1.0], 0.0, "the same point"),
        ([0.0, 1.0, np.nan], 0.0, "no number"),
        ([0.0, 1.0, 2.0], -1e-9, "lam = -1e-09"),
        ([0.0, 1.0, 2.0], np.inf, "lam = inf"),
    ],
)
def test_impossible_splines_are_refused_with_the_reason(
    knots: list[float], lam: float, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        spline_matrix(np.array(knots), np.zeros(1), lam)


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 Chebyshev points of the first kind"):
        chebyshev_first(0)
    with pytest.raises(ConfigError, match="1 Chebyshev points of the second kind"):
        chebyshev_second(1)
