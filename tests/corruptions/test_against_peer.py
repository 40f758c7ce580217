"""Corruptions beside those of imagecorruptions 1.1.2, at the strengths of ImageNet-C, which it has.

What is not random is compared pixel by pixel, in levels of 1/255, what is random by its mean, its
standard deviation and its spectrum over many images. Its functions are called before they cut
their results off to whole levels, which ours do not.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustcode.corruptions import CORRUPTIONS, SEVERITIES, Scale
from robustcode.corruptions.blur import MotionBlur
from robustcode.corruptions.digital import rippled
from robustcode.corruptions.frost import Frost
from robustcode.corruptions.lens import plasma, smeared

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
Levels = NDArray[np.uint8]

# Levels by which ours may be off. Pixels are rounded to whole levels twice in the peer's pixelate.
# A disk of radius 8 or 10 does not fit the table in which the peer softens its edge, so that its
# weights sum to 1.013 and 1.011 and it brightens the image: ours sum to 1. White is 3.3 levels off.
EXACT = {
    "brightness": 0.01,
    "contrast": 0.01,
    "zoom_blur": 0.01,
    "jpeg_compression": 0.01,
    "pixelate": 1.01,
    "defocus_blur": 0.01,
}
SUMS = {4: 1.0129755, 5: 1.0107858}


def _loader() -> ModuleType:
    """The module peer.py beside this one: a folder of tests is no package."""
    spec = importlib.util.spec_from_file_location(
        "corruptions_peer", Path(__file__).with_name("peer.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def peer() -> Any:
    try:
        return _loader().load()
    except LookupError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def photographs() -> list[Levels]:
    """Forty images of 32 pixels, and three of them enlarged to 96."""
    file = SHARED / "cifar10" / "test.npz"
    if not file.exists():
        pytest.skip("needs CIFAR-10 in ../shared/data/cifar10")
    with np.load(file) as held:
        small = list(held["images"][:40])
    large = [
        np.asarray(Pillow.fromarray(x).resize((96, 96), Pillow.Resampling.BICUBIC))
        for x in small[:3]
    ]
    return [*small, *large]


def ours(name: str, x: Levels, severity: int, seed: int = 0) -> NDArray[np.float64]:
    one = CORRUPTIONS.get(name)()
    generator = np.random.default_rng([seed, severity])
    return np.asarray(255 * one.corrupt(x / 255, severity, Scale.IMAGENET_C, generator), np.float64)


def theirs(peer: Any, name: str, x: Levels, severity: int, seed: int = 0) -> NDArray[np.float64]:
    np.random.seed(100 * seed + severity)  # its own generator is the global one
    return np.asarray(getattr(peer, name)(Pillow.fromarray(x), severity), np.float64)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_agrees_pixel_by_pixel(
    name: str, severity: int, peer: Any, photographs: list[Levels]
) -> None:
    for x in [*photographs[:8], *photographs[-2:]]:
        mine, other = ours(name, x, severity), theirs(peer, name, x, severity)
        if name == "defocus_blur":
            other = other / SUMS.get(severity, 1.0)
            # What the peer cut off at white is white before it is divided.
            inside = mine * SUMS.get(severity, 1.0) < 254.9
            mine, other = mine[inside], other[inside]
        assert np.abs(mine - other).max() < EXACT[name]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_is_the_same_at_the_same_angle(
    severity: int, peer: Any, photographs: list[Levels]
) -> None:
    """Also at the angles of snow. Beyond the image's own length the peer stops and grows dark."""
    x = photographs[-1] / 255
    radius, sigma = MotionBlur.amounts[Scale.IMAGENET_C][severity - 1]
    for degrees in (-135, -90, -45, -20.5, 0, 13, 45):
        other = peer._motion_blur(x, radius, sigma, degrees)
        assert np.abs(smeared(x, radius, sigma, degrees) - other).max() < 1e-12


