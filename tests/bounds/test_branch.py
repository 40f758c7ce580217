"""Proofs against the exact least margin of small networks, which mixed-integer programming gives.

The oracle shares nothing with robustcode.bounds: layers are run by torch on all coefficients at
once, and the program is solved by HiGHS.

Source: Tjeng et al. 2019, arXiv:1711.07356.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from robustcode.bounds import (
    Network,
    Region,
    crown,
    crown_bounds,
    linear_bounds,
    margins,
    network_of,
    relaxed,
)
from robustcode.bounds.alpha import optimised
from robustcode.bounds.branch import Effort, Outcome, branch
from robustcode.bounds.checked import Checker
from robustcode.bounds.falsify import lowest
from robustcode.bounds.slopes import Dual, Start, ascend
from robustcode.certificates import Certificate, Status
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.errors import ConfigError
from robustcode.methods import METHODS, Claim, Method
from robustcode.methods.alpha_crown import AlphaCROWN
from robustcode.methods.bab import BranchAndBound
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
# HiGHS accepts a point that violates a constraint by 1e-6, or a binary that is off by as much;
# margins of these networks are off by no more than some ten of those.
TOLERANCE = 1e-5


class Residual(nn.Module):
    """A body beside a shortcut."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both."""
        return self.body(x) + self.shortcut(x)


class Least(NamedTuple):
    """The least value and an input at which it is taken, of the input's shape."""

    value: float
    x: Tensor


def least_margin(model: nn.Module, x: Tensor, label: int, eps: float, norm: Norm) -> Least:
    """The least of the label's margins within ``eps`` of ``x``, (1, ...), and in [0, 1]."""
    classes = int(model(x).shape[1])
    program = Program(x, eps, norm)
    logits = program.through(model, program.inputs())
    found = [program.minimum(logits, label, other) for other in range(classes) if other != label]
    return min(found, key=lambda least: least.value)


