"""One report in all of its formats: each table says the same in each, and CSV and JSON hold it.

What a table shows is held here against CSV; that CSV is right is proved in test_recomputed.py.
"""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

import robustcode
from robustcode import wording
from robustcode.reports import report
from robustcode.reports.compose import compose
from robustcode.store import load_run

# What the fixtures of the module make is made once.
pytestmark = pytest.mark.xdist_group("formats")

PDFLATEX = shutil.which("pdflatex")
needs_latex = pytest.mark.skipif(PDFLATEX is None, reason="there is no pdflatex on the path")

TEXT = ("run", "kind", "name", "settings", "status", "said")
WHOLE = ("samples", "abstained", "unfinished", "forwards", "backwards", "missing")
REAL = (
    *("value", "low", "high", "most", "p_value", "p_holm", "seconds", "at", "nll", "calibration"),
)
MAIN = ("clean", "attack", "worst case", "certified")
# In the caption or a column, so that no per cent stands without how many it is of.
COUNTED = re.compile(r"\bon [\d,]+ samples?\b")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Deterministic, stopped and random attacks, certificates, corruptions; 1,000 samples of it."""
    folder = tmp_path_factory.mktemp("runs")
    usual: dict[str, Any] = {"model": "digits_cnn", "data": "digits", "progress": False}
    few: dict[str, Any] = {**usual, "samples": 16}
    linf: dict[str, Any] = {"threat": "linf:0.06", "attacks": ["fgsm", "pgd:steps=4"]}
    images = torch.rand(1000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    many = images, torch.arange(1000) % 10
    noisy = "gaussian-noise:sigma=0.2"
    robustcode.attack(**few, **linf, out=folder / "plain")
    robustcode.attack(**few, **linf, out=folder / "random", defense=noisy, draws=10)
    less: dict[str, Any] = {**linf, "threat": "linf:0.02", "max_passes": 4}
    robustcode.attack(**few, **less, out=folder / "stopped")
    single: dict[str, Any] = {"threat": "linf:0.01", "attacks": ["fgsm"]}
    robustcode.attack(**{**usual, "data": many}, **single, out=folder / "many")
    robustcode.certify(**few, threat="linf:0.06", method="ibp", out=folder / "proved")
    spoilt: dict[str, Any] = {"corruptions": ["fog", "contrast"], "severities": [1]}
    robustcode.corrupt(**few, **spoilt, out=folder / "corrupted")
    names = ("plain", "random", "stopped", "many", "proved", "corrupted")
    return [folder / name for name in names]


@pytest.fixture(scope="module")
def files(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return report(runs, tmp_path_factory.mktemp("report"))


@dataclass
class Shown:
    """A table as a reader sees it."""

    caption: str = ""
    headers: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def lines(self) -> Iterator[dict[str, str]]:
        """Its rows by header; a header that stands twice has the place of its column added."""
        names = [f"{h} {n}" if self.headers.count(h) > 1 else h for n, h in enumerate(self.headers)]
        for row in self.rows:
            yield dict(zip(names, row, strict=True))


class Tables(HTMLParser):
    """The tables of a page that are there without scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Shown] = []
        self.inside, self.text, self.head = False, "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.inside = "grid" in (dict(attrs).get("class") or "").split()
            self.found += [Shown()] if self.inside else []
        elif tag in ("caption", "td", "th"):
            self.text = ""
        elif tag in ("thead", "tbody"):
            self.head = tag == "thead"
        elif tag == "tr" and self.inside and not self.head:
            self.found[-1].rows.append([])

    def handle_endtag(self, tag: str) -> None:
        if not self.inside:
            return
        if tag == "caption":
            self.found[-1].caption = self.text
        elif tag in ("td", "th"):
            row = self.found[-1].headers if self.head else self.found[-1].rows[-1]
            row.append(self.text)
        self.inside = tag != "table"

    def handle_data(self, data: str) -> None:
        self.text += data


