"""A run of corruptions on a page: its numbers by another way, its charts, its verdict."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import robustcode
from robustcode.checks.base import CHECKS
from robustcode.corrupted import PROBABILITIES, notes_of, summarise_answers
from robustcode.reports.drawing import Theme, drawn, shown
from robustcode.reports.figures.corruptions import Errors, Reliability
from robustcode.reports.sections.beside import besides_of, part_beside
from robustcode.reports.sections.corruption import corruption_verdict, lines_of, part_of
from robustcode.reports.source import Source, sources
from robustcode.store import Run

SAMPLES = 60
GROUPS = {"gaussian_noise": "noise", "shot_noise": "noise", "fog": "weather"}
COST = {"cost": {"seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mb": 1.0}}
HOSTILE = "$\\frac{</script>\u202e & %_^# 日本 "


def answers(draws: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Answers of a made-up classifier that errs and boasts more as severity grows."""
    generator = np.random.default_rng(seed)
    rows = []
    for name, severity in [("clean", 0), *((n, s) for n in GROUPS for s in (1, 3, 5))]:
        for sample in range(SAMPLES):
            right = generator.random() < 0.95 - 0.12 * severity * (name != "shot_noise")
            confidence = generator.uniform(0.6, 1.0)
            share = generator.binomial(draws, 0.9 if right else 0.2) / draws if draws else right
            rows.append(
                {
                    **{"sample": 3 * sample, "label": 1, "corruption": name, "severity": severity},
                    **{"prediction": 1 if right else 0, "correct": share},
                    **{"likeliest": 1 if right else 0, "confidence": confidence},
                    "likelihood": math.log(confidence if right else 1 - 0.99 * confidence),
                    **{"forwards": draws or 1, "seed": 0},
                }
            )
    kinds = {"prediction": "Int64", "likeliest": "Int64"}
    return pd.DataFrame(rows).astype(kinds)


def source(label: str = "net", draws: int | None = None, **manifest: object) -> Source:
    """A run with these answers, as the engine sums them up."""
    table = answers(draws)
    summary = {
        **summarise_answers(table, [COST], GROUPS, draws),
        **{"corruption_scale": "cifar-10-c", "corruption_frost": "drawn"},
        **{"model": "net", "defense": "identity", "data": "made-up", "threat": ""},
    }
    spec = {"command": "corrupt", "samples": SAMPLES}
    held = {"checkpoint_sha256": "c", "data_sha256": {"x": "d"}, **manifest}
    run = Run(Path("run"), spec, {**held, "shards": {"files": {}}}, summary, [])
    return Source(label, run, pd.DataFrame())


def attacked(defense: str = "identity", samples: int = SAMPLES, **manifest: object) -> Source:
    accuracy = {"accuracy": 0.9, "low": 0.8, "high": 0.95, "correct": 54}
    summary = {
        **{"samples": samples, "clean": accuracy, "threat": "linf:0.1", "model": "net"},
        "robust": {"accuracy": 0.25, "low": 0.15, "high": 0.38, "correct": 15},
        "attacks": [{"name": "pgd", "settings": {}, **accuracy}],
        **{"defense": defense, "data": "made-up"},
    }
    held = {"checkpoint_sha256": "c", "data_sha256": {"x": "d"}, **manifest}
    spec = {"command": "attack", "samples": samples}
    run = Run(Path("run"), spec, {**held, "shards": {"files": {}}}, summary, [])
    run.__dict__["records"] = pd.DataFrame()
    return Source("net under attack", run, pd.DataFrame())


