"""A report as one page of HTML that needs nothing else: no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from robustcode.reports.drawing import INKS, Drawing, Theme
from robustcode.reports.escape import plain
from robustcode.reports.formats.smaller_svg import slim
from robustcode.reports.page import Page
from robustcode.reports.sections.checks import SIGNS
from robustcode.summary import tally

# Runs whose sections stand on the page one after another: an attack and what goes with it.
UNFOLDED = 2
# A number with its unit or its interval stands on one line.
# Its length is bounded: a text from outside may be a million digits or letters long.
_NUMBER = r"[-+<>]?\d[\d,]{0,12}(?:\.\d{1,12})?(?:e[-+]?\d{1,3})?"
TOGETHER = re.compile(
    rf"\(\d+ % interval {_NUMBER} to {_NUMBER}(?: %)?\)[.,;:]*"
    rf"|{_NUMBER} \({_NUMBER} to {_NUMBER}\)|{_NUMBER} to {_NUMBER}(?: %)?[.,;:)]*"
    rf"|(?:± )?{_NUMBER} ?(?:%|points)[.,;:)]*|\b\w{{1,20}}, %"
)
TEMPLATES = Path(__file__).parents[1] / "templates"
# Below this width, in inches, figures stand side by side.
WIDE = 5.0
PIXELS = 96  # an inch of a page


class Picture(NamedTuple):
    """A figure as a page shows it, in both themes; width and height in pixels."""

    light: str
    dark: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether it stands alone in its line."""
        return self.width >= WIDE * PIXELS


class Script(NamedTuple):
    """A script that the page may run, and by what a browser knows it."""

    text: Markup
    sha256: str


class Preformatted:
    """A text that keeps its lines, as an HTML element that nothing inside closes early.

    Marks that are not shown are written as TOML escapes, so that a spec still says the same.
    """

    def __init__(self, text: str) -> None:
        lines = ("".join(map(_visible, line)) for line in text.splitlines())
        self.text = "<pre>\n" + html.escape("\n".join(lines), quote=False) + "\n</pre>"

    def __html__(self) -> str:  # what Jinja2 asks a value for before it escapes it
        return self.text


def page_html(page: Page, figures: Mapping[str, Mapping[str, bytes]]) -> str:
    """The page; ``figures`` are the files of each figure by its stem, see drawing.drawn.

    It runs the scripts of templates/ and, by its security policy, nothing else. Without them it
    says the same, but for what there is to say of each sample.
    """
    explored = ["explorer"] if page.explorer is not None else []
    pictured = ["gallery"] if any(part.gallery for part in page.parts) else []
    styles = ("style", *pictured, *explored)
    grave = [finding.severity for finding in page.unanswered]
    template = _environment().get_template("report.html")
    return template.render(
        page=page,
        several=len(page.origins) > 1,
        contents=_contents(page),
        folded=_folded(page),
        counts=tally(grave),
        worst=grave[0] if grave else "",
        signs=SIGNS,
        pictures={one.stem: _picture(one, figures[one.stem]["svg"]) for one in page.drawings},
        preformatted=Preformatted,
        style=Markup("".join(_text(f"{name}.css") for name in styles)),
        scripts=[_script(f"{name}.js") for name in ("page", *explored)],
    )


def _contents(page: Page) -> list[tuple[str, str]]:
    """The sections of a page: the anchor and the heading of each, in their order."""
    sections = [
        ("findings", "Findings", True),
        ("glance", "At a glance", page.charts),
        ("numbers", "Numbers", page.grids),
        *_sections(page),
        ("samples", "Samples", page.explorer is not None),
        ("checks", "Checks of the evaluation", page.checkups),
        ("repeat", "To repeat it", page.origins),
        ("methods", "Methods that were run", page.references),
    ]
    return [(anchor, title) for anchor, title, there in sections if there]


def _sections(page: Page) -> list[tuple[str, str, bool]]:
    """Of one run its sections, of several only the runs."""
    if not _folded(page):
        return [(part.key, part.title, True) for part in page.parts]
    return [
        (f"run-{parts[0].key}" if run else parts[0].key, run or parts[0].title, True)
        for run, parts in page.groups
    ]


def _folded(page: Page) -> bool:
    """Whether the sections are of so many runs that each has a fold of its own."""
    return sum(bool(run) for run, _ in page.groups) > UNFOLDED


def _picture(drawing: Drawing, svg: bytes) -> Picture:
    width, height = (round(PIXELS * inches) for inches in drawing.size)
    light = slim(svg)
    return Picture(_data(light), _data(darkened(light)), width, height)


def darkened(svg: bytes) -> bytes:
    """A figure that is drawn in light ink, in dark ink: to draw it again would take as long again.

    What has no colour of its own is black, and text, where matplotlib has drawn it.
    """
    light, dark = INKS[Theme.LIGHT], INKS[Theme.DARK]
    inks = [(old, dark.colour(kind)) for kind, old in light.kinds]
    inks += [(getattr(light, name), getattr(dark, name)) for name in ("muted", "grid", "other")]
    inks += [(light.paper, dark.paper), (light.text, dark.text), ("#000000", dark.text)]
    new = {old.encode(): instead.encode() for old, instead in inks}
    recoloured = re.sub(rb"#[0-9a-f]{6}", lambda found: new.get(found[0], found[0]), svg)
    return recoloured.replace(b"<svg", b'<svg fill="%b"' % dark.text.encode(), 1)


def _data(svg: bytes) -> str:
    # As an image and not as elements of the page: what is in an image cannot run.
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _script(name: str) -> Script:
    text = _text(name)
    digest = hashlib.sha256(text.encode()).digest()
    return Script(Markup(text), base64.b64encode(digest).decode())


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_finished,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "unbroken": _unbroken}
    return environment


def _finished(value: object) -> object:
    return value if isinstance(value, Preformatted | Markup) else plain(str(value))


def _visible(mark: str) -> str:
    if mark == "\t" or plain(mark) == mark:
        return mark
    code = ord(mark)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _unbroken(value: str) -> Markup:
    """A sentence whose numbers are not torn from what they are of."""
    text = plain(str(value))
    shown, end = [], 0
    for found in TOGETHER.finditer(text):
        together = Markup('<span class="together">{}</span>').format(found[0])
        shown += [escape(text[end : found.start()]), together]
        end = found.end()
    return Markup("").join([*shown, escape(text[end:])])


def _breakable(value: str) -> Markup:
    """A cell whose long names break after a comma or colon, and not inside a word."""
    parts = re.split(r"(?<=[,:])(?=[^\s\d])", plain(str(value)))  # not within 1,000
    return Markup("<wbr>").join(parts)
