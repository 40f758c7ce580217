"""One page in every format: HTML, Markdown, LaTeX, CSV, JSON, and its figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robustcode.errors import ConfigError
from robustcode.reports.compose import compose
from robustcode.reports.drawing import drawn
from robustcode.reports.escape import cell, latex, markdown, short
from robustcode.reports.formats.columns import layout_of
from robustcode.reports.formats.web import TEMPLATES, Preformatted, page_html
from robustcode.reports.formats.writing import write
from robustcode.reports.gaps import marked
from robustcode.reports.gating.model_card import model_card
from robustcode.reports.grids import Grid, called, ended
from robustcode.reports.page import Page
from robustcode.reports.sections.findings import Weakness
from robustcode.reports.table import Row
from robustcode.store import Run, folders_of, load_run

SCHEMA = 1


def report(runs: Sequence[Path | str], out: Path | str, partial: bool = False) -> dict[str, Path]:
    """Write a report on one run folder, or on several side by side, into the folder ``out``.

    The folder of a curve stands for its runs. With ``partial`` an unfinished or damaged run is
    reported as far as it is intact; what is missing is said with every number.

    The files by what they are: html, md, tex, csv, json, and each figure and table and the rest by
    its name; of one run a model card as well. The same runs give the same bytes.
    """
    if isinstance(runs, str | Path):
        raise ConfigError(f"runs = {str(runs)!r} is one path; give a list of run folders")
    paths, not_begun = folders_of(map(Path, runs))
    read = [load_run(path, partial) for path in paths]
    for run in read:
        run.check()
    _refuse_twice(read)
    page = marked(compose(read, not_begun), read)
    card = model_card(read[0]) if len(read) == 1 and _for_others(read[0], page) else ""
    written = write(render(page, card), Path(out))
    return {
        name.partition(".")[2] if name.startswith("report.") else name: path
        for name, path in written.items()
    }


def _refuse_twice(runs: Sequence[Run]) -> None:
    """ConfigError if a run is there twice: it would be compared with itself."""
    seen: dict[tuple[str, str], Path] = {}
    for run in runs:
        # Two seeds may give the same verdicts, and are two runs.
        name = (
            run.digest,
            json.dumps([run.spec, run.summary, run.findings], sort_keys=True, default=str),
        )
        if name in seen:
            raise ConfigError(f"{seen[name]} and {run.path} hold the same run; name it once")
        seen[name] = run.path


def _for_others(run: Run, page: Page) -> bool:
    """Whether a run says what its model's card may say: all of it is there, and no check failed."""
    failed = any(finding.severity == "failure" for finding in page.findings)
    return run.gap is None and not run.pilot_of and not failed


def render(page: Page, card: str = "") -> dict[str, bytes]:
    """Every file of a report by its name, with a model card if one is given."""
    figures = {drawing.stem: drawn(drawing) for drawing in page.drawings}
    given = {"page": page, "preformatted": Preformatted, "layout": layout_of}
    texts = {
        "report.html": page_html(page, figures),
        "report.md": _escaped("report.md", markdown).render(given),
        "report.tex": _escaped("report.tex", latex).render(given, alone=False),
        "report.csv": _csv(page.rows),
        "references.bib": page.bibtex,
    }
    if card:
        texts["model_card.md"] = card
    table = _escaped("table.tex", latex)
    for grid in page.tables:
        texts[f"table-{page.name_of(grid)}.tex"] = table.render(given, grid=grid, alone=True)
    files = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    for stem, formats in figures.items():
        files |= {f"{stem}.{kind}": content for kind, content in formats.items()}
    # A later report in the same folder takes these away, and nothing else.
    listed = sorted([*files, "report.json"])
    return {**files, "report.json": _json(page, listed).encode("utf-8", "replace")}


def _escaped(name: str, escape: Callable[[str], str]) -> Any:
    """A template whose every value passes through ``escape``, so that none can be forgotten."""

    def finish(value: object) -> str:
        if isinstance(value, Preformatted):
            return value.text
        return value if isinstance(value, Markup) else escape(str(value))

    environment = Environment(  # autoescaping is for HTML; ``finalize`` does it here
        loader=FileSystemLoader(TEMPLATES),
        finalize=finish,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Braces and per cent signs are LaTeX's own.
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters |= {"short": short, "called": called, "ended": ended}
    return environment.get_template(name)


def _csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [field.name for field in fields(Row)]
    writer.writerow(names)
    writer.writerows([cell(getattr(row, name)) for name in names] for row in rows)
    return buffer.getvalue()


def _json(page: Page, files: Sequence[str]) -> str:
    content = {
        "schema": SCHEMA,
        "files": list(files),
        "title": page.title,
        "verdict": page.verdict,
        "findings": [_told(finding) for finding in page.findings],
        "rows": [asdict(row) for row in page.rows],
        "notes": list(dict.fromkeys(note for noted in page.noted for note in noted.notes)),
        "tables": [
            {"number": page.number_of(grid), "name": page.name_of(grid), "caption": grid.caption}
            for grid in page.tables
        ],
        "runs": [
            {"run": origin.run, "facts": dict(origin.facts), "spec": origin.spec}
            for origin in page.origins
        ],
        "references": list(page.references),
    }
    repairs = {c.run: _records(grid) for c in page.checkups for grid in c.repairs}
    proposed = {c.run: c.command for c in page.checkups if c.command}
    content |= {name: by for name, by in (("repairs", repairs), ("next", proposed)) if by}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _told(finding: Weakness) -> dict[str, Any]:
    told = asdict(finding)
    del told["explained"]  # a sentence to the reader of a page
    return told


def _records(grid: Grid) -> list[dict[str, str]]:
    return [dict(zip(grid.headers, row, strict=True)) for row in grid.rows]