@pytest.mark.parametrize("draws", [None, 5])
def test_each_number_is_that_of_the_answers(draws: int | None) -> None:
    """Error, NLL and means of the tables, by plain means over the answers."""
    table, part = answers(draws), part_of(source(draws=draws), 1)
    assert part is not None
    errors, losses, _ = part.grids
    lines = {row[0] if row[0] != "mean" else f"mean {row[1]}": row for row in errors.rows}
    right = table["correct"].astype(float)
    for name, group in GROUPS.items():
        own = table["corruption"] == name
        for place, severity in enumerate((1, 3, 5), 2):
            cell = own & (table["severity"] == severity)
            assert lines[name][place] == f"{100 * (1 - right[cell].mean()):.1f}"
        assert lines[name][1] == group
        assert lines[name][5] == f"{100 * (1 - right[own].mean()):.1f}"
        nll = next(row for row in losses.rows if row[0] == name)
        assert nll[5] == f"{-table.loc[own, 'likelihood'].mean():.3f}"
    noise = table["corruption"].isin(["gaussian_noise", "shot_noise"])
    assert lines["mean noise"][5] == f"{100 * (1 - right[noise].mean()):.1f}"
    spoilt = table["severity"] > 0
    assert lines["mean all"][5] == f"{100 * (1 - right[spoilt].mean()):.1f}"
    assert lines["clean"][5] == f"{100 * (1 - right[~spoilt].mean()):.1f}"


def test_intervals_stand_around_their_numbers() -> None:
    part = part_of(source(), 1)
    assert part is not None
    for grid in part.grids:
        place = next(n for n, head in enumerate(grid.headers) if head.startswith("95 %"))
        told = 0
        for row in grid.rows:
            if found := re.fullmatch(r"([\d.]+) to ([\d.]+)", row[place]):
                told += 1
                assert float(found[1]) <= float(row[place - 1]) <= float(found[2])
        assert told >= 1


def test_no_interval_is_called_by_another_name() -> None:
    """Only the clean line counts each answer as a trial of its own."""
    part = part_of(source(), 1)
    assert part is not None
    errors, losses, calibrations = part.grids
    right = int((answers().query("severity == 0")["correct"]).astype(int).sum())
    exact = binomtest(SAMPLES - right, SAMPLES).proportion_ci(method="exact")
    place = errors.headers.index("95 % interval, %")
    assert errors.rows[0][place] == f"{100 * exact.low:.1f} to {100 * exact.high:.1f}"
    (said,) = [note for note in errors.notes if note.startswith("The interval of the clean error")]
    assert "Clopper-Pearson's at 95 %, which is exact" in said
    assert any("approximation" in note for note in errors.notes)
    assert not any("Clopper" in note for note in (*losses.notes, *calibrations.notes))
    assert {row[0] for row in calibrations.rows[-4:]} <= {*GROUPS, "root mean square"}
    assert "mean" not in calibrations.headers
    squares = [cell["calibration_squared"] for cell in source().run.summary["corruptions"]]
    root = 100 * math.sqrt(sum(squares) / len(squares))
    assert calibrations.rows[-1][calibrations.headers.index("root mean square")] == f"{root:.1f}"


def test_rows_hold_all_cells_and_means() -> None:
    part = part_of(source(), 1)
    assert part is not None
    assert len(part.rows) == 1 + 9 + 3 + 2 + 1
    assert {row.kind for row in part.rows} == {"corruption"}
    assert {row.at for row in part.rows} == {0, 1, 3, 5, None}
    for row in part.rows:
        assert row.value is not None
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high
        assert row.nll is not None


def test_the_table_of_one_group_has_one_mean() -> None:
    one = source()
    table = answers().query("corruption != 'fog'")
    groups = {name: group for name, group in GROUPS.items() if group == "noise"}
    summary = {**one.run.summary, **summarise_answers(table, [COST], groups, None)}
    part = part_of(replace(one, run=replace(one.run, summary=summary)), 1)
    assert part is not None
    assert [row[:2] for row in part.grids[0].rows if row[0] == "mean"] == [("mean", "all")]


