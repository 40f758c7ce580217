"""Coded smoothing, against the whole-batch inference and where a linear model says what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chisquare
from torch import Tensor, nn

from robustcode.adversary import Collusion, Mates
from robustcode.coding import Code
from robustcode.defenses import CodedSmoothing, coded_inference
from robustcode.defenses.coded_smoothing import CHUNK, Draw
from robustcode.errors import ConfigError, DataError
from robustcode.seeds import Streams

K = 8
CODE = Code(K, 12)
# float64 sums of at most a few hundred terms.
ROUNDING = 1e-12
# All that is left out together, as a multiple of what single weights are left out below: weights
# fall off, so that their sum is hardly more than the largest.
LEFT_OUT = 3
NEGLIGIBLE = [1e-10, 1e-6, 1e-3]
# Chance alone fails a test at this level once in a million changes of the seed.
LEVEL = 1e-6
SHAPE = (3, 6, 6)
POOL = 140
INNER = "1"

CODES = [(k, ratio, c) for k in (8, 16, 128) for ratio in (1.5, 1.0, 0.75) for c in (0.0, 0.05)]
Whole = Callable[[Tensor, Code, Tensor], Tensor]


def images(count: int, purpose: str, *shape: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*shape, dtype=torch.float64)


def streams_of(count: int, seed: int = 0) -> Streams:
    return Streams.of(seed, "draw", torch.arange(count))


def weighted(*layers: nn.Module) -> nn.Sequential:
    model = nn.Sequential(*layers)
    weights = Streams.of(0, "weights", torch.arange(len(list(model.parameters()))))
    for row, parameter in enumerate(model.parameters()):
        values = weights[row : row + 1].normal(*parameter.shape)[0]
        parameter.data = values / parameter[0].numel() ** 0.5
    return model.double().requires_grad_(False)


def network() -> nn.Module:
    return weighted(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 16, 5))


FRONT = weighted(nn.Conv2d(3, 4, 3), nn.Tanh())
MIDDLE = weighted(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 1), nn.Tanh())
BACK = weighted(nn.Flatten(), nn.Linear(4 * 4, 8), nn.Tanh(), nn.Linear(8, 5))


class Wrapped(NamedTuple):
    """A model, what of it is coded, and the scores of a whole batch by the plain definition."""

    model: nn.Module
    module: str
    whole: Whole


def fully() -> Wrapped:
    model = network()
    return Wrapped(model, "", lambda x, code, order: coded_inference(model, x, code, order))


def partly() -> Wrapped:
    def whole(x: Tensor, code: Code, order: Tensor) -> Tensor:
        scores: Tensor = BACK(coded_inference(MIDDLE, FRONT(x), code, order))
        return scores

    return Wrapped(nn.Sequential(FRONT, MIDDLE, BACK), INNER, whole)


WRAPPED = {"full": fully, "module": partly}


def laid_out(defense: CodedSmoothing, draw: Draw, row: int, near: Tensor) -> Tensor:
    """The permutation of a batch whose first image is the row's own, then its neighbours ``near``.

    Images beyond the neighbours take the points that are left.
    """
    points = defense.around.members[draw.place[row]]
    assert len(points) == 1 + len(near)
    left = [point for point in range(defense.k) if point not in points.tolist()]
    return torch.cat([points, torch.tensor(left, dtype=torch.int64)]).argsort()


def whole_batch(defense: CodedSmoothing, x: Tensor, draw: Draw, row: int) -> tuple[Tensor, Tensor]:
    """Images of the coded batch of one row, its own first, and their permutation."""
    near = defense.mates[draw.mates[row]]
    others = defense.mates[: defense.k - 1 - len(near)].flip(1)
    batch = torch.cat([x[row : row + 1].detach(), near, others])
    return batch, laid_out(defense, draw, row, near)


@pytest.mark.parametrize("negligible", NEGLIGIBLE)
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize(("k", "ratio", "c"), CODES)
def test_a_row_is_that_row_of_its_whole_coded_batch(
    wrapped: str, k: int, ratio: float, c: float, negligible: float
) -> None:
    """In its scores, and in the gradient of its own scores, up to what is negligible."""
    model, module, whole = WRAPPED[wrapped]()
    pool, x, streams = images(POOL, "pool", *SHAPE), images(5, "x", *SHAPE), streams_of(5)
    defense = CodedSmoothing(
        model=model, mates=pool, k=k, ratio=ratio, c=c, module=module, negligible=negligible
    )
    x.requires_grad_()
    scores, draw = defense.logits(x, streams), defense.draw(streams)
    (found,) = torch.autograd.grad(scores[:, 1].sum(), x)
    around = defense.around
    everything = around.followed == defense.code.n and around.mates == k - 1
    allowed = ROUNDING if everything else LEFT_OUT * negligible
    for row in range(5):
        batch, order = whole_batch(defense, x, draw, row)
        batch.requires_grad_()
        expected = whole(batch, defense.code, order)[0]
        assert (scores[row] - expected).norm() < allowed * expected.norm()
        (slope,) = torch.autograd.grad(expected[1], batch)
        assert (found[row] - slope[0]).norm() < allowed * slope[0].norm()


def test_a_small_batch_is_run_as_a_whole() -> None:
    pool = images(POOL, "pool", *SHAPE)
    for ratio in (1.5, 1.0, 0.75):
        defense = CodedSmoothing(model=network(), mates=pool, k=K, ratio=ratio)
        around = defense.around
        assert (around.rows, around.followed) == (defense.code.n, defense.code.n)
        assert around.mates == K - 1


def test_what_a_search_leaves_out_is_told_from_what_the_judge_does() -> None:
    defense = CodedSmoothing(model=network(), mates=images(POOL, "pool", *SHAPE), k=128)
    quick = defense.quickened()
    assert quick.passes < 0.6 * defense.passes
    assert quick.around.followed < defense.around.followed
    x, streams = images(30, "x", *SHAPE), streams_of(30)
    exact, near = defense.logits(x, streams), quick.logits(x, streams)
    assert 1e-7 < (near - exact).norm() / exact.norm() < LEFT_OUT * 1e-3
    assert torch.equal(quick.quickened().logits(x, streams), near)


@pytest.mark.parametrize(("k", "ratio", "c"), CODES)
def test_a_search_meets_the_mates_that_the_judge_would_in_the_same_draw(
    k: int, ratio: float, c: float
) -> None:
    """Or a known draw would be searched among strangers: that left 13 points more standing."""
    defense = coded(k, POOL, ratio=ratio, c=c)
    quick, streams = defense.quickened(), streams_of(50)
    count = quick.around.mates
    assert torch.equal(quick.around.members, defense.around.members[:, : 1 + count])
    found, expected = quick.draw(streams), defense.draw(streams)
    assert torch.equal(found.place, expected.place)
    assert torch.equal(found.mates, expected.mates[:, :count])
    assert torch.equal(found.others, expected.others[:, :count])


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_what_is_left_out_is_lost_in_the_rounding_of_single_precision(wrapped: str) -> None:
    model, module, whole = WRAPPED[wrapped]()
    pool, x, streams = images(POOL, "pool", *SHAPE), images(9, "x", *SHAPE), streams_of(9)
    exact = CodedSmoothing(model=model, mates=pool, k=128, module=module)
    batches = [whole_batch(exact, x, exact.draw(streams), row) for row in range(9)]
    expected = torch.stack([whole(batch, exact.code, order)[0] for batch, order in batches])
    single = CodedSmoothing(model=model.float(), mates=pool.float(), k=128, module=module)
    found = single.logits(x.float(), streams)
    model.double()
    # A score is a sum of some 200 products of 24 bits.
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


class Counting(nn.Module):
    """Counts the images it is given, and those it is differentiated for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        scores: Tensor = self.model(x)
        if scores.requires_grad:
            scores.register_hook(self._count)
        return scores

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@pytest.mark.parametrize(("k", "ratio", "c"), CODES)
def test_passes_are_the_images_that_the_model_is_given(k: int, ratio: float, c: float) -> None:
    model, pool = Counting(network()), images(POOL, "pool", *SHAPE)
    defense = CodedSmoothing(model=model, mates=pool, k=k, ratio=ratio, c=c)
    x, streams = images(5, "x", *SHAPE).requires_grad_(), streams_of(5)
    defense.logits(x, streams).sum().backward()
    assert model.forwards == 5 * defense.passes == 5 * _number(defense.forwards(streams))
    assert model.backwards == 5 * _number(defense.backwards(streams))