class Program:
    """Variables with their bounds, and rows of constraints.

    An expression is a tensor of shape (1 + variables, ...): the constant, then the coefficient of
    each variable.
    """

    def __init__(self, x: Tensor, eps: float, norm: Norm) -> None:
        self.x = x.double()
        centre = self.x.flatten().numpy()
        self.lower = list(np.maximum(centre - eps, 0))
        self.upper = list(np.minimum(centre + eps, 1))
        self.integral = [0] * len(centre)
        self.rows: list[tuple[dict[int, float], float]] = []  # sum of terms >= the number
        if norm is Norm.L1:
            moves = [self._variable(0, eps) for _ in centre]
            for i, at in enumerate(centre):
                self.rows.append(({moves[i]: 1, i: -1}, -at))
                self.rows.append(({moves[i]: 1, i: 1}, at))
            self.rows.append((dict.fromkeys(moves, -1.0), -eps))

    def inputs(self) -> Tensor:
        """The input as expressions."""
        count = self.x.numel()
        one = torch.zeros(1 + len(self.lower), count, dtype=torch.float64)
        one[1 : 1 + count] = torch.eye(count, dtype=torch.float64)
        return one.view(-1, *self.x.shape[1:])

    def through(self, model: nn.Module, values: Tensor) -> Tensor:
        """Expressions of what ``model`` makes of these."""
        if isinstance(model, nn.Sequential):
            for layer in model:
                values = self.through(layer, values)
            return values
        if isinstance(model, Residual):
            parts = [self.through(part, values) for part in (model.body, model.shortcut)]
            full = torch.zeros(1 + len(self.lower), *parts[0].shape[1:], dtype=torch.float64)
            for part in parts:
                full[: len(part)] += part
            return full
        if isinstance(model, nn.ReLU):
            return self._relu(values)
        out = model(values)
        out[1:] -= model(torch.zeros_like(values[:1]))
        return out

    def minimum(self, logits: Tensor, label: int, other: int) -> Least:
        """Of one margin."""
        margin = (logits[:, label] - logits[:, other]).numpy()
        count = len(self.lower)
        cost = np.zeros(count)
        cost[: len(margin) - 1] = margin[1:]
        matrix = np.zeros((len(self.rows), count))
        for row, (terms, _) in enumerate(self.rows):
            for i, value in terms.items():
                matrix[row, i] = value
        constraints = [LinearConstraint(matrix, lb=[low for _, low in self.rows])]
        solved = milp(
            cost,
            integrality=np.array(self.integral),
            bounds=Bounds(self.lower, self.upper),
            constraints=constraints if self.rows else [],
            options={"mip_rel_gap": 0.0},
        )
        assert solved.status == 0, solved.message
        point = torch.tensor(solved.x[: self.x.numel()]).view(self.x.shape)
        return Least(float(solved.fun + margin[0]), point)

    def _variable(self, lower: float, upper: float, integral: int = 0) -> int:
        self.lower.append(lower)
        self.upper.append(upper)
        self.integral.append(integral)
        return len(self.lower) - 1

    def _relu(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        coefficients = flat[1:].numpy()
        low, high = np.array(self.lower), np.array(self.upper)
        low, high = low[: len(coefficients), None], high[: len(coefficients), None]
        above, below = np.maximum(coefficients, 0), np.minimum(coefficients, 0)
        least = flat[0].numpy() + (above * low + below * high).sum(0)
        most = flat[0].numpy() + (above * high + below * low).sum(0)
        new: dict[int, int] = {}
        for i in range(flat.shape[1]):
            if least[i] < 0 < most[i]:
                new[i] = self._split(flat[:, i].numpy(), float(least[i]), float(most[i]))
        out = torch.zeros(1 + len(self.lower), flat.shape[1], dtype=torch.float64)
        out[: len(flat), least >= 0] = flat[:, least >= 0]
        for i, variable in new.items():
            out[1 + variable, i] = 1
        return out.view(-1, *values.shape[1:])

    def _split(self, value: np.ndarray, least: float, most: float) -> int:
        """A variable that is the ReLU of an expression in [least, most]."""
        given, on = self._variable(0, most), self._variable(0, 1, integral=1)
        terms = {i: float(c) for i, c in enumerate(value[1:]) if c}
        minus = {i: -c for i, c in terms.items()}
        self.rows.append(({given: 1, **minus}, float(value[0])))  # given >= z
        self.rows.append(({given: -1, on: most}, 0.0))  # given <= most on
        # given <= z - least (1 - on)
        self.rows.append(({given: -1, on: least, **terms}, least - float(value[0])))
        return given


def dense() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 2, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip


def residual() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(2, 2, 2, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 2))
    return nn.Sequential(
        nn.Conv2d(1, 2, 2, stride=2), nn.ReLU(), Residual(body, nn.Conv2d(2, 2, 1)), nn.ReLU(),
        Residual(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()), nn.Sequential()), nn.Flatten(),
        nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip


NETWORKS = {"dense": dense, "convolutional": convolutional, "residual": residual}


class Problem(NamedTuple):
    network: Network
    region: Region
    spec: Tensor  # (rows, classes)
    exact: Least


@cache
def problem(name: str, norm: Norm, seed: int) -> Problem:
    """A network with drawn weights, around a drawn image, in a ball where many ReLUs are open."""
    streams = Streams.of(seed, "problem", torch.zeros(1, dtype=torch.int64))
    model = NETWORKS[name]().double().eval().requires_grad_(False)
    for key, values in model.state_dict().items():
        fan = values[0].numel() if values.ndim > 1 else 4
        draw = streams.child(key).normal(*values.shape, dtype=torch.float64)[0]
        values.copy_(1.5 * draw / fan**0.5)
    x = streams.child("x").uniform(1, 4, 4, dtype=torch.float64)
    label = int(model(x).argmax())
    spec = margins(torch.tensor([label]), 3)
    network = network_of(model, x)
    # From a little more than CROWN proves on, where searches are of some length, to twice that,
    # where most images are broken: a verdict can be wrong in both ways.
    low, high = 0.0, WHOLE[norm]
    for _ in range(12):
        middle = (low + high) / 2
        region = Region(x, torch.tensor([middle], dtype=torch.float64), norm, 0, 1)
        proved = float(crown(network, region, spec).lower.min()) > 0
        low, high = (middle, high) if proved else (low, middle)
    factor = float(1.05 + streams.child("eps").uniform(1, dtype=torch.float64))
    eps = min(low * factor, WHOLE[norm])
    region = Region(x, torch.tensor([eps], dtype=torch.float64), norm, 0, 1)
    return Problem(network, region, spec[0], least_margin(model, x, label, eps, norm))


