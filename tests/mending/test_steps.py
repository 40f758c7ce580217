"""Steps, masks and integers: what they are followed by, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.defenses import Identity
from robustcode.mending import mend
from robustcode.mending.carry import WIDTH
from robustcode.seeds import Streams

ROWS, VALUES = 6, 12
X = Streams.of(0, "x", torch.arange(ROWS)).uniform(1, 3, 4)
# One weight for each value, so that the gradient shows what each stands for.
WEIGHT = Streams.of(0, "weight", torch.arange(1)).normal(VALUES)[0].view(1, 3, 4)
LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
Function = Callable[[Tensor], Tensor]


class Model(nn.Module):
    """The weighed sum of what ``function`` makes of the input, and a class that is always 0."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        total = (self.function(x) * WEIGHT).flatten(1).sum(1)
        return torch.stack([total, torch.zeros_like(total)], dim=1)


def size(x: Tensor) -> Tensor:
    """Root mean square of each row."""
    return x.detach().square().mean((1, 2, 3), keepdim=True).sqrt()


def step(distance: Tensor) -> Tensor:
    return (distance / (WIDTH * size(distance))).sigmoid()


def codes(x: Tensor) -> Tensor:
    """The distance of each value to each level, (batch, 1, 3, 4, levels)."""
    return x[..., None] - LEVELS


def scattered(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    mask = torch.zeros_like(flat).scatter_(1, flat.topk(3, dim=1).indices, 1.0)
    return (flat * mask).view_as(x)


def compared(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    last = flat.topk(3, dim=1).values[:, -1:]
    return (flat * (flat >= last).float()).view_as(x)


def winners(x: Tensor) -> Tensor:
    """Both of the above, softly: each value times the step of its lead over the third highest."""
    flat = x.flatten(1)
    last = flat.topk(3, dim=1).values[:, -1:]
    lead = flat - last
    scale = WIDTH * lead.detach().square().mean(1, keepdim=True).sqrt()
    soft = (lead / scale).sigmoid()
    hard = (flat >= last).float()
    return (flat * (hard + soft - soft.detach())).view_as(x)


def above(x: Tensor) -> Tensor:
    mask = x > 0.5
    return mask.float()


def inverted(x: Tensor) -> Tensor:
    return 1.0 - (~(x > 0.5)).float()


def written(x: Tensor) -> Tensor:
    return torch.where(x > 0.5, torch.ones_like(x), torch.zeros_like(x))


def filled(x: Tensor) -> Tensor:
    return torch.zeros_like(x).masked_fill(x > 0.5, 1.0)


def named(x: Tensor) -> Tensor:
    """Pixels by the name of their level, and back by a table."""
    return LEVELS[(x[..., None] - LEVELS).abs().neg().argmax(-1)]


def softly_named(x: Tensor) -> Tensor:
    near = (x[..., None] - LEVELS).abs().neg()
    scale = near.detach().square().mean((1, 2, 3, 4), keepdim=True).sqrt()
    return (near / scale).softmax(-1) @ LEVELS


def one_hot(x: Tensor) -> Tensor:
    hot = F.one_hot((x[..., None] - LEVELS).abs().neg().argmax(-1), len(LEVELS))
    return hot.to(x.dtype) @ LEVELS


def tabled(x: Tensor) -> Tensor:
    """A table looked up by the whole quarters of each pixel."""
    return F.embedding((x * 4).long(), LEVELS[:, None])[..., 0]


def softly_tabled(x: Tensor) -> Tensor:
    return (-(4 * x[..., None] - torch.arange(5)).square()).softmax(-1) @ LEVELS


# Each with a function of the same gradient that torch can differentiate.
STEPS: dict[str, tuple[Function, Function]] = {
    "sign": (lambda x: (x - 0.5).sign(), lambda x: 2 * step(x - 0.5)),
    "heaviside": (lambda x: torch.heaviside(x - 0.5, X[0, 0, 0, 0]), lambda x: step(x - 0.5)),
    "above": (above, lambda x: step(x - 0.5)),
    "below": (lambda x: (x <= 0.5).to(x.dtype), lambda x: -step(x - 0.5)),
    "not": (inverted, lambda x: step(x - 0.5)),
    "where": (written, lambda x: step(x - 0.5)),
    "masked_fill": (filled, lambda x: step(x - 0.5)),
    "times": (lambda x: (x > 0.5) * 2.0, lambda x: 2 * step(x - 0.5)),
    "thermometer": (
        lambda x: (x[..., None] > LEVELS).float().mean(-1),
        lambda x: (codes(x) / (WIDTH * _rms(codes(x)))).sigmoid().mean(-1),
    ),
    "counted": (
        lambda x: (x[..., None] > LEVELS).sum(-1) / 5,
        lambda x: (codes(x) / (WIDTH * _rms(codes(x)))).sigmoid().mean(-1),
    ),
    "between": (
        lambda x: ((x > 0.2) & (x < 0.6)).float(),
        lambda x: torch.minimum(step(x - 0.2), step(0.6 - x)),
    ),
    "winners scattered": (scattered, winners),
    "winners compared": (compared, winners),
    "bins": (lambda x: torch.bucketize(x, LEVELS) / 5, lambda x: x),
    "argmax": (named, softly_named),
    "one_hot": (one_hot, softly_named),
    "embedding": (tabled, softly_tabled),
    "bytes": (lambda x: (x * 10).byte() / 10, lambda x: x),
    "saturated": (
        lambda x: (100 * (x - 0.5)).tanh(),
        lambda x: (100 * (x - 0.5) / (size(100 * (x - 0.5)) / 4)).tanh(),
    ),
    "relu": (lambda x: (x - 0.5).clamp(min=0), lambda x: (x - 0.5).relu()),
    "plain": (lambda x: (3 * x).sin().sigmoid(), lambda x: (3 * x).sin().sigmoid()),
}


def _rms(codes: Tensor) -> Tensor:
    return codes.detach().square().mean((1, 2, 3, 4), keepdim=True).sqrt()


def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x)[:, 0].sum(), x)
    return gradient


