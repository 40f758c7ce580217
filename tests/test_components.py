"""A component as a person names it becomes the object it stands for, or a sentence that helps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustcode.components import Component, construct, convert, number, settings_of
from robustcode.errors import ConfigError, DataError, UnknownNameError
from robustcode.registry import Registry


class Shape(StrEnum):
    """What a test's component may look like."""

    ROUND = "round"
    SQUARE = "square"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A component with a field of every kind that text can set."""

    model: object
    radius: float
    spokes: int = 12
    shape: Shape = Shape.ROUND
    driven: bool = False
    maker: str = "nobody"
    load: float | None = None
    gears: tuple[int, ...] = ()
    worn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise DataError(f"radius = {self.radius:g}: a wheel has a size")


class Plain:
    """A third party's component that is no dataclass."""


WHEELS: Registry[type] = Registry("wheel", "tests.wheels")
WHEELS.register("wheel")(Wheel)
WHEELS.register("plain")(Plain)


def built(text: str, **more: Any) -> Any:
    return Component.parse(text).build(WHEELS, "wheels[1]", model="a model", **more)


# --- text


def test_a_name_alone_has_no_settings() -> None:
    assert Component.parse("pgd") == Component("pgd", {})


def test_settings_stay_text_until_their_type_is_known() -> None:
    assert Component.parse(" pgd : steps = 40 , loss=margin,") == Component(
        "pgd", {"steps": "40", "loss": "margin"}
    )


def test_a_value_may_hold_what_separates() -> None:
    assert Component.parse("transfer:source=a.py:b=c").settings == {"source": "a.py:b=c"}


WORD = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)


@given(name=WORD, settings=st.dictionaries(WORD, WORD))
def test_what_is_printed_reads_back(name: str, settings: dict[str, str]) -> None:
    component = Component(name, dict(settings))
    assert Component.parse(str(component)) == component


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pgd:steps", "'pgd:steps': 'steps' is not key=value"),
        ("pgd:steps=1,steps=2", "'pgd:steps=1,steps=2' sets 'steps' twice"),
        ("", "'' names no component; write NAME or NAME:key=value,.."),
        (":steps=1", "':steps=1' names no component"),
    ],
)
def test_what_is_not_a_component_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Component.parse(text)
    assert str(error.value).startswith(message)


# --- objects


def test_every_setting_gets_the_type_of_its_field() -> None:
    wheel = built("wheel:radius=8/255,spokes=36,shape=square,driven=yes,maker=7,load=2,gears=1+2+3")
    assert wheel == Wheel(
        model="a model",
        radius=8 / 255,
        spokes=36,
        shape=Shape.SQUARE,
        driven=True,
        maker="7",
        load=2.0,
        gears=(1, 2, 3),
    )
    assert type(wheel.spokes) is int
    assert type(wheel.shape) is Shape


def test_toml_values_are_taken_as_they_are() -> None:
    settings: dict[str, Any] = {
        "radius": 1,
        "spokes": 36.0,
        "driven": True,
        "load": 3,
        "gears": [1, 2],
    }
    wheel = Component("wheel", settings).build(WHEELS, "wheels[1]", model=None)
    assert wheel == Wheel(model=None, radius=1.0, spokes=36, driven=True, load=3.0, gears=(1, 2))
    assert type(wheel.radius) is float
    assert type(wheel.spokes) is int


def test_what_the_class_has_no_field_for_is_left_out() -> None:
    assert built("wheel:radius=1", pool=[1, 2]) == Wheel(model="a model", radius=1.0)


def test_a_value_from_the_run_cannot_be_set_from_text() -> None:
    with pytest.raises(ConfigError, match="unknown key 'model'"):
        built("wheel:radius=1,model=mine")