def markdown_tables(text: str) -> list[Shown]:
    """Those of a Markdown file, with what its marks say."""
    found: list[Shown] = []
    pattern = r"^Table (\d+): (.*)\n\n((?:\|.*\n)+)"
    for number, caption, block in re.findall(pattern, text, flags=re.MULTILINE):
        assert int(number) == len(found) + 1
        rows = [
            [read_markdown(cell.strip(" ")) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        found.append(Shown(read_markdown(caption), rows[0], rows[2:]))
    return found


def read_markdown(text: str) -> str:
    return html.unescape(re.sub(r"\\(.)", r"\1", text))


LATEX = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotedbl": '"',
    "textasciigrave": "`",
    "textquotesingle": "'",
    "allowbreak": "",
    "nobreakspace": " ",
}


UNDER = re.compile(r"\\multicolumn\{\d+\}\{@\{\}.*em\}@\{\}\}\{\\hspace\*\{1em\}(.*)\}")


def latex_table(text: str, headers: list[str]) -> Shown:
    """What a table of LaTeX shows, of which some of the ``headers`` stand below the rows."""
    caption = re.search(r"^\\caption\{(.*)\}$", text, flags=re.MULTILINE)
    body = re.search(r"\\toprule\n(.*?)\\midrule\n(.*?)\\bottomrule", text, flags=re.DOTALL)
    assert caption
    assert body
    lines = [line.removesuffix(r" \\") for line in "".join(body.groups()).splitlines() if line]
    rows: list[dict[int, str]] = []
    beside: list[int] = []
    for line in lines:
        if under := UNDER.fullmatch(line):
            told = read_latex(under[1])
            places = [place for place in range(len(headers)) if place not in beside]
            pattern = "".join(
                rf"(?:(?:; )?{re.escape(headers[n])}: (?P<at{n}>.*?))?" for n in places
            )
            found = re.fullmatch(pattern, told)
            assert found, told
            rows[-1] |= {n: found[f"at{n}"] or "" for n in places}
        elif line != r"\addlinespace":
            cells = [read_latex(cell) for cell in re.split(r"(?<!\\) & ", line)]
            if not rows:
                at = iter(range(len(headers)))
                beside = [next(n for n in at if headers[n] == cell) for cell in cells]
            rows.append(dict(zip(beside, cells, strict=True)))
    return Shown(
        read_latex(caption[1]),
        headers,
        [[row.get(place, "") for place in range(len(headers))] for row in rows[1:]],
    )


def read_latex(text: str) -> str:
    text = text.replace("{[}", "[").replace("{*}", "*")
    text = re.sub(r"\\([a-z]+)\{\}", lambda mark: LATEX.get(mark[1], ""), text.replace("-{}", "-"))
    text = re.sub(r"\[U\+([0-9A-F]{4,6})\]", lambda mark: chr(int(mark[1], 16)), text)
    return re.sub(r"\\([^a-z])", r"\1", text)


def tables_of(files: Mapping[str, Path]) -> list[Shown]:
    return markdown_tables(files["md"].read_text())


def test_every_table_has_the_same_cells_in_every_format(files: dict[str, Path]) -> None:
    told, names = tables_of(files), names_of(files)
    assert len(told) == len(names) > 15
    assert sorted(name for name in files if name.startswith("table-")) == sorted(
        f"table-{name}.tex" for name in names
    )
    document, page = files["tex"].read_text(), files["html"].read_text()
    found = iter(Tables(page).found)
    for number, (name, table) in enumerate(zip(names, told, strict=True), 1):
        text = files[f"table-{name}.tex"].read_text()
        assert latex_table(text, table.headers) == table
        assert rf"\label{{tab:robustcode-{name}}}" in text
        # The whole document holds the same, but for notes that it has said before.
        body = text[text.index(r"\begin{table") : text.index(r"\par\smallskip\raggedright")]
        assert body in document
        numbered = replace(table, caption=f"Table {number}: {table.caption}")
        # A page tells of the checks in another form than as a table, under the same number.
        if table.caption.startswith("Checks of the evaluation"):
            assert f'id="table-{name}">{html.escape(numbered.caption)}</p>' in page
        else:
            assert f'id="table-{name}" role="region"' in page
            assert next(found) == numbered
    assert next(found, None) is None


def names_of(files: Mapping[str, Path]) -> list[str]:
    """The names of the tables in their order, which their numbers and captions agree with."""
    listed = json.loads(files["json"].read_text())["tables"]
    assert [table["number"] for table in listed] == list(range(1, len(listed) + 1))
    assert [table["caption"] for table in listed] == [t.caption for t in tables_of(files)]
    return [table["name"] for table in listed]


def test_tables_and_figures_keep_their_names_when_runs_are_added_after_them(
    runs: list[Path],
) -> None:
    read = [load_run(run) for run in runs]
    before: dict[tuple[Any, ...], str] = {}
    figures: set[tuple[str, str]] = set()
    for count in (1, 2, len(read)):
        page = compose(read[:count])
        # What is in a table is the same wherever it stands: its labels may not be.
        now = {(grid.headers, grid.rows): page.name_of(grid) for grid in page.tables}
        kept = before.keys() & now.keys()
        assert len(kept) >= (3 if before else 0)
        assert [before[table] for table in kept] == [now[table] for table in kept]
        names = list(map(page.name_of, page.tables))
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|certified", name) for name in names)
        before |= now
        stems = [drawing.stem for drawing in page.drawings]
        assert len(set(stems)) == len(stems)
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|brackets", stem) for stem in stems)
        shown = {(d.stem, d.said) for d in page.drawings if d.stem.startswith("passes-")}
        assert figures <= shown
        figures = shown


def test_a_note_is_said_once_on_a_page_and_with_every_table_that_stands_alone(
    files: dict[str, Path], runs: list[Path]
) -> None:
    page = compose([load_run(run) for run in runs])
    texts = {form: files[form].read_text() for form in ("md", "tex", "html")}
    read = {
        "md": read_markdown(texts["md"]),
        "tex": read_latex(texts["tex"]),
        "html": Text(texts["html"]).text,
    }
    again = 0
    for grid in page.tables:
        alone = read_latex(files[f"table-{page.name_of(grid)}.tex"].read_text())
        for note in grid.notes:
            assert note in alone
            assert [form for form, text in read.items() if text.count(note) != 1] == []
        held = page.notes_of(grid)
        assert len(held.said) + len(held.again) == len(grid.notes)
        again += len(held.again)
    assert again > 10


class Text(HTMLParser):
    """What a reader sees of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.text += "" if self.cdata_elem else data


def test_csv_reads_back_in_the_types_of_its_columns_and_is_what_json_holds(
    files: dict[str, Path],
) -> None:
    assert sorted([*TEXT, *WHOLE, *REAL]) == sorted(
        files["csv"].read_text().split("\n")[0].split(",")
    )
    # Without being told more than that only an empty cell is missing.
    plain = pd.read_csv(files["csv"], keep_default_na=False, na_values=[""])
    assert all(pd.api.types.is_numeric_dtype(plain[name]) for name in (*WHOLE, *REAL))
    assert all(pd.api.types.is_string_dtype(plain[name].dropna()) for name in TEXT)
    types: dict[str, Any] = {**dict.fromkeys(TEXT, str), **dict.fromkeys(WHOLE, "Int64")}
    typed = pd.read_csv(
        files["csv"],
        dtype=types,
        keep_default_na=False,
        na_values={name: [""] for name in (*WHOLE, *REAL)},
    )
    rows = json.loads(files["json"].read_text())["rows"]
    assert len(typed) == len(rows) > 400
    for name in typed.columns:
        held = [row[name] for row in rows]
        found = [None if pd.isna(value) else value for value in typed[name]]
        assert found == held, name
        kinds = {type(value) for value in held if value is not None}
        assert kinds <= ({str} if name in TEXT else {int} if name in WHOLE else {int, float})


# What a cell must show of a number in CSV.


def percent(value: float, samples: int) -> str:
    told = format(100 * value, ".2f" if samples >= 1000 else ".1f")
    # Nothing but 0 and 1 is told as 0 or 100 per cent: the first digits that differ are shown.
    near = [end for end in (0.0, 1.0) if float(told) == 100 * end and abs(value - end) > 1e-11]
    if near:
        places = -math.floor(math.log10(100 * abs(value - near[0])))
        told = next(
            t for n in (places - 1, places) if float(t := f"{100 * value:.{n}f}") != 100 * near[0]
        )
    return "0.0" if told == "-0.0" else told


def interval(row: Mapping[str, Any]) -> str:
    if pd.isna(row["low"]):
        return ""
    return f"{percent(row['low'], row['samples'])} to {percent(row['high'], row['samples'])}"


def value(row: Mapping[str, Any]) -> str:
    told = percent(row["value"], row["samples"])
    most = row["most"]
    return told if pd.isna(most) else f"{told} to {percent(most, row['samples'])}"


def both(row: Mapping[str, Any]) -> str:
    return f"{value(row)} ({interval(row)})"


def whole(number: float) -> str:
    return "" if pd.isna(number) else f"{number:,.0f}"


@pytest.mark.parametrize("samples", [3, 999, 1000, 12_345])
def test_nothing_but_none_and_all_is_told_as_0_and_100(samples: int) -> None:
    for right in (0, 1, samples // 2, samples - 1, samples):
        found = binomtest(right, samples)
        limits = found.proportion_ci(0.95, "exact")
        for share in (right / samples, limits.low, limits.high):
            for sign in (1, -1):
                told = wording.percent(sign * share, samples)
                assert told == (
                    percent(share, samples) if sign > 0 or not share else f"-{told[1:]}"
                )
                assert (float(told) in (0, 100, -100)) == (share in (0, 1))
                assert float(told) == pytest.approx(100 * sign * share, abs=0.0501)


class Rows:
    """The rows of a report's CSV, to be asked for one."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.table = pd.read_csv(
            files["csv"], keep_default_na=False, na_values={name: [""] for name in (*WHOLE, *REAL)}
        )

    def one(self, **wanted: Any) -> Any:
        found = self.table
        for column, text in wanted.items():
            among = list(text) if isinstance(text, tuple) else [text]
            found = found[found[column].isin(among)]
        assert len(found) == 1, wanted
        return found.iloc[0]


