"""A coded batch whose images are all under attack, against the plain definition of inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from torch import Tensor, nn

from robustcode.adversary import Batch, Gradient
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.coding import Code
from robustcode.defenses import CodedSmoothing, coded_inference
from robustcode.defenses.coded_batch import coded_apart
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger

K = 8
# float64 sums of at most a few hundred terms, some of them of a solved system.
ROUNDING = 1e-11
# Chance alone fails a test at this level once in a million changes of the seed.
LEVEL = 1e-6
SHAPE = (3, 6, 6)
CLASSES = 5
# The faster mode is off by 1e-7.
EXACT = "donot_use_mm_for_euclid_dist"


def images(count: int, purpose: str, *shape: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*shape, dtype=torch.float64)


def together(samples: int, size: int, seed: int = 0) -> Streams:
    """Streams of samples that are in batches of ``size`` neighbours."""
    rows = torch.arange(samples)
    return Streams.of(seed, "draw", rows, rows // size)


def weighted(*layers: nn.Module) -> nn.Sequential:
    model = nn.Sequential(*layers)
    weights = Streams.of(0, "weights", torch.arange(len(list(model.parameters()))))
    for row, parameter in enumerate(model.parameters()):
        values = weights[row : row + 1].normal(*parameter.shape)[0]
        parameter.data = values / parameter[0].numel() ** 0.5
    return model.double()


FRONT = weighted(nn.Conv2d(3, 4, 3), nn.Tanh())
MIDDLE = weighted(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 1), nn.Tanh())
BACK = weighted(nn.Flatten(), nn.Linear(4 * 4, 8), nn.Tanh(), nn.Linear(8, CLASSES))


class Watched(nn.Module):
    """Keeps what it is given, and counts what it is differentiated for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.given: list[Tensor] = []
        self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.given.append(x.detach())
        scores: Tensor = self.model(x)
        if scores.requires_grad:
            scores.register_hook(self._count)
        return scores

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


class Wrapped(NamedTuple):
    """A defence whose coded part is watched, and the same by the plain definition.

    ``entering`` is what the coded part is given for an image, ``whole`` the scores of a whole
    batch in a permutation.
    """

    defense: CodedSmoothing
    watched: Watched
    entering: Callable[[Tensor], Tensor]
    whole: Callable[[Tensor, Tensor], Tensor]


def wrapped(kind: str, k: int = K, ratio: float = 1.5, adversary: Batch | None = None) -> Wrapped:
    pool = images(k + 20, "pool", *SHAPE)
    code = Code(k, round(ratio * k))
    if kind == "full":
        watched = Watched(nn.Sequential(FRONT, MIDDLE, BACK))
        defense = CodedSmoothing(model=watched, mates=pool, k=k, ratio=ratio)

        def whole(x: Tensor, order: Tensor) -> Tensor:
            return coded_inference(watched.model, x, code, order)

    else:
        watched = Watched(MIDDLE)
        model = nn.Sequential(FRONT, watched, BACK)
        defense = CodedSmoothing(model=model, mates=pool, k=k, ratio=ratio, module="1")

        def whole(x: Tensor, order: Tensor) -> Tensor:
            scores: Tensor = BACK(coded_inference(MIDDLE, FRONT(x), code, order))
            return scores

    defense = defense.facing(adversary or Batch(), torch.arange(0), torch.zeros(0, *SHAPE))
    return Wrapped(defense, watched, nn.Identity() if kind == "full" else FRONT, whole)


class Seen(NamedTuple):
    """A coded batch as the model saw it: rows of it, members of the pool, and their order."""

    rows: list[int]
    mates: list[int]
    batch: Tensor  # the images of ``rows`` and then of ``mates``
    order: Tensor  # which of them is at each point


def seen_in(w: Wrapped, x: Tensor) -> list[Seen]:
    """The batches that the model was given, decoded by linear algebra and recognised."""
    encoder = torch.tensor(w.defense.code.encoder)
    known = torch.cat([x.detach(), w.defense.mates])
    marks = w.entering(known).detach().flatten(1)
    batches = []
    # A batch may be given to the model in pieces.
    for coded in torch.cat(w.watched.given).split(w.defense.code.n):
        inputs = torch.linalg.lstsq(encoder, coded.flatten(1)).solution
        apart, who = torch.cdist(inputs, marks, compute_mode=EXACT).min(1)
        assert apart.max() < 1e-9
        rows = sorted(number for number in who.tolist() if number < len(x))
        mates = sorted(number for number in who.tolist() if number >= len(x))
        members = rows + mates
        order = torch.tensor([members.index(number) for number in who.tolist()])
        batches.append(Seen(rows, [m - len(x) for m in mates], known[members], order))
    return batches