def streams(rows: int = ROWS) -> Streams:
    return Streams.of(0, "test", torch.arange(rows))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_followed_by_a_soft_one(name: str) -> None:
    function, soft = (Model(one) for one in STEPS[name])
    mended = mend(Identity(model=function), "through")
    assert torch.equal(mended.surrogate(X, streams()), function(X))
    found = slope(lambda x: mended.surrogate(x, streams()), X)
    expected = slope(soft, X)
    assert expected.any()
    # Far from a step the plain sigmoids here lose their last digits, and then all of them.
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", STEPS)
def test_a_row_is_followed_alike_whatever_its_batch(name: str) -> None:
    mended = mend(Identity(model=Model(STEPS[name][0])), "through")
    together = slope(lambda x: mended.surrogate(x, streams()), X)
    alone = slope(lambda x: mended.surrogate(x, streams(2)), X[3:5])
    assert torch.allclose(alone, together[3:5], rtol=1e-5, atol=1e-6)


def test_no_value_is_too_far_from_a_step_to_feel_it() -> None:
    mended = mend(Identity(model=Model(lambda x: (x > 0.5).float())), "through")
    x = torch.full_like(X, 0.5)
    x[:, :, 0, 0], x[:, :, 0, 1] = 1.0, 0.0  # 35 widths above and below
    found = slope(lambda x: mended.surrogate(x, streams()), x)
    assert bool((found[:, :, 0, :2] != 0).all())


def test_masks_and_integers_stay_what_they_are() -> None:
    seen: list[Tensor] = []

    def branches(x: Tensor) -> Tensor:
        mask, index = x > 0.5, x.flatten(1).argmax(1)
        seen.extend([mask, index, ~mask, mask.sum(), (x * 10).long()])
        if mask.any() and bool(x[0, 0, 0, 0] > 0):
            x = x.clone()
            x[mask] = 0.5
        return x + float(x.detach().mean()) * 0 + index.view(-1, 1, 1, 1) * 0

    model = Model(branches)
    plain = model(X)
    found = mend(Identity(model=model), "through").surrogate(X.clone().requires_grad_(), streams())
    assert torch.equal(plain, found)
    half = len(seen) // 2
    for one, other in zip(seen[:half], seen[half:], strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_infinite_scores_that_mask_classes_send_no_nan() -> None:
    def masked(x: Tensor) -> Tensor:
        return torch.where(x > 0.5, x, torch.full_like(x, -torch.inf)).logsumexp((1, 2, 3))[
            :, None, None, None
        ]

    mended = mend(Identity(model=Model(masked)), "through")
    assert slope(lambda x: mended.surrogate(x, streams()), X).isfinite().all()
