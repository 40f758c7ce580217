"""JPEG, against Pillow and against what compression must do."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robustcode.defenses import JPEG
from robustcode.errors import ConfigError
from robustcode.seeds import Streams


def photographs(count: int, channels: int) -> Tensor:
    """Smooth images, which JPEG is made for, in [0, 1] and not on the grid of 8 bits."""
    phases = Streams.of(0, "images", torch.arange(count)).uniform(channels, 1, 1) * 6
    place = torch.linspace(0, 3, 16)
    return (torch.sin(phases + place[:, None] + 2 * place) + 1) / 2


def seen(x: Tensor, quality: int) -> Tensor:
    """What the model inside the defence is given."""
    streams = Streams.of(0, "draw", torch.arange(len(x)))
    return JPEG(model=nn.Identity(), quality=quality).logits(x, streams)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("quality", [10, 75, 100])
def test_surrogates_scores_are_pillows_round_trip(channels: int, mode: str, quality: int) -> None:
    x = photographs(3, channels)
    streams = Streams.of(0, "draw", torch.arange(3))
    out = JPEG(model=nn.Identity(), quality=quality).surrogate(x.requires_grad_(), streams)
    for image, result in zip(x.detach().numpy(), out.detach().numpy(), strict=True):
        pixels = np.round(image * 255).astype(np.uint8).transpose(1, 2, 0).squeeze()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="jpeg", quality=quality)
        read = Image.open(file)
        assert read.mode == mode
        expected = np.asarray(read, np.float32).reshape(16, 16, channels).transpose(2, 0, 1) / 255
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_higher_quality_stays_nearer_to_the_image(channels: int) -> None:
    x = photographs(8, channels)
    errors = [(seen(x, quality) - x).square().mean().item() for quality in (5, 30, 75)]
    assert errors == sorted(errors, reverse=True)


def test_best_quality_loses_little_but_colour() -> None:
    x = photographs(8, 1)
    # Half a grey level for 8 bits, and whole-numbered coefficients, whose errors add up to a
    # standard deviation of 0.3 (a uniform rounding, orthonormal transform): five of them at most.
    assert (seen(x, 100) - x).abs().max() < (0.5 + 5 * 0.3) / 255


def test_values_outside_the_box_are_clipped_and_not_wrapped_round() -> None:
    x = torch.cat([torch.full((1, 1, 8, 8), -0.1), torch.full((1, 1, 8, 8), 1.1)])
    out = seen(x, 95)
    assert out[0].max() < 0.05
    assert out[1].min() > 0.95


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or 3 channels; these have 4"):
        seen(torch.zeros(2, 4, 8, 8), 75)
