"""The map of the repository holds: installers and file readers see the same packages."""

import os
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUPTOOLS["package-dir"]
DATA: dict[str, list[str]] = SETUPTOOLS["package-data"]


def folder_of(package: str) -> Path:
    return ROOT / FOLDERS.get(package, package.replace(".", "/"))


@pytest.mark.parametrize(("package", "folder"), FOLDERS.items())
def test_link_leads_to_the_mapped_folder(package: str, folder: str) -> None:
    link = ROOT.joinpath(*package.split("."))
    assert link.is_symlink()
    # A link with an absolute path works only where it was made.
    assert os.readlink(link) == f"../{folder}"
    assert link.resolve() == ROOT / folder


def test_every_link_is_mapped() -> None:
    links = {
        f"robustcode.{path.name}" for path in (ROOT / "robustcode").iterdir() if path.is_symlink()
    }
    assert links == set(FOLDERS)


def test_every_package_on_disk_is_shipped() -> None:
    on_disk = {
        Path(where).relative_to(ROOT).as_posix().replace("/", ".")
        for where, _, files in os.walk(ROOT / "robustcode", followlinks=True)
        if "__init__.py" in files
    }
    assert on_disk == set(SETUPTOOLS["packages"])


def test_every_folder_of_modules_is_a_package() -> None:
    loose = {
        where
        for where, _, files in os.walk(ROOT / "robustcode", followlinks=True)
        if any(file.endswith(".py") for file in files) and "__init__.py" not in files
    }
    assert loose == set()


def test_every_data_file_on_disk_is_shipped() -> None:
    shipped = {
        file
        for package, patterns in DATA.items()
        for pattern in patterns
        for file in folder_of(package).glob(pattern)
    }
    on_disk = {
        Path(where, file)
        for package in SETUPTOOLS["packages"]
        for where, folders, files in os.walk(folder_of(package))
        if not Path(where).name.startswith("__")
        for file in files
        if not file.endswith((".py", ".pyc"))
    }
    assert on_disk == shipped


def test_the_root_is_not_importable_as_attacks_or_reports() -> None:
    """A user's own attacks.py would hide ours: only robustcode.attacks may be written."""
    for file in [*ROOT.glob("tests/*.py"), *ROOT.glob("benchmarks/*.py")]:
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and len(words) > 1:
                assert words[1].split(".")[0] not in FOLDERS.values(), f"{file.name}: {line}"


def test_each_module_is_named_for_its_idea() -> None:
    vague = {"utils", "helpers", "common", "misc", "util", "helper"}
    modules = {
        file.stem for package in SETUPTOOLS["packages"] for file in folder_of(package).glob("*.py")
    }
    assert modules & vague == set()


def test_constraints_pin_every_dependency_once() -> None:
    pinned = [
        line.split("==")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert len(pinned) == len(set(pinned))
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {requirement.split(">=")[0].split("[")[0] for requirement in wanted}
    assert names - set(pinned) == set()