WHOLE = {Norm.LINF: 1.0, Norm.L1: 16.0}
KINDS = [(name, norm) for name in NETWORKS for norm in WHOLE]
SEEDS = range(3)


@pytest.mark.parametrize(("name", "norm"), KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_oracle_is_attained_and_nothing_sampled_is_below_it(
    name: str, norm: Norm, seed: int
) -> None:
    network, region, spec, exact = problem(name, norm, seed)
    assert _least(network, spec, exact.x) == pytest.approx(exact.value, abs=TOLERANCE)
    threat = ThreatModel(norm, float(region.radius))
    assert float(threat.distance(exact.x, region.x)) <= threat.eps + TOLERANCE
    streams = Streams.of(seed, "samples", torch.arange(2000))
    x = region.x.expand(2000, -1, -1, -1)
    sampled = threat.project(threat.random(x, streams), x)
    assert _least(network, spec, sampled) >= exact.value - TOLERANCE


@pytest.mark.parametrize(("name", "norm"), KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_optimised_bounds_are_between_crowns_and_the_truth(
    name: str, norm: Norm, seed: int
) -> None:
    network, region, spec, exact = problem(name, norm, seed)
    bounds = crown_bounds(network, region)
    crown = linear_bounds(network, region, relaxed(network, bounds), spec[None]).lower.min()
    last = float(crown)
    for steps, splits in ((0, 0), (10, 0), (10, 4)):
        reduced, tighter = optimised(network, region, bounds, steps, splits)
        dual = Dual(reduced)
        signs = torch.zeros(dual.open, len(spec), dtype=torch.int8)
        start = Start.of(reduced.rows(len(network.nodes) - 1, spec))
        found = ascend(dual, start, dual.first(len(spec)), signs, 20, proof=False)
        lower = float(Checker(reduced, tighter).lower(dual, found.numbers, signs, spec).min())
        # An ascent may end elsewhere from a better start, but not by more than it still moves.
        assert lower >= last - 0.05 * abs(last) - 1e-6
        assert lower <= exact.value + TOLERANCE
        last = max(last, lower)


@pytest.mark.parametrize(("name", "norm"), KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_gives_the_exact_verdict(name: str, norm: Norm, seed: int) -> None:
    network, region, spec, exact = problem(name, norm, seed)
    found = [searched(network, region, row) for row in spec.split(1)]
    assert all(outcome.lower > 0 for outcome in found) == (exact.value > 0)
    assert min(outcome.lower for outcome in found) <= exact.value + TOLERANCE
    met = [
        reduced_input(network, region, outcome) for outcome in found if outcome.point is not None
    ]
    assert bool(met) == (exact.value <= 0)
    threat = ThreatModel(norm, float(region.radius))
    for x in met:
        assert float(threat.distance(x, region.x)) <= threat.eps * (1 + 1e-6)
        assert _least(network, spec, x) <= 0


def searched(network: Network, region: Region, row: Tensor, domains: int = 300) -> Outcome:
    """An input that breaks the row, or else what branch and bound found."""
    reduced, bounds = optimised(network, region, crown_bounds(network, region), 10)

    def broken(point: Tensor) -> bool:
        return _least(network, row, reduced.input_at(point[:, None])) <= 0

    streams = Streams.of(0, "x", torch.zeros(1, dtype=torch.int64))
    point = lowest(reduced, reduced.rows(len(network.nodes) - 1, row), streams)[:, 0]
    if broken(point):
        return Outcome(-torch.inf, 0, 0, point)
    effort = Effort(domains=domains, batch=4)
    return branch(reduced, Checker(reduced, bounds), row, effort, broken)


def reduced_input(network: Network, region: Region, outcome: Outcome) -> Tensor:
    reduced, _ = optimised(network, region, crown_bounds(network, region), 10)
    assert outcome.point is not None
    return reduced.input_at(outcome.point[:, None])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2), data=st.data())
def test_a_case_is_bounded_for_whatever_numbers(seed: int, data: st.DataObject) -> None:
    """Numbers that make no sense give bounds that are bad, but bounds of the case they are."""
    name, norm = data.draw(st.sampled_from(KINDS))
    network, region, spec, _ = problem(name, norm, seed)
    reduced, bounds = optimised(network, region, crown_bounds(network, region), 0)
    dual = Dual(reduced)
    streams = Streams.of(data.draw(st.integers(0, 99)), "case", torch.arange(500))
    x = region.x.expand(500, -1, -1, -1)
    threat = ThreatModel(norm, float(region.radius))
    inside = threat.project(threat.random(x, streams), x)
    # The case of one of the points, so that it is not empty.
    values = network.values(inside)
    given = torch.cat(
        [_before(network, values, layer.relu)[:, layer.places] for layer in reduced.layers], 1
    )
    kept = streams.child("kept").uniform(dual.open)[:1] < data.draw(st.floats(0, 1))
    signs = torch.where(kept, given[:1].sign(), 0)
    holds = ((given * signs) >= 0).all(1)
    numbers = 5 * streams.child("numbers").normal(dual.open)[:1]
    lower = Checker(reduced, bounds).lower(
        dual,
        numbers.t().expand(-1, len(spec)),
        signs.t().to(torch.int8).expand(-1, len(spec)),
        spec,
    )
    assert (values[-1][holds] @ spec.t() >= lower).all()


def test_a_slope_above_one_is_taken_for_one() -> None:
    """relu(x - .5) - 3 relu(x + 1) falls on [.4, 1]: a line below that is too steep would rise."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    values = model.requires_grad_(False).state_dict()
    values["1.weight"].copy_(torch.ones(2, 1))
    values["1.bias"].copy_(torch.tensor([-0.5, 1.0]))
    values["3.weight"].copy_(torch.tensor([[1.0, -3.0], [0.0, 0.0]]))
    values["3.bias"].zero_()
    x = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    network = network_of(model, x)
    region = Region(x, torch.tensor([0.3], dtype=torch.float64), Norm.LINF, 0, 1)
    reduced, bounds = optimised(network, region, crown_bounds(network, region), 0)
    signs, spec = torch.zeros(1, 1, dtype=torch.int8), torch.tensor([[1.0, -1.0]]).double()
    for slope in (0.0, 1.0, 5.0):
        numbers = torch.full((1, 1), slope)
        lower = Checker(reduced, bounds).lower(Dual(reduced), numbers, signs, spec)
        least = -5.5 if slope else -6.0
        assert lower.item() == pytest.approx(least, abs=1e-9)


def test_numbers_that_are_none_prove_nothing() -> None:
    network, region, spec, _ = problem("dense", Norm.LINF, 0)
    reduced, bounds = optimised(network, region, crown_bounds(network, region), 0)
    dual = Dual(reduced)
    signs = torch.zeros(dual.open, len(spec), dtype=torch.int8)
    numbers = torch.full((dual.open, len(spec)), torch.nan)
    assert (Checker(reduced, bounds).lower(dual, numbers, signs, spec) == -torch.inf).all()


@pytest.mark.parametrize(("name", "norm"), [*KINDS, ("dense", Norm.L2)])
def test_the_ascent_follows_the_gradient(name: str, norm: Norm) -> None:
    network, region, spec, _ = problem(name, Norm.LINF, 1)
    region = replace(region, norm=norm)
    reduced, _ = optimised(network, region, crown_bounds(network, region), 0)
    dual = Dual(reduced)
    start = Start.of(reduced.rows(len(network.nodes) - 1, spec))
    streams = Streams.of(3, "numbers", torch.arange(dual.open))
    numbers, way = streams.uniform(len(spec)), streams.child("way").normal(len(spec))
    signs = (streams.child("signs").integers(3, len(spec)) - 1).to(torch.int8)
    gradient = dual.evaluate(start, numbers, signs, gradient=True).gradient
    assert gradient is not None
    width = 1e-3
    sides = [dual.evaluate(start, numbers + s * width * way, signs, False).lower for s in (1, -1)]
    # The bound is piecewise linear, and float32: no kink is near for these numbers.
    assert torch.allclose((gradient * way).sum(0), (sides[0] - sides[1]) / (2 * width), atol=2e-3)


@pytest.mark.parametrize(("name", "norm"), KINDS)
def test_the_search_for_an_input_finds_what_is_there(name: str, norm: Norm) -> None:
    found = 0
    for seed in SEEDS:
        network, region, spec, exact = problem(name, norm, seed)
        reduced, _ = optimised(network, region, crown_bounds(network, region), 0)
        streams = Streams.of(0, "x", torch.zeros(1, dtype=torch.int64))
        points = lowest(reduced, reduced.rows(len(network.nodes) - 1, spec), streams)
        x = reduced.input_at(points)
        threat = ThreatModel(norm, float(region.radius))
        assert (threat.distance(x, region.x) <= threat.eps * (1 + 1e-6)).all()
        least = float((network(x) * spec).sum(1).min())
        assert least >= exact.value - TOLERANCE
        found += (least <= 0) == (exact.value <= 0)
    assert found >= len(SEEDS) - 1


def certified(method: Method, threat: str, rows: list[int]) -> list[Certificate]:
    """Of images of scikit-learn's digits, one batch."""
    model = ThreatModel.parse(threat)
    data, samples = load_data("digits"), torch.tensor(rows)
    defense = Identity(model=load_classifier("digits_cnn:adversarial", classes=10))
    x, y = data.images(rows), data.targets(rows)
    claim = Claim(defense=defense, threat=model, radii=(model.eps,), classes=10, example=x[:1])
    streams = Streams.of(0, "certify", samples)
    return method.prepare(claim).prove(x, y, streams, lambda count: None)


# Of the shipped network's first images those that CROWN leaves open at this eps.
EPS_DIGITS = "linf:0.08"
ROWS = list(range(12))


@pytest.fixture(scope="module")
def proofs() -> dict[str, list[Certificate]]:
    methods: dict[str, Method] = {
        "crown": METHODS.get("crown")(),
        "alpha-crown": AlphaCROWN(steps=10),
        "bab": BranchAndBound(domains=300, splits=0),
    }
    return {name: certified(method, EPS_DIGITS, ROWS) for name, method in methods.items()}


def test_methods_prove_what_weaker_ones_do_and_more(proofs: dict[str, list[Certificate]]) -> None:
    sets = {
        name: {proof.sample for proof in found if proof.status is Status.CERTIFIED}
        for name, found in proofs.items()
    }
    assert sets["crown"] <= sets["alpha-crown"] <= sets["bab"]
    assert len(sets["crown"]) < len(sets["bab"])
    for weaker, stronger in zip(proofs["crown"], proofs["alpha-crown"], strict=True):
        assert (weaker.bound or 0) <= (stronger.bound or 0)
        assert weaker.backwards <= stronger.backwards


def test_a_sample_is_proved_alike_alone_and_in_a_batch(
    proofs: dict[str, list[Certificate]],
) -> None:
    row = next(
        i
        for i, (a, b) in enumerate(zip(proofs["alpha-crown"], proofs["bab"], strict=True))
        if a.status is Status.UNDECIDED and b.status is Status.CERTIFIED
    )
    alone = certified(BranchAndBound(domains=300, splits=0), EPS_DIGITS, [row])
    assert alone == [proofs["bab"][row]]


def test_a_limit_ends_a_search_without_a_proof() -> None:
    long = 0
    for name in NETWORKS:
        for seed in SEEDS:
            network, region, spec, _ = problem(name, Norm.LINF, seed)
            for row in spec.split(1):
                whole = searched(network, region, row)
                if whole.lower > 0 and whole.domains > 3:
                    few = searched(network, region, row, domains=3)
                    assert few.lower <= 0
                    assert few.domains <= 3
                    assert few.point is None
                    long += 1
    assert long >= 1


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (BranchAndBound, {"domains": 0}, "domains = 0"),
        (BranchAndBound, {"seconds": -1.0}, "seconds = -1"),
        (BranchAndBound, {"splits": -1}, "splits = -1"),
        (AlphaCROWN, {"steps": 0}, "steps = 0"),
    ],
)
def test_settings_without_sense_are_refused(
    method: type[Method], settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        method(**settings)


@pytest.mark.parametrize("method", ["alpha-crown", "bab"])
def test_pooling_is_refused_by_name(method: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 10)
    ).eval()
    claim = Claim(
        defense=Identity(model=model.requires_grad_(False)),
        threat=ThreatModel.parse("linf:0.1"),
        radii=(0.1,),
        classes=10,
        example=torch.zeros(1, 1, 4, 4),
    )
    with pytest.raises(ConfigError, match="MaxPool"):
        METHODS.get(method)().prepare(claim)


