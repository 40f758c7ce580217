"""What a report says of a run's checks, from summaries written here by hand."""

import csv
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from robustcode.errors import StoreError
from robustcode.reports import report
from robustcode.reports.drawing import drawn
from robustcode.reports.figures.small import Plot, Sizes
from robustcode.reports.formats.web import TEMPLATES
from robustcode.reports.gating.refusals import refuse_altered
from robustcode.reports.sections.findings import silenced, weaknesses
from robustcode.reports.source import sources
from robustcode.store import load_run
from robustcode.summary import ANSWERED, OUTCOMES, tally

HOSTILE = '<script>alert(1)</script> \\input{x} & 5% _ $x^2$ | `a` "q" [l](h) **b** #1 \u202e=1+1'
FIGURES: dict[str, Any] = {
    "samples": 31,
    "eps": [[0.0, 1.0], [0.1, 0.5], [0.2, 0.0], [1.0, 0.0]],
    "steps": [[0, 1.0], [1, 0.8], [20, 0.5], [100, 0.5]],
    "draws": [[1.0, 0.5], [4.0, 0.4]],
    "loss": [0.5, 2.0, None, 3.0],
    "margin": [4.0, 1.0, -2.0],
    "gradients": {"cross-entropy": [0.0, 1e-9, 0.02, 0.3], "margin": [1.0, 2.0, 3.0, 4.0]},
}
REPAIR: dict[str, Any] = {
    "finding": "zero-gradient",
    "change": "surrogate=smooth",
    "before": 0.95,
    "after": 0.25,
    "samples": 31,
    "kept": True,
}
COMMAND = "robustcode attack --model digits_cnn --suite adaptive"


def line(
    code: str, status: str, said: str = "as it should be", group: str = "search"
) -> dict[str, Any]:
    passes = {"forwards": 7, "backwards": 3}
    return {"code": code, "group": group, "status": status, "said": said, **passes}


CHECKS = [
    line("train-mode", "passed", "the model came in eval mode", "model and data"),
    line("a-note", "info", "worth a look", "model and data"),
    line("zero-gradient", "failure", "the gradient is zero", "gradients"),
    line("quiet-one", "passed", "all is well", "search"),
    line("draws-too-few", "not applicable", "the defence is deterministic", "search"),
    line("too-dear", "untested", "memory was short", "search"),
    line("not-converged", "warning", "more steps help", "search"),
]


