"""Gaussian noise on a half-space, where the share of votes is known."""

import math

import pytest
import torch
from scipy.stats import binomtest, norm
from torch import nn

from robustcode.defenses import GaussianNoise
from robustcode.seeds import Streams

DRAWS = 20_000
WEIGHT = torch.linspace(-1, 1, 12).double()


@pytest.mark.parametrize("sigma", [0.25, 0.6])
@pytest.mark.parametrize("margin", [-0.3, 0.0, 0.5])
def test_a_half_space_gets_the_share_of_votes_that_the_normal_law_gives_it(
    sigma: float, margin: float
) -> None:
    """Vote probability Phi(margin / (sigma |w|)), Cohen et al. 2019, arXiv:1902.02918."""
    linear = nn.Linear(12, 1, bias=False).double()
    linear.weight.data = WEIGHT[None]
    x = (margin * WEIGHT / WEIGHT.square().sum()).view(1, 3, 2, 2).expand(DRAWS, -1, -1, -1)
    scores = GaussianNoise(model=nn.Sequential(nn.Flatten(), linear), sigma=sigma).logits(
        x, Streams.of(0, "noise", torch.arange(DRAWS))
    )
    expected = float(norm.cdf(margin / (sigma * WEIGHT.norm().item())))
    # One in a million runs with another seed would fail; this seed does not.
    assert binomtest(int((scores > 0).sum()), DRAWS, expected).pvalue > 1e-6


def test_noise_is_neither_clipped_nor_scaled() -> None:
    identity = nn.Flatten()
    x = torch.full((DRAWS, 1, 1, 1), 0.9)
    streams = Streams.of(1, "noise", torch.arange(DRAWS))
    seen = GaussianNoise(model=identity, sigma=0.5).logits(x, streams)[:, 0]
    # Standard errors of a mean and of a standard deviation; five of them are one in a million.
    assert seen.mean().item() == pytest.approx(0.9, abs=5 * 0.5 / math.sqrt(DRAWS))
    assert seen.std().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2 * DRAWS))
    assert seen.max() > 1
    assert seen.min() < 0


def test_no_noise_is_no_defence() -> None:
    x = torch.linspace(0, 1, 24).view(2, 3, 2, 2)
    streams = Streams.of(0, "noise", torch.arange(2))
    assert torch.equal(
        GaussianNoise(model=nn.Flatten(), sigma=0.0).logits(x, streams), x.flatten(1)
    )