def sdp_images(places: list[int]) -> tuple[Claim, Tensor, Tensor, Tensor]:
    """The published CNN-A-Adv and images of its benchmark, by their place in the list."""
    checkpoint = SHARED / "checkpoints" / "verification" / "cifar_cnn_a_adv.model"
    if not checkpoint.exists():
        pytest.skip(f"needs the published checkpoint {checkpoint.name} in ../shared/data")
    lists = json.loads((SHARED / "results" / "verification_subsets.json").read_text())
    samples = torch.tensor(lists["cifar_sdp"]["test_indices"])[places]
    data = load_data(f"cifar10:{SHARED / 'cifar10'}")
    x, y = data.images(samples.numpy()), data.targets(samples.numpy())
    claim = Claim(
        defense=Identity(model=load_classifier("cifar_cnn_a", checkpoint, classes=10)),
        threat=ThreatModel.parse("linf:2/255"),
        radii=(2 / 255,),
        classes=10,
        example=x[:1],
    )
    return claim, x, y, samples


def statuses(method: Method, places: list[int]) -> list[Status]:
    claim, x, y, samples = sdp_images(places)
    streams = Streams.of(0, "certify", samples)
    return [p.status for p in method.prepare(claim).prove(x, y, streams, lambda count: None)]


def test_a_published_network_is_proved_where_crown_does_not() -> None:
    assert statuses(METHODS.get("crown")(), [60]) == [Status.UNDECIDED]
    assert statuses(BranchAndBound(domains=100, splits=0), [60]) == [Status.CERTIFIED]


@pytest.mark.long
def test_branching_adds_fifteen_of_two_hundred_cheaply_to_what_crown_proves() -> None:
    """CROWN proves 71 of these images; beta-CROWN's published figure is 91 of 200."""
    places = [11, 38, 54, 60, 84, 95, 107, 111, 112, 132, 139, 158, 160, 166, 172]
    assert set(statuses(METHODS.get("crown")(), places)) == {Status.UNDECIDED}
    assert set(statuses(BranchAndBound(), places)) == {Status.CERTIFIED}


def _least(network: Network, spec: Tensor, x: Tensor) -> float:
    return float((network(x) @ spec.t()).min())


def _before(network: Network, values: list[Tensor], relu: int) -> Tensor:
    return values[network.nodes[relu].inputs[0]].flatten(1)