def named(tables: Sequence[Shown], beginning: str) -> list[Shown]:
    found = [table for table in tables if table.caption.startswith(beginning)]
    assert found, beginning
    return found


def test_the_main_tables_show_the_numbers_of_csv(files: dict[str, Path]) -> None:
    tables, rows = tables_of(files), Rows(files)
    shown = 0
    for table in named(tables, "Accuracy of "):
        assert table.headers[:4] == ["what", "n", "accuracy, %", "95 % interval, %"]
        run = table.caption.removeprefix("Accuracy of ").rpartition(" on ")[0]
        for line in table.lines():
            row = rows.one(run=run, kind=MAIN, name=line["what"])
            assert line["n"] == whole(row.samples)
            assert line["accuracy, %"] == value(row)
            assert line["95 % interval, %"] == interval(row)
            assert line["settings"] == row.settings
            assert line["seconds"] == ("" if pd.isna(row.seconds) else f"{row.seconds:,.1f}")
            for name in ("abstained", "unfinished", "forwards", "backwards"):
                assert line.get(name, "") in ("", whole(row[name]))
            shown += 1
    # What was corrupted stands in its own section.
    spoilt = rows.table.run.str.contains("under corruptions")
    mine = rows.table[rows.table.kind.isin(MAIN) & ~spoilt]
    assert shown == len(mine)
    # All of these: two decimals, two ends of what is unfinished, and one alone.
    assert set(mine.samples) == {16, 1000}
    assert mine.most.notna().any()


