"""Reports of run folders that are written here by hand, from the contract in the design."""

import base64
import csv
import hashlib
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from scipy.stats import binomtest

from robustcode.errors import ConfigError, StoreError
from robustcode.reports import report
from robustcode.reports.formats.web import TEMPLATES
from robustcode.statistics import clustered, proportion
from robustcode.store import load_run

HOSTILE = (
    '<script>alert(1)</script> \\input{x} & 5% _ $x^2$ | `a` "q" [l](http://x) **b** #1 \u202e'
)
WARNING = {
    "code": "noise-as-strong",
    "severity": "warning",
    "what": "Noise did as much as the attack.",
    "remedy": "Use a stronger attack.",
    "figures": {"noise": 0.5, "attack": 0.5},
    "samples": list(range(30)),
}
SETTINGS = {
    "noise": {"tries": 10},
    "pgd": {"steps": 20, "step": 0.1, "loss": "ce", "random_start": True},
}


def write_run(
    folder: Path,
    clean: list[Any],
    attacks: Mapping[str, list[Any]],
    *,
    indices: list[int] | None = None,
    draws: int | None = None,
    selected: list[str | None] | None = None,
    findings: list[dict[str, Any]] | None = None,
    spec: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
    abstained: tuple[str, int] | None = None,
) -> Path:
    """A finished run folder. ``clean`` and ``attacks`` hold truth values or shares, per sample."""
    indices = list(range(len(clean))) if indices is None else indices
    worst: list[Any] = []
    rows: list[dict[str, Any]] = []
    for i, sample in enumerate(indices):
        shares = {name: right[i] for name, right in attacks.items()}
        least: str | None = min(shares, key=lambda name: float(shares[name])) if shares else None
        if least and clean[i] < shares[least]:
            least = None  # nothing beats the sample itself
        chosen = least if selected is None else selected[i]
        worst.append(clean[i] if chosen is None else shares[chosen])
        for name in attacks:
            away = abstained == (name, sample)
            rows.append(
                {
                    **{"sample": sample, "label": sample % 10, "clean": sample % 10},
                    **{"attack": name, "prediction": None if away else 1},
                    "correct": shares[name],
                    "votes": None,
                    "choosing": None,
                    "clean_correct": clean[i],
                    "clean_votes": None,
                    "selected": name == chosen,
                    **{"distance": 0.1, "forwards": 21, "backwards": 20, "seed": 0},
                }
            )

    def measure(right: list[Any]) -> dict[str, Any]:
        shares = [float(share) for share in right]
        interval = clustered(shares, draws) if draws else proportion(int(sum(shares)), len(shares))
        value, low, high = interval
        return {"accuracy": value, "low": low, "high": high, "correct": sum(shares)}

    passes = {"forwards": 21 * len(clean), "backwards": 20 * len(clean), "seconds": 1.25}
    block = {
        "draws": draws,
        "expected": measure(worst),
        "majority": measure(worst),
        "any_of": {"5": measure(worst)},
        "clean": {"expected": measure(clean), "majority": measure(clean)},
    }
    content = {
        "schema": 1,
        "samples": len(clean),
        "clean": measure(clean),
        "robust": measure(worst),
        "attacks": [
            {"name": name, "settings": SETTINGS.get(name, {}), **measure(right), **passes}
            for name, right in attacks.items()
        ],
        "stochastic": block if draws else None,
        "certified": None,
        "findings": findings or [],
        "cost": {**passes, "cpu_seconds": 1.0, "peak_memory_mb": 100.0},
        **(summary or {}),
    }
    resolved = {"model": "digits_cnn", "data": "digits", "threat": "linf:0.1", "seed": 3}
    records = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "records").mkdir(parents=True)
    (folder / "records/shard-00000.jsonl").write_bytes(records)
    listed = {"records/shard-00000.jsonl": hashlib.sha256(records).hexdigest()}
    manifest = {
        "schema": 1,
        "status": "complete",
        "started": "2031-01-02T03:04:05",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "checkpoint_sha256": "c" * 64,
        "shards": {"expected": 1, "done": 1, "files": {"shard-00000": {"sha256": listed}}},
    }
    (folder / "spec.toml").write_text(tomli_w.dumps({**resolved, **(spec or {})}))
    for name, value in {
        "manifest": manifest,
        "summary": content,
        "findings": findings or [],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def shares_of(seed: int, probability: float, count: int = 40) -> list[bool]:
    return [bool(right) for right in np.random.default_rng(seed).random(count) < probability]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A deterministic run; no single attack is its worst case."""
    attacks = {"noise": shares_of(1, 0.9), "pgd": shares_of(2, 0.6)}
    return write_run(tmp_path / "plain", shares_of(0, 0.95), attacks, findings=[WARNING])


@pytest.fixture
def random(tmp_path: Path) -> Path:
    """A stochastic run whose least shares are not the selected ones."""
    rng = np.random.default_rng(5)
    clean = list(rng.binomial(20, 0.9, 40) / 20)
    attacks = {name: list(rng.binomial(20, 0.7, 40) / 20) for name in ("pgd", "fgsm")}
    chosen: list[str | None] = ["pgd", "fgsm", None, "pgd"] * 10
    return write_run(
        tmp_path / "random",
        clean,
        attacks,
        draws=20,
        selected=chosen,
        spec={"defense": {"name": "gaussian-noise", "sigma": 0.25}},
    )


def rows_of(files: Mapping[str, Path]) -> pd.DataFrame:
    return pd.read_csv(files["csv"], keep_default_na=False, na_values=[""])


def only(files: Mapping[str, Path], **wanted: str) -> Any:
    rows = rows_of(files)
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


class Shown(HTMLParser):
    """The elements of a page and the text a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "script":
            data = dict(attrs).get("type") == "application/json"  # which no browser runs
            self.scripts += [] if data else [""]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script" and self.scripts:
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data


def test_reports_never_import_torch(plain: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from robustcode.reports import report; "
        "report([sys.argv[1]], sys.argv[2]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(plain), str(tmp_path / "out")], check=True)


def test_every_format_prints_what_the_records_say(plain: Path, tmp_path: Path) -> None:
    files = report([plain], tmp_path / "out")
    records = load_run(plain).records
    clean = records.groupby("sample").clean_correct.first().mean()
    worst = records.groupby("sample")[["correct", "clean_correct"]].min().min(axis=1).mean()
    assert worst < records.groupby("attack").correct.mean().min()
    for kind, expected in (("clean", clean), ("worst case", worst)):
        row = only(files, kind=kind)
        limits = binomtest(round(expected * 40), 40).proportion_ci(0.95, "exact")
        assert (row.value, row.low, row.high, row.samples) == pytest.approx(
            (expected, limits.low, limits.high, 40)
        )
        shown = f"{100 * expected:.1f}", f"{100 * limits.low:.1f} to {100 * limits.high:.1f}"
        line = "| {} | {} |".format(*shown)
        assert line in files["md"].read_text()
        assert " & ".join(shown) in files["tex"].read_text()
        cells = [f'<td class="number">{text}</td>' for text in shown]
        assert "".join(cells) in files["html"].read_text()
    rows = json.loads(files["json"].read_text())["rows"]
    with files["csv"].open(newline="") as file:
        printed = list(csv.DictReader(file))
    assert printed == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]


def test_the_worst_case_of_a_random_defence_is_the_selected_proposal_or_none(
    random: Path, tmp_path: Path
) -> None:
    records = load_run(random).records
    clean = records.groupby("sample").clean_correct.first()
    chosen = records[records.selected].set_index("sample").correct
    expected = clean.where(~clean.index.isin(chosen.index), chosen.reindex(clean.index)).mean()
    files = report([random], tmp_path / "out")
    assert only(files, kind="worst case").value == pytest.approx(expected)
    assert expected > records.groupby("sample").correct.min().mean()
    page = json.loads(files["json"].read_text())
    assert not page["findings"]
    assert "20 draws" in page["verdict"]
    assert set(rows_of(files).query("kind == 'stochastic'").name) == {
        *("clean: expected", "clean: majority vote", "worst case: expected"),
        *("worst case: majority vote", "worst case: right in all of 5 draws"),
    }


@pytest.mark.parametrize("several", [False, True])
def test_the_same_runs_give_the_same_bytes_wherever_they_lie(
    several: bool, plain: Path, random: Path, tmp_path: Path
) -> None:
    first = report([plain, random] if several else [plain], tmp_path / "a")
    moved = [folder.rename(tmp_path / "elsewhere" / folder.name) for folder in _into(plain, random)]
    second = report(moved if several else moved[:1], tmp_path / "b")
    assert {"html", "md", "tex", "csv", "json"} < set(first)
    assert any(name.endswith(".svg") for name in first)
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name
        assert b"2031-01" not in path.read_bytes(), name  # the date of the run


def _into(*folders: Path) -> tuple[Path, ...]:
    (folders[0].parent / "elsewhere").mkdir()
    return folders


@pytest.mark.parametrize("form", ["html", "md", "tex"])
def test_findings_stand_between_the_verdict_and_the_first_table(
    form: str, plain: Path, tmp_path: Path
) -> None:
    text = report([plain], tmp_path / "out")[form].read_text()
    places = [
        text.index(mark)
        for mark in (
            "1 warning below",
            "Noise did as much as the attack.",
            "Use a stronger attack.",
            "Clopper",
        )
    ]
    assert places == sorted(places)
    assert "and 18 more" in text


def test_failures_come_first_and_unknown_severities_are_shown(tmp_path: Path) -> None:
    findings: list[dict[str, Any]] = [
        WARNING,
        {"code": "odd", "severity": "catastrophe", "what": "New."},
        {},
        {**WARNING, "code": "bad", "severity": "failure", "figures": None, "samples": None},
    ]
    run = write_run(tmp_path / "run", [True] * 5, {"pgd": [False] * 5}, findings=findings)
    files = report([run], tmp_path / "out")
    page = json.loads(files["json"].read_text())
    assert [finding["code"] for finding in page["findings"]] == [
        *("bad", "noise-as-strong", "odd", "unnamed")
    ]
    assert "Do not rely on these numbers: 1 failure below." in page["verdict"]
    assert "catastrophe" in files["html"].read_text()


def test_a_summary_that_its_records_contradict_is_a_failure(tmp_path: Path) -> None:
    better = {"accuracy": 1.0, "low": 0.9, "high": 1.0, "correct": 20}
    run = write_run(
        tmp_path / "run", [True] * 20, {"pgd": [False] * 20}, summary={"robust": better}
    )
    page = json.loads(report([run], tmp_path / "out")["json"].read_text())
    assert [finding["code"] for finding in page["findings"]] == ["summary-disagrees"]
    assert "Do not rely" in page["verdict"]


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, Path]:
    finding = {key: HOSTILE for key in ("code", "severity", "what", "remedy")}
    runs = [
        write_run(
            tmp_path / f"run{seed}",
            [True] * 5,
            {f"@{HOSTILE}": [False] * 5, "=1+1": [True] * 5},
            findings=[{**finding, "figures": {HOSTILE: HOSTILE}, "samples": [HOSTILE]}],
            spec={"model": HOSTILE, "data": f"-{HOSTILE}", "threat": f"+{HOSTILE}", "seed": seed},
        )
        for seed in (1, 2)
    ]
    return report(runs, tmp_path / "out")