@pytest.mark.parametrize("gradient", list(Gradient))
@pytest.mark.parametrize("kind", ["full", "module"])
@pytest.mark.parametrize(("k", "ratio"), [(8, 1.5), (8, 1.0), (16, 1.5), (128, 1.5)])
def test_a_group_has_the_scores_of_its_whole_batch(
    k: int, ratio: float, kind: str, gradient: Gradient
) -> None:
    w = wrapped(kind, k, ratio, Batch(gradient=gradient))
    x = images(2 * k, "x", *SHAPE)
    scores = w.defense.logits(x, together(2 * k, k))
    batches = seen_in(w, x)
    assert [seen.rows for seen in batches] == [list(range(k)), list(range(k, 2 * k))]
    for seen in batches:
        assert seen.mates == []
        expected = w.whole(seen.batch, seen.order)
        torch.testing.assert_close(scores[seen.rows], expected, atol=ROUNDING, rtol=0)
    # Unlike each other, and unlike what the plain model says.
    assert (scores[:k] - w.whole(x[:k], torch.arange(k))).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["full", "module"])
def test_rows_may_come_in_any_order(kind: str) -> None:
    w = wrapped(kind)
    x, streams = images(20, "x", *SHAPE), together(20, K)
    scores = w.defense.logits(x, streams)
    shuffle = Streams.of(5, "shuffle", torch.arange(1)).permutation(20)[0]
    found = w.defense.logits(x[shuffle], streams[shuffle])
    torch.testing.assert_close(found, scores[shuffle], atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("kind", ["full", "module"])
@pytest.mark.parametrize("missing", [1, 3, 7])
def test_who_is_missing_is_replaced_by_a_clean_mate(kind: str, missing: int) -> None:
    w = wrapped(kind)
    there = torch.arange(K)[torch.arange(K) % K >= missing].flip(0)
    x, streams = images(K, "x", *SHAPE), together(K, K)
    scores = w.defense.logits(x[there], streams[there])
    (seen,) = seen_in(w, x[there])
    assert seen.rows == list(range(K - missing))
    assert len(set(seen.mates)) == missing
    expected = w.whole(seen.batch, seen.order)[: K - missing]
    torch.testing.assert_close(scores, expected, atol=ROUNDING, rtol=0)


def test_a_sample_asked_about_twice_is_in_two_batches() -> None:
    w = wrapped("full")
    x = images(10, "x", *SHAPE)
    asked = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 3, 0])
    streams = Streams.of(0, "draw", asked, torch.zeros(10, dtype=torch.int64))
    scores = w.defense.logits(x, streams)
    first, second = seen_in(w, x)
    assert first.rows == list(range(8))
    assert second.rows == [8, 9]
    assert len(set(second.mates)) == 6
    for seen in (first, second):
        expected = w.whole(seen.batch, seen.order)[: len(seen.rows)]
        torch.testing.assert_close(scores[seen.rows], expected, atol=ROUNDING, rtol=0)


def test_more_samples_than_a_batch_holds_are_in_several() -> None:
    w = wrapped("full")
    x, streams = images(19, "x", *SHAPE), together(19, 100)
    scores = w.defense.logits(x, streams)
    batches = seen_in(w, x)
    assert sorted(len(seen.rows) for seen in batches) == [3, 8, 8]
    assert sorted(row for seen in batches for row in seen.rows) == list(range(19))
    for seen in batches:
        expected = w.whole(seen.batch, seen.order)[: len(seen.rows)]
        torch.testing.assert_close(scores[seen.rows], expected, atol=ROUNDING, rtol=0)


def test_a_batch_of_another_call_changes_nothing() -> None:
    w = wrapped("full")
    x, streams = images(24, "x", *SHAPE), together(24, K)
    scores = w.defense.logits(x, streams)
    for rows in (slice(0, 8), slice(8, 16), slice(16, 24)):
        torch.testing.assert_close(
            w.defense.logits(x[rows], streams[rows]), scores[rows], atol=ROUNDING, rtol=0
        )