def _number(passes: Tensor | int) -> int:
    assert isinstance(passes, int)
    return passes


def test_a_large_batch_costs_a_row_no_more_than_a_small_one() -> None:
    pool = images(POOL, "pool", *SHAPE)
    large = CodedSmoothing(model=network(), mates=pool, k=128).passes
    assert large <= 32 < 192
    assert CodedSmoothing(model=network(), mates=pool, k=64).passes <= 32


def test_whole_batch_is_the_printed_example() -> None:
    x = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64).view(4, 1, 1, 1)
    model = nn.Sequential(nn.Flatten(), nn.Tanh())
    scores = coded_inference(model, x, Code(4, 6), torch.arange(4))[:, 0]
    np.testing.assert_allclose(scores, [0.604214, -0.925906, 0.294589, 1.007162], atol=6e-7)


def test_a_permutation_and_its_reverse_give_the_same_scores() -> None:
    model, x = network(), images(K, "x", *SHAPE)
    order = streams_of(1).permutation(K)[0]
    scores = coded_inference(model, x, CODE, order)
    torch.testing.assert_close(
        coded_inference(model, x, CODE, order.flip(0)), scores, atol=ROUNDING, rtol=0
    )
    rolled = coded_inference(model, x, CODE, order.roll(1))
    assert (rolled - scores).abs().max() > 1e-3