def test_html_shows_hostile_text_and_runs_nothing_of_it(hostile: dict[str, Path]) -> None:
    text = hostile["html"].read_text()
    page = Shown(text)
    assert not {"iframe", "object", "embed", "link", "base"} & set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert HOSTILE.rstrip("\u202e") in page.text
    # What a browser may run are the scripts of this package, each known by its hash.
    ours = {path.read_text() for path in TEMPLATES.glob("*.js")}
    assert page.scripts
    assert set(page.scripts) <= ours
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()) for s in page.scripts]
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in hashes)
    assert policy == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    ]


def test_markdown_shows_hostile_text_and_holds_no_markup_of_it(hostile: dict[str, Path]) -> None:
    text = hostile["md"].read_text()
    assert "<script" not in text
    body = re.sub(r"<pre>\n.*?</pre>", "", text, flags=re.DOTALL)
    # What is left of every mark that starts markup is preceded by a backslash or is the template's.
    assert not re.search(r"(?<!\\)(\*\*|\[l|\$x|`a)", body)
    tables = re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE)
    # Side by side, differences, costs, who is not ranked, and each run's own.
    assert len(tables) >= 6
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert html.escape(HOSTILE[:20], quote=False) in body


def test_latex_shows_hostile_text_and_holds_no_command_of_it(hostile: dict[str, Path]) -> None:
    text = hostile["tex"].read_text()
    assert "\\input{x}" not in text
    assert r"\textbackslash{}input\{x\} \& 5\% \_" in text
    for line in re.findall(r"^.*alert.*$", text, flags=re.MULTILINE):
        bare = re.sub(r"\\[{}$&#_%\\]|\\[a-zA-Z]+\{\}", "", line)
        assert bare.count("{") == bare.count("}")
        assert not set(bare) & set("$#_%^~")
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert text.isascii()


