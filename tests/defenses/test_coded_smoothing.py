"""Coded smoothing, against the whole-batch inference and where a linear model says what it does."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chisquare
from torch import Tensor, nn

from robustcode.coding import Code
from robustcode.defenses import CodedSmoothing, coded_inference
from robustcode.defenses.coded_smoothing import CHUNK
from robustcode.errors import ConfigError, DataError
from robustcode.seeds import Streams

K = 8
CODE = Code(K, 12)
# float64 sums of at most a few hundred terms.
ROUNDING = 1e-12


def images(count: int, purpose: str, *shape: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*shape, dtype=torch.float64)


def streams_of(count: int, seed: int = 0) -> Streams:
    return Streams.of(seed, "draw", torch.arange(count))


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 16, 5))
    weights = Streams.of(0, "weights", torch.arange(len(list(model.parameters()))))
    for row, parameter in enumerate(model.parameters()):
        values = weights[row : row + 1].normal(*parameter.shape)[0]
        parameter.data = values / parameter[0].numel() ** 0.5
    return model.double().requires_grad_(False)


@pytest.mark.parametrize(("k", "ratio", "c"), [(8, 1.5, 0.0), (8, 0.75, 0.05), (16, 1.5, 0.0)])
def test_a_row_is_that_row_of_its_whole_coded_batch(k: int, ratio: float, c: float) -> None:
    model, pool, x = network(), images(20, "pool", 3, 6, 6), images(9, "x", 3, 6, 6)
    defense = CodedSmoothing(model=model, mates=pool, k=k, ratio=ratio, c=c)
    streams = streams_of(9)
    scores, draw = defense.logits(x, streams), defense.draw(streams)
    assert defense.passes == round(ratio * k)
    for row in range(9):
        batch = torch.cat([x[row : row + 1], pool[draw.mates[row]]])
        whole = coded_inference(model, batch, defense.code, draw.permutation[row])
        torch.testing.assert_close(scores[row], whole[0], atol=ROUNDING, rtol=0)


def test_gradient_is_that_of_the_rows_own_scores_in_its_whole_batch() -> None:
    model, pool, x = network(), images(20, "pool", 3, 6, 6), images(3, "x", 3, 6, 6)
    defense, streams = CodedSmoothing(model=model, mates=pool, k=K), streams_of(3)
    x.requires_grad_()
    (found,) = torch.autograd.grad(defense.logits(x, streams)[:, 1].sum(), x)
    draw = defense.draw(streams)
    for row in range(3):
        batch = torch.cat([x[row : row + 1].detach(), pool[draw.mates[row]]]).requires_grad_()
        whole = coded_inference(model, batch, defense.code, draw.permutation[row])
        (expected,) = torch.autograd.grad(whole[0, 1], batch)
        torch.testing.assert_close(found[row], expected[0], atol=ROUNDING, rtol=0)


def test_whole_batch_is_the_printed_example() -> None:
    x = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64).view(4, 1, 1, 1)
    model = nn.Sequential(nn.Flatten(), nn.Tanh())
    scores = coded_inference(model, x, Code(4, 6), torch.arange(4))[:, 0]
    np.testing.assert_allclose(scores, [0.604214, -0.925906, 0.294589, 1.007162], atol=6e-7)


def test_a_permutation_and_its_reverse_give_the_same_scores() -> None:
    model, x = network(), images(K, "x", 3, 6, 6)
    order = streams_of(1).permutation(K)[0]
    scores = coded_inference(model, x, CODE, order)
    torch.testing.assert_close(
        coded_inference(model, x, CODE, order.flip(0)), scores, atol=ROUNDING, rtol=0
    )
    rolled = coded_inference(model, x, CODE, order.roll(1))
    assert (rolled - scores).abs().max() > 1e-3


def test_shuffling_a_batch_and_its_permutation_alike_shuffles_its_scores() -> None:
    model, x = network(), images(K, "x", 3, 6, 6)
    order, shuffle = streams_of(2).permutation(K)
    scores = coded_inference(model, x, CODE, order)
    shuffled = coded_inference(model, x[shuffle], CODE, shuffle.argsort()[order])
    torch.testing.assert_close(shuffled, scores[shuffle], atol=ROUNDING, rtol=0)


def test_a_linear_models_own_gain_is_the_diagonal_at_a_uniform_position() -> None:
    rows = 20_000
    x = torch.zeros(rows, 1, 1, 1, dtype=torch.float64).requires_grad_()
    defense = CodedSmoothing(model=nn.Flatten(), mates=images(10, "pool", 1, 1, 1), k=K)
    (gain,) = torch.autograd.grad(defense.logits(x, streams_of(rows)).sum(), x)
    # Reversal makes the gains of the positions p and k - 1 - p one number.
    gains = torch.from_numpy(np.diag(CODE.decoder @ CODE.encoder)[: K // 2].copy())
    off = (gain.flatten()[:, None] - gains).abs()
    assert off.min(1).values.max() < ROUNDING
    counts = off.argmin(1).bincount(minlength=K // 2)
    assert chisquare(counts.numpy()).pvalue > 1e-6
    positions = (defense.draw(streams_of(rows)).permutation == 0).nonzero()[:, 1]
    assert chisquare(positions.bincount(minlength=K).numpy()).pvalue > 1e-6


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
    assert chi2.sf(statistic, pool - 1) > 1e-6


def test_a_constant_model_is_unchanged() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([0.5, -3.0, 2.0], dtype=x.dtype).expand(len(x), 3)

    defense = CodedSmoothing(model=Constant(), mates=images(10, "pool", 1, 2, 2), k=K)
    scores = defense.logits(images(4, "x", 1, 2, 2), streams_of(4))
    expected = torch.tensor([[0.5, -3.0, 2.0]] * 4, dtype=torch.float64)
    torch.testing.assert_close(scores, expected, atol=ROUNDING, rtol=0)


def test_a_batch_of_one_image_repeated_is_the_plain_model() -> None:
    model, x = network(), images(1, "x", 3, 6, 6)
    defense = CodedSmoothing(model=model, mates=x.repeat(7, 1, 1, 1), k=K)
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
