"""What a run is in a notebook: a fragment that shows it, and tables whose columns are told."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w

import robustcode
from robustcode import answers, certificates, records, verdicts
from robustcode.notebook import curve_html
from robustcode.statistics import proportion
from robustcode.store import Run, RunFolder, load_run, shard_name, write_atomic
from robustcode.summary import summarise

HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> \" ' & </td></table> \u202e\n"
COST = {"judge_forwards": 3, "seconds": 0.5, "cpu_seconds": 0.4, "peak_memory_mb": 100.0}
FINDING = {
    "code": "noise-as-strong",
    "severity": "warning",
    "what": "noise did as much as the attack",
    "remedy": "use a stronger attack",
}


class Shown(HTMLParser):
    """The text of a fragment, its tags with their attributes, and the rows of its table."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(fragment)
        assert self.open == []  # all that was opened is closed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def record(sample: int, attack: str, right: bool, **given: Any) -> records.Record:
    known: dict[str, Any] = {"votes": None, "choosing": None, "clean_votes": None, "seed": 0}
    known |= {"sample": sample, "label": 1, "clean": 1, "clean_correct": True, "attack": attack}
    known |= {"prediction": int(right), "correct": right, "selected": False, "distance": 0.1}
    known |= {"forwards": 20, "backwards": 10}
    return records.Record(**{**known, **given})


