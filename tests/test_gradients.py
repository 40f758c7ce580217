"""The noise of gradients, on a defence whose noise is known, and the draws it asks for."""

from __future__ import annotations

import pytest
import torch

from robustcode.checks.catalogue.noisy_gradient import noisy_gradient
from robustcode.gradients import MOST_DRAWS, PILOT_DRAWS, draws_for, gradient_noise
from robustcode.seeds import Streams
from robustcode.testing.problems import two_cells
from robustcode.testing.situations import NoisySlope
from robustcode.threat import Norm

SAMPLES = torch.arange(4)


def leaning(sigma: float) -> tuple[NoisySlope, torch.Tensor, float]:
    """A plane that leans at random, with its noise-to-signal ratio in closed form."""
    problem = two_cells("a plane", Norm.L2, (500,), scale=1.0)
    weight = (problem.model.weight[:, 0] - problem.model.weight[:, 1]).detach()
    # The lead's gradient is the weight plus sigma times a standard normal in each coordinate.
    ratio = sigma**2 * weight.numel() / float(weight.square().sum())
    return NoisySlope(model=problem.model, sigma=sigma), problem.x, ratio


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_the_noise_of_a_known_plane_is_measured(sigma: float) -> None:
    defense, x, ratio = leaning(sigma)
    streams = Streams.of(0, "noise", SAMPLES)
    measured = gradient_noise(defense.logits, x, streams)
    # 16 draws of 500 coordinates: the noise is known within 2 %, the signal within noise / 16.
    assert measured == pytest.approx(ratio, rel=0.1 + 4 * ratio / PILOT_DRAWS / 500**0.5)


def test_what_has_no_gradient_is_all_noise() -> None:
    defense, x, _ = leaning(1.0)
    streams = Streams.of(0, "noise", SAMPLES)
    cut = gradient_noise(lambda inputs, own: defense.logits(inputs, own).detach(), x, streams)
    assert cut == float("inf")
    assert draws_for(cut) == MOST_DRAWS
    found = noisy_gradient(cut, SAMPLES)
    assert found is not None
    assert "more than can be measured" in found.what


def test_a_steady_gradient_needs_one_draw_and_no_finding() -> None:
    defense, x, _ = leaning(1e-6)
    noise = gradient_noise(defense.logits, x, Streams.of(0, "noise", SAMPLES))
    assert draws_for(noise) == 1
    assert noisy_gradient(noise, SAMPLES) is None


def test_the_mean_of_the_draws_points_within_45_degrees() -> None:
    defense, _, ratio = leaning(3.0)
    draws = draws_for(ratio)
    assert 1 < draws < MOST_DRAWS
    weight = defense.model.weight[:, 0] - defense.model.weight[:, 1]  # type: ignore[index]
    cosines = []
    for trial in range(8):
        streams = Streams.of(trial, "trial", SAMPLES)
        slopes = [
            weight + 3.0 * streams.child("draw", draw).normal(weight.numel())
            for draw in range(draws)
        ]
        mean = torch.stack(slopes).mean(0)
        cosines.append(torch.cosine_similarity(mean, weight[None], dim=1).mean())
    assert float(torch.stack(cosines).mean().detach()) == pytest.approx(0.5**0.5, abs=0.06)
