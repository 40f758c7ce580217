"""Names lead to entries: decorators for our own, entry points for what others install."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from robustcode.attacks import ATTACKS
from robustcode.defenses import DEFENSES
from robustcode.errors import ConfigError, PluginError, UnknownNameError
from robustcode.registry import Registry, suggestion

GROUP = "robustcode.tests.animals"


class Animal:
    """The base of the registry these tests make."""


def animals() -> Registry[type[Animal]]:
    registry: Registry[type[Animal]] = Registry("animal", GROUP, Animal)
    registry.register("cat")(type("Cat", (Animal,), {}))
    return registry


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[type[Animal]]:
    """A registry in a world where the distribution acme-zoo is installed."""
    package = tmp_path / "acme_zoo"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "dogs.py").write_text(
        "from tests_animal import Animal\nclass Dog(Animal): ...\nclass Stone: ...\n"
    )
    (package / "broken.py").write_text("import a_missing_dependency\n")
    (package / "rude.py").write_text("raise KeyError('no reason given')\n")
    info = tmp_path / "acme_zoo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-zoo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\n"
        "dog = acme_zoo.dogs:Dog\n"
        "stone = acme_zoo.dogs:Stone\n"
        "nobody = acme_zoo.dogs:Nobody\n"
        "broken = acme_zoo.broken:Broken\n"
        "rude = acme_zoo.rude:Rude\n"
        "cat = acme_zoo.dogs:Dog\n"
    )
    base = ModuleType("tests_animal")
    vars(base)["Animal"] = Animal
    monkeypatch.setitem(sys.modules, "tests_animal", base)
    monkeypatch.syspath_prepend(str(tmp_path))
    # What a test imports must not be there for the next one.
    for name in ("acme_zoo", "acme_zoo.dogs", "acme_zoo.broken", "acme_zoo.rude"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return animals()


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith("acme_zoo")}


# --- our own


def test_a_decorated_entry_is_found_and_unchanged() -> None:
    registry = animals()

    class Horse(Animal): ...

    assert registry.register("horse")(Horse) is Horse
    assert registry.get("horse") is Horse
    assert list(registry) == ["cat", "horse"]
    assert "horse" in registry
    assert "cow" not in registry


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as error:
        animals().get("cta")
    assert str(error.value) == "no animal is called 'cta'. Did you mean 'cat'? Known: cat."
    assert isinstance(error.value, ConfigError)
    assert isinstance(error.value, LookupError)


def test_the_real_registries_suggest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no attack is called 'pgdd'\. Did you mean 'pgd' or"
    ):
        ATTACKS.get("pgdd")
    with pytest.raises(UnknownNameError, match=r"no defence is called .*Did you mean 'identity'\?"):
        DEFENSES.get("identiti")


def test_a_taken_name_is_refused() -> None:
    registry = animals()

    class Tiger(Animal): ...

    with pytest.raises(ValueError, match=r"animal 'cat' is already taken by .*Cat; .*Tiger needs"):
        registry.register("cat")(Tiger)
    assert registry.get("cat").__name__ == "Cat"


def test_the_same_entry_may_register_twice() -> None:
    registry = animals()
    assert registry.register("cat")(registry.get("cat")) is registry.get("cat")


def test_what_is_of_another_kind_is_refused() -> None:
    class Stone: ...

    with pytest.raises(TypeError, match="does not subclass Animal"):
        animals().register("stone")(Stone)


def test_without_a_base_any_callable_is_an_entry() -> None:
    registry: Registry[type] = Registry("animal", GROUP)
    assert registry.register("cat")(lambda: None)() is None
    with pytest.raises(TypeError, match="'not callable' is not callable"):
        registry.register("dog")("not callable")  # type: ignore[type-var]  # the mistake under test


# --- plug-ins


def test_listing_runs_no_foreign_code(plugins: Registry[type[Animal]]) -> None:
    assert list(plugins) == ["broken", "cat", "dog", "nobody", "rude", "stone"]
    assert "dog" in plugins
    assert loaded() == set()


def test_a_plug_in_is_imported_when_its_name_is_asked_for(
    plugins: Registry[type[Animal]],
) -> None:
    dog = plugins.get("dog")
    assert dog.__module__ == "acme_zoo.dogs"
    assert issubclass(dog, Animal)
    assert plugins.get("dog") is dog
    assert loaded() == {"acme_zoo", "acme_zoo.dogs"}


def test_a_built_in_wins_over_a_plug_in_of_its_name(plugins: Registry[type[Animal]]) -> None:
    assert plugins.get("cat").__name__ == "Cat"
    assert loaded() == set()


@pytest.mark.parametrize(
    ("name", "message", "cause"),
    [
        (
            "broken",
            "animal 'broken': cannot use acme_zoo.broken:Broken (acme-zoo): "
            "No module named 'a_missing_dependency'",
            ModuleNotFoundError,
        ),
        (
            "rude",
            "animal 'rude': cannot use acme_zoo.rude:Rude (acme-zoo): 'no reason given'",
            KeyError,
        ),
        (
            "nobody",
            "animal 'nobody': cannot use acme_zoo.dogs:Nobody (acme-zoo): "
            "module 'acme_zoo.dogs' has no attribute 'Nobody'",
            AttributeError,
        ),
        (
            "stone",
            "animal 'stone': cannot use acme_zoo.dogs:Stone (acme-zoo): "
            "<class 'acme_zoo.dogs.Stone'> does not subclass Animal",
            TypeError,
        ),
    ],
)
def test_a_broken_plug_in_spoils_only_its_own_name(
    plugins: Registry[type[Animal]], name: str, message: str, cause: type[Exception]
) -> None:
    for _ in range(2):  # the second time too: nothing half loaded is left behind
        with pytest.raises(PluginError) as error:
            plugins.get(name)
        assert str(error.value) == message
        assert type(error.value.__cause__) is cause
    assert plugins.get("dog").__name__ == "Dog"
    assert plugins.get("cat").__name__ == "Cat"


def test_plug_ins_are_suggested(plugins: Registry[type[Animal]]) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'dog'\?"):
        plugins.get("dogg")


def test_suggestions_are_at_most_three() -> None:
    assert suggestion("aaa", ["aaab", "aaac", "aaad", "aaae"]).count(" or ") == 2
    assert suggestion("", ["cat"]) == ""