def run_of(
    path: Path,
    rows: list[records.Record],
    draws: int | None = None,
    findings: list[dict[str, Any]] | None = None,
    **labels: Any,
) -> Run:
    """A run folder that holds ``rows``, read."""
    folder = RunFolder(path)
    path.mkdir()
    names = list(dict.fromkeys(row.attack for row in rows))
    folder.open({"command": "attack"}, {})
    folder.write_spec({"model": "m", "data": "d", "threat": "linf:0.1", **labels})
    folder.missing_shards(1)
    name = f"records/{shard_name(0)}.jsonl"
    cost = {**COST, "attack_seconds": dict.fromkeys(names, 0.25)}
    data = records.to_lines(rows)
    folder.list_shard(0, {"sha256": {name: write_atomic(path / name, data)}, "cost": cost})
    described = [{"name": n, "settings": {"steps": 3}, "control": n == "noise"} for n in names]
    table = records.table_of(rows)
    detects = any(row.prediction is None and row.correct for row in rows)
    summary = summarise(table, described, draws, [{"cost": cost}], detector=detects)
    folder.finish(findings or [], summary | labels)
    return load_run(path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Of four samples PGD breaks two and noise none; the last is wrong by itself."""
    wrong = {"clean": 0, "clean_correct": False, "forwards": 0, "backwards": 0, "distance": 0.0}
    rows = []
    for sample in range(3):
        rows.append(record(sample, "noise", True))
        broken = sample > 0
        rows.append(record(sample, "pgd", not broken, selected=True, distance=0.05 + sample / 100))
    rows += [record(3, name, False, **wrong) for name in ("noise", "pgd")]
    return run_of(tmp_path / "run", rows, findings=[FINDING])


# --- tables


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (records.Record, records.COLUMNS),
        (certificates.Certificate, certificates.COLUMNS),
        (answers.Answer, answers.COLUMNS),
    ],
)
def test_every_field_is_a_column_that_is_told(named: Any, told: Mapping[str, str]) -> None:
    assert list(told) == list(named.__dataclass_fields__)
    for said in told.values():
        assert said
        assert not said.endswith(".")


def test_tables_have_the_columns_that_are_told(run: Run) -> None:
    assert list(run.records) == list(records.COLUMNS)
    assert list(run.samples) == list(verdicts.SAMPLES)
    assert list(run.attacks) == list(verdicts.ATTACKS)
    for table in (run.records, run.samples, run.attacks):
        assert len(table)
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    for told in ("records", "certificates", "verdicts"):
        assert f"{told}.{'SAMPLES' if told == 'verdicts' else 'COLUMNS'}" in guide


def test_tables_without_rows_have_the_columns_that_are_told(run: Run) -> None:
    """And where rows of this run have them the same kinds: code for one is code for the other."""
    bare = {**run.summary, "attacks": []}
    empty = replace(run, summary=bare, manifest={**run.manifest, "shards": {"files": {}}})
    assert list(empty.certificates) == list(certificates.COLUMNS)
    assert list(empty.answers) == list(answers.COLUMNS)
    proof = certificates.Certificate(
        sample=1, label=1, prediction=1, status=certificates.Status.CERTIFIED, radius=0.1
    )
    pairs = [(empty.records, run.records), (empty.samples, run.samples)]
    pairs.append((empty.attacks, run.attacks))
    pairs.append((empty.certificates, certificates.table_of([proof])))
    for without, table in pairs:
        assert without.empty
        assert without.dtypes.to_dict() == table.dtypes.to_dict()
    assert empty.answers["correct"].dtype == bool


def test_only_what_is_public_is_offered(run: Run) -> None:
    assert dir(robustcode) == sorted(robustcode.__all__)
    told = {"path", "spec", "manifest", "summary", "findings", "gap", "stopped", "pilot_of"}
    told |= {"missing", "digest", "adversarial", "check"}
    told |= {"records", "certificates", "answers", "samples", "attacks"}
    assert {name for name in dir(run) if not name.startswith("_")} == told


def test_a_row_of_samples_is_what_came_of_one(run: Run) -> None:
    table = run.samples.set_index("sample")
    assert table["verdict"].tolist() == ["stood", "broken", "broken", "wrong without attack"]
    assert table["worst"].tolist()[:3] == ["pgd"] * 3
    assert pd.isna(table["worst"][3])
    assert table["distance"].tolist() == pytest.approx([0.05, 0.06, 0.07, 0.0])
    assert table["robust"].mean() == run.summary["robust"]["accuracy"] == 0.25
    assert table["clean"].mean() == run.summary["clean"]["accuracy"] == 0.75


def test_a_row_of_attacks_is_what_the_summary_says(run: Run) -> None:
    pgd = run.attacks.set_index("attack").loc["pgd"]
    assert list(pgd[["accuracy", "low", "high"]]) == list(proportion(1, 4))
    assert list(pgd[["forwards", "backwards", "passes"]]) == [60, 30, 90]
    assert pgd.to_dict()["settings"] == {"steps": 3}


def test_an_attack_that_was_stopped_leaves_no_verdict(tmp_path: Path) -> None:
    rows = [
        record(0, "noise", True),
        record(0, "pgd", True, correct=None, finished=False, prediction=1),
        record(1, "noise", False, selected=True),
        record(1, "pgd", True, correct=None, finished=False, prediction=1),
    ]
    table = run_of(tmp_path / "run", rows).samples
    assert table["verdict"].tolist() == ["unfinished", "broken"]
    assert table["finished"].tolist() == [False, True]
    assert table["robust"].tolist() == [0.0, 0.0]


def test_what_a_detector_refuses_is_right_and_told_apart(tmp_path: Path) -> None:
    rows = [record(0, "pgd", True, prediction=None), record(1, "pgd", False, prediction=None)]
    assert run_of(tmp_path / "run", rows).samples["verdict"].tolist() == ["refused", "broken"]


def test_of_a_random_defence_the_majority_decides(tmp_path: Path) -> None:
    """Sample 0 holds in 6 of 10 draws, 1 in 4, 2 never and not by itself."""
    votes = [(4, 6), (6, 4), (10, 0)]
    rows = [
        record(
            sample,
            "pgd",
            right > away,
            **{"votes": (away, right), "correct": right / 10, "choosing": right / 10},
            **{"clean_votes": (0, 10), "clean_correct": 1.0, "selected": True},
        )
        for sample, (away, right) in enumerate(votes)
    ]
    beside = {"clean_votes": (9, 1), "clean_correct": 0.1, "clean": 0}
    rows[2] = record(
        2, "pgd", False, **{"votes": (10, 0), "correct": 0.0, "choosing": 0.0}, **beside
    )
    table = run_of(tmp_path / "run", rows, draws=10).samples
    assert table["verdict"].tolist() == ["stood", "broken", "wrong without attack"]
    # What no proposal made worse by the draws that choose stands as it is.
    assert table["robust"].tolist() == pytest.approx([0.6, 0.4, 0.1])


# --- what is shown


def test_the_fragment_shows_the_numbers(run: Run) -> None:
    page = Shown(run._repr_html_())
    worst = proportion(1, 4)
    interval = f"{100 * worst.low:.1f} to {100 * worst.high:.1f}"
    assert f"keeps 25.0 % (95 % interval {interval} %) under the worst of 1 attack" in page.text
    names = [row[0] for row in page.rows]
    assert names == ["what", "clean", "noise", "pgd", "worst case over all attacks"]
    assert page.rows[3][1:] == ["4", "25.0", interval, "90"]
    for said in ("warning: noise-as-strong", FINDING["what"], FINDING["remedy"]):
        assert said in page.text
    # Before the table, so that nobody reads a number without it.
    assert page.text.index("noise-as-strong") < page.text.index("accuracy, %")


def test_the_fragment_stands_by_itself(run: Run) -> None:
    fragment = run._repr_html_()
    page = Shown(fragment)
    assert not {"script", "style", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert set(attributes) <= {"style", "scope"}
    assert "url(" not in fragment
    assert not re.search(r"[^-]color:(?!inherit)", fragment)  # text has the page's own colour
    assert len(fragment) < 10_000


def test_hostile_names_are_text(tmp_path: Path) -> None:
    finding: dict[str, Any] = dict.fromkeys(("code", "severity", "what", "remedy"), HOSTILE)
    labels: dict[str, Any] = dict.fromkeys(("model", "data", "threat", "defense"), HOSTILE)
    rows = [record(0, HOSTILE, True), record(0, "=1+1", True)]
    run = run_of(tmp_path / "<b>run", rows, findings=[finding], **labels)
    page = Shown(run._repr_html_())
    assert {tag for tag, _ in page.tags} <= {
        *("div", "p", "br", "table", "caption", "thead", "tbody", "tr", "th", "td")
    }
    assert "<script>alert(1)</script> <img src=x" in page.text
    assert page.rows[2][0].startswith("<script>alert(1)</script>")
    for shown in (page.text, repr(run)):
        assert "\u202e" not in shown
    assert "\n" not in repr(run)


def test_a_run_in_part_says_so(run: Run) -> None:
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["status"] = "running"
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    (run.path / "spec.toml").write_text(tomli_w.dumps({**run.spec, "samples": 9}))
    part = robustcode.load_run(run.path, partial=True)
    said = "5 of 9 samples are missing"
    assert said in repr(part)
    fragment = part._repr_html_()
    assert said in fragment.partition("<caption")[2].partition("</caption")[0]
    assert "easier or harder" in fragment


def test_a_run_that_its_time_limit_ended_says_so(run: Run) -> None:
    stopped = replace(run, manifest={**run.manifest, "status": "stopped"})
    assert repr(stopped).endswith("1 finding, stopped by its time limit)")
    page = stopped._repr_html_()
    assert "the same call with more time finishes it" in page.partition("<table")[0]
    assert "time limit" not in run._repr_html_()


def test_what_a_failure_does_to_the_numbers_is_said_with_them(run: Run) -> None:
    """As in a report, whose words these are."""
    assert "The evidence for these numbers is weakened: 1 warning below." in run._repr_html_()
    good = "No check found anything that weakens the evidence."
    assert good not in run._repr_html_()
    clean = {**run.summary, "suite": "quick", "checks": [{"code": "one-class"}]}
    checked = replace(run, findings=[], summary=clean)
    assert good in checked._repr_html_()
    assert "worst of 1 attack of the suite quick" in checked._repr_html_()
    # Nobody knows of a run without checks.
    assert good not in replace(run, findings=[])._repr_html_()
    grave = {**FINDING, "severity": "failure"}
    failed = replace(run, findings=[FINDING, grave, grave])
    assert "Do not rely on these numbers: 2 failures below." in failed._repr_html_()
    assert repr(failed).endswith("3 findings, 2 failures among them)")


def test_a_test_of_an_evaluation_is_not_taken_for_it(run: Run) -> None:
    pilot = replace(run, summary={**run.summary, "tested": 500})
    assert "4 samples of 500 to test the evaluation" in repr(pilot)
    assert "These are 4 of 500 samples" in pilot._repr_html_().partition("<table")[0]


def test_a_run_of_corruptions_shows_error_loss_and_calibration(run: Run) -> None:
    def measured(right: int) -> dict[str, Any]:
        return {**accuracy(right), "nll": 4 - right, "calibration": (4 - right) / 8, "ece": 0.5}

    named = {"fog": measured(1), "frost": measured(2)}
    corrupted = {
        "clean": measured(4),
        "corruptions": [],
        "corruption_means": {"all": measured(2), "groups": {"weather": {}}, "corruptions": named},
        "corruption_scale": "cifar-10-c",
    }
    bare = {**run.summary, **corrupted, "robust": None, "attacks": []}
    spoilt = replace(run, summary=bare, spec={**run.spec, "command": "corrupt"}, findings=[])
    page = Shown(spoilt._repr_html_())
    assert [row[0] for row in page.rows] == ["what", "clean", "fog", "frost", "mean of all"]
    assert page.rows[2][1:] == ["75.0", _error(1), "3.000", "37.5"]
    assert f"most under fog: 75.0 % (95 % interval {_error(1)} %)" in page.text
    assert "Its calibration error is 0.0 % on clean images and 25.0 %" in page.text
    assert "under common corruptions" in repr(spoilt)
    assert "corrupted 50.0 %" in repr(spoilt)


def _error(right: int) -> str:
    _, low, high = proportion(right, 4)
    return f"{100 * (1 - high):.1f} to {100 * (1 - low):.1f}"


def test_a_run_of_certificates_says_what_came_of_each_sample(run: Run) -> None:
    points = [{"radius": radius, **accuracy(n)} for radius, n in ((0.1, 2), (0.2, 1))]
    proved = {**accuracy(2), "method": "crown", "threat": "linf:0.1", "samples": 4, "curve": points}
    proved |= {"undecided": 1, "wrong": 1, "abstained": 0}
    bare = {**run.summary, "robust": None, "attacks": [], "certified": proved}
    page = Shown(replace(run, summary=bare, spec={**run.spec, "command": "certify"})._repr_html_())
    assert "is certified by crown for 50.0 %" in page.text
    assert "Of 4 samples 2 certified, 1 undecided" in page.text
    assert [row[2] for row in page.rows[1:]] == ["75.0", "50.0", "50.0", "25.0"]
    assert page.rows[-1][0] == "certified to radius 0.2"


def test_a_line_says_what_a_run_is(run: Run) -> None:
    assert repr(run) == (
        f"Run({str(run.path)!r}: m on d in linf:0.1, 4 samples, clean 75.0 %, robust 25.0 %, "
        "2 attacks, 1 finding)"
    )


def test_a_curve_shows_each_eps() -> None:
    points = [
        {"threat": threat, "samples": 4, "passes": 9, "clean": accuracy(3), "robust": accuracy(n)}
        for threat, n in (("linf:0.1", 2), ("linf:0.2", 1))
    ]
    page = Shown(curve_html("here", points, left=1))
    assert "Keeps 50.0 % at linf:0.1, 25.0 % at linf:0.2. 1 threat not begun." in page.text
    assert [row[0] for row in page.rows] == ["threat", "linf:0.1", "linf:0.2"]


def accuracy(right: int) -> dict[str, Any]:
    value, low, high = proportion(right, 4)
    return {"accuracy": value, "low": low, "high": high, "correct": right}


def test_a_notebook_shows_the_fragment_and_a_console_the_line(run: Run) -> None:
    formatters = pytest.importorskip("IPython.core.formatters", reason="without IPython")
    shown, _ = formatters.DisplayFormatter().format(run)
    assert shown["text/html"] == run._repr_html_()
    assert shown["text/plain"] == repr(run)