def run_with(folder: Path, **said: Any) -> Path:
    """A finished run folder without records, whose summary says what is given."""
    accuracy = {"accuracy": 0.5, "low": 0.2, "high": 0.8, "correct": 5}
    summary: dict[str, Any] = {"schema": 1, "samples": 10, "clean": accuracy, "robust": accuracy}
    summary |= {"attacks": [], "findings": [], **said}
    shards: dict[str, Any] = {"expected": 0, "done": 0, "files": {}}
    folder.mkdir(parents=True)
    spec = {"model": "digits_cnn", "data": "digits", "threat": "linf:0.1"}
    (folder / "spec.toml").write_text(tomli_w.dumps(spec))
    for name, value in {
        "manifest": {"schema": 1, "status": "complete", "shards": shards},
        "summary": summary,
        "findings": summary["findings"],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


class Folded(HTMLParser):
    """The text of a page that is shown at once, and that which is folded away."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.shown, self.folded = "", ""
        self.tags: set[str] = set()
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("details", "summary", "style", "script"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("details", "summary", "style", "script"):
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside[-1:] == ["details"]:
            self.folded += data
        elif "script" in self.inside:
            self.scripts.append(data)
        elif "style" not in self.inside:
            self.shown += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    said = {"checks": CHECKS, "figures": FIGURES, "repairs": [REPAIR], "next": COMMAND}
    return run_with(tmp_path_factory.mktemp("checked") / "run", **said)


@pytest.fixture(scope="module")
def files(run: Path) -> Mapping[str, Path]:
    return report([run], run.parent / "out")


def test_what_a_reader_must_see_is_shown_and_the_rest_is_folded(files: Mapping[str, Path]) -> None:
    page = Folded(files["html"].read_text())
    for entry in CHECKS:
        quiet = entry["status"] in ("passed", "not applicable")
        assert (entry["said"] in page.folded) == quiet, entry
        assert (entry["said"] in page.shown) != quiet, entry
    # In each group the gravest first; what is folded is counted.
    assert page.shown.index("not-converged") < page.shown.index("too-dear")
    assert "1 passed, 1 does not apply" in page.shown


def test_each_check_has_its_outcome_as_a_word_beside_its_sign(files: Mapping[str, Path]) -> None:
    rows = re.findall(
        r'class="sign" aria-hidden="true">(.*?)</span> <span class="word">(.*?)</span> '
        r"<code>(.*?)</code>",
        files["html"].read_text(),
    )
    assert {code: word for _, word, code in rows} == {c["code"]: c["status"] for c in CHECKS}
    signs = {word: sign for sign, word, _ in rows}
    assert len(set(signs.values())) == len(signs) == len(OUTCOMES)


@pytest.mark.parametrize("form", ["html", "md", "tex"])
def test_counts_repairs_and_the_next_command_are_in_every_format(
    form: str, files: Mapping[str, Path]
) -> None:
    text = files[form].read_text()
    counts = "1 failure, 1 warning, 1 untested, 1 info, 2 passed, 1 does not apply"
    assert text.count(counts) == 2
    shown = text.replace(r"\allowbreak{}", "").replace("-{}", "-").replace(r"\_", "_")
    shown = shown.replace("<wbr>", "")
    assert COMMAND in shown
    cells = [re.escape(cell) for cell in ("zero-gradient", "31", "95.0", "25.0", "kept")]
    assert re.search(".*".join(cells), shown, flags=re.DOTALL)
    for entry in CHECKS:
        assert entry["code"] in shown


def test_rows_for_programs_hold_every_check(files: Mapping[str, Path]) -> None:
    with files["csv"].open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "check"]
    assert [(row["name"], row["status"], row["said"]) for row in rows] == [
        (entry["code"], entry["status"], entry["said"]) for entry in CHECKS
    ]
    assert {(row["forwards"], row["backwards"], row["value"]) for row in rows} == {("7", "3", "")}
    page = json.loads(files["json"].read_text())
    assert page["next"] == {"digits_cnn": COMMAND}
    assert page["repairs"]["digits_cnn"][0]["finding"] == "zero-gradient"


def test_only_what_was_measured_is_drawn(files: Mapping[str, Path], tmp_path: Path) -> None:
    kinds = [*("eps", "steps", "draws", "loss", "margin"), "gradients-1", "gradients-2"]
    drawn_ones = sorted(path.stem for path in files["html"].parent.glob("pilot*.svg"))
    assert drawn_ones == sorted(f"pilot-{kind}-digits-cnn" for kind in kinds)
    named = re.findall(r"!\[.*?\]\((pilot.*?)\)", files["md"].read_text())
    assert sorted(named) == [f"{stem}.svg" for stem in drawn_ones]
    # One point is no curve, and figures of another make are no reason to fail.
    odd: Any = {
        "eps": [[0.1, 0.5]],
        "steps": "many",
        "loss": [None, "x"],
        "gradients": [1],
        "draws": [3],
    }
    for number, figures in enumerate((odd, {}, None)):
        made = run_with(tmp_path / f"odd{number}", checks=CHECKS, figures=figures)
        report([made], tmp_path / f"o{number}")
        assert not list((tmp_path / f"o{number}").glob("pilot*"))


def test_a_run_of_before_there_were_checks_says_nothing_of_them(tmp_path: Path) -> None:
    finding = {"code": "zero-gradient", "severity": "warning", "what": "It is.", "remedy": "Do."}
    files = report([run_with(tmp_path / "run", findings=[finding])], tmp_path / "out")
    for form in ("html", "md", "tex", "json"):
        # How a page looks and moves is the same for all.
        text = re.sub(r"(?s)<(style|script)>.*?</\1>", "", files[form].read_text())
        text = re.sub(r"(?s)<details>\n<summary>The same as BibTeX.*?</details>", "", text)
        assert not re.search("Checks of the|explain|pilot|repairs|next|details", text), form


def test_a_finding_names_the_command_that_explains_it(tmp_path: Path) -> None:
    finding = {"code": "zero-gradient", "severity": "warning", "what": "It is.", "remedy": "Do."}
    odd = {**finding, "code": "x; rm -r ~"}
    run = run_with(tmp_path / "run", checks=CHECKS, findings=[finding, odd])
    files = report([run], tmp_path / "out")
    for form in ("html", "md", "tex"):
        text = files[form].read_text().replace("-{}", "-")
        assert re.findall(r"robustcode explain ([^\s`<}]*)", text) == ["zero-gradient"], form


def test_what_an_added_attack_answered_is_folded_and_asks_for_nothing(tmp_path: Path) -> None:
    open_one = {"code": "weak-loss", "severity": "warning", "what": "It is.", "remedy": "Do."}
    mild = {"code": "few-samples", "severity": "info", "what": "It was.", "remedy": ""}
    what = f"no gradient{ANSWERED}square takes the pilot from 90.0% to 10.0%, and is added"
    done = {**mild, "code": "zero-gradient", "what": what, "remedy": "Give a surrogate."}
    run = run_with(tmp_path / "run", checks=CHECKS, findings=[done, mild, open_one])
    files = report([run], tmp_path)
    page = Folded(files["html"].read_text())
    assert "1 more, answered" in page.shown
    assert what in page.folded
    assert what not in page.shown
    assert "It is." in page.shown
    assert "It was." in page.folded
    assert "It was." not in page.shown
    for form in ("html", "md", "tex"):
        text = files[form].read_text()
        assert "Give a surrogate" not in text, form
        assert "Do." in text, form


@pytest.mark.parametrize(
    ("tested", "said"), [(500, "On 10 of the 500 samples of"), (10, "On 10 s")]
)
def test_a_page_says_of_how_many_samples_it_looked_at_some(
    tested: int, said: str, tmp_path: Path
) -> None:
    run = run_with(tmp_path / "run", checks=CHECKS, tested=tested)
    verdict = json.loads(report([run], tmp_path / "out")["json"].read_text())["verdict"]
    assert verdict.startswith(said)
    assert ("not yet the evaluation" in verdict) == (tested > 10)


def test_a_failure_of_one_run_is_not_held_against_the_run_beside_it(tmp_path: Path) -> None:
    finding = {"code": "zero-gradient", "severity": "failure", "what": "It is.", "remedy": "Do."}
    bad, good = run_with(tmp_path / "bad", findings=[finding]), run_with(tmp_path / "good")
    verdicts = [
        json.loads(report(runs, tmp_path / "out")["json"].read_text())["verdict"]
        for runs in (
            [bad, good],
            [bad, run_with(tmp_path / "worse", findings=[finding], tested=10)],
        )
    ]
    assert "rely on the numbers of digits_cnn (bad): 1 failure below" in verdicts[0]
    assert "rely on these numbers: 2 failures below" in verdicts[1]


def test_the_same_summary_gives_the_same_bytes(
    run: Path, files: Mapping[str, Path], tmp_path: Path
) -> None:
    again = report([run], tmp_path / "again")
    for name, path in files.items():
        assert path.read_bytes() == again[name].read_bytes(), name


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    checks = [line(HOSTILE, HOSTILE, HOSTILE, HOSTILE), line("a", "passed", HOSTILE)]
    repair = dict.fromkeys(REPAIR, HOSTILE)
    figures = {"gradients": {HOSTILE: [0.0, 1.0]}, "samples": HOSTILE, HOSTILE: HOSTILE}
    said = {"checks": checks, "repairs": [repair], "next": HOSTILE, "figures": figures}
    files = report([run_with(tmp_path / "run", **said)], tmp_path / "out")
    page = Folded(files["html"].read_text())
    assert set(page.scripts) <= {path.read_text() for path in TEMPLATES.glob("*.js")}
    assert HOSTILE.replace("\u202e", "") in page.shown
    texts = {form: files[form].read_text() for form in ("html", "md", "tex", "csv", "json")}
    assert not any("\u202e" in text for text in texts.values())
    body = re.sub(r"<pre>\n.*?</pre>", "", texts["md"], flags=re.DOTALL)
    assert "<script" not in texts["md"]
    assert not re.search(r"(?<!\\)(\*\*|\[l|\$x|`a)", body)
    assert "\\input{x}" not in texts["tex"]
    assert texts["tex"].isascii()
    with files["csv"].open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize("sizes", [(0.0,), (0.0, 0.0, 1e-40), (5e-324, 1.7e308), (3.0,)])
def test_gradients_of_any_size_are_drawn(sizes: tuple[float, ...]) -> None:
    assert drawn(Sizes("s", "t", "n", sizes))["svg"].startswith(b"<?xml")


@pytest.mark.parametrize(
    "points",
    [((0, 1), (0, 0.5)), ((-2, 1), (-1, 1)), ((1, 1), (1e9, 0)), ((0.5, 1e30), (7, 0))],
)
def test_points_of_any_size_are_drawn(points: tuple[tuple[float, float], ...]) -> None:
    plot = Plot("s", "t", "n", r"$\frac$", "y", points, powers=True)
    assert drawn(plot)["svg"].startswith(b"<?xml")


def test_a_tally_counts_every_outcome_and_hides_none() -> None:
    assert tally([]) == ""
    assert tally(["passed", "odd", "failure", "passed"]) == "1 odd, 1 failure, 2 passed"
    assert tally(["not applicable"] * 2 + ["warning"] * 2) == "2 warnings, 2 do not apply"


@pytest.mark.parametrize("kept", [[], [{"code": "zero-gradient", "severity": "info"}]])
def test_a_finding_that_was_altered_is_missed(kept: list[dict[str, str]], tmp_path: Path) -> None:
    """Whether it was taken out of findings.json or made to look harmless there."""
    found = {"code": "zero-gradient", "severity": "failure", "what": "It is.", "remedy": "Look."}
    folder = run_with(tmp_path / "run", findings=[found])
    whole, *_ = sources([load_run(folder)])
    assert silenced(whole) == []
    (folder / "findings.json").write_text(json.dumps(kept))
    altered, *_ = sources([load_run(folder)])
    assert silenced(altered) == ["zero-gradient"]
    assert "findings-disagree" in [finding.code for finding in weaknesses([altered])]
    with pytest.raises(StoreError, match=r"finding 'zero-gradient' and findings\.json does not"):
        refuse_altered(altered)