def test_the_pictures_that_are_named_are_there(plain: Path, random: Path, tmp_path: Path) -> None:
    files = report([plain, random], tmp_path / "out")
    named = re.findall(r"\\includegraphics\[.*?\]\{(.*?)\}", files["tex"].read_text())
    named += re.findall(r"!\[.*?\]\((.*?)\)", files["md"].read_text())
    assert sorted(named) == sorted(
        path.name for kind in ("pdf", "svg") for path in (tmp_path / "out").glob(f"*.{kind}")
    )


def test_csv_holds_no_formula(hostile: dict[str, Path]) -> None:
    with hostile["csv"].open(newline="") as file:
        table = list(csv.reader(file))
    cells = [text for row in table for text in row]
    assert "'=1+1" in cells
    assert any(text.startswith("'@<script>") for text in cells)
    for text in cells:
        assert not text.startswith(("=", "+", "@", "\t", "\r"))
        assert not text.startswith("-") or float(text) < 0
    assert {len(row) for row in table} == {len(table[0])}


def test_no_mark_reverses_what_stands_beside_it(hostile: dict[str, Path]) -> None:
    for form in ("html", "md", "tex", "csv", "json"):
        assert "\u202e" not in hostile[form].read_text(), form
    assert r"\u202e" in hostile["html"].read_text()  # in the spec, as TOML writes it


