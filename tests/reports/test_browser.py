"""Pages of reports in a real browser, opened from disk with the network off.

They need Chromium, playwright and axe-core; see CONTRIBUTING.md. Without them they are skipped.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import robustcode
from robustcode.reports import report
from robustcode.store import Run, load_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path"),
    # One browser and one set of pages, whatever the number of test processes.
    pytest.mark.xdist_group("browser"),
]
AXE = Path(
    os.environ.get("ROBUSTCODE_AXE") or Path(sys.prefix, "share", "axe-core", "axe.min.js")
)
DESKTOP, PHONE, SMALL = (1280, 900), (390, 844), (320, 640)
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
PAGES = ("one", "several", "random", "doctor")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on 60 digits: attacked, proved, random and examined."""
    folder = tmp_path_factory.mktemp("runs")
    given = {"model": "digits_cnn", "data": "digits", "threat": "linf:0.04"}
    few: dict[str, Any] = {"samples": 60, "progress": False}
    attacks = ["noise", "fgsm", "pgd:steps=5"]
    robustcode.attack(**given, out=folder / "attacked", attacks=attacks, **few)
    robustcode.certify(**given, out=folder / "proved", method="crown", **few)
    noisy = {**given, "defense": "gaussian-noise:sigma=0.2", "threat": "linf:0.1"}
    robustcode.attack(**noisy, out=folder / "random", attacks=attacks[1:], draws=10, **few)
    robustcode.doctor(**given, out=folder / "doctor", attacks=["pgd:steps=1"], **few)
    with (folder / "attacked" / "spec.toml").open("r+") as spec:
        written = spec.read()
        spec.seek(0)
        spec.write(f"title = '{HOSTILE}'\n{written}")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pages(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    shown = {
        "one": [runs["attacked"]],
        "several": [runs["attacked"], runs["random"], runs["proved"]],
        "random": [runs["random"]],
        "doctor": [runs["doctor"]],
    }
    return {name: report(paths, folder / name)["html"] for name, paths in shown.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        # Chromium does not sandbox for root, which is who tests in a container.
        launched = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


class Complaint(AssertionError):
    """What a page said that it should not have said."""


Opener = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opener]:
    """Opens a file as a page; at the end the page must have said and asked for nothing."""
    heard: list[str] = []
    contexts = []

    def open_page(
        path: Path, size: tuple[int, int] = DESKTOP, hash: str = "", **given: Any
    ) -> Any:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **given)
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5_000)
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
        own = path.as_uri()

        def note(request: Any) -> None:
            if not request.url.startswith(("data:", own)):
                heard.append(f"request: {request.url}")

        page.on("request", note)
        page.goto(own + hash)
        return page

    yield open_page
    for context in contexts:
        context.close()
    if heard:
        raise Complaint("; ".join(heard))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_in_silence(name: str, pages: dict[str, Path], opened: Opener) -> None:
    for scheme in ("light", "dark"):
        page = opened(pages[name], color_scheme=scheme)
        page.emulate_media(media="print")
        page.emulate_media(media="screen")
        assert page.locator("h1").inner_text()


def test_the_harness_hears(opened: Opener, tmp_path: Path) -> None:
    """Else silence would prove nothing."""
    loud = tmp_path / "loud.html"
    loud.write_text("<img src='http://127.0.0.1:1/x'><script>console.log('a'); b()</script>")
    heard: list[str] = []
    page = opened(tmp_path / "loud.html")
    del page
    assert heard == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("size", [PHONE, SMALL], ids=["phone", "small"])
def test_nothing_is_wider_than_a_phone(
    name: str, size: tuple[int, int], pages: dict[str, Path], opened: Opener
) -> None:
    page = opened(pages[name], size)
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