def test_shuffling_a_batch_and_its_permutation_alike_shuffles_its_scores() -> None:
    model, x = network(), images(K, "x", *SHAPE)
    order, shuffle = streams_of(2).permutation(K)
    scores = coded_inference(model, x, CODE, order)
    shuffled = coded_inference(model, x[shuffle], CODE, shuffle.argsort()[order])
    torch.testing.assert_close(shuffled, scores[shuffle], atol=ROUNDING, rtol=0)


# ---- draws


def coded(k: int = K, pool: int = 20, **settings: Any) -> CodedSmoothing:
    return CodedSmoothing(model=nn.Flatten(), mates=images(pool, "pool", 1, 1, 1), k=k, **settings)


def test_a_linear_models_own_gain_is_the_diagonal_at_a_uniform_position() -> None:
    rows = 20_000
    x = torch.zeros(rows, 1, 1, 1, dtype=torch.float64).requires_grad_()
    (gain,) = torch.autograd.grad(coded().logits(x, streams_of(rows)).sum(), x)
    # Reversal makes the gains of the positions p and k - 1 - p one number.
    gains = torch.from_numpy(np.diag(CODE.decoder @ CODE.encoder)[: K // 2].copy())
    off = (gain.flatten()[:, None] - gains).abs()
    assert off.min(1).values.max() < ROUNDING
    counts = off.argmin(1).bincount(minlength=K // 2)
    assert chisquare(counts.numpy()).pvalue > LEVEL


@pytest.mark.parametrize("k", [8, 7])
def test_places_are_uniform_up_to_reversal(k: int) -> None:
    """Of an odd number the middle has no mirror image, and half the weight of the others."""
    rows = 20_000
    counts = coded(k).draw(streams_of(rows)).place.bincount().double()
    weights = torch.ones(len(counts), dtype=torch.float64)
    if k % 2:
        weights[-1] = 0.5
    assert len(counts) == (k + 1) // 2
    assert chisquare(counts, rows * weights / weights.sum()).pvalue > LEVEL


def test_a_place_says_nothing_of_who_is_beside_it() -> None:
    draw = coded(pool=8).draw(streams_of(20_000))
    table = torch.zeros(K // 2, 8, dtype=torch.float64)
    table.index_put_((draw.place, draw.mates[:, 0]), torch.ones(20_000).double(), accumulate=True)
    assert chisquare(table.flatten()).pvalue > LEVEL


def test_which_user_is_beside_a_row_says_nothing_of_who_comes_from_the_pool() -> None:
    draw = coded(pool=8).draw(streams_of(20_000))
    for seat in (0, 3):
        table = torch.zeros(K - 1, 8, dtype=torch.float64)
        pair = (draw.others[:, seat], draw.mates[:, seat])
        table.index_put_(pair, torch.ones(20_000).double(), accumulate=True)
        assert chisquare(table.flatten()).pvalue > LEVEL


@pytest.mark.parametrize("of", ["mates", "others"])
@pytest.mark.parametrize("seat", [(0, 1), (0, 6), (5, 2)])
def test_each_pair_of_mates_is_equally_likely_in_each_pair_of_seats(
    of: str, seat: tuple[int, int]
) -> None:
    rows, pool = 20_000, 8
    draw = coded(pool=pool).draw(streams_of(rows))
    who, among = (draw.mates, pool) if of == "mates" else (draw.others, K - 1)
    assert all(len(set(row)) == K - 1 for row in who.tolist())
    pairs = who[:, seat[0]] * among + who[:, seat[1]]
    counts = pairs.bincount(minlength=among**2).view(among, among)
    assert (counts.diag() == 0).all()
    assert chisquare(counts[~torch.eye(among, dtype=torch.bool)].numpy()).pvalue > LEVEL


def test_parts_of_a_draw_visit_every_place_once() -> None:
    """With as many parts as there are places, which independent draws hardly ever do."""
    rows, k = 300, 16
    defense = coded(k)
    places = torch.stack([defense.draw(part).place for part in streams_of(rows).parts(k // 2)])
    assert torch.equal(places.sort(0).values, torch.arange(k // 2)[:, None].expand(-1, rows))
    alone = [defense.draw(streams_of(rows).child("draw", i)).place for i in range(k // 2)]
    every = (torch.stack(alone).sort(0).values == torch.arange(k // 2)[:, None]).all(0)
    assert every.sum() < 6  # 8! / 8^8 of them, which is .7 of 300 rows


def test_each_part_is_a_draw_like_any_other() -> None:
    rows, k = 20_000, 16
    for part in streams_of(rows).parts(3):
        counts = coded(k).draw(part).place.bincount(minlength=k // 2)
        assert chisquare(counts.numpy()).pvalue > LEVEL


def mixed_in(pool: int, rows: int) -> Tensor:
    """Whether each member of the pool is a mate of each row, bool of shape (rows, pool)."""
    # Mate m is a single lit pixel m, so the scores of a black image show who was mixed in.
    mates = torch.eye(pool, dtype=torch.float64).view(pool, 1, 1, pool)
    defense = CodedSmoothing(model=nn.Flatten(), mates=mates, k=K)
    x = torch.zeros(rows, 1, 1, pool, dtype=torch.float64)
    return defense.logits(x, streams_of(rows)) != 0


@pytest.mark.parametrize("pool", [7, 8, 20])
def test_mates_are_distinct(pool: int) -> None:
    assert (mixed_in(pool, 1000).sum(1) == K - 1).all()


@pytest.mark.parametrize("pool", [8, 20])
def test_each_mate_is_chosen_equally_often(pool: int) -> None:
    rows, share = 20_000, (K - 1) / pool
    counts = mixed_in(pool, rows).sum(0).double()
    # Chosen without replacement, counts are correlated by -1 / (pool - 1): their covariance is
    # this number on all directions but the mean, which is fixed.
    variance = rows * share * (1 - share) * pool / (pool - 1)
    statistic = (counts - rows * share).square().sum().item() / variance
    assert chi2.sf(statistic, pool - 1) > LEVEL


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_equal_streams_give_equal_scores_and_others_do_not(wrapped: str) -> None:
    model, module, _ = WRAPPED[wrapped]()
    pool, x = images(20, "pool", *SHAPE), images(6, "x", *SHAPE)
    defense = CodedSmoothing(model=model, mates=pool, k=K, module=module)
    scores = defense.logits(x, streams_of(6))
    assert torch.equal(scores, defense.logits(x, streams_of(6)))
    assert ((scores - defense.logits(x, streams_of(6, seed=1))).abs().amax(1) > 1e-4).all()
    order = torch.tensor([4, 0, 5])
    again = defense.logits(x[order], streams_of(6)[order])
    torch.testing.assert_close(again, scores[order], atol=ROUNDING, rtol=0)


def test_fixed_is_one_draw_whatever_the_stream() -> None:
    pool, x = images(20, "pool", *SHAPE), images(6, "x", *SHAPE)
    defense = CodedSmoothing(model=network(), mates=pool, k=K, fixed=True)
    assert not defense.stochastic
    scores = defense.logits(x, streams_of(6))
    for streams in (
        streams_of(6, seed=1),
        streams_of(6).child("vote", 3),
        streams_of(6).parts(2)[1],
    ):
        assert torch.equal(defense.logits(x, streams), scores)
    # Nor does the draw depend on who else is asked about.
    alone = defense.logits(x[4:], streams_of(6, seed=2)[4:])
    torch.testing.assert_close(alone, scores[4:], atol=ROUNDING, rtol=0)


def test_fixed_draws_differ_between_samples() -> None:
    rows = 400
    x = torch.zeros(rows, 1, 1, 1, dtype=torch.float64).requires_grad_()
    (gain,) = torch.autograd.grad(coded(fixed=True).logits(x, streams_of(rows)).sum(), x)
    gains = torch.from_numpy(np.diag(CODE.decoder @ CODE.encoder)[: K // 2].copy())
    places = (gain.flatten()[:, None] - gains).abs().argmin(1)
    assert chisquare(places.bincount(minlength=K // 2).numpy()).pvalue > LEVEL
    scores = coded(fixed=True).logits(x, streams_of(rows)).detach()
    assert len(scores.unique()) == rows


# ---- what a coded batch must do with simple models


def test_a_constant_model_is_unchanged() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([0.5, -3.0, 2.0], dtype=x.dtype).expand(len(x), 3)

    defense = CodedSmoothing(model=Constant(), mates=images(10, "pool", 1, 2, 2), k=K)
    scores = defense.logits(images(4, "x", 1, 2, 2), streams_of(4))
    expected = torch.tensor([[0.5, -3.0, 2.0]] * 4, dtype=torch.float64)
    torch.testing.assert_close(scores, expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_batch_of_one_image_repeated_is_the_plain_model(wrapped: str) -> None:
    model, module, _ = WRAPPED[wrapped]()
    x = images(1, "x", *SHAPE)
    defense = CodedSmoothing(model=model, mates=x.repeat(7, 1, 1, 1), k=K, module=module)
    torch.testing.assert_close(defense.logits(x, streams_of(1)), model(x), atol=1e-11, rtol=0)


def test_the_model_is_never_given_more_than_a_chunk() -> None:
    sizes = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return x.flatten(1)

    defense = CodedSmoothing(model=Watched(), mates=images(10, "pool", 1, 2, 2), k=K)
    x, streams = images(200, "x", 1, 2, 2), streams_of(200)
    scores = defense.logits(x, streams)
    assert max(sizes) <= CHUNK
    assert sum(sizes) == 200 * 12
    last = defense.logits(x[-1:], streams[torch.tensor([199])])
    torch.testing.assert_close(scores[-1:], last, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_no_rows_have_no_scores(wrapped: str) -> None:
    model, module, _ = WRAPPED[wrapped]()
    defense = CodedSmoothing(model=model, mates=images(20, "pool", *SHAPE), k=K, module=module)
    none = torch.zeros(0, *SHAPE, dtype=torch.float64)
    assert defense.logits(none, streams_of(0)).shape == (0, 5)
    together = Streams.of(0, "draw", torch.arange(0), torch.arange(0))
    assert defense.logits(none, together).shape == (0, 5)


# ---- several images of one adversary


def several(
    kind: type[Collusion] | type[Mates], users: int, x: Tensor, k: int = K
) -> CodedSmoothing:
    """A defence facing an adversary who controls mates of the samples ``x``."""
    defense = CodedSmoothing(model=network(), mates=images(POOL, "pool", *SHAPE), k=k)
    return defense.facing(kind(users=users), torch.arange(len(x)), x)


def seen_by(
    defense: CodedSmoothing, own: Tensor, users: Tensor, draw: Draw, row: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole batch of a row, its permutation, and the rows of it that are the users'.

    ``users`` are this row's, (users, channels, height, width).
    """
    near = defense.mates[draw.mates[row]].clone()
    theirs = draw.others[row] < len(users)
    near[theirs] = users[draw.others[row][theirs]].detach()
    batch = torch.cat([own[None].detach(), near, defense.mates[: defense.k - 1 - len(near)]])
    return batch, laid_out(defense, draw, row, near), 1 + theirs.nonzero().squeeze(1)


@pytest.mark.parametrize("users", [0, 7, 3, 1])
@pytest.mark.parametrize("kind", [Collusion, Mates])
def test_users_are_in_the_targets_batch(kind: type[Collusion] | type[Mates], users: int) -> None:
    own = images(6, "x", *SHAPE)
    defense, streams = several(kind, users, own), streams_of(6)
    count = users or K - 1
    theirs = images(6, "users", count, *SHAPE).requires_grad_()
    first = own[:, None].clone().requires_grad_()
    stacked = torch.cat([first, theirs], dim=1) if kind is Collusion else theirs
    scores, draw = defense.logits(stacked.flatten(1, 2), streams), defense.draw(streams)
    gradients = torch.autograd.grad(scores[:, 2].sum(), [first, theirs], allow_unused=True)
    assert gradients[1] is not None
    assert (gradients[0] is None) == (kind is Mates)
    for row in range(6):
        batch, order, at = seen_by(defense, own[row], theirs[row], draw, row)
        batch.requires_grad_()
        expected = coded_inference(defense.model, batch, defense.code, order)[0]
        torch.testing.assert_close(scores[row], expected, atol=ROUNDING, rtol=0)
        (slope,) = torch.autograd.grad(expected[2], batch)
        assert len(at) == count
        wanted = torch.zeros(count, *SHAPE, dtype=torch.float64)
        wanted[draw.others[row][at - 1]] = slope[at]
        torch.testing.assert_close(gradients[1][row], wanted, atol=ROUNDING, rtol=0)
        assert (gradients[1][row].flatten(1).abs().amax(1) > 0).all()
        if kind is Collusion:
            torch.testing.assert_close(gradients[0][row, 0], slope[0], atol=ROUNDING, rtol=0)


def test_all_users_of_a_large_batch_are_in_it() -> None:
    own = images(3, "x", *SHAPE)
    defense, streams = several(Collusion, 0, own, k=128), streams_of(3)
    theirs = images(3, "users", 127, *SHAPE)
    x = torch.cat([own[:, None], theirs], dim=1).flatten(1, 2).requires_grad_()
    scores, draw = defense.logits(x, streams), defense.draw(streams)
    (gradient,) = torch.autograd.grad(scores[:, 2].sum(), x)
    for row in range(3):
        # Those whom the row does not depend on take the points that are left.
        near = draw.others[row].tolist()
        far = [user for user in range(127) if user not in near]
        batch = torch.cat([own[row : row + 1], theirs[row, near], theirs[row, far]])
        batch.requires_grad_()
        order = laid_out(defense, draw, row, theirs[row, near])
        expected = coded_inference(defense.model, batch, defense.code, order)[0]
        assert (scores[row] - expected).norm() < LEFT_OUT * 1e-6 * expected.norm()
        (slope,) = torch.autograd.grad(expected[2], batch)
        found = gradient[row].unflatten(0, (128, 3))[[0, *(1 + user for user in near + far)]]
        assert (found - slope).norm() < LEFT_OUT * 1e-6 * slope.norm()


@pytest.mark.parametrize("users", [1, 3])
def test_those_whom_the_adversary_does_not_control_are_other_ones_at_each_draw(users: int) -> None:
    """Lit pixels show who is there: users light pixel 0, member m of the pool pixel 1 + m."""
    pool, rows = 12, 2000
    lit = torch.eye(1 + pool, dtype=torch.float64).view(-1, 1, 1, 1 + pool)
    defense = CodedSmoothing(model=nn.Flatten(), mates=lit[1:], k=K)
    defense = defense.facing(
        Mates(users=users), torch.arange(rows), torch.zeros_like(lit[:1]).expand(rows, -1, -1, -1)
    )
    x = lit[:1].expand(rows, users, -1, -1)
    scores = defense.logits(x, streams_of(rows))
    there = scores[:, 1:] != 0
    assert (there.sum(1) == K - 1 - users).all()
    assert (scores[:, 0] != 0).all()
    counts = there.sum(0).double()
    share = (K - 1 - users) / pool
    variance = rows * share * (1 - share) * pool / (pool - 1)
    assert chi2.sf((counts - rows * share).square().sum().item() / variance, pool - 1) > LEVEL


def test_what_the_adversary_brings_along_is_clean_and_its_own() -> None:
    x, streams = images(50, "x", *SHAPE), Streams.of(3, "users", torch.arange(50))
    defense = several(Collusion, 4, x)
    assert defense.inputs(x, streams).shape == (50, 5 * 3, 6, 6)
    given = defense.inputs(x, streams).unflatten(1, (5, 3))
    assert torch.equal(given[:, 0], x)
    brought = (given[:, 1:, None] == defense.mates).flatten(3).all(3)
    assert (brought.sum(2) == 1).all()  # each is an image of the pool,
    assert (brought.sum(1) <= 1).all()  # and no two are the same one
    assert torch.equal(given[7:9], defense.inputs(x[7:9], streams[7:9]).unflatten(1, (5, 3)))
    malicious = several(Mates, 4, x)
    assert torch.equal(malicious.inputs(x, streams).unflatten(1, (4, 3)), given[:, 1:])
    assert CodedSmoothing(model=network(), mates=defense.mates, k=K).inputs(x, streams) is x


def test_undefended_is_the_model_of_the_users_own_image() -> None:
    """Whose mates alone are perturbed has no model that would see it."""
    x = images(5, "x", *SHAPE)
    with pytest.raises(ConfigError, match="changes no image that the plain model"):
        _ = several(Mates, 0, x).undefended
    defense = several(Collusion, 0, x)
    stacked = defense.inputs(x, Streams.of(0, "users", torch.arange(5)))
    assert torch.equal(defense.undefended(stacked), defense.model(x))


def test_users_cost_what_the_model_is_given() -> None:
    x = images(5, "x", *SHAPE)
    model = Counting(network())
    defense = CodedSmoothing(model=model, mates=images(POOL, "pool", *SHAPE), k=128)
    defense = defense.facing(Collusion(), torch.arange(5), x)
    streams = streams_of(5)
    given = defense.inputs(x, streams).requires_grad_()
    defense.logits(given, streams).sum().backward()
    assert model.forwards == 5 * _number(defense.forwards(streams))
    assert model.backwards == 5 * _number(defense.backwards(streams))


def test_more_users_than_a_batch_has_are_refused() -> None:
    x = images(2, "x", *SHAPE)
    with pytest.raises(ConfigError, match="users = 8: a batch of k = 8 has 7 others"):
        several(Collusion, 8, x)
    with pytest.raises(ConfigError, match="users = -1"):
        several(Mates, -1, x)


# ---- what is refused


@pytest.mark.parametrize(
    "mates",
    [
        torch.zeros(10, 4, 4),
        torch.zeros(10, 1, 4, 4, dtype=torch.int64),
        torch.full((10, 1, 4, 4), 255.0),
        torch.full((10, 1, 4, 4), torch.nan),
    ],
)
def test_what_is_not_images_cannot_be_a_mate(mates: Tensor) -> None:
    with pytest.raises(DataError, match="batch mates"):
        CodedSmoothing(model=nn.Flatten(), mates=mates, k=K)


def test_mates_of_another_shape_and_batches_of_another_size_are_refused() -> None:
    defense = CodedSmoothing(model=nn.Flatten(), mates=torch.zeros(10, 1, 4, 4), k=K)
    with pytest.raises(ConfigError, match=r"\(3, 4, 4\) cannot share .* \(1, 4, 4\)"):
        defense.logits(torch.zeros(2, 3, 4, 4), streams_of(2))
    with pytest.raises(ConfigError, match="takes 8 images and a permutation of them; got 7"):
        coded_inference(nn.Flatten(), torch.zeros(7, 1, 4, 4), CODE, torch.arange(7))
    with pytest.raises(ConfigError, match="a permutation of them; got 8"):
        coded_inference(nn.Flatten(), torch.zeros(8, 1, 4, 4), CODE, torch.zeros(8).long())


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("inf"), float("nan")])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="ratio = "):
        coded(ratio=ratio)


@pytest.mark.parametrize("negligible", [-1.0, 0.5, float("nan")])
def test_a_defence_of_which_too_little_is_run_is_refused(negligible: float) -> None:
    with pytest.raises(ConfigError, match="negligible = "):
        coded(negligible=negligible)


def test_a_pool_that_cannot_fill_a_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="k = 8 needs 7 mates; the pool has 6"):
        coded(pool=6)


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no module 'frnt'"):
        coded(module="frnt")