def test_nothing_is_bold(plain: Path, tmp_path: Path) -> None:
    files = report([plain], tmp_path / "out")
    page = files["html"].read_text()
    assert not {"b", "strong"} & set(Shown(page).tags)
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert "font-weight" not in page.replace(style, "")
    weights = re.findall(r"([^{}]*)\{[^{}]*font-weight: (\w+)", style)
    assert {weight for _, weight in weights} == {"400"}
    assert {"h1", "h2", "h3", "h4", "th"} <= set(re.findall(r"\w+", weights[0][0]))
    assert "**" not in files["md"].read_text()
    assert "bf" not in re.findall(r"\\(?:text)?(\w+)", files["tex"].read_text())


def test_the_attacks_settings_the_spec_and_the_hashes_are_complete(
    plain: Path, tmp_path: Path
) -> None:
    files = report([plain], tmp_path / "out")
    text = Shown(files["html"].read_text()).text
    assert "steps=20, step=0.1, loss=ce, random_start=true" in text
    assert (plain / "spec.toml").read_text() in text
    for fact in ("c" * 64, "torch=2.13.0", "seed"):
        assert fact in text


def test_only_methods_that_were_run_are_cited(plain: Path, random: Path, tmp_path: Path) -> None:
    first = json.loads(report([plain], tmp_path / "a")["json"].read_text())["references"]
    named = [name.partition(":")[0] for name in first]
    assert named == ["noise (a control)", "pgd", "intervals", "this report"]
    second = json.loads(report([random], tmp_path / "b")["json"].read_text())["references"]
    found = re.findall(r"arXiv:(\S+)\.", " ".join(second))
    assert found == ["1706.06083", "1412.6572", "1707.07397", "1902.02918", "1712.00673"]


