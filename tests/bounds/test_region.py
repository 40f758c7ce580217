"""The least of a linear function over a ball, perhaps in a box, against a solver and in limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, NonlinearConstraint, linprog, minimize
from torch import Tensor

from robustcode.bounds import Region
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

SHAPE = (2, 3, 2)
VALUES = math.prod(SHAPE)


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Centres in [0, 1], some values on its edge, and rows of coefficients."""
    streams = Streams.of(seed, "region", torch.arange(count))
    x = (streams.child("x").uniform(*SHAPE, dtype=torch.float64) * 1.6 - 0.3).clamp(0, 1)
    return x, streams.child("a").normal(3, *SHAPE, dtype=torch.float64)


def by_solver(x: Tensor, a: Tensor, norm: Norm, radius: float) -> float:
    """The least by a linear program, in l2 by sequential quadratic programming."""
    c, start = a.flatten().numpy(), x.flatten().numpy()
    low, high = -start, 1 - start
    if norm is Norm.LINF:
        sides = [(max(lo, -radius), min(hi, radius)) for lo, hi in zip(low, high, strict=True)]
        move = linprog(c, bounds=sides).fun
    elif norm is Norm.L1:  # moves up and moves down, both at least 0
        room = [(0, hi) for hi in high] + [(0, -lo) for lo in low]
        move = linprog(np.concatenate([c, -c]), np.ones((1, 2 * VALUES)), [radius], bounds=room).fun
    else:

        def left(d: NDArray[np.float64]) -> list[float]:
            return [float(radius**2 - d @ d)]

        first = np.clip(-c * radius / np.linalg.norm(c), low, high)
        found = minimize(  # type: ignore[call-overload]  # arrays of shape Any match no overload
            lambda d: float(c @ d),
            first.tolist(),
            bounds=Bounds(low, high),
            constraints=NonlinearConstraint(left, 0.0, np.inf),
            method="SLSQP",
            tol=1e-12,
        )
        move = found.fun
    return float(c @ start + move)


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("radius", [0.05, 0.4, 1.0])
def test_the_least_in_ball_and_box_is_that_of_a_solver(norm: Norm, radius: float) -> None:
    x, a = drawn(4, seed=1)
    region = Region(x, torch.full((4,), radius, dtype=torch.float64), norm, 0.0, 1.0)
    found = region.least(a)
    for i in range(4):
        for j in range(3):
            expected = by_solver(x[i], a[i, j], norm, radius)
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("norm", Norm)
def test_without_a_box_the_least_is_at_the_dual_norm(norm: Norm) -> None:
    x, a = drawn(4, seed=2)
    radius = torch.tensor([0.0, 0.1, 0.5, 3.0], dtype=torch.float64)
    dual = {Norm.LINF: 1, Norm.L2: 2, Norm.L1: math.inf}[norm]
    lengths = torch.linalg.vector_norm(a.flatten(2), ord=dual, dim=2)
    expected = (a * x[:, None]).flatten(2).sum(2) - radius[:, None] * lengths
    torch.testing.assert_close(Region(x, radius, norm).least(a), expected)
    # A box that is far away holds nothing back.
    far = Region(x, radius, norm, -10.0, 10.0).least(a)
    torch.testing.assert_close(far, expected)


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("radius", [0.1, 0.7, 50.0])
def test_nothing_in_the_region_is_below_its_least(norm: Norm, radius: float) -> None:
    x, a = drawn(6, seed=3)
    region = Region(x, torch.full((6,), radius, dtype=torch.float64), norm, 0.0, 1.0)
    threat = ThreatModel(norm, min(radius, 1.0) if norm is Norm.LINF else radius)
    least, (lower, upper) = region.least(a), region.box()
    for draw in range(50):
        point = threat.random(x, Streams.of(draw, "points", torch.arange(6)))
        assert ((a * point[:, None]).flatten(2).sum(2) >= least - 1e-12).all()
        assert ((point >= lower) & (point <= upper)).all()


@pytest.mark.parametrize("norm", Norm)
def test_a_region_of_lower_precision_holds_that_of_higher(norm: Norm) -> None:
    x, a = drawn(5, seed=4)
    region = Region(x, torch.full((5,), 0.1, dtype=torch.float64), norm)
    coarse = region.to(torch.float32)
    assert coarse.x.dtype == torch.float32
    assert ((x - coarse.x.double()).abs() > 0).any()
    again = Region(coarse.x.double(), coarse.radius.double(), norm)
    assert (again.least(a) <= region.least(a)).all()
    assert (again.least(a) >= region.least(a) - 1e-5).all()


def test_rows_depend_on_nothing_but_themselves() -> None:
    x, a = drawn(5, seed=5)
    radius = torch.linspace(0.01, 0.5, 5, dtype=torch.float64)
    for norm in Norm:
        region = Region(x, radius, norm, 0.0, 1.0)
        for i in range(5):
            only = region.rows(torch.tensor([i])).least(a[i : i + 1])
            torch.testing.assert_close(only, region.least(a)[i : i + 1])


@pytest.mark.parametrize("norm", Norm)
def test_the_least_has_gradients(norm: Norm) -> None:
    x, a = drawn(2, seed=6)
    radius = torch.full((2,), 0.3, dtype=torch.float64)
    region = Region(x, radius, norm)
    assert torch.autograd.gradcheck(region.least, (a.requires_grad_(),))


def test_half_a_box_and_a_radius_of_another_shape_are_refused() -> None:
    x, _ = drawn(2, seed=7)
    with pytest.raises(ConfigError, match="a box has both or neither"):
        Region(x, torch.zeros(2), Norm.L2, low=0.0)
    with pytest.raises(ConfigError, match="one radius a row"):
        Region(x, torch.zeros(()), Norm.L2)