def test_a_plain_class_takes_no_settings() -> None:
    assert type(Component("plain").build(WHEELS, "wheels[1]")) is Plain
    with pytest.raises(
        ConfigError, match=r"wheels\[1\] \(wheel 'plain'\) takes no settings; got a"
    ):
        Component("plain", {"a": "1"}).build(WHEELS, "wheels[1]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "wheel:radius=1,makr=3",
            "wheels[1] (wheel 'wheel'): unknown key 'makr'. Did you mean 'maker'? Known: driven, "
            "gears, load, maker, radius, shape, spokes.",
        ),
        ("wheel:radius=1,worn=3", "wheels[1] (wheel 'wheel'): unknown key 'worn'. Known"),
        ("wheel:radius=big", "wheels[1] (wheel 'wheel').radius = 'big' is not a number; write it"),
        ("wheel:radius=1,spokes=3.5", "wheels[1] (wheel 'wheel').spokes = '3.5' is not a whole"),
        ("wheel:radius=1,driven=maybe", "wheels[1] (wheel 'wheel').driven = 'maybe' is neither"),
        (
            "wheel:radius=1,shape=squre",
            "wheels[1] (wheel 'wheel').shape = 'squre' is unknown. Did you mean 'square'? "
            "Known: round, square.",
        ),
        ("wheel:radius=1,gears=1+x", "wheels[1] (wheel 'wheel').gears = 'x' is not a whole number"),
        ("wheel:radius=0", "wheels[1] (wheel 'wheel'): radius = 0: a wheel has a size"),
        ("wheel", "wheels[1] (wheel 'wheel') needs radius; write radius=VALUE"),
        ("weel", "no wheel is called 'weel'. Did you mean 'wheel'? Known: plain, wheel."),
    ],
)
def test_a_wrong_setting_is_answered_with_its_path(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        built(text)
    assert str(error.value).startswith(message)


def test_the_kind_of_error_is_kept() -> None:
    with pytest.raises(DataError):
        built("wheel:radius=-1")
    with pytest.raises(UnknownNameError):
        built("weel")


def test_settings_of_a_component_include_its_defaults() -> None:
    wheel = Wheel(model=object(), radius=0.5, gears=(1, 3))
    assert settings_of(wheel) == {
        "radius": 0.5,
        "spokes": 12,
        "shape": "round",
        "driven": False,
        "maker": "nobody",
        "gears": "1+3",
        "worn": 0,
    }
    assert settings_of(Plain()) == {}


def test_settings_of_a_component_build_it_again() -> None:
    wheel = Wheel(model=None, radius=0.1 + 0.2, shape=Shape.SQUARE, gears=(2, 5))
    settings = settings_of(wheel)
    del settings["worn"]
    again = Component("wheel", settings).build(WHEELS, "wheels[1]", model=None)
    assert again == wheel


# --- values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        ("125.3/255", 125.3 / 255),
        ("1e-3", 1e-3),
        (2, 2.0),
    ],
)
def test_numbers(value: str | int, expected: float) -> None:
    assert number(value, "eps") == pytest.approx(expected, rel=1e-15)


@given(top=st.integers(0, 255))
def test_a_fraction_is_the_float_nearest_to_it(top: int) -> None:
    assert number(f"{top}/255", "eps") == top / 255


@pytest.mark.parametrize("value", ["", "eight", "8/0", "8/", "8/255/2", True, None, [1], 10**400])
def test_what_is_not_a_number_is_said(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^eps = .* is not a number; write it as 0.03 or 8/255$"):
        number(value, "eps")


@pytest.mark.parametrize("value", ["", "3.0", "three", 2.5, True, None, [1], math.inf, math.nan])
def test_what_is_not_whole_is_said(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^steps = .* is not a whole number$"):
        convert(value, int, "steps")


@pytest.mark.parametrize("word", ["true", "Yes", "1", True, 1])
def test_words_for_true(word: object) -> None:
    assert convert(word, bool, "driven") is True


@pytest.mark.parametrize("word", ["false", "No", "0", False, 0])
def test_words_for_false(word: object) -> None:
    assert convert(word, bool, "driven") is False


@pytest.mark.parametrize("value", [None, "none", "None", ""])
def test_none_is_none_only_where_it_may_be(value: object) -> None:
    assert convert(value, int | None, "load") is None
    with pytest.raises(ConfigError):
        convert(value, int | float, "load")


def test_one_value_is_a_tuple_of_one() -> None:
    assert convert(3, tuple[int, ...], "gears") == (3,)
    assert convert("3", tuple[int, ...], "gears") == (3,)
    assert convert([], tuple[int, ...], "gears") == ()


def test_a_field_that_text_cannot_set_is_said() -> None:
    with pytest.raises(ConfigError, match=r"^model = 'x' cannot be set from text; its type is"):
        convert("x", object, "model")


def test_construct_reports_where_the_settings_were_written() -> None:
    with pytest.raises(ConfigError, match=r"^train\.recipe\.radius = 'x' is not a number"):
        construct(Wheel, {"radius": "x"}, "train.recipe", model=None)