def test_abstentions_have_a_column_where_there_are_any(plain: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [True] * 5, {"pgd": [False] * 5}, abstained=("pgd", 2))
    files = report([run], tmp_path / "a")
    assert only(files, kind="attack").abstained == 1
    assert "abstained" in files["md"].read_text()
    assert "abstained" not in report([plain], tmp_path / "b")["md"].read_text()
    # What a random defence gives no class is a tie of its draws, which counts by those that are
    # right.
    run = write_run(
        tmp_path / "random", [1.0] * 5, {"pgd": [0.5] * 5}, draws=10, abstained=("pgd", 2)
    )
    assert "abst" not in report([run], tmp_path / "c")["md"].read_text()


@pytest.mark.parametrize(
    ("attack", "said"),
    [("scout", "leaves alone what is far from the boundary"), ("pgd", "is a short search")],
)
def test_the_suite_is_named_where_its_number_is(attack: str, said: str, tmp_path: Path) -> None:
    quick = {"suite": "quick"}
    run = write_run(tmp_path / "run", [True] * 5, {attack: [False] * 5}, summary=quick)
    text = report([run], tmp_path / "a")["md"].read_text()
    assert "under the worst of 1 attack of the suite quick in linf:0.1" in text
    assert "on digits under linf:0.1, attacked by the suite quick" in text
    assert f"The suite quick {said}" in text


def test_what_was_passed_in_is_repeated_by_a_call(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [True] * 5, {"pgd": [False] * 5})
    manifest = json.loads((run / "manifest.json").read_text())
    asked = {"command": "attack", "model": "Net (passed in)", "data": "digits", "seed": 3}
    asked |= {"threat": "linf:0.1", "attacks": [{"name": "pgd", "steps": 20}]}
    (run / "manifest.json").write_text(json.dumps({**manifest, "request": asked}))
    files = report([run], tmp_path / "a")
    call = (
        "robustcode.attack(model, 'digits', 'linf:0.1', 'runs/again', seed=3, "
        "attacks=['pgd:steps=20'])"
    )
    for form in ("html", "md"):
        assert call in files[form].read_text()
        assert "robustcode run spec.toml" not in files[form].read_text()


