"""Random resize and pad, against torch's own interpolation and padding."""

import math

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.defenses import RandomResizePad
from robustcode.seeds import Streams


def seen(x: Tensor, shrink: float, seed: int = 0) -> Tensor:
    """What the model inside the defence is given."""
    defense = RandomResizePad(model=nn.Identity(), shrink=shrink)
    return defense.logits(x, Streams.of(seed, "draw", torch.arange(len(x))))


def windows(out: Tensor) -> list[tuple[int, int, int, int]]:
    """Top, left, height and width of what is not black; inputs must be positive."""
    found = []
    for image in out:
        rows = image.sum((0, 2)).nonzero()[:, 0]
        columns = image.sum((0, 1)).nonzero()[:, 0]
        found.append((int(rows[0]), int(columns[0]), len(rows), len(columns)))
    return found


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 20, 30)])
def test_each_row_is_torchs_resize_and_pad_at_its_own_size_and_place(
    shape: tuple[int, int, int],
) -> None:
    x = Streams.of(0, "images", torch.arange(40)).uniform(*shape).add_(0.1)
    out = seen(x, shrink=0.6)
    found = windows(out)
    for image, result, (top, left, height, width) in zip(x, out, found, strict=True):
        small = F.interpolate(
            image[None], size=(height, width), mode="bilinear", align_corners=False
        )
        _, full_height, full_width = shape
        padding = (left, full_width - width - left, top, full_height - height - top)
        # Torch computes where a pixel lies in float32: a few roundings of a number up to 32.
        torch.testing.assert_close(result, F.pad(small, padding)[0], atol=1e-5, rtol=0)
    assert len(set(found)) > 10


def test_sizes_and_places_are_uniform() -> None:
    side, smallest, draws = 8, 6, 8_000
    found = windows(seen(torch.ones(draws, 1, side, side), shrink=smallest / side))
    counts = {
        (top, left, size): 0
        for size in range(smallest, side + 1)
        for top in range(side - size + 1)
        for left in range(side - size + 1)
    }
    for top, left, height, width in found:
        assert height == width
        counts[top, left, height] += 1
    sizes = side - smallest + 1
    expected = [draws / sizes / (side - size + 1) ** 2 for _, _, size in counts]
    assert chisquare(list(counts.values()), expected).pvalue > 1e-6


@pytest.mark.parametrize("side", [7, 8, 32, 224])
def test_smallest_side_is_the_fraction_rounded_up(side: int) -> None:
    heights = {height for _, _, height, _ in windows(seen(torch.ones(200, 1, side, 1), 0.875))}
    assert min(heights) == math.ceil(0.875 * side)
    assert max(heights) == side


def test_no_shrinking_is_no_defence() -> None:
    x = Streams.of(0, "images", torch.arange(5)).uniform(3, 9, 9)
    assert torch.equal(seen(x, shrink=1.0), x)
