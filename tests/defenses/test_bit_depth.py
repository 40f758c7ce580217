"""Bit depth, against numpy's rounding."""

import numpy as np
import pytest
import torch
from torch import nn

from robustcode.defenses import BitDepth
from robustcode.seeds import Streams

STREAMS = Streams.of(0, "draw", torch.arange(4))


@pytest.mark.parametrize("bits", range(1, 9))
def test_values_are_numpys_rounding_to_the_nearest_level(bits: int) -> None:
    x = Streams.of(0, "images", torch.arange(4)).uniform(3, 5, 5)
    out = BitDepth(model=nn.Identity(), bits=bits).logits(x, STREAMS).numpy()
    levels = np.float32(2**bits - 1)
    np.testing.assert_array_equal(out, np.round(x.numpy() * levels) / levels)
    assert np.abs(out - x.numpy()).max() <= 0.5 / levels + 1e-7
    assert len(np.unique(out)) <= 2**bits


def test_one_bit_is_black_or_white_and_eight_keep_eight_bit_images() -> None:
    x = (torch.arange(256) / 255).view(4, 1, 8, 8)
    one = BitDepth(model=nn.Identity(), bits=1).logits(x, STREAMS)
    assert torch.equal(one, (x > 0.5).float())
    assert torch.equal(BitDepth(model=nn.Identity(), bits=8).logits(x, STREAMS), x)


def test_surrogates_gradient_is_that_of_the_model_at_the_rounded_input() -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).square()

    x = Streams.of(0, "images", torch.arange(4)).uniform(1, 3, 3).requires_grad_()
    defense = BitDepth(model=Square(), bits=2)
    (found,) = torch.autograd.grad(defense.surrogate(x, STREAMS).sum(), x)
    assert torch.equal(found, 2 * (x.detach() * 3).round() / 3)