def test_a_run_that_only_certifies_is_reported_without_an_attacked_number(tmp_path: Path) -> None:
    certified = {"method": "crown", "threat": "linf:0.1", "accuracy": 0.5, "low": 0.2, "high": 0.8}
    nothing: dict[str, Any] = {
        "robust": None,
        "attacks": [],
        "certified": {**certified, "abstained": 3},
    }
    runs = [
        write_run(tmp_path / name, [True] * 8, {}, summary=nothing | {"title": name})
        for name in ("one", "two")
    ]
    files = report(runs[:1], tmp_path / "out")
    assert only(files, kind="certified").value == 0.5
    assert only(files, kind="certified").abstained == 3
    assert "worst" not in set(rows_of(files).kind)
    assert "1811.00866" in files["md"].read_text()
    both = rows_of(report(runs, tmp_path / "both"))
    assert list(both[both.kind == "certified"].run) == ["one", "two"]
    assert list(both[both.kind == "not compared"].run) == ["two"]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda run: (run / "manifest.json").unlink(), StoreError, "manifest"),
        (lambda run: (run / "manifest.json").write_text('{"schema": 1}'), StoreError, "status"),
        (lambda run: (run / "records/shard-00000.jsonl").write_text("{}"), StoreError, "altered"),
        (lambda run: (run / "summary.json").write_text("{"), StoreError, "summary.json"),
    ],
)
def test_a_folder_that_is_no_finished_run_gives_no_report(
    spoil: Callable[[Path], Any], error: type[Exception], message: str, plain: Path, tmp_path: Path
) -> None:
    spoil(plain)
    with pytest.raises(error, match=message):
        report([plain], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_runs_and_no_place_are_refused(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        report([], tmp_path / "out")
    with pytest.raises(ConfigError, match="a list"):
        report(str(plain), tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="choose another --out"):
        report([plain], tmp_path / "file")


def test_a_report_spoils_no_run_and_leaves_what_is_not_its_own(
    plain: Path, random: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in plain.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="the folder of a run"):
        report([random], plain)
    assert {path: path.read_bytes() for path in plain.rglob("*") if path.is_file()} == before
    out = tmp_path / "out"
    both = {path.name for path in report([plain, random], out).values()}
    (out / "notes.txt").write_text("mine")
    one = {path.name for path in report([plain], out).values()}
    assert both - one, "the longer report has files that the shorter one has not"
    assert {path.name for path in out.iterdir()} == one | {"notes.txt"}


def test_what_an_earlier_report_lists_reaches_no_file_elsewhere(
    plain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "kept.txt").write_text("mine")
    listed = ["../kept.txt", str(tmp_path / "kept.txt"), 3, "sub/kept.txt"]
    ours = {"schema": 1, "verdict": "", "files": listed}
    (out / "report.json").write_text(json.dumps(ours))
    report([plain], out)
    assert (tmp_path / "kept.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["references.bib", "report.json"])
def test_a_file_that_no_report_made_is_not_overwritten(
    name: str, plain: Path, tmp_path: Path
) -> None:
    others = {name: json.dumps({"files": ["notes.txt"]}), "notes.txt": "mine"}
    for file, text in others.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(StoreError, match=f"{name} is there already and is of no earlier report"):
        report([plain], tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == others


def test_a_run_is_not_set_beside_itself(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the same run; name it once"):
        report([plain, plain.parent / "." / plain.name], tmp_path / "out")


def test_findings_that_are_gone_are_missed(tmp_path: Path) -> None:
    looked = {"code": "zero-gradient", "group": "gradients", "status": "failure", "said": "It is."}
    run = write_run(tmp_path / "run", [True] * 8, {"pgd": [True] * 8}, summary={"checks": [looked]})
    said = json.loads(report([run], tmp_path / "out")["json"].read_text())
    assert "findings-disagree" in [finding["code"] for finding in said["findings"]]
    assert "Do not rely on" in said["verdict"]


def test_only_what_may_be_relied_on_becomes_a_model_card(plain: Path, tmp_path: Path) -> None:
    noise = write_run(tmp_path / "noise", [True] * 8, {"noise": [True] * 8})
    assert "model_card.md" in report([plain], tmp_path / "a")
    assert "model_card.md" not in report([noise], tmp_path / "b")


def test_runs_of_the_doctor_are_in_no_comparison(plain: Path, tmp_path: Path) -> None:
    pilot = write_run(
        tmp_path / "pilot",
        shares_of(0, 0.95)[:8],
        {"pgd": [False] * 8},
        spec={"title": "pilot"},
        summary={"tested": 40},
    )
    said = json.loads(report([plain, pilot], tmp_path / "out")["json"].read_text())
    compared = [row for row in said["rows"] if row["kind"] == "compared worst case"]
    assert not [row for row in said["rows"] if row["kind"] == "difference"]
    assert 8 not in [row["samples"] for row in compared if row["run"] != "pilot"]
    assert any(row["kind"] == "not compared" for row in said["rows"])
