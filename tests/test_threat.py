"""What an adversary may do: projections held against a solver, steps against the dual norm."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize
from torch import Tensor

from robustcode.errors import ConfigError, ContractError
from robustcode.seeds import Streams
from robustcode.threat import L1_SHARE, Norm, ThreatModel

NORMS = list(Norm)
# Budgets that bind, on inputs of six values and on images of 3 x 32 x 32.
SMALL = {Norm.LINF: 0.3, Norm.L2: 0.5, Norm.L1: 0.9}
IMAGE = {Norm.LINF: 8 / 255, Norm.L2: 0.5, Norm.L1: 12.0}
Vector = NDArray[np.float64]


def inputs(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points of the box, about a third of their values exactly on its faces."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(*shape, generator=generator, dtype=dtype)
    return (values * 1.5 - 0.25).clamp(0, 1)


def moves(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Perturbations from far inside the ball to far outside the box."""
    generator = torch.Generator().manual_seed(1000 + seed)
    size = 10 ** torch.linspace(-2, 1, shape[0], dtype=dtype).view(-1, *[1] * (len(shape) - 1))
    return torch.randn(*shape, generator=generator, dtype=dtype) * size


# --- projection


def solved(threat: ThreatModel, wanted: Vector, x: Vector) -> Vector:
    """The nearest allowed point to ``wanted`` by SLSQP, which knows nothing of our formulas.

    The move is up - down with both at least zero, so that the l1 ball is linear.
    """
    values = len(x)

    def move(split: Vector) -> Vector:
        return split[:values] - split[values:]

    def loss(split: Vector) -> float:
        return float(((x + move(split) - wanted) ** 2).sum())

    def slope(split: Vector) -> Vector:
        half = 2 * (x + move(split) - wanted)
        return np.concatenate([half, -half])

    limit: LinearConstraint | NonlinearConstraint
    if threat.norm is Norm.L1:
        limit = LinearConstraint(np.ones((1, 2 * values)), -np.inf, threat.eps)
    else:
        limit = NonlinearConstraint(
            lambda split: (move(split) ** 2).sum(keepdims=True),
            -np.inf,
            threat.eps**2,
            jac=lambda split: 2 * np.concatenate([move(split), -move(split)])[None],
        )
    reach = threat.eps if threat.norm is Norm.LINF else np.inf
    bounds = [(0, min(reach, threat.high - value)) for value in x]
    bounds += [(0, min(reach, value - threat.low)) for value in x]
    answer = minimize(
        loss,
        np.full(2 * values, 1e-3),
        jac=slope,
        bounds=bounds,
        constraints=[] if threat.norm is Norm.LINF else [limit],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return x + move(answer.x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(5))
def test_projection_is_the_solvers_nearest_point(norm: Norm, seed: int) -> None:
    threat = ThreatModel(norm, SMALL[norm])
    x = inputs(seed, 6, 6)
    wanted = x + moves(seed, 6, 6)
    ours = threat.project(wanted, x)
    for row in range(len(x)):
        theirs = solved(threat, wanted[row].numpy(), x[row].numpy())
        # SLSQP stops at 1e-7 in its loss; the point is then good to the root of that at worst.
        np.testing.assert_allclose(ours[row].numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 5.0))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_no_allowed_point_is_nearer(norm: Norm, seed: int, scale: float) -> None:
    """The variational inequality (wanted - z) . (w - z) <= 0 for every allowed w is projection."""
    threat = ThreatModel(norm, min(scale * SMALL[norm], threat_limit(norm)))
    x = inputs(seed, 8, 12)
    wanted = x + moves(seed, 8, 12)
    z = threat.project(wanted, x)
    # Any point of the box, drawn towards x until it is in the ball, is allowed.
    for other in (inputs(seed + 1, 8, 12), (wanted > z).double(), z + (wanted - z).sign()):
        w = other.clamp(0, 1)
        share = (threat.eps / threat.distance(w, x).clamp(min=1e-300)).clamp(max=1)
        w = x + share[:, None] * (w - x)
        assert ((wanted - z) * (w - z)).sum(1).max() <= 1e-9