def test_a_neighbours_perturbation_reaches_a_sample() -> None:
    w = wrapped("full")
    x, streams = images(16, "x", *SHAPE), together(16, K)
    scores = w.defense.logits(x, streams)
    other = x.clone()
    other[2] = 1 - other[2]
    moved = (w.defense.logits(other, streams) - scores).abs().amax(1)
    assert (moved[:8] > 1e-7).all()
    assert (moved[8:] == 0).all()


def test_fixed_is_one_batch_whatever_the_stream() -> None:
    w = wrapped("full")
    fixed = dataclasses.replace(w.defense, fixed=True)
    x = images(16, "x", *SHAPE)
    scores = fixed.logits(x, together(16, K))
    for streams in (together(16, K, seed=1), together(16, K).child("vote", 3)):
        assert torch.equal(fixed.logits(x, streams), scores)
        assert (w.defense.logits(x, streams) - scores).abs().max() > 1e-3


# ---- order


class Orders(NamedTuple):
    """Who was at which point, one batch a row, and who filled it up and where."""

    at: np.ndarray  # (batches, samples), the point of each sample
    mates: np.ndarray  # (batches, mates), members of the pool
    places: np.ndarray  # (batches, mates), their points


def orders(k: int, samples: int, streams: Streams, pool: int = 12) -> Orders:
    """The orders of batches of ``samples`` rows, batch by batch.

    They are read off one lit pixel per image; one more pixel is the number of the batch.
    """
    lit = torch.eye(k + pool, 1 + k + pool, dtype=torch.float64)[:, None, None]
    watched = Watched(nn.Flatten())
    defense = CodedSmoothing(model=watched, mates=lit[k:], k=k)
    defense = defense.facing(Batch(), torch.arange(0), lit[:0])
    x = lit[:samples].repeat(len(streams) // samples, 1, 1, 1)
    x[..., -1] = streams.together.samples[:, None, None] if streams.together else 0
    defense.logits(x, streams)
    inverse = torch.linalg.pinv(torch.tensor(defense.code.encoder))
    given = torch.cat(watched.given).split(defense.code.n)
    inputs = torch.stack([inverse @ coded.flatten(1) for coded in given])
    numbers = inputs[..., -1].amax(1).round().long()
    who = inputs[numbers.argsort(), :, :-1].argmax(2).numpy()
    points = who.argsort(1, kind="stable")
    ordered = np.take_along_axis(who, points, 1)
    assert (ordered[:, :samples] == np.arange(samples)).all()
    return Orders(points[:, :samples], ordered[:, samples:] - k, points[:, samples:])


@pytest.mark.parametrize("samples", [4, 3])
def test_the_order_of_a_batch_is_a_uniform_permutation(samples: int) -> None:
    """Of all four members, or of three and who fills it up."""
    k, count = 4, 600 * samples
    found = orders(k, samples, together(count * samples, samples))
    for sample in range(samples):
        assert chisquare(np.bincount(found.at[:, sample], minlength=k)).pvalue > LEVEL
    for one, other in ((0, 1), (1, 2), (2, 0)):
        pairs = np.bincount(found.at[:, one] * k + found.at[:, other], minlength=k * k)
        assert chisquare(pairs.reshape(k, k)[~np.eye(k, dtype=bool)]).pvalue > LEVEL
    whole = np.bincount((found.at[:, :3] * [16, 4, 1]).sum(1), minlength=64)
    assert (whole > 0).sum() == 24
    assert chisquare(whole[whole > 0]).pvalue > LEVEL


@pytest.mark.parametrize("samples", [7, 4, 1])
def test_where_a_mate_is_says_nothing_of_who_it_is(samples: int) -> None:
    found = orders(K, samples, together(800 * samples, samples))
    assert chisquare(np.bincount(found.mates.flatten(), minlength=12)).pvalue > LEVEL
    # One mate of each batch, so that the pairs are independent.
    table = np.zeros((12, K))
    np.add.at(table, (found.mates[:, 0], found.places[:, 0]), 1)
    if samples == 7:
        assert chisquare(table.flatten()).pvalue > LEVEL
    assert chi2_contingency(table + 1e-9).pvalue > LEVEL


def test_no_two_parts_of_a_draw_are_each_others_reverse() -> None:
    """Nor the same: either would be one draw paid for twice.

    In batches of sixteen it takes a chance below one in a million; with eight images or fewer it
    happens.
    """
    k, count, parts = 16, 500, 4
    found = [orders(k, k, part, pool=15).at for part in together(count * k, k).parts(parts)]
    for number, one in enumerate(found):
        for other in found[:number]:
            assert not (one == k - 1 - other).all(1).any()
            assert not (one == other).all(1).any()


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_draw_spread_each_samples_distance_from_the_middle(parts: int) -> None:
    k, count = 64, 60
    of = together(count * k, k)
    outer = k // 2  # places on either side of the middle
    variance = []
    for streams in (of.parts(parts), [of.child("draw", part) for part in range(parts)]):
        at = np.stack([orders(k, k, one, pool=63).at for one in streams])
        depth = np.minimum(at, k - 1 - at) / outer
        variance.append(depth.mean(0).var())
        assert abs(depth.mean() - (outer - 1) / 2 / outer) < 0.01
        # On either side as often, and so on no side by rule.
        assert abs((at[0] < outer).mean() - 0.5) < 5 * 0.5 / (count * k) ** 0.5
    # The mean of independent uniforms has a variance of 1 / 12 parts, that of a lattice one of
    # 1 / 12 parts^2; where the others leave room blurs it, in 64 places by less than half.
    assert variance[1] == pytest.approx(1 / 12 / parts, rel=0.15)
    assert variance[0] < 1.5 / 12 / parts**2


# ---- gradients


class Asked(NamedTuple):
    """Whole batches, a loss of each sample's own scores, and where the batches were."""

    w: Wrapped
    x: Tensor
    streams: Streams
    upstream: Tensor
    seen: Seen

    def followed(self) -> Tensor:
        x = self.x.clone().requires_grad_()
        scores = self.w.defense.logits(x, self.streams)
        (found,) = torch.autograd.grad((scores * self.upstream).sum(), x)
        return found

    def loss(self, x: Tensor) -> Tensor:
        """Of each sample, by the plain definition, shape (k,)."""
        return (self.w.whole(x, self.seen.order) * self.upstream).sum(1)

    def own(self, row: int) -> Tensor:
        """The gradient of a sample's loss in its own image."""
        x = self.x.clone().requires_grad_()
        (whole,) = torch.autograd.grad(self.loss(x)[row], x)
        return whole[row]


def ask(kind: str, k: int, ratio: float, adversary: Batch) -> Asked:
    w = wrapped(kind, k, ratio, adversary)
    x, streams = images(k, "x", *SHAPE), together(k, k)
    w.defense.logits(x, streams)
    # Where ratio < 1 coding cannot be undone, but the order is that of any other ratio.
    order = seen_in(w, x)[0] if ratio >= 1 else _seen_at(kind, k, x, streams)
    upstream = Streams.of(0, "up", torch.arange(k)).normal(CLASSES, dtype=torch.float64)
    return Asked(w, x, streams, upstream, order)


def _seen_at(kind: str, k: int, x: Tensor, streams: Streams) -> Seen:
    other = wrapped(kind, k, 1.5)
    other.defense.logits(x, streams)
    return seen_in(other, x)[0]


@pytest.mark.parametrize("kind", ["full", "module"])
def test_own_gradient_agrees_with_finite_differences(kind: str) -> None:
    """Of the defence's own scores, with its draw held fixed; within 1e-4, as issue 4 asks."""
    asked = ask(kind, 128, 1.5, Batch(reach=7))
    found = asked.followed()
    ways = Streams.of(0, "ways", torch.arange(128)).normal(*SHAPE, dtype=torch.float64)
    step = 1e-5
    for row in (0, 17, 40, 64, 99, 127):
        for way in (ways[row], found[row] / found[row].norm()):
            ends = []
            for sign in (1, -1):
                x = asked.x.clone()
                x[row] += sign * step * way
                scores = asked.w.defense.logits(x, asked.streams)
                ends.append((scores[row] * asked.upstream[row]).sum().item())
            measured = (ends[0] - ends[1]) / (2 * step)
            # Across the gradient a derivative may be near zero: relative to the whole of it.
            size = (found[row].norm() * way.norm()).item()
            assert abs((found[row] * way).sum().item() - measured) < 1e-4 * size
    along = (found * found).flatten(1).sum(1).sqrt()
    assert (along > 1e-3).all()


# What reach leaves out of own gradients, as its docstring says: on average, and at the worst place.
REACHES = [
    (7, 1.5, 1e-5, 1e-4),
    (7, 1.0, 1e-4, 1e-3),
    (7, 0.75, 5e-4, 1e-3),
    (3, 1.5, 0.003, 0.01),
    (3, 1.0, 0.01, 0.03),
    (3, 0.75, 0.01, 0.03),
    (128, 1.0, 1e-11, 1e-10),
]


@pytest.mark.parametrize("kind", ["full", "module"])
@pytest.mark.parametrize(("reach", "ratio", "mean", "worst"), REACHES)
def test_own_gradient_is_each_samples_own(
    kind: str, reach: int, ratio: float, mean: float, worst: float
) -> None:
    asked = ask(kind, 128, ratio, Batch(reach=reach))
    found = asked.followed()
    rows = range(0, 128, 5)
    owns = [asked.own(row) for row in rows]
    left_out = [
        float((found[r] - own).norm() / own.norm()) for r, own in zip(rows, owns, strict=True)
    ]
    assert np.mean(left_out) < mean
    assert max(left_out) < worst


@pytest.mark.parametrize("kind", ["full", "module"])
def test_own_gradient_is_not_that_of_all_losses(kind: str) -> None:
    asked = ask(kind, 16, 1.0, Batch(reach=16))
    x = asked.x.clone().requires_grad_()
    (joint,) = torch.autograd.grad(asked.loss(x).sum(), x)
    assert (asked.followed() - joint).norm() > 0.05 * joint.norm()


@pytest.mark.parametrize("kind", ["full", "module"])
@pytest.mark.parametrize(("k", "ratio"), [(8, 1.5), (16, 0.75), (128, 1.5)])
def test_joint_gradient_is_that_of_all_losses(kind: str, k: int, ratio: float) -> None:
    asked = ask(kind, k, ratio, Batch(gradient=Gradient.JOINT))
    x = asked.x.clone().requires_grad_()
    (joint,) = torch.autograd.grad(asked.loss(x).sum(), x)
    torch.testing.assert_close(asked.followed(), joint, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("kind", ["full", "module"])
@pytest.mark.parametrize("missing", [3, 7])
def test_own_gradient_is_own_among_clean_mates_too(kind: str, missing: int) -> None:
    w = wrapped(kind, adversary=Batch(reach=K))
    count = K - missing
    x, streams = images(count, "x", *SHAPE).requires_grad_(), together(count, K)
    (found,) = torch.autograd.grad(w.defense.logits(x, streams)[:, 1].sum(), x)
    (seen,) = seen_in(w, x)
    for row in range(count):
        batch = seen.batch.clone().requires_grad_()
        (whole,) = torch.autograd.grad(w.whole(batch, seen.order)[row, 1], batch)
        torch.testing.assert_close(found[row], whole[row], atol=ROUNDING, rtol=0)


def target_of(defense: CodedSmoothing, samples: int) -> DefendedTarget:
    ledger = Ledger(torch.arange(samples))
    return DefendedTarget(defense, ledger, stochastic=True, differentiable=True)


@pytest.mark.parametrize("kind", ["full", "module"])
@pytest.mark.parametrize("gradient", list(Gradient))
def test_two_losses_from_one_graph_are_those_of_two(kind: str, gradient: Gradient) -> None:
    w = wrapped(kind, adversary=Batch(gradient=gradient))
    x, streams = images(20, "x", *SHAPE), together(20, K)
    y = torch.arange(20) % CLASSES
    target = target_of(w.defense, 20)
    losses = [LOSSES[LossName.CE], LOSSES[LossName.MARGIN]]
    both = target.ascents(x, y, losses, streams)
    for loss, found in zip(losses, both, strict=True):
        alone = target.ascent(x, y, loss, streams)
        torch.testing.assert_close(found.gradient, alone.gradient, atol=ROUNDING, rtol=0)
        torch.testing.assert_close(found.logits, alone.logits, atol=ROUNDING, rtol=0)
    assert (both[0].gradient - both[1].gradient).norm() > 0.1 * both[0].gradient.norm()


@pytest.mark.parametrize("kind", ["full", "module"])
def test_weights_get_no_gradient(kind: str) -> None:
    w = wrapped(kind)
    parameters = list(w.defense.model.parameters())
    assert all(parameter.requires_grad for parameter in parameters)
    x = images(K, "x", *SHAPE)
    target_of(w.defense, K).ascent(x, torch.zeros(K).long(), LOSSES[LossName.CE], together(K, K))
    assert all(parameter.grad is None for parameter in parameters)


def test_nothing_is_kept_for_a_gradient_where_none_is_asked_for() -> None:
    w = wrapped("full")
    x, streams = images(K, "x", *SHAPE), together(K, K)
    assert not w.defense.logits(x, streams).requires_grad
    with torch.no_grad():
        assert not w.defense.logits(x.requires_grad_(), streams).requires_grad


def test_a_constant_layer_has_no_gradient() -> None:
    x = images(4, "x", 2).requires_grad_()
    constant = coded_apart(lambda inputs: torch.ones(len(inputs), 3).double(), x, Code(4, 6), 3)
    (found,) = torch.autograd.grad(constant.sum(), x, allow_unused=True)
    assert found is None or not found.any()


# ---- cost


@pytest.mark.parametrize("kind", ["full", "module"])
@pytest.mark.parametrize("samples", [8, 20, 5, 1])
@pytest.mark.parametrize("reach", [1, 3, 7, 50])
def test_costs_are_what_the_model_is_given(kind: str, samples: int, reach: int) -> None:
    w = wrapped(kind, adversary=Batch(reach=reach))
    x, streams = images(samples, "x", *SHAPE).requires_grad_(), together(samples, K)
    torch.autograd.grad(w.defense.logits(x, streams).sum(), x)
    forwards, backwards = w.defense.forwards(streams), w.defense.backwards(streams)
    assert isinstance(forwards, Tensor)
    assert isinstance(backwards, Tensor)
    assert forwards.sum() == sum(map(len, w.watched.given)) == 12 * -(-samples // K)
    assert backwards.sum() == w.watched.backwards == forwards.sum() * min(reach, K)
    for passes in (forwards, backwards):
        for group in passes.split(K):
            assert group.max() - group.min() <= 1  # shared out evenly


def test_a_joint_gradient_costs_one_backward_pass() -> None:
    w = wrapped("full", adversary=Batch(gradient=Gradient.JOINT))
    streams = together(16, K)
    forwards, backwards = w.defense.forwards(streams), w.defense.backwards(streams)
    assert isinstance(forwards, Tensor)
    assert isinstance(backwards, Tensor)
    assert torch.equal(forwards, backwards)


def test_the_ledger_is_charged_for_every_batch() -> None:
    w = wrapped("full")
    x, streams = images(20, "x", *SHAPE), together(20, K)
    ledger = Ledger(torch.arange(20))
    target = DefendedTarget(w.defense, ledger, stochastic=True, differentiable=True)
    target.logits(x, streams)
    target.ascents(
        x, torch.zeros(20).long(), [LOSSES[LossName.CE], LOSSES[LossName.MARGIN]], streams
    )
    assert ledger.forwards.sum() == 2 * 3 * 12
    assert ledger.backwards.sum() == 2 * 3 * 12 * 3


def test_a_reach_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="reach = 0"):
        Batch(reach=0)


@pytest.mark.parametrize("together", [False, True])
def test_a_module_that_begins_by_working_in_place_is_coded_all_the_same(together: bool) -> None:
    def model(in_place: bool) -> nn.Module:
        torch.manual_seed(0)
        body = nn.Sequential(nn.ReLU(inplace=in_place), nn.Conv2d(4, 4, 3, padding=1))
        layers = nn.Conv2d(1, 4, 3, padding=1), body, nn.Flatten(), nn.Linear(64, 3)
        return nn.Sequential(*layers).requires_grad_(False).eval()

    samples = torch.arange(8)
    batches = torch.zeros_like(samples) if together else None
    streams = Streams.of(0, "in place", samples, batches)
    mates, x = (Streams.of(0, name, torch.arange(20)).uniform(1, 4, 4) for name in ("mates", "x"))
    found = []
    for in_place in (False, True):
        defense = CodedSmoothing(model=model(in_place), mates=mates, k=8, module="1")
        leaf = x[:8].clone().requires_grad_()
        scores = defense.logits(leaf, streams)
        (gradient,) = torch.autograd.grad(scores.square().sum(), leaf)
        found.append((scores.detach(), gradient))
    torch.testing.assert_close(found[1], found[0])