def test_the_comparison_shows_the_numbers_of_csv(files: dict[str, Path]) -> None:
    tables, rows = tables_of(files), Rows(files)
    for table in named(tables, "Leaderboard"):
        for line in table.lines():
            for kind in ("clean", "worst case", "certified"):
                if line.get(f"{kind}, %"):
                    row = rows.one(run=line["run"], kind=f"compared {kind}")
                    assert line[f"{kind}, %"] == both(row)
            ranked = rows.one(run=line["run"], kind="rank")
            assert line["rank"] == f"{ranked['at']:.0f}"
    for table in named(tables, "Differences"):
        for line in table.lines():
            name = f"worst case over all attacks, less that of {line['less that of']}"
            row = rows.one(run=line["run"], kind="difference", name=name)
            assert line["difference, points"] == both(row)
            assert line["p"] == f"{row.p_value:.3g}"
            assert line["p, adjusted"] == f"{row.p_holm:.3g}"
            assert line["resolved"] == ("yes" if row.p_holm <= 0.05 else "unresolved")


def test_brackets_classes_and_corruptions_show_the_numbers_of_csv(files: dict[str, Path]) -> None:
    tables, rows = tables_of(files), Rows(files)
    for table in named(tables, "Bracket of "):
        run = table.caption.removeprefix("Bracket of ").rpartition(" in ")[0]
        for line in table.lines():
            row = rows.one(run=run, kind="bracket", name=line["what"])
            assert (line["n"], line["samples, %"]) == (whole(row.samples), value(row))
            assert line["95 % interval, %"] == interval(row)
    for table in named(tables, "Accuracy by class of "):
        run = table.caption.removeprefix("Accuracy by class of ")
        for row_of in table.rows:
            places = [n for n, name in enumerate(table.headers) if name.startswith("95 %")]
            for place in places:
                name = f"{table.headers[place - 1].removesuffix(', %')} of class {row_of[0]}"
                row = rows.one(run=run, kind="class", name=name)
                assert row_of[place - 1 : place + 1] == [value(row), interval(row)]
    for table in named(tables, "Error under corruptions"):
        for line in table.lines():
            name = {
                "clean": "clean",
                "mean": f"mean of {line['group']} corruptions",
            }.get(line["corruption"], f"mean of {line['corruption']}")
            row = rows.one(kind="corruption", name=name)
            assert line["mean"] == percent(1 - row.value, row.samples)
            high, low = (percent(1 - end, row.samples) for end in (row.low, row.high))
            assert line["95 % interval, %"] == f"{low} to {high}"