def moments(change: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and standard deviation of a change, and the share of its power in fine detail.

    Fine is what varies more than once in four pixels along a row or a column.
    """
    grey = change.mean(axis=-1)
    power = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    at = np.abs(np.fft.fftfreq(grey.shape[1]))
    fine = np.maximum(at[:, None], at) > 0.25
    return float(change.mean()), float(change.std()), float(power[:, fine].sum() / power.sum())


# By how much mean (in levels), deviation (relative) and share of fine detail may differ: about four
# standard errors over 40 images, which for noise of each pixel are small. For snow and fog the
# image's own layer is most of the change, one for each image.
ALIKE = {
    "gaussian_noise": (1.0, 0.02, 0.02),
    "shot_noise": (1.0, 0.02, 0.02),
    "impulse_noise": (1.0, 0.04, 0.02),
    # The peer cuts off to whole levels between its two blurs: half a level darker on average.
    "glass_blur": (1.5, 0.06, 0.05),
    "motion_blur": (2.0, 0.20, 0.05),
    "snow": (9.0, 0.12, 0.08),
    "fog": (11.0, 0.12, 0.08),
}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("severity", [1, 5])
def test_is_alike_where_it_is_random(
    name: str, severity: int, peer: Any, photographs: list[Levels]
) -> None:
    # The peer scatters pixel by pixel in Python, 10 ms an image.
    images = np.stack(photographs[: 12 if name == "glass_blur" else 40])
    mine = np.stack([ours(name, x, severity, n) for n, x in enumerate(images)]) - images
    other = np.stack([theirs(peer, name, x, severity, n) for n, x in enumerate(images)]) - images
    found, wanted = moments(mine), moments(other)
    mean, deviation, fine = ALIKE[name]
    assert abs(found[0] - wanted[0]) < mean
    assert found[1] / wanted[1] == pytest.approx(1, abs=deviation)
    assert abs(found[2] - wanted[2]) < fine


@pytest.mark.parametrize("decay", [1.5, 2.0, 3.0])
def test_plasma_is_alike(decay: float, peer: Any) -> None:
    """Mean, deviation and the step from pixel to pixel of 100 surfaces each."""
    np.random.seed(0)  # its own generator is the global one
    mine = np.stack([plasma(32, 32, decay, np.random.default_rng(n)) for n in range(100)])
    other = np.stack([peer.plasma_fractal(32, decay) for _ in range(100)])
    assert mine.mean() == pytest.approx(other.mean(), abs=0.03)
    assert mine.std() == pytest.approx(other.std(), rel=0.06)
    steps = [np.abs(np.diff(surfaces, axis=1)).mean() for surfaces in (mine, other)]
    assert steps[0] == pytest.approx(steps[1], rel=0.08)


@pytest.mark.parametrize("severity", [1, 5])
def test_ripples_are_alike_at_the_peers_strengths(
    severity: int, peer: Any, photographs: list[Levels]
) -> None:
    """Its elastic transform is its own, for all sizes and without the affine map; ours is not."""
    images = np.stack(photographs[:40])
    push = 250 * {1: 0.05, 5: 0.12}[severity] * 32 * 0.005
    mine = np.stack(
        [255 * rippled(x / 255, push, 0.32, np.random.default_rng(n)) for n, x in enumerate(images)]
    )
    other = [theirs(peer, "elastic_transform", x, severity, n) for n, x in enumerate(images)]
    found, wanted = moments(mine - images), moments(np.stack(other) - images)
    assert abs(found[0] - wanted[0]) < 1.0
    assert found[1] / wanted[1] == pytest.approx(1, abs=0.05)
    assert abs(found[2] - wanted[2]) < 0.05


def test_photographed_frost_is_alike(peer: Any, photographs: list[Levels], tmp_path: Path) -> None:
    """With the peer's own photographs, of which it never takes the sixth."""
    found = importlib.util.find_spec("imagecorruptions")
    assert found is not None
    assert found.origin is not None
    taken = sorted((Path(found.origin).parent / "frost").glob("*"))[:5]
    if not taken:
        pytest.skip("needs the photographs of imagecorruptions")
    for file in taken:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    one = Frost(pictures=str(tmp_path))
    images = np.stack(photographs[:40])
    mine = np.stack(
        [
            255.0 * one.corrupt(x / 255, 1, Scale.IMAGENET_C, np.random.default_rng(n))
            for n, x in enumerate(images)
        ]
    )
    other = np.stack([theirs(peer, "frost", x, 1, n) for n, x in enumerate(images)])
    # Photographs differ by 36 levels in their means, of which 0.4 is added: 2.3 for a mean of 40,
    # 3.2 for the difference of two, and four times that.
    assert abs((mine - images).mean() - (other - images).mean()) < 13
    assert (mine - images).std() / (other - images).std() == pytest.approx(1, abs=0.25)
