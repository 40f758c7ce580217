"""The page of a report as a browser is given it: what it may run, show, and fetch."""

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from robustcode.reports.drawing import INKS, Ink, Theme, drawn, shown
from robustcode.reports.formats.smaller_svg import slim
from robustcode.reports.formats.web import TEMPLATES, darkened, page_html
from robustcode.reports.grids import Grid
from robustcode.reports.page import Page
from robustcode.reports.parts import Part
from robustcode.reports.sections.checks import Checkup, Line, Shelf
from robustcode.reports.sections.findings import Weakness
from robustcode.reports.sections.origins import Origin

HOSTILE = (
    "\"><script>alert(1)</script></pre></style>' onload=alert(2) & {{ 7 * 7 }} url(http://x.y)"
)
TOLD = ("run", "code", "what", "remedy", "figures", "samples", "explained")
VOID = {"meta", "img", "wbr", "br", "source", "input", "hr", "link"}
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Sketch:
    """A drawing with a line, a hatched bar and a text of each kind of ink."""

    stem: str
    size: tuple[float, float] = (6.8, 2.0)
    title: str = "A sketch"
    note: str = "What is under it."
    said: str = "clean 90.0 %; worst case 40.0 %"

    def draw(self, figure: Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for place, (kind, colour) in enumerate(ink.kinds):
            axes.plot([0, place, 2], [place, 3 * place, 1], color=colour, lw=1.6, marker="o")
            axes.text(place, 1, kind, color=ink.paper)
        axes.bar([1], [2], 0.5, color=ink.other, hatch="//", edgecolor=ink.paper)
        axes.axhline(2, color=ink.muted)
        axes.grid(color=ink.grid)
        axes.set_xlabel("samples, %", color=ink.text)
        axes.set_title("in the colour that is given")


@dataclass
class Element:
    """An element of a page; its content in the order in which it stands."""

    tag: str
    attributes: dict[str, str]
    content: list["Element | str"] = field(default_factory=list)

    @property
    def children(self) -> list["Element"]:
        """The elements directly in it."""
        return [part for part in self.content if isinstance(part, Element)]

    def every(self, *tags: str) -> Iterator["Element"]:
        """The elements in it, in their order, of these tags or of all."""
        for child in self.children:
            if not tags or child.tag in tags:
                yield child
            yield from child.every(*tags)

    @property
    def said(self) -> str:
        """All text in it."""
        return "".join(part if isinstance(part, str) else part.said for part in self.content)

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]


