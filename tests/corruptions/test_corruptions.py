"""What corruptions do, whatever they are compared with: in [0, 1], repeatable, worse and worse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from sklearn.datasets import load_digits

from robustcode.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    Group,
    Scale,
    every,
    named,
    refuse_shape,
)
from robustcode.corruptions.frost import Frost
from robustcode.corruptions.lens import magnified, plasma, smeared
from robustcode.errors import ConfigError, UnknownNameError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"

# Of these the published strengths do not make every severity farther from the image than the last:
# frost covers ever more of it by something as bright; glass is shaken less and smeared more in
# turn; elastic maps first shift the image and later ripple it.
BY_OTHER_MEANS = {"frost", "glass_blur", "elastic_transform"}
# Eight pixels are fewer than the largest strengths reach, which may be asked for all the same.
SHAPES = {
    (8, 8, 1): Scale.CIFAR_10_C,
    (20, 8, 1): Scale.IMAGENET_C,
    (32, 32, 3): Scale.CIFAR_10_C,
    (65, 40, 3): Scale.CIFAR_10_C,
}


def picture(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float64]:
    """A smooth image of all brightnesses, with some colour."""
    generator = np.random.default_rng(seed)
    planes = [plasma(*shape[:2], 2.0, generator) for _ in range(shape[2])]
    return np.stack(planes, axis=-1)


def spoilt(
    name: str, x: NDArray[np.float64], severity: int, seed: int = 0, scale: Scale | None = None
) -> NDArray[np.float32]:
    one = CORRUPTIONS.get(name)()
    scale = scale or Scale.fitting(*x.shape[:2])
    return one.corrupt(x, severity, scale, np.random.default_rng(seed))


def images() -> NDArray[np.float64]:
    file = SHARED / "cifar10" / "test.npz"
    if not file.exists():
        pytest.skip("needs CIFAR-10 in ../shared/data/cifar10")
    with np.load(file) as held:
        return np.asarray(held["images"][:15], np.float64) / 255


def test_there_are_fifteen_in_four_groups() -> None:
    assert len(every()) == 15
    sizes = {group: len(named(group)) for group in Group}
    assert sizes == {Group.NOISE: 3, Group.BLUR: 4, Group.WEATHER: 4, Group.DIGITAL: 4}


def test_an_unknown_word_is_refused_with_what_it_may_have_been() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'noise'"):
        named("nois")
    with pytest.raises(UnknownNameError, match="Did you mean 'fog'"):
        CORRUPTIONS.get("fogg")


@pytest.mark.parametrize("name", every())
@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_stays_one(name: str, shape: tuple[int, int, int]) -> None:
    x = picture(shape)
    kept = x.copy()
    for severity in SEVERITIES:
        found = spoilt(name, x, severity, scale=SHAPES[shape])
        assert found.shape == shape
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 1
        again = spoilt(name, x, severity, scale=SHAPES[shape])
        assert np.array_equal(found, again), "equal seeds, equal images"
    assert np.array_equal(x, kept), "the image that is given is not changed"


@pytest.mark.parametrize("name", every())
def test_black_and_white_images_are_images_too(name: str) -> None:
    for level in (0.0, 1.0):
        found = spoilt(name, np.full((32, 32, 3), level), 5)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", every())
def test_what_is_random_differs_by_its_seed_and_what_is_not_does_not(name: str) -> None:
    x = picture((32, 32, 3))
    same = np.array_equal(spoilt(name, x, 3, seed=1), spoilt(name, x, 3, seed=2))
    certain = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"}
    assert same == (name in certain | {"jpeg_compression"})


@pytest.mark.parametrize("name", [name for name in every() if name not in BY_OTHER_MEANS])
def test_severity_takes_an_image_farther_away(name: str) -> None:
    x = images()
    away = [
        np.mean([np.abs(spoilt(name, one, severity, n) - one).mean() for n, one in enumerate(x)])
        for severity in SEVERITIES
    ]
    # Two of the published motions differ in steps whose weight is below a ten-thousandth.
    assert (np.diff(away) > -1e-4).all(), away
    assert away[-1] > 1.3 * away[0]


def test_frost_leaves_ever_less_of_the_image() -> None:
    """Of ice that is drawn with the same seed, the image's own share of the result's variation."""
    x = picture((32, 32, 3))
    ice = spoilt("frost", np.zeros_like(x), 1) / Frost.amounts[Scale.CIFAR_10_C][0].added
    shares = []
    for severity in SEVERITIES:
        kept, added, _ = Frost.amounts[Scale.CIFAR_10_C][severity - 1]
        shares.append((kept * x).std() / (added * ice).std())
        wanted = np.clip(kept * x + added * ice, 0, 1)
        assert np.abs(spoilt("frost", x, severity) - wanted).max() < 1e-6
    assert (np.diff(shares) < 0).all()


def test_frost_takes_photographs_of_the_users(tmp_path: Path) -> None:
    for number, level in enumerate((40, 200)):
        Pillow.fromarray(np.full((50, 300, 3), level, np.uint8)).save(tmp_path / f"{number}.png")
    one = Frost(pictures=str(tmp_path))
    black = np.zeros((64, 64, 3))
    seen = {
        round(255 * float(one.corrupt(black, 5, Scale.IMAGENET_C, generator).mean()) / 0.75)
        for generator in map(np.random.default_rng, range(8))
    }
    assert seen == {40, 200}
    assert len(one.files) == 2
    with pytest.raises(ConfigError, match="holds no PNG or JPEG"):
        Frost(pictures=str(tmp_path / "none")).corrupt(
            black, 1, Scale.IMAGENET_C, np.random.default_rng(0)
        )


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_other_severities_are_refused(severity: int) -> None:
    with pytest.raises(ConfigError, match="severities 1 to 5"):
        spoilt("fog", picture((32, 32, 3)), severity)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (7, 32, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be corrupted|too small"):
        refuse_shape(shape)


def test_the_size_of_an_image_chooses_its_strengths() -> None:
    sides = {8: "cifar-10-c", 28: "cifar-10-c", 32: "cifar-10-c", 64: "tiny-imagenet-c"}
    for side, name in {**sides, 224: "imagenet-c"}.items():
        assert Scale.fitting(side, side + 100) == name


# Closed forms.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_its_standard_deviation(severity: int) -> None:
    x = np.full((200, 200, 3), 0.5)  # nothing is cut off: the limits are 5 deviations away
    noise = CORRUPTIONS.get("gaussian_noise")().corrupt(
        x, severity, Scale.CIFAR_10_C, np.random.default_rng(0)
    )
    wanted = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    # 120,000 values: the deviation is known to 0.2 %, and 5 of these are allowed.
    assert noise.std() == pytest.approx(wanted, rel=0.011)
    assert noise.mean() == pytest.approx(0.5, abs=5 * wanted / 346)


def test_shot_noise_has_the_variance_of_photons() -> None:
    x = np.full((200, 200, 3), 0.3)
    noise = CORRUPTIONS.get("shot_noise")().corrupt(
        x, 5, Scale.CIFAR_10_C, np.random.default_rng(0)
    )
    assert noise.var() == pytest.approx(0.3 / 50, rel=0.025)


def test_impulses_are_black_or_white_as_often() -> None:
    x = np.full((200, 200, 3), 0.5)
    noise = CORRUPTIONS.get("impulse_noise")().corrupt(
        x, 5, Scale.CIFAR_10_C, np.random.default_rng(0)
    )
    # Each 3.5 % of 120,000: a deviation of 64, and 5 of these are allowed.
    for level in (0.0, 1.0):
        assert abs((noise == level).sum() - 0.035 * 120_000) < 5 * 64


def test_brightness_keeps_hue_and_saturation() -> None:
    x = np.array([[[0.2, 0.4, 0.1], [0.0, 0.0, 0.0]]] * 8).repeat(4, axis=1)
    found = CORRUPTIONS.get("brightness")().apply(x, 0.2, np.random.default_rng(0))
    assert found[0, 0] == pytest.approx([0.3, 0.6, 0.15])
    assert found[0, -1] == pytest.approx([0.2, 0.2, 0.2])


def test_contrast_keeps_the_mean_and_a_share_of_the_deviation() -> None:
    x = picture((32, 32, 3))
    found = CORRUPTIONS.get("contrast")().apply(x, 0.3, np.random.default_rng(0))
    assert found.mean(axis=(0, 1)) == pytest.approx(x.mean(axis=(0, 1)))
    assert found.std(axis=(0, 1)) == pytest.approx(0.3 * x.std(axis=(0, 1)))


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"])
def test_blur_leaves_an_even_image_even(name: str) -> None:
    for severity in SEVERITIES:
        assert spoilt(name, np.full((32, 32, 3), 0.4), severity) == pytest.approx(0.4)


def test_snow_falls_twice_the_second_time_upside_down() -> None:
    """On black, which turns evenly pale, nothing else is to be seen."""
    fallen = spoilt("snow", np.zeros((40, 40, 3)), 4)
    assert fallen.std() > 0.01
    assert np.allclose(fallen, fallen[::-1, ::-1], atol=1e-6)


def test_smearing_along_rows_shifts_by_the_mean_step() -> None:
    """On a ramp a mean over steps is the ramp at the mean step, where no edge is near."""
    ramp = np.tile(np.arange(40.0), (9, 1))[..., None]
    steps = np.arange(7)
    weights = np.exp(-(steps**2) / 8)
    found = smeared(ramp, 3, 2.0, 0.0)
    wanted = ramp + (weights * steps).sum() / weights.sum()
    assert found[:, :30] == pytest.approx(wanted[:, :30])


def test_magnifying_twice_spreads_a_ramp_over_twice_the_pixels() -> None:
    ramp = np.tile(np.arange(16.0), (16, 1))[..., None]
    row = magnified(ramp, 2.0)[0, :, 0]
    assert (row[0], row[-1]) == (pytest.approx(4), pytest.approx(11))
    assert np.diff(row) == pytest.approx(np.full(15, 7 / 15))


def test_plasma_has_more_detail_where_it_decays_slowly() -> None:
    def roughness(decay: float) -> float:
        surfaces = [plasma(32, 32, decay, np.random.default_rng(n)) for n in range(20)]
        return float(np.mean([np.abs(np.diff(one)).mean() for one in surfaces]))

    assert roughness(3.0) < roughness(2.0) < roughness(1.5)
    surface = plasma(20, 31, 2.0, np.random.default_rng(0))
    assert surface.shape == (20, 31)
    assert 0 <= surface.min() < surface.max() <= 1


def test_a_grey_image_is_spoilt_as_grey() -> None:
    """Three equal channels are treated as one, wherever channels are not spoilt one by one."""
    grey = load_digits(return_X_y=True)[0][0].reshape(8, 8, 1).repeat(4, 0).repeat(4, 1) / 16
    alone = {"gaussian_noise", "shot_noise", "impulse_noise", "jpeg_compression", "frost"}
    for name in every():
        if name not in alone:
            as_colour = spoilt(name, grey.repeat(3, axis=2), 3)
            assert np.abs(as_colour - spoilt(name, grey, 3)).max() < 1e-6, name
