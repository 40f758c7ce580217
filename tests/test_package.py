"""What is built installs and runs without the checkout: the wheel, and the wheel of the sdist."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
LEFT_BEHIND = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "demo", "runs"
)

pytestmark = pytest.mark.long


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """What this interpreter prints; the test fails with its stderr if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = str(path)
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def built(source: Path, out: Path, *kinds: str) -> Path:
    """The one file that ``python -m build`` makes of ``source`` in ``out``."""
    python(
        "-m", "build", "--no-isolation", *kinds, "--outdir", str(out), str(source), cwd=out.parent
    )
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy, links kept as links, so that building leaves nothing in the real one."""
    copy = tmp_path_factory.mktemp("copy") / "robustcode"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_BEHIND)
    return copy


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(checkout, tmp_path_factory.mktemp("sdist") / "out", "--sdist")


@pytest.fixture(scope="module", params=["checkout", "sdist"])
def wheel(
    request: pytest.FixtureRequest,
    checkout: Path,
    sdist: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The wheel of the checkout, and the one made where only the sdist is."""
    source = checkout
    if request.param == "sdist":
        with tarfile.open(sdist) as archive:
            where = tmp_path_factory.mktemp("unpacked")
            archive.extractall(where, filter="data")
        (source,) = where.iterdir()
    return built(source, tmp_path_factory.mktemp("wheel") / "out", "--wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    python("-m", "pip", "install", *quiet, "--target", str(target), str(wheel), cwd=target)
    return target


def in_checkout() -> set[str]:
    """Each module and data file of the package, by its name in a wheel."""
    wanted = set()
    for package in SETUPTOOLS["packages"]:
        folder = ROOT / SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))
        patterns = ["*.py", *SETUPTOOLS["package-data"].get(package, [])]
        files = [file for pattern in patterns for file in folder.glob(pattern)]
        prefix = package.replace(".", "/")
        wanted |= {f"{prefix}/{file.relative_to(folder).as_posix()}" for file in files}
    return wanted


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if not name.startswith("robustcode-")}
    assert package == in_checkout()
    assert {"robustcode/py.typed", "robustcode/attacks/base.py"} <= package


def test_the_sdist_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= names
    assert {"attacks/base.py", "robustcode/errors.py"} <= names
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {"attacks", "defenses", "reports", "robustcode", "robustcode.egg-info"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    assert "Name: robustcode" in lines
    assert "License-Expression: Apache-2.0" in lines
    assert f"Requires-Python: {PYPROJECT['project']['requires-python']}" in lines
    assert metadata.replace("METADATA", "licenses/LICENSE") in archive.namelist()


def test_it_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = (
        "import robustcode.attacks, robustcode.defenses, robustcode.reports as r; "
        "print(robustcode.__file__); print(robustcode.attacks.__file__); print(r.__file__); "
        "print('pgd' in robustcode.attacks.ATTACKS, 'identity' in robustcode.defenses.DEFENSES)"
    )
    *files, known = python("-c", code, cwd=tmp_path, path=installed).splitlines()
    # This interpreter also has the checkout installed: what ran must be the wheel's.
    assert [Path(file).is_relative_to(installed) for file in files] == [True] * 3
    assert known == "True True"


def test_the_shipped_weights_attack_and_report(installed: Path, tmp_path: Path) -> None:
    """The package's own data file, model and templates, from a checkpoint in to a report out."""
    chosen = ("--model", "digits_cnn:adversarial", "--data", "digits", "--samples", "8")
    attacks = ("--threat", "linf:0.1", "--attack", "fgsm", "--out", "run")
    python("-m", "robustcode", "attack", *chosen, *attacks, cwd=tmp_path, path=installed)
    python("-m", "robustcode", "report", "run", "--out", "report", cwd=tmp_path, path=installed)
    assert (tmp_path / "run" / "summary.json").is_file()
    assert {file.suffix for file in (tmp_path / "report").glob("report.*")} == {
        *(".html", ".md", ".tex", ".csv", ".json")
    }