class Tree(HTMLParser):
    """A page as elements; an end without its beginning, or none at all, is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(page)
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def weakness(severity: str, **told: Any) -> Weakness:
    return replace(Weakness("a run", "a-code", severity, "It is.", "Do.", "n=3", "1, 2"), **told)


def grid(caption: str, widths: Sequence[str] = ("text", "long", "number")) -> Grid:
    rows = [tuple(f"{column} {row}" for column in widths) for row in range(4)]
    return Grid(caption, tuple(map(str.upper, widths)), tuple(widths), tuple(rows), ("A note.",))


def checkup(run: str, place: int) -> Checkup:
    lines = tuple(Line(f"code-{s}", "search", s, "seen") for s in ("failure", "passed"))
    shelves = (Shelf("search", lines), Shelf("gradients", lines[1:]))
    grids = (grid(f"Checks of {run}", ("word", "phrase")),)
    repairs = (grid(f"Repairs of {run}", ("phrase", "number")),)
    plots: Any = (Sketch(f"pilot{place}", (3.4, 2.3)), Sketch(f"pilotb{place}", (3.4, 2.3)))
    return Checkup(run, "1 failure, 2 passed", shelves, grids, repairs, "robustcode x", plots)


def page_of(several: bool, **changed: Any) -> Page:
    runs = ["a run", "another run"] if several else ["a run"]
    page = Page(
        title="How robust is it?",
        said=("It keeps 40.0 %.",),
        findings=(weakness("failure"), weakness("warning", code="b"), weakness("odd", run="c")),
        grids=(grid("Accuracy"), grid("Draws", ("number", "number"))),
        charts=(Sketch("bracket"), Sketch("accuracy")),
        origins=tuple(Origin(run, (("seed", "3"),), 'model = "x"\n') for run in runs),
        references=("pgd: Madry et al. 2018",),
        rows=(),
        checkups=tuple(checkup(run, place) for place, run in enumerate(runs, 1)),
        parts=(
            Part("eps-1", "Over eps", (grid("Over eps"),), (Sketch("eps1"),), ("At the end.",)),
            Part("class-1", "By class", (grid("By class"),)),
        ),
        bibtex="@article{madry,\n  year = {2018},\n}\n",
    )
    return replace(page, **changed)


@cache
def drawn_in(size: tuple[float, float]) -> dict[str, bytes]:
    return drawn(Sketch("any", size))


def html_of(page: Page) -> str:
    return page_html(page, {one.stem: drawn_in(one.size) for one in page.drawings})


@pytest.fixture(scope="module", params=[False, True], ids=["one run", "several"])
def text(request: pytest.FixtureRequest) -> str:
    return html_of(page_of(request.param))


@pytest.fixture(scope="module")
def tree(text: str) -> Element:
    return Tree(text).root


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_else(tree: Element) -> None:
    scripts = [script for script in tree.every("script") if "type" not in script.attributes]
    assert [script.said for script in scripts] == [(TEMPLATES / "page.js").read_text()]
    hashes = [
        base64.b64encode(hashlib.sha256(script.said.encode()).digest()).decode()
        for script in scripts
    ]
    (policy,) = [
        meta["content"]
        for meta in tree.every("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("script-src").split() == [f"'sha256-{digest}'" for digest in hashes]
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_nothing_is_fetched_from_elsewhere(text: str, tree: Element) -> None:
    for element in tree.every():
        assert element.tag not in ("link", "base", "iframe", "object", "embed", "video", "audio")
        for name, value in element.attributes.items():
            assert not name.startswith("on"), (element.tag, name)
            if name in ("src", "srcset", "href", "action", "poster", "data", "formaction"):
                assert value.startswith(("data:image/", "#")), value[:60]
    for style in (element.said for element in tree.every("style")):
        assert not re.search(r"url\(|@import|expression|image-set", style)
    for script in (path.read_text() for path in TEMPLATES.glob("*.js")):
        assert not re.search(r"\beval\b|Function\(|innerHTML|outerHTML|insertAdjacent", script)
        assert not re.search(r"document\.write|fetch\(|XMLHttp|WebSocket|import\(|https?:", script)
        assert "</" not in script
        assert "<!--" not in script
    # Names of namespaces are not addresses.
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == set()


def test_every_figure_is_there_in_both_themes_with_its_numbers_in_words(tree: Element) -> None:
    figures = list(tree.every("figure"))
    assert len(figures) >= 5
    for figure in figures:
        light, dark = figure.every("img")
        assert [light["class"], dark["class"]] == ["light", "dark"]
        for image in (light, dark):
            assert image["alt"] == "A sketch: clean 90.0 %; worst case 40.0 %"
            svg = ET.fromstring(decoded(image))
            width, height = (float(part) for part in svg.attrib["viewBox"].split()[2:])
            shape = int(image["width"]) / int(image["height"])
            assert shape == pytest.approx(width / height, rel=0.01)
        assert decoded(light) != decoded(dark)
    wide = [figure["class"] for figure in figures]
    assert set(wide) == {"wide", "small"}


def decoded(image: Element) -> bytes:
    head, _, data = image["src"].partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(data, validate=True)


def test_headings_go_down_by_one_level_at_most(tree: Element) -> None:
    levels = [int(heading.tag[1]) for heading in tree.every("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1
    assert all(heading.said.strip() for heading in tree.every("h1", "h2", "h3", "h4"))


def test_ids_are_unique_and_what_refers_to_one_finds_it(tree: Element) -> None:
    ids = Counter(element["id"] for element in tree.every() if "id" in element.attributes)
    assert set(ids.values()) == {1}
    for element in tree.every():
        link = element.attributes.get("href", "#findings")
        named = element.attributes.get("aria-labelledby", "findings").split()
        assert {link.removeprefix("#"), *named} <= set(ids)
    (contents,) = tree.every("nav")
    listed = [link["href"].removeprefix("#") for link in contents.every("a")]
    sections = [section["id"] for section in tree.every("section")]
    assert listed == sections


def test_every_table_says_what_it_is_and_what_its_cells_belong_to(tree: Element) -> None:
    tables = list(tree.every("table"))
    assert len(tables) >= 5
    for table in tables:
        assert next(table.every("caption")).said.strip()
        head, *rows = table.every("tr")
        assert {cell.tag for cell in head.children} == {"th"}
        assert {cell["scope"] for cell in head.children} == {"col"}
        for row in rows:
            assert len(row.children) == len(head.children)
            classes = [cell["class"] for cell in row.children]
            assert classes == [cell["class"] for cell in head.children]
            scopes = [cell.attributes.get("scope") for cell in row.children]
            assert scopes == ["row", *[None] * (len(classes) - 1)]
            assert [cell.tag for cell in row.children] == ["th" if s else "td" for s in scopes]


@pytest.mark.parametrize(
    ("sentence", "together"),
    [
        (
            "It keeps 39.1 % (95 % interval 32.0 to 46.5 %), not 39.",
            ["39.1 %", "(95 % interval 32.0 to 46.5 %),"],
        ),
        ("-42.6 (-52.2 to -32.2) of 1,960", ["-42.6 (-52.2 to -32.2)"]),
        ("by one draw ± 2.7%, 62.5 to 75.0 %.", ["± 2.7%,", "62.5 to 75.0 %."]),
        ("accuracy, %", ["accuracy, %"]),
        ("<b> & 5 of 9 samples to be", []),
    ],
)
def test_a_number_is_not_torn_from_its_unit_nor_from_its_interval(
    sentence: str, together: list[str]
) -> None:
    page = Tree(html_of(page_of(False, said=(sentence,), parts=(), checkups=()))).root
    (verdict,) = (p for p in page.every("p") if p.attributes.get("class") == "verdict")
    assert verdict.said == sentence
    assert [(span["class"], span.said) for span in verdict.every("span")] == [
        ("together", part) for part in together
    ]


def test_a_note_that_was_said_is_called_by_its_number(tree: Element) -> None:
    notes = [p.said for p in tree.every("p") if p.attributes.get("class") == "note"]
    assert notes.count("Note 1: A note.") == 1
    tables = list(tree.every("table"))
    # Beside these, the checks have notes as well.
    assert notes.count("Note 1 holds here, too.") >= len(tables) - 1
    assert sum("A note." in note for note in notes) == 1


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name(tree: Element) -> None:
    boxes = [element for element in tree.every("div") if "tabindex" in element.attributes]
    assert len(boxes) >= len(list(tree.every("table")))
    for box in boxes:
        assert (box["tabindex"], box["role"]) == ("0", "region")
        assert box["aria-label"]
    inside = {id(table) for box in boxes for table in box.every("table")}
    assert inside == {id(table) for table in tree.every("table")}
    skip = next(tree.every("a"))
    assert skip["class"] == "skip"
    assert skip["href"] == "#verdict"


def test_a_page_is_whole_without_scripts(tree: Element) -> None:
    for element in tree.every():
        assert "hidden" not in element.attributes
        assert "style" not in element.attributes
    assert next(tree.every("html"))["lang"] == "en"
    assert next(tree.every("title")).said == "How robust is it?"
    # Buttons would do nothing.
    assert not list(tree.every("button"))


def test_the_verdict_and_the_findings_come_before_all_else(tree: Element) -> None:
    (body,) = tree.every("main")
    header, findings = body.children[:2]
    assert [child.tag for child in header.children] == ["h1", "p"]
    assert [child.said for child in header.children] == ["How robust is it?", "It keeps 40.0 %."]
    assert findings["class"] == "findings failure"
    assert next(findings.every("h2")).said == "Findings: 1 odd, 1 failure, 1 warning"
    boxes = list(findings.every("div"))
    assert [box["class"] for box in boxes] == ["finding failure", "finding warning", "finding"]
    for box, word in zip(boxes, ("failure", "warning", "odd"), strict=True):
        assert box.children[0].said.split()[1] == f"{word}:"
        assert "Remedy: Do." in box.said


def test_a_page_without_findings_says_so_and_raises_no_alarm() -> None:
    findings = next(Tree(html_of(page_of(False, findings=()))).root.every("section"))
    assert findings["class"] == "findings"
    assert "No check found anything that weakens the evidence." in findings.said
    gone = page_of(False, findings=(weakness("info", answered=True),), checkups=())
    findings = next(Tree(html_of(gone)).root.every("section"))
    assert findings["class"] == "findings"
    assert "1 more, answered" in findings.said


def test_what_takes_nothing_from_the_numbers_is_folded_below_what_does() -> None:
    found = (weakness("failure"), weakness("info", code="mild"))
    findings = next(Tree(html_of(page_of(False, findings=found))).root.every("section"))
    (fold,) = (one for one in findings.every("details") if one["class"] == "mild")
    assert fold.said.strip().startswith("1 that takes nothing from the numbers")
    assert "mild" in fold.said
    shown, folded = findings.every("div")
    assert "failure" in shown["class"]
    assert folded in list(fold.every("div"))


def test_of_several_runs_one_sentence_and_the_doubt_stand_above_the_first_figure() -> None:
    page = page_of(True, said=("The best.", "A bracket.", "Not so sure."), doubt="Not so sure.")
    (body,) = Tree(html_of(page)).root.every("main")
    header, findings, glance, rest = body.children[:4]
    assert [p.said for p in header.every("p")] == ["The best.", "Not so sure."]
    assert [findings["id"], glance["id"]] == ["findings", "glance"]
    assert [p.said for p in rest.every("p")] == ["A bracket."]


def test_a_page_has_no_headings_of_what_it_lacks() -> None:
    bare = page_of(False, grids=(), charts=(), parts=(), checkups=(), references=(), bibtex="")
    headings = [heading.said for heading in Tree(html_of(bare)).root.every("h2")]
    assert headings == ["Findings: 1 odd, 1 failure, 1 warning", "To repeat it"]


def test_hostile_text_stays_text_wherever_it_stands() -> None:
    hostile = Sketch("bracket", title=HOSTILE, note=HOSTILE, said=HOSTILE)
    table = Grid(HOSTILE, (HOSTILE, HOSTILE), ("text", "number"), ((HOSTILE, HOSTILE),), (HOSTILE,))
    page = page_of(
        True,
        title=HOSTILE,
        said=(HOSTILE, HOSTILE),
        findings=(weakness(HOSTILE, **dict.fromkeys(TOLD, HOSTILE)),),
        grids=(table,),
        charts=(hostile,),
        origins=(Origin(HOSTILE, ((HOSTILE, HOSTILE),), HOSTILE),) * 2,
        references=(HOSTILE,),
        parts=(Part("a", HOSTILE, (table,), (), (HOSTILE,)),),
        bibtex=HOSTILE,
    )
    plain = Tree(html_of(page_of(True))).root
    tree = Tree(html_of(page)).root
    known = {"wbr", *(element.tag for element in plain.every())}
    assert {element.tag for element in tree.every()} <= known
    assert {name for element in tree.every() for name in element.attributes} <= {
        name for element in plain.every() for name in element.attributes
    }
    assert [len(list(tree.every(tag))) for tag in ("script", "style", "h1")] == [1, 1, 1]
    assert tree.said.count(HOSTILE) >= 15
    images = [image["alt"] for image in tree.every("img")]
    assert f"{HOSTILE}: {HOSTILE}" in images


def colours(theme: Theme) -> dict[str, str]:
    """The colours of the page in a theme, by their names."""
    style = (TEMPLATES / "style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    if theme is Theme.DARK:
        other = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))
        assert other.keys() == found.keys()
        return other
    return found


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2.2 defines it, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    # The lightest grey that still passes on white, as it is commonly quoted.
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("theme", Theme)
def test_text_can_be_read_in_both_themes(theme: Theme) -> None:
    of = colours(theme)
    panels = ["page", "panel", "failure-panel", "warning-panel", "info-panel"]
    for text in ("text", "soft", "accent"):
        for panel in panels:
            assert contrast(of[text], of[panel]) >= 4.5, (text, panel)
    for severity in ("failure", "warning", "info", "good"):
        for panel in ("page", f"{severity}-panel"):
            if panel in of:
                assert contrast(of[f"{severity}-text"], of[panel]) >= 4.5, (severity, panel)
        # The edge of a box is not text.
        assert contrast(of[severity], of["page"]) >= 3, severity
    ink = INKS[theme]
    assert (of["page"], of["text"]) == (ink.paper, ink.text)
    for kind, colour in ink.kinds:
        assert contrast(colour, ink.paper) >= 3, kind


# Half of a hundredth of a point in each direction; half of a unit of letters is 0.0056.
ROUNDED = 0.0057 * 2**0.5
SKETCHES = [Sketch("wide"), Sketch("small", (3.4, 2.3))]


@pytest.mark.parametrize("sketch", SKETCHES, ids=lambda sketch: sketch.stem)
def test_a_slim_figure_is_the_same_figure_in_fewer_bytes(sketch: Sketch) -> None:
    before = drawn_in(sketch.size)["svg"]
    after = slim(before)
    assert len(after) < 0.65 * len(before)
    assert after == slim(before)
    old, new = (list(places(ET.fromstring(svg))) for svg in (before, after))
    assert [kind for kind, _ in old] == [kind for kind, _ in new]
    for (_, one), (_, other) in zip(old, new, strict=True):
        assert np.allclose(one, other, rtol=0, atol=ROUNDED)
    for pattern in (rb"#[0-9a-f]{6}\b", rb"stroke-width: ?[\d.]+"):
        counts = [
            Counter(found.replace(b" ", b"") for found in re.findall(pattern, svg))
            for svg in (before, after)
        ]
        assert counts[0] == counts[1]
    ids = re.findall(rb' id="(.*?)"', after)
    named = re.findall(rb'href="#(.*?)"|url\(#(.*?)\)', after)
    assert len(ids) == len(set(ids))
    assert {one or other for one, other in named} == set(ids)


def places(svg: ET.Element) -> Iterator[tuple[str, list[complex]]]:
    """The points of each path by its commands, in points; letters at the size of 9 points."""
    # A space has no path.
    for path in svg.iterfind(f".//{SVG}path[@d]"):
        scale = re.fullmatch(r"scale\((.*)\)", path.get("transform", ""))
        # A letter stands in a text that is scaled by 9 hundredths.
        unit = 0.09 * float(scale[1]) if scale else 1.0
        yield walked(path.attrib["d"], unit)


def walked(path: str, unit: float) -> tuple[str, list[complex]]:
    """A path of absolute or relative commands as absolute points."""
    at = start = 0j
    kinds, points = "", []
    for command, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", rest)]
        pairs = [complex(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
        assert len(pairs) == {"M": 1, "L": 1, "Q": 2, "C": 3, "Z": 0}[command.upper()]
        pairs = [pair + at if command.islower() else pair for pair in pairs]
        kinds += command.upper()
        points += [pair * unit for pair in pairs]
        at = pairs[-1] if pairs else start
        start = at if command.upper() == "M" else start
    return kinds, points


@pytest.mark.parametrize(
    "path", ["M 1 2 L 3 4 z", "M 0.004 -0.006 Q -0.5 0.25 3 4 z L 9 9", "M -1.5 1e-05 L 123456 -7"]
)
def test_a_path_of_steps_ends_where_the_path_ended(path: str) -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><path d="{path}"/></svg>'.encode()
    after = ET.fromstring(slim(svg))[0].attrib["d"]
    (kinds, before), (same, points) = walked(path.replace("1e-05", "0"), 1), walked(after, 1)
    assert kinds == same
    assert np.allclose(before, points, rtol=0, atol=ROUNDED)


def test_a_path_that_is_not_understood_stays_as_it_is() -> None:
    path = "M 1 2 A 3 3 0 0 1 4 5 h 3"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><path d="{path}"/></svg>'.encode()
    assert ET.fromstring(slim(svg))[0].attrib["d"] == path


@pytest.mark.parametrize("sketch", SKETCHES, ids=lambda sketch: sketch.stem)
def test_a_darkened_figure_has_the_colours_of_one_that_is_drawn_in_dark_ink(sketch: Sketch) -> None:
    dark = darkened(slim(drawn_in(sketch.size)["svg"]))
    oracle = shown(sketch, Theme.DARK)
    found, expected = (
        set(re.findall(rb"#[0-9a-f]{6}", svg.replace(b"url(#", b""))) for svg in (dark, oracle)
    )
    # The one that is drawn has no background of its own.
    assert found - {INKS[Theme.DARK].paper.encode()} == expected - {INKS[Theme.DARK].paper.encode()}
    light = {colour for _, colour in INKS[Theme.LIGHT].kinds}
    assert not found & {colour.encode() for colour in light}
    # What has no colour is drawn in that of text, and not in black on black.
    assert ET.fromstring(dark).get("fill") == INKS[Theme.DARK].text


def test_inks_that_look_alike_in_light_look_alike_in_dark() -> None:
    light, dark = INKS[Theme.LIGHT], INKS[Theme.DARK]
    assert [kind for kind, _ in light.kinds] == [kind for kind, _ in dark.kinds]
    plain = ("text", "paper", "muted", "grid", "other")
    pairs = {(getattr(light, name), getattr(dark, name)) for name in plain}
    pairs |= {(old, dark.colour(kind)) for kind, old in light.kinds}
    assert len(dict(pairs)) == len(pairs)