def threat_limit(norm: Norm) -> float:
    return 1.0 if norm is Norm.LINF else math.inf


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_on_images(norm: Norm, dtype: torch.dtype) -> None:
    """Allowed, idempotent, and as long as the budget wherever the budget binds."""
    threat = ThreatModel(norm, IMAGE[norm])
    x = inputs(0, 4, 3, 32, 32, dtype=dtype)
    wanted = x + moves(0, 4, 3, 32, 32, dtype=dtype)
    z = threat.project(wanted, x)
    threat.check(z, x, "project")
    assert z.dtype is dtype
    slack = threat.rounding(x)
    assert (threat.project(z, x) - z).abs().max() <= slack
    bound = threat.distance(wanted.clamp(0, 1), x) > threat.eps
    assert bound.any()
    torch.testing.assert_close(
        threat.distance(z, x)[bound],
        torch.full_like(x[bound, 0, 0, 0], threat.eps),
        rtol=0,
        atol=slack,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_allowed_stays_where_it_is(norm: Norm) -> None:
    threat = ThreatModel(norm, SMALL[norm])
    x = inputs(1, 8, 12)
    near = (x + 0.01 * moves(1, 8, 12).clamp(-1, 1)).clamp(0, 1)
    torch.testing.assert_close(threat.project(near, x), near, rtol=0, atol=1e-15)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_of_a_row_does_not_depend_on_its_batch(norm: Norm) -> None:
    threat = ThreatModel(norm, IMAGE[norm])
    x = inputs(2, 5, 3, 8, 8, dtype=torch.float32)
    wanted = x + moves(2, 5, 3, 8, 8, dtype=torch.float32)
    whole = threat.project(wanted, x)
    for row in range(5):
        assert torch.equal(threat.project(wanted[row : row + 1], x[row : row + 1])[0], whole[row])


@pytest.mark.parametrize("norm", NORMS)
def test_inputs_are_left_as_they_were(norm: Norm) -> None:
    threat = ThreatModel(norm, SMALL[norm])
    x, gradient = inputs(3, 4, 12), moves(3, 4, 12)
    wanted = x + gradient
    copies = x.clone(), gradient.clone(), wanted.clone()
    threat.project(wanted, x)
    threat.steepest(gradient, x)
    assert all(map(torch.equal, (x, gradient, wanted), copies))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_budget_moves_nothing(norm: Norm, dtype: torch.dtype) -> None:
    threat = ThreatModel(norm, 0.0)
    x = inputs(4, 4, 3, 32, 32, dtype=dtype)
    assert torch.equal(threat.project(x + moves(4, 4, 3, 32, 32, dtype=dtype), x), x)
    assert torch.equal(threat.random(x, Streams.of(0, "start", torch.arange(4))), x)


@pytest.mark.parametrize("norm", NORMS)
def test_the_whole_box_reaches_every_corner(norm: Norm) -> None:
    corners = inputs(5, 8, 12).round()
    threat = ThreatModel(norm, ThreatModel(norm, 0.1).whole_box(12))
    assert torch.equal(threat.project(1 - corners, corners), 1 - corners)
    threat.fits(12)
    nearly = threat.with_eps(0.99 * threat.eps)
    assert not torch.equal(nearly.project(1 - corners, corners), 1 - corners)


@pytest.mark.parametrize("norm", NORMS)
def test_another_box_is_the_same_problem_stretched(norm: Norm) -> None:
    """The map 4 x - 1 takes [0, 1] to [-1, 3] and every distance to four times itself."""
    threat = ThreatModel(norm, SMALL[norm])
    wide = ThreatModel(norm, 4 * SMALL[norm], low=-1.0, high=3.0)
    x = inputs(6, 8, 12)
    wanted = x + moves(6, 8, 12)
    torch.testing.assert_close(
        wide.project(4 * wanted - 1, 4 * x - 1), 4 * threat.project(wanted, x) - 1
    )


# --- distance and steepest ascent


def test_distances_are_the_norms() -> None:
    x = torch.zeros(1, 1, 2, 2)
    x_adv = torch.tensor([[[[0.5, -0.25], [0.0, 0.25]]]])
    assert ThreatModel(Norm.LINF, 1.0).distance(x_adv, x).tolist() == [0.5]
    assert ThreatModel(Norm.L1, 1.0).distance(x_adv, x).tolist() == [1.0]
    torch.testing.assert_close(
        ThreatModel(Norm.L2, 1.0).distance(x_adv, x), torch.tensor([math.sqrt(0.375)])
    )


DUAL = {Norm.LINF: 1.0, Norm.L2: 2.0, Norm.L1: math.inf}


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_attains_the_dual_norm(norm: Norm) -> None:
    """No unit step gains more than the dual norm of the gradient, and this one gains that."""
    threat = ThreatModel(norm, 0.1)
    gradient = moves(7, 8, 3, 4, 4)  # 48 values, of which one per cent is one coordinate
    x = torch.full_like(gradient, 0.5)
    step = threat.steepest(gradient, x)
    torch.testing.assert_close(
        threat.distance(step, torch.zeros_like(step)), torch.ones(8).double()
    )
    torch.testing.assert_close(
        (step * gradient).flatten(1).sum(1),
        torch.linalg.vector_norm(gradient.flatten(1), ord=DUAL[norm], dim=1),
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-20, 1e30])
def test_steepest_does_not_depend_on_the_size_of_the_gradient(norm: Norm, scale: float) -> None:
    """A confident float32 model has gradients of 1e-30, whose squares are zero."""
    threat = ThreatModel(norm, 0.1)
    gradient = torch.tensor([[3.0, -4.0, 2.0, 0.0]])
    x = torch.full_like(gradient, 0.5)
    step = threat.steepest(gradient * scale, x)
    # 1e-42 is 714 of the least float32: a rounding there is a thousandth.
    torch.testing.assert_close(step, threat.steepest(gradient, x), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_gives_a_zero_step(norm: Norm) -> None:
    x = inputs(8, 3, 3, 4, 4)
    step = ThreatModel(norm, 0.1).steepest(torch.zeros_like(x), x)
    assert torch.equal(step, torch.zeros_like(x))


def test_an_l1_step_moves_the_best_share_of_coordinates() -> None:
    threat = ThreatModel(Norm.L1, 1.0)
    gradient = moves(9, 4, 3, 32, 32)
    step = threat.steepest(gradient, torch.full_like(gradient, 0.5)).flatten(1)
    count = round(L1_SHARE * 3072)
    assert ((step != 0).sum(1) == count).all()
    best = gradient.flatten(1).abs().topk(count).values.mean(1)
    torch.testing.assert_close((step * gradient.flatten(1)).sum(1), best)


def test_an_l1_step_spends_nothing_against_the_box() -> None:
    threat = ThreatModel(Norm.L1, 1.0)
    x = torch.tensor([[1.0, 0.0, 0.5, 0.5]])
    gradient = torch.tensor([[9.0, -8.0, 0.5, -2.0]])
    assert threat.steepest(gradient, x).tolist() == [[0.0, 0.0, 0.0, -1.0]]


# --- random starts


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_starts_are_allowed(norm: Norm, dtype: torch.dtype) -> None:
    threat = ThreatModel(norm, IMAGE[norm])
    x = inputs(10, 16, 3, 32, 32, dtype=dtype)
    start = threat.random(x, Streams.of(0, "start", torch.arange(16)))
    threat.check(start, x, "random")
    assert (threat.distance(start, x) > 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_uniform_in_the_ball(norm: Norm) -> None:
    """Far from the box: (distance / eps)^values is uniform, and no direction is preferred."""
    threat = ThreatModel(norm, 0.1)
    x = torch.full((4000, 1, 1, 3), 0.5, dtype=torch.float64)
    move = threat.random(x, Streams.of(0, "start", torch.arange(4000))) - x
    size = threat.distance(x + move, x) / threat.eps
    assert stats.kstest((size**3).numpy(), "uniform").pvalue > 1e-4
    for axis in move.view(-1, 3).T.numpy():
        assert stats.binomtest(int((axis > 0).sum()), 4000).pvalue > 1e-4
        # A third of the ball's moves are longest along each of the three axes.
        longest = np.abs(axis) == move.view(-1, 3).abs().max(1).values.numpy()
        assert stats.binomtest(int(longest.sum()), 4000, 1 / 3).pvalue > 1e-4


# --- the contract check


@pytest.mark.parametrize("norm", NORMS)
def test_check_lets_rounding_pass_on_large_images(norm: Norm) -> None:
    threat = ThreatModel(norm, IMAGE[norm])
    x = inputs(11, 2, 3, 224, 224, dtype=torch.float32)
    wanted = x + moves(11, 2, 3, 224, 224, dtype=torch.float32)
    threat.check(threat.project(wanted, x), x, "project")
    # As an attack writes it, without our projection: a move of exactly eps, rounded by x.
    mean = torch.full_like(x, 0.5) + 0.1 * (x - 0.5)
    move = moves(12, 2, 3, 224, 224, dtype=torch.float32)
    size = threat.distance(move, torch.zeros_like(move))[:, None, None, None]
    threat.check(mean + threat.eps * move / size, mean, "plain")


def violations() -> dict[str, tuple[Tensor, str]]:
    x = torch.full((2, 1, 2, 2), 0.5)
    nan, infinite, low, high = (x.clone() for _ in range(4))
    nan[1, 0, 0, 0] = math.nan
    infinite[1, 0, 0, 0] = math.inf
    low[0, 0, 0, 0] = -1e-6
    high[1, 0, 1, 1] = 1 + 1e-6
    return {
        "shape": (x[:1], r"returned torch.float32 of shape \(1, 1, 2, 2\) for"),
        "dtype": (x.double(), r"returned torch.float64 .* for torch.float32"),
        "NaN": (nan, "returned NaN or infinity"),
        "infinity": (infinite, "returned NaN or infinity"),
        "below": (low, r"left \[0, 1\]: values span \[-1e-06, 0.5\]"),
        "above": (high, r"left \[0, 1\]"),
    }


@pytest.mark.parametrize(("x_adv", "message"), violations().values(), ids=violations())
def test_check_catches(x_adv: Tensor, message: str) -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    with pytest.raises(ContractError, match=f"^an attack {message}"):
        ThreatModel(Norm.LINF, 1.0).check(x_adv, x, "an attack")


@pytest.mark.parametrize("norm", NORMS)
def test_check_catches_one_input_a_little_too_far(norm: Norm) -> None:
    threat = ThreatModel(norm, IMAGE[norm])
    x = torch.full((4, 3, 32, 32), 0.5)
    x_adv = x.clone()
    far = threat.steepest(moves(13, 1, 3, 32, 32, dtype=torch.float32), x[:1])
    x_adv[2] += 1.01 * threat.eps * far[0]
    with pytest.raises(ContractError, match=rf"^an attack moved an input by .* in {norm}; eps = "):
        threat.check(x_adv, x, "an attack")
    x_adv[2] = x[2] + threat.eps * far[0]
    threat.check(x_adv, x, "an attack")


def test_check_of_no_inputs_passes() -> None:
    none = torch.zeros(0, 3, 4, 4)
    ThreatModel(Norm.L2, 0.5).check(none, none, "an attack")


# --- words


def test_a_fraction_is_read_exactly() -> None:
    assert ThreatModel.parse("linf:8/255") == ThreatModel(Norm.LINF, 8 / 255)
    assert ThreatModel.parse(" L2 : 0.5 ") == ThreatModel(Norm.L2, 0.5)
    assert ThreatModel.parse("l1:12") == ThreatModel(Norm.L1, 12.0)


# 0.2 is 51/255, and 0.4 is 102/255: either is printed as it was typed.
TYPED = ["linf:8/255", "linf:1/255", "l2:128/255", "l2:0.5", "l1:12.0"]
TYPED += ["linf:0.2", "l2:0.4", "linf:51/255"]


@pytest.mark.parametrize("text", TYPED)
def test_what_a_person_writes_is_what_is_printed(text: str) -> None:
    assert str(ThreatModel.parse(text)) == text


@given(
    norm=st.sampled_from(NORMS), eps=st.floats(0, 1) | st.integers(0, 255).map(lambda n: n / 255)
)
@settings(derandomize=True)
def test_text_reads_back_as_the_same_threat(norm: Norm, eps: float) -> None:
    threat = ThreatModel(norm, eps)
    assert ThreatModel.parse(str(threat)) == threat


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linf:8", r"eps = 8 in linf is wider .* \[0, 1\]; was it meant .* as 8/255\?"),
        ("linf", "threat 'linf' is not NORM:EPS; write for example linf:8/255"),
        ("linff:0.1", "no norm is called 'linff'. Did you mean 'linf'"),
        ("l3:0.1", "Known: linf, l2, l1"),
        ("linf:", "eps = '' is not a number"),
        ("linf:8/0", "eps = '8/0' is not a number; write it as 0.03 or 8/255"),
        ("linf:eight", "eps = 'eight' is not a number"),
        ("l2:-1", "eps = -1: a budget cannot be negative"),
        ("l2:nan", "eps = nan: a budget is a finite number"),
        ("l2:inf", "eps = inf: a budget is a finite number"),
    ],
)
def test_a_wrong_threat_is_answered_with_what_to_do(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ThreatModel.parse(text)


def test_a_budget_wider_than_the_box_is_refused_once_the_size_is_known() -> None:
    ThreatModel.parse("l2:8").fits(64)  # the digits' whole box is 8 wide in l2
    with pytest.raises(ConfigError, match=r"eps = 128 in l2 .* 64 values .* which is 8; .*1/255"):
        ThreatModel.parse("l2:128").fits(64)
    with pytest.raises(ConfigError, match="eps = 65 in l1"):
        ThreatModel.parse("l1:65").fits(64)


def test_another_budget_stays_in_the_box() -> None:
    assert ThreatModel.parse("linf:0.8").with_eps(1.6).eps == 1.0
    assert ThreatModel.parse("l2:0.8").with_eps(1.6).eps == 1.6