def test_scores_that_are_no_numbers_leave_cells_empty() -> None:
    table = answers()
    table.loc[0, ["confidence", "likelihood"]] = np.nan
    one = source()
    summary = {**one.run.summary, **summarise_answers(table, [COST], GROUPS, None)}
    part = part_of(replace(one, run=replace(one.run, summary=summary)), 1)
    assert part is not None
    _, losses, calibrations = part.grids
    assert losses.rows[0][5] == calibrations.rows[0][5] == ""
    assert losses.rows[1][5] != ""
    assert "severity 1" in part.drawings[1].said
    assert "clean" not in part.drawings[1].said


def test_other_runs_have_no_such_part() -> None:
    assert part_of(attacked(), 1) is None


def test_the_verdict_names_error_and_worst_corruption() -> None:
    said = corruption_verdict(source())
    right = answers()["correct"].astype(float).groupby(answers()["corruption"]).mean()
    worst = str(right.idxmin())
    assert f"most under {worst}: {100 * (1 - right.min()):.1f} %" in said
    assert "as the mean of 3 corruptions at severities 1, 3 and 5, most" in said
    assert ", picked as the worst of 3 and so too high by chance." in said
    # The clean one has its interval, and the mean, which has none, says why.
    clean = source().run.summary["clean"]
    told = (100 * clean[name] for name in ("calibration", "calibration_low", "calibration_high"))
    value, low, high = (f"{number:.1f}" for number in told)
    assert f"calibration error is {value} % (95 % interval {low} to {high} %) on clean" in said
    assert said.endswith("(no interval, since its cells share their samples).")
    # Beside attacks it has their accuracies, too, each once.
    assert "ccurac" not in said
    beside = corruption_verdict(source(), accuracies=True)
    assert f"As accuracies: {100 * right['clean']:.1f} % on clean images, " in beside
    assert f" and {100 * right.min():.1f} % under {worst}." in beside


def test_an_estimate_below_0_is_not_told_as_0() -> None:
    one = source()
    clean = {**one.run.summary["clean"], "calibration": 0.0, "calibration_squared": -1e-4}
    below = replace(one, run=replace(one.run, summary={**one.run.summary, "clean": clean}))
    said = corruption_verdict(below)
    assert "Its calibration error is not told from 0 (95 % interval" in said
    assert "0.0 % on clean" not in said


def test_what_is_not_comparable_is_said() -> None:
    notes = " ".join(notes_of(source(draws=5).run.summary))
    for said in ("not divided by another network", "frost is drawn", "5 draws", "cifar-10-c"):
        assert said in notes


def test_what_spoils_nll_and_calibration_is_said() -> None:
    summary = source().run.summary
    assert PROBABILITIES in CHECKS
    weak = {**summary, "findings": [{"code": PROBABILITIES, "severity": "warning"}]}
    weak["clean"] = {**summary["clean"], "unscored": 7}
    before, notes = " ".join(notes_of(summary)), " ".join(notes_of(weak))
    for said in ("7 samples in one cell", "softmax is taken once more"):
        assert said in notes
        assert said not in before


def test_no_note_of_a_page_is_of_another_column_or_another_mean() -> None:
    """Means of calibration errors are root mean squares, and no column is called calib."""
    part = part_of(source(), 1)
    assert part is not None
    assert not any("calib." in note.lower() or "means are" in note for note in part.notes)
    told = notes_of(source().run.summary)
    assert any(note.startswith("calib.: ") and "root mean squares" in note for note in told)
    assert any("means of error and NLL are plain ones" in note for note in told)


def test_lines_begin_at_the_clean_error() -> None:
    table = answers()
    clean = 1 - table.query("severity == 0")["correct"].astype(float).mean()
    for group, points in lines_of(source()):
        assert points[0][0] == 0
        assert points[0][1] == pytest.approx(clean)
        names = [name for name, of in GROUPS.items() if of == group]
        for severity, error in points[1:]:
            own = table[table["corruption"].isin(names) & (table["severity"] == severity)]
            assert error == pytest.approx(1 - own["correct"].astype(float).mean())