def test_the_costs_are_those_of_the_folders(files: dict[str, Path], runs: list[Path]) -> None:
    costs = []
    for run in runs[:4]:  # those of attacks
        shards = json.loads((run / "manifest.json").read_text())["shards"]["files"].values()
        checks = json.loads((run / "diagnosis.json").read_text())
        lines = [
            json.loads(line)
            for file in (run / "records").glob("*.jsonl")
            for line in file.read_text().splitlines()
        ]
        seconds = round(sum(shard["cost"]["seconds"] for shard in shards), 3)
        judged = sum(shard["cost"].get("judge_forwards", 0) for shard in shards)
        costs.append(
            (
                whole(sum(line["forwards"] for line in lines) + judged + checks["forwards"]),
                whole(sum(line["backwards"] for line in lines) + checks["backwards"]),
                f"{round(seconds + checks['seconds'], 3):,.1f}",
                f"{max(shard['cost']['peak_memory_mb'] for shard in shards):,.1f}",
            )
        )
    for table in named(tables_of(files), "What the runs cost"):
        for line in table.lines():
            names = ("forwards", "backwards", "seconds", "peak MB")
            assert tuple(line[name] for name in names) in costs


def test_no_table_of_shares_hides_how_many_they_are_of(files: dict[str, Path]) -> None:
    shares = [t for t in tables_of(files) if any("%" in name for name in t.headers)]
    shares += named(tables_of(files), "Differences")
    assert len(shares) > 8
    for table in shares:
        counted = {"n", "samples"} & set(table.headers) or COUNTED.search(table.caption)
        assert counted, table.caption


@needs_latex
def test_the_latex_compiles_and_nothing_sticks_out(files: dict[str, Path], tmp_path: Path) -> None:
    for path in files.values():
        if path.suffix in (".tex", ".pdf"):
            shutil.copy(path, tmp_path / path.name)
    names = names_of(files)
    tables = [f"table-{name}" for name in names]
    inputs = [rf"\input{{{name}}} \clearpage" for name in tables]
    # The packages that each table asks for in its first line, and no other.
    packages = r"\usepackage[T1]{fontenc} \usepackage{array,booktabs,textcomp}"
    assert all(packages in files[f"{name}.tex"].read_text().split("\n")[0] for name in tables)
    references = [rf"\ref{{tab:robustcode-{name}}}" for name in names]
    body = "\n".join([*inputs, *references])
    for form in ("onecolumn", "twocolumn"):
        paper = rf"\documentclass[{form}]{{article}} {packages} \begin{{document}} {body}"
        (tmp_path / f"{form}.tex").write_text(rf"{paper} \end{{document}}")
    for name, times in (("report", 1), ("onecolumn", 2), ("twocolumn", 1)):
        log = compiled(tmp_path, name, times)
        assert not re.search(r"multiply defined|Missing character", log), name
        assert times == 1 or "undefined" not in log
        wide = [float(by) for by in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", log)]
        assert [by for by in wide if by > 1] == [], name


def compiled(folder: Path, name: str, times: int) -> str:
    """The log of the last of so many runs, of which none failed."""
    assert PDFLATEX
    call = [PDFLATEX, "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", name]
    for _ in range(times):
        done = subprocess.run(call, cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    return (folder / f"{name}.log").read_text(errors="replace")


@pytest.mark.parametrize("count", [1, pytest.param(None, marks=pytest.mark.long)])
def test_another_process_makes_the_same_bytes_from_a_copy_elsewhere(
    count: int | None, runs: list[Path], tmp_path: Path
) -> None:
    runs = runs[:count]
    files = report(runs, tmp_path / "here")
    copies = [shutil.copytree(run, tmp_path / "elsewhere" / run.name) for run in runs]
    code = "import sys; from robustcode.reports import report; report(sys.argv[2:], sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out"), *map(str, copies)],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
    )
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(made) == {path.name for path in files.values()}
    assert [p.name for p in files.values() if made[p.name] != p.read_bytes()] == []
