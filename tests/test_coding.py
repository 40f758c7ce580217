"""The codec, against scipy, exact arithmetic, printed vectors and what every code must keep."""

import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import BarycentricInterpolator, CubicSpline, make_smoothing_spline

from robustcode.coding import (
    Basis,
    Code,
    Points,
    berrut_matrix,
    chebyshev_first,
    chebyshev_second,
    equispaced_ends,
    equispaced_middles,
    spline_matrix,
)
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

# Even n is never one more than a multiple of 2 k.
splines = st.builds(
    Code,
    st.integers(3, 40),
    st.integers(2, 40).map(lambda half: 2 * half),
    st.sampled_from([0.0, 1e-3, 0.1, 10.0, 1e9]),
    points=st.sampled_from(Points),
)
codes = splines | st.builds(
    Code,
    st.integers(2, 40),
    st.integers(1, 40).map(lambda half: 2 * half),
    basis=st.just(Basis.BERRUT),
    points=st.sampled_from(Points),
)


def close(found: Array, expected: Array, tolerance: float = ROUNDING) -> None:
    """All within a share of the largest of what is expected."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_points_are_the_zeros_and_extrema_of_chebyshev_polynomials() -> None:
    zeros = chebyshev_first(9)
    extrema = chebyshev_second(10)
    np.testing.assert_allclose(np.cos(9 * np.arccos(zeros)), 0, atol=ROUNDING)
    np.testing.assert_allclose(np.abs(np.cos(9 * np.arccos(extrema))), 1, atol=ROUNDING)
    assert extrema[0] == 1
    assert extrema[-1] == -1
    assert (np.diff(zeros) < 0).all()
    assert (np.diff(extrema) < 0).all()


def test_equispaced_points_are_the_middles_of_cells_and_equal_steps_from_end_to_end() -> None:
    edges = np.linspace(1, -1, 10)
    np.testing.assert_allclose(equispaced_middles(9), (edges[1:] + edges[:-1]) / 2, atol=1e-15)
    np.testing.assert_allclose(equispaced_ends(10), edges, atol=1e-15)
    assert equispaced_ends(10)[[0, -1]].tolist() == [1, -1]


@pytest.mark.parametrize("count", [3, 16, 101])
def test_equispaced_points_are_chebyshevs_seen_from_the_middle_of_the_half_circle(
    count: int,
) -> None:
    for straight, round_ in (
        (equispaced_middles, chebyshev_first),
        (equispaced_ends, chebyshev_second),
    ):
        np.testing.assert_allclose(
            round_(count), np.cos(np.pi / 2 * (1 - straight(count))), atol=1e-15
        )


@pytest.mark.parametrize(
    "points", [chebyshev_first, chebyshev_second, equispaced_middles, equispaced_ends]
)
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


def test_berruts_first_rows_are_the_printed_ones() -> None:
    code = Code(4, 6, basis=Basis.BERRUT)
    np.testing.assert_allclose(
        code.encoder[0], [1.120853, -0.138211, 0.061706, -0.044348], atol=DIGITS
    )
    np.testing.assert_allclose(
        code.decoder[0], [0.626453, 0.415156, -0.077555, 0.038678, -0.027518, 0.024786], atol=DIGITS
    )


@pytest.mark.parametrize("points", Points)
@pytest.mark.parametrize("n", [5, 16, 128])
@pytest.mark.parametrize("c", [1e-6, 1e-2, 1.0])
def test_smoothing_spline_is_scipys(points: Points, n: int, c: float) -> None:
    # Not with more smoothing: scipy itself loses digits, 4e-11 with 16 knots and c = 1e6.
    knots = np.sort(points.of_samples(n))
    at = np.linspace(knots[0], knots[-1], 501)
    y = np.random.default_rng(n).normal(size=n)
    lam = c / n**4
    close(spline_matrix(knots, at, lam) @ y, make_smoothing_spline(knots, y, lam=n * lam)(at))


@pytest.mark.parametrize("points", Points)
@pytest.mark.parametrize("n", [3, 4, 16, 128])
def test_interpolating_spline_is_scipys_natural_one_and_straight_beyond(
    points: Points, n: int
) -> None:
    knots = np.sort(points.of_samples(n))
    y = np.random.default_rng(n).normal(size=n)
    reference = CubicSpline(knots, y, bc_type="natural")
    inside = np.linspace(knots[0], knots[-1], 501)
    close(spline_matrix(knots, inside, 0.0) @ y, reference(inside))
    for end, outside in ((knots[0], [-1.5, -1.0]), (knots[-1], [1.0, 1.5])):
        straight = reference(end) + (np.array(outside) - end) * reference(end, 1)
        # Slopes at the ends grow with the square of the number of points, and so do roundings.
        close(spline_matrix(knots, np.array(outside), 0.0) @ y, straight, 1e-11)


@pytest.mark.parametrize("points", Points)
@pytest.mark.parametrize("c", [0.0, 1e-3, 1.0, 1e6, 1e20])
def test_spline_is_the_minimiser_in_exact_arithmetic_whatever_the_smoothing(
    points: Points, c: float
) -> None:
    n = 7
    knots, at, lam = points.of_samples(n), np.linspace(-1.2, 1.2, 13), c / n**4
    close(spline_matrix(knots, at, lam), exact_spline(knots, at, lam))


def exact_spline(knots: Array, at: Array, lam: float) -> Array:
    """The same spline by another way, in fractions: a line plus a cubed distance for each knot.

    u(t) = a + b t + sum of g_i |t - t_i|^3 / 12, with g orthogonal to lines, is straight beyond
    the knots and of roughness g'Kg, where K has the cubed distances; so the criterion has its
    minimum where (K + n lam I) g + T (a, b) = y, with T the ones and the knots.
    """
    t = [Fraction(knot) for knot in knots.tolist()]
    n = len(t)
    rows = [[abs(s - other) ** 3 / 12 for other in t] + [Fraction(1), s] for s in t]
    for i in range(n):
        rows[i][i] += n * Fraction(lam)
    rows += [[*map(Fraction, [1] * n), Fraction(0), Fraction(0)], [*t, Fraction(0), Fraction(0)]]
    # Beside the system, the right-hand sides: each knot's unit, and 0 for the two constraints.
    rows = [row + [Fraction(i == j) for j in range(n)] for i, row in enumerate(rows)]
    for column in range(n + 2):
        pivot = next(row for row in rows[column:] if row[column])
        rows.remove(pivot)
        pivot = [value / pivot[column] for value in pivot]
        rows = [
            [a - row[column] * b for a, b in zip(row, pivot, strict=True)] if row[column] else row
            for row in rows
        ]
        rows.insert(column, pivot)
    solution = [row[n + 2 :] for row in rows]
    matrix = []
    for point in map(Fraction, at.tolist()):
        basis = [abs(point - other) ** 3 / 12 for other in t] + [Fraction(1), point]
        matrix.append(
            [
                float(sum(b * row[j] for b, row in zip(basis, solution, strict=True)))
                for j in range(n)
            ]
        )
    return np.array(matrix)


@pytest.mark.parametrize("points", Points)
@pytest.mark.parametrize("n", [1, 2, 5, 16, 127])
def test_berruts_interpolant_is_scipys_barycentric_one_with_alternate_signs(
    points: Points, n: int
) -> None:
    knots = points.of_samples(n)
    y = np.random.default_rng(n).normal(size=n)
    at = np.concatenate([np.linspace(-1.5, 1.5, 200), knots])
    reference = BarycentricInterpolator(knots, y, wi=(-1.0) ** np.arange(n))
    close(berrut_matrix(knots, at) @ y, reference(at))


@pytest.mark.parametrize("basis", Basis)
def test_what_is_at_a_knot_is_that_knots_and_no_others(basis: Basis) -> None:
    knots = chebyshev_first(9)
    matrix = spline_matrix if basis is Basis.SPLINE else interpolating
    close(matrix(knots, knots, 0.0), np.eye(9))
    # The nearest points that floats have beside the knots: no weight overflows or cancels.
    close(matrix(knots, np.nextafter(knots, 2), 0.0), np.eye(9))


def interpolating(knots: Array, at: Array, lam: float) -> Array:
    """Berrut's matrix with the arguments of the spline's."""
    assert lam == 0
    return berrut_matrix(knots, at)


def test_signs_of_berruts_weights_alternate_over_the_outputs_that_are_left() -> None:
    left = np.delete(chebyshev_second(12), [3, 4, 8])
    matrix = berrut_matrix(left, chebyshev_first(8))
    # Without a pole no weight is large; by the signs of all twelve, some here would be.
    assert np.abs(matrix).max() < 1.5
    signs = np.sign(matrix * (chebyshev_first(8)[:, None] - left))
    assert (signs[:, 1:] == -signs[:, :-1]).all()


def test_order_of_the_knots_is_the_order_of_the_columns() -> None:
    knots = chebyshev_first(7)
    at = np.linspace(-1, 1, 9)
    shuffle = np.random.default_rng(0).permutation(7)
    np.testing.assert_array_equal(
        spline_matrix(knots[shuffle], at, 1e-3), spline_matrix(knots, at, 1e-3)[:, shuffle]
    )


@pytest.mark.parametrize("matrix", [spline_matrix, interpolating])
def test_knots_of_any_order_give_the_columns_that_order(
    matrix: Callable[[Array, Array, float], Array],
) -> None:
    knots = chebyshev_first(7)
    at = np.linspace(-1, 1, 9)
    shuffle = np.random.default_rng(0).permutation(7)
    close(matrix(knots[shuffle], at, 0.0), matrix(knots, at, 0.0)[:, shuffle])


@given(codes)
def test_rows_sum_to_one(code: Code) -> None:
    np.testing.assert_allclose(code.encoder.sum(1), 1, atol=ROUNDING)
    np.testing.assert_allclose(code.decoder.sum(1), 1, atol=ROUNDING)


@given(splines)
def test_straight_sequences_are_kept_by_splines(code: Code) -> None:
    np.testing.assert_allclose(code.encoder @ code.sample_points, code.coded_points, atol=ROUNDING)
    np.testing.assert_allclose(code.decoder @ code.coded_points, code.sample_points, atol=ROUNDING)


@given(st.integers(1, 40), st.sampled_from(Points))
def test_straight_sequences_are_kept_by_berruts_interpolant_of_an_even_number(
    half: int, points: Points
) -> None:
    # With x = z - (z - x) a weighted sum of knots x is z less the sum of the signs, 0 or 1, over
    # the sum that the weights are divided by.
    at = np.linspace(-1, 1, 7)
    even, odd = points.of_samples(2 * half), points.of_samples(2 * half + 1)
    close(berrut_matrix(even, at) @ even, at)
    between = at[np.abs(at[:, None] - odd).min(1) > ROUNDING]
    signs = (-1.0) ** np.arange(len(odd))
    sums = (signs / (between[:, None] - odd)).sum(1)
    close(berrut_matrix(odd, between) @ odd, between - 1 / sums)


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
    ("n", "own", "least", "cross", "mixed"),
    [
        (64, 0.50, -0.01, 1.18, 1.14),
        (96, 0.72, 0.44, 0.80, 1.14),
        (128, 0.88, 0.74, 0.41, 1.15),
        (160, 0.95, 0.90, 0.14, 1.15),
        (192, 0.976, 0.95, 0.056, 1.15),
        (256, 0.991, None, 0.020, 1.15),
        (512, 0.999, None, 0.003, 1.15),
    ],
)
def test_what_a_code_does_to_a_batch_is_what_is_tabled(
    n: int, own: float, least: float | None, cross: float, mixed: float | None
) -> None:
    found = Code(128, n).diagnostics
    assert found.own_gain == pytest.approx(own, abs=0.006)
    assert found.cross_weight == pytest.approx(cross, abs=0.006)
    if least is not None:
        assert found.least_own_gain == pytest.approx(least, abs=0.006)
    if mixed is not None:
        assert found.effective_mixing == pytest.approx(mixed, abs=0.006)
    for k in (16, 64):
        smaller = Code(k, n * k // 128).diagnostics
        assert smaller.own_gain == pytest.approx(own, abs=0.03)
        assert smaller.cross_weight == pytest.approx(cross, abs=0.11)


@pytest.mark.parametrize(
    ("k", "c", "mixed", "own"),
    [
        (128, 1e-6 * 128**4, 9.4, 0.116),
        (64, 1e-6 * 64**4, 4.7, None),
        (16, 1e-6 * 16**4, 1.4, None),
        (128, 1e-4 * 128**4, 24, None),
        (16, 0.07, None, 0.77),
    ],
)
def test_smoothing_mixes_as_many_samples_as_noted(
    k: int, c: float, mixed: float | None, own: float | None
) -> None:
    found = Code(k, 3 * k // 2, c).diagnostics
    if mixed is not None:
        assert found.effective_mixing == pytest.approx(mixed, rel=0.025)
    if own is not None:
        assert found.own_gain == pytest.approx(own, abs=0.01)


@pytest.mark.parametrize("n", [256, 512])
def test_a_coded_sample_weighs_at_most_what_is_noted(n: int) -> None:
    assert Code(128, n).diagnostics.encoder_amplification == pytest.approx(1.76, abs=0.006)


@given(codes)
def test_diagnostics_say_what_happens_to_a_linear_model(code: Code) -> None:
    weight, bias = np.array([0.5, -2.0]), 3.0

    def inferred(batch: Array) -> Array:
        coded = code.encoder @ batch
        decoded: Array = code.decoder @ (coded @ weight + bias)
        return decoded

    still = np.zeros((code.k, 2))
    np.testing.assert_allclose(inferred(still), bias, atol=1e-11)
    gains, spilt = [], np.zeros(code.k)
    for i in range(code.k):
        moved = still.copy()
        moved[i] = [0.0, 1.0]
        share = (inferred(moved) - inferred(still)) / weight[1]
        gains.append(share[i])
        spilt += np.abs(np.where(np.arange(code.k) == i, 0, share))
    found = code.diagnostics
    assert found.own_gain == pytest.approx(np.mean(gains), abs=1e-10)
    assert found.least_own_gain == pytest.approx(np.min(gains), abs=1e-10)
    assert found.cross_weight == pytest.approx(np.mean(spilt), abs=1e-10)


@given(codes)
def test_coded_samples_leave_the_box_by_what_the_amplification_says(code: Code) -> None:
    found = code.diagnostics
    worst = [row @ (row > 0) for row in code.encoder]  # the batch in [0, 1] that is worst for it
    assert np.max(worst) == pytest.approx(0.5 + found.encoder_amplification / 2)
    wrong = [row @ np.sign(row) for row in code.decoder]  # every coded output wrong by one
    assert np.max(wrong) == pytest.approx(found.decoder_amplification)


@pytest.mark.parametrize(("k", "n"), [(8, 12), (8, 8), (8, 6)])
def test_condition_bounds_how_errors_of_coded_samples_grow(k: int, n: int) -> None:
    encoder = Code(k, n).encoder
    scales = np.linalg.eigvalsh(encoder @ encoder.T if n < k else encoder.T @ encoder)
    assert Code(k, n).diagnostics.condition == pytest.approx((scales[-1] / scales[0]) ** 0.5)


def test_an_average_of_so_many_is_mixed_as_they_are() -> None:
    # A regression line through equal steps averages all k at its middle.
    line = Code(15, 3, c=1e12, points=Points.EQUISPACED)
    np.testing.assert_allclose(line.encoder[1], 1 / 15, atol=1e-6)
    mixing = [1 / (row**2).sum() for row in line.encoder]
    assert mixing[1] == pytest.approx(15, rel=1e-4)
    assert line.diagnostics.effective_mixing == pytest.approx(np.mean(mixing))


@given(codes, st.sampled_from([0.0, 0.01, 0.1, 0.9]))
def test_support_holds_all_that_is_heavy_heaviest_first_and_no_more_than_a_row_needs(
    code: Code, tolerance: float
) -> None:
    support = code.support(tolerance)
    assert support.dtype == np.int64
    needed = []
    for carried, row in zip(support, np.abs(code.decoder), strict=True):
        heavy = set(np.flatnonzero(row > tolerance * row.max()))
        needed.append(len(heavy))
        assert heavy <= set(carried.tolist())
        assert len(set(carried.tolist())) == len(carried)
        assert (np.diff(row[carried]) <= 0).all()
        # What fills a row up is heavier than all that is left out.
        assert np.delete(row, carried).max(initial=0) <= row[carried].min()
    assert support.shape == (code.k, max(needed))


def test_outputs_of_the_support_decode_to_within_what_was_left_out() -> None:
    code = Code(128, 192)
    outputs = np.random.default_rng(0).uniform(-1, 1, 192)
    support = code.support(0.01)
    partial = (np.take_along_axis(code.decoder, support, 1) * outputs[support]).sum(1)
    left_out = 0.01 * np.abs(code.decoder).max(1) * (192 - support.shape[1])
    assert (np.abs(partial - code.decoder @ outputs) <= left_out).all()
    assert support.shape[1] == 8


def test_a_code_is_a_value_whose_matrices_are_made_once_and_not_written() -> None:
    code = Code(8, 12)
    assert code == Code(8, 12)
    assert code.encoder is Code(8, 12).encoder
    assert code.decoder is Code(8, 12).decoder
    assert code.diagnostics is Code(8, 12).diagnostics
    assert code.encoder.dtype == code.decoder.dtype == np.float64
    assert code.encoder.shape == (12, 8)
    assert code.decoder.shape == (8, 12)
    for matrix in (code.encoder, code.decoder):
        with pytest.raises(ValueError, match="read-only"):
            matrix[0, 0] = 0


def test_points_of_a_code_are_those_of_its_family() -> None:
    for points, samples, coded in (
        (Points.CHEBYSHEV, chebyshev_first(8), chebyshev_second(12)),
        (Points.EQUISPACED, equispaced_middles(8), equispaced_ends(12)),
    ):
        code = Code(8, 12, c=0.1, points=points)
        np.testing.assert_array_equal(code.sample_points, samples)
        np.testing.assert_array_equal(code.coded_points, coded)
        expected = spline_matrix(samples, coded, code.smoothing)
        np.testing.assert_array_equal(code.encoder, expected)
        expected = spline_matrix(coded, samples, code.smoothing)
        np.testing.assert_array_equal(code.decoder, expected)


def test_codes_that_differ_in_anything_differ_in_both_matrices() -> None:
    code = Code(8, 12)
    for other in (
        replace(code, c=0.1),
        replace(code, basis=Basis.BERRUT),
        replace(code, points=Points.EQUISPACED),
    ):
        assert np.abs(other.encoder - code.encoder).max() > 1e-3
        assert np.abs(other.decoder - code.decoder).max() > 1e-3


def test_matrices_of_codes_out_of_use_do_not_pile_up() -> None:
    kept = weakref.ref(Code(3, 4, c=0.123).encoder)
    assert kept() is not None
    for i in range(100):
        assert Code(3, 4, c=float(i)).encoder.shape == (4, 3)
    assert kept() is None


def test_a_large_code_is_built_in_under_a_second() -> None:
    # The fastest of three on a machine that others use; it takes a twentieth of that.
    def seconds(c: float) -> float:
        start = time.process_time()
        code = Code(512, 768, c)
        assert code.encoder.shape == code.decoder.T.shape == (768, 512)
        return time.process_time() - start

    assert min(seconds(c) for c in (0.0, 0.001, 0.002)) < 1


@pytest.mark.parametrize("basis", Basis)
@pytest.mark.parametrize("points", Points)
def test_what_is_refused_as_degenerate_would_run_every_sample_uncoded(
    basis: Basis, points: Points
) -> None:
    samples, coded = points.of_samples(5), points.of_coded(11)
    matrix = spline_matrix if basis is Basis.SPLINE else interpolating
    close(matrix(samples, coded, 0.0)[1::2], np.eye(5))
    close(matrix(coded, samples, 0.0)[:, 1::2], np.eye(5))


@pytest.mark.parametrize("points", Points)
def test_refused_are_those_codes_whose_coded_points_have_all_samples_points(
    points: Points,
) -> None:
    for k in range(2, 9):
        for n in range(2, 50):
            apart = np.abs(points.of_samples(k)[:, None] - points.of_coded(n)).min(1)
            if (apart < ROUNDING).all():
                with pytest.raises(ConfigError, match=f"codes nothing: .* take n = {n - 1}"):
                    Code(k, n, basis=Basis.BERRUT, points=points)
                n -= 1  # the advice is good
            assert Code(k, n, basis=Basis.BERRUT, points=points).n == n


@pytest.mark.parametrize(
    ("k", "n", "c", "basis", "reason"),
    [
        (2, 6, 0.0, Basis.SPLINE, "k = 2 to n = 6: .* 3 of each"),
        (4, 2, 0.0, Basis.SPLINE, "k = 4 to n = 2: .* 3 of each"),
        (1, 6, 0.0, Basis.BERRUT, "k = 1 to n = 6: .* 2 of each"),
        (4, 1, 0.0, Basis.BERRUT, "k = 4 to n = 1: .* 2 of each"),
        (5, 11, 0.0, Basis.SPLINE, "codes nothing: .* take n = 10"),
        (5, 21, 0.1, Basis.SPLINE, "codes nothing: .* take n = 20"),
        (2, 5, 0.0, Basis.BERRUT, "codes nothing: .* take n = 4"),
        (5, 8, -1.0, Basis.SPLINE, r"c = -1\.0"),
        (5, 8, float("nan"), Basis.SPLINE, "c = nan"),
        (5, 8, 0.1, Basis.BERRUT, r"c = 0\.1: Berrut's interpolant has no smoothing; take c = 0"),
    ],
)
def test_impossible_codes_are_refused_with_the_reason(
    k: int, n: int, c: float, basis: Basis, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        Code(k, n, c, basis)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, float("nan")])
def test_tolerances_that_no_weight_can_meet_are_refused(tolerance: float) -> None:
    with pytest.raises(ConfigError, match=f"tolerance = {tolerance}"):
        Code(8, 12).support(tolerance)


@pytest.mark.parametrize(
    ("knots", "reason"),
    [
        ([], "got none"),
        ([0.5, 1.0, 0.5], "the same point"),
        ([0.0, np.nan], "no number"),
        ([np.nan], "no number"),
    ],
)
def test_impossible_interpolants_are_refused_with_the_reason(
    knots: list[float], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        berrut_matrix(np.array(knots), np.zeros(1))


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
    with pytest.raises(ConfigError, match="0 cells"):
        equispaced_middles(0)
    with pytest.raises(ConfigError, match="1 points including both ends"):
        equispaced_ends(1)