@pytest.mark.parametrize("theme", Theme)
def test_charts_are_drawn_the_same_twice_and_are_inert(theme: Theme) -> None:
    errors = Errors("errors1", HOSTILE, ((HOSTILE, ((0, 0.1), (5, 0.4))),))
    bins = ((30.0, 0.5, 0.4), (40.0, 0.9, 0.7), (2.0, 0.95, 0.0))
    confidence = Reliability("reliability1", HOSTILE, ((HOSTILE, bins),))
    for drawing in (errors, confidence):
        picture = shown(drawing, theme)
        assert picture == shown(drawing, theme)
        ET.fromstring(picture)
        assert b"<script" not in picture
        assert drawing.stem.isalnum()
        if theme is Theme.LIGHT:
            assert drawn(drawing).keys() == {"svg", "pdf"}
    assert "40.0 % at 5" in errors.said
    assert "70 % right at 0.90" in confidence.said
    assert "0.95" not in confidence.said, "two answers say nothing of how often one is right"
    few = Reliability("reliability1", "", (("clean", bins[2:]),))
    assert few.said == "no bin holds answers enough"


def test_runs_of_the_same_defence_and_data_stand_side_by_side() -> None:
    part = part_beside([source(), attacked()])
    assert part is not None
    names = [row[0] for row in part.grids[0].rows]
    assert names[:2] == ["clean", "mean over corruptions"]
    assert names[2].startswith("worst corruption: ")
    assert names[3] == "worst case under attack in linf:0.1"
    assert part.grids[0].rows[3][2] == "25.0"
    accuracies = [row.value for row in part.rows]
    assert accuracies[2] is not None
    assert accuracies[1] is not None
    assert accuracies[2] <= accuracies[1]


@pytest.mark.parametrize(
    "other",
    [
        attacked(defense="jpeg"),
        attacked(checkpoint_sha256="another"),
        attacked(data_sha256={"x": "another"}),
        attacked(defense_files_sha256={"codec.npz": "another"}),
        source("another"),
    ],
)
def test_others_do_not(other: Source) -> None:
    assert besides_of([source(), other]) == []
    assert part_beside([source(), other]) is None


def test_what_is_not_known_is_not_the_same() -> None:
    """Folders of old have no hashes: two of them may be of any two models."""
    assert besides_of([source(checkpoint_sha256=None), attacked(checkpoint_sha256=None)]) == []
    assert besides_of([source(data_sha256=None), attacked(data_sha256=None)]) == []
    # Each run names the code of its own attacks, which the other has not.
    pair = [source(code_sha256={"d.py:D": "c"}), attacked(code_sha256={"d.py:D": "c", "a": "b"})]
    assert len(besides_of(pair)) == 1
    pair[1] = attacked(code_sha256={"d.py:D": "another"})
    assert besides_of(pair) == []
    # Nor does a folder of old name the code of a module that was passed: it counts where both do.
    pair = [source(module_code_sha256="m"), attacked(module_code_sha256="m"), attacked()]
    assert len(besides_of(pair)) == 2
    assert besides_of([pair[0], attacked(module_code_sha256="another")]) == []


def test_other_samples_are_said_with_their_own_clean_accuracy() -> None:
    part = part_beside([source(), attacked(samples=30)])
    assert part is not None
    grid = part.grids[0]
    assert grid.notes[0].startswith("The two runs are of different samples")
    assert [row[:3] for row in grid.rows if "attacked" in row[0]] == [
        ("clean, as attacked", "30", "90.0")
    ]


def test_a_real_run_is_read_and_labelled(tmp_path: Path) -> None:
    run = robustcode.corrupt(
        *("digits_cnn", "digits", tmp_path / "run"),
        corruptions=["contrast"],
        severities=[5],
        samples=30,
        progress=False,
    )
    (found,) = sources([run])
    assert found.label == "digits_cnn under corruptions"
    part = part_of(found, 2)
    assert part is not None
    assert part.key == "corruptions-2"
    assert [drawing.stem for drawing in part.drawings] == [
        "corruptions-digits-cnn-under-corruptions",
        "reliability-digits-cnn-under-corruptions",
    ]
