"""What a report says of runs that differ in eps alone: its sentence, its table, its figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustcode.reports.figures.accuracies import Curve
from robustcode.reports.sections.curve import (
    curve_dots,
    curve_grid,
    curve_verdict,
    series_of,
)
from robustcode.reports.source import Source, sources
from robustcode.reports.table import Row, rows_of
from robustcode.statistics import proportion
from robustcode.store import Run

SAMPLES = 40


def run_of(eps: str, right: int, folder: str = "run", **more: Any) -> Run:
    """A run of 40 samples, of which 39 are right without attack and so many under it."""

    def told(correct: int) -> dict[str, float]:
        value, low, high = proportion(correct, SAMPLES)
        return {"accuracy": value, "low": low, "high": high, "correct": correct}

    attack = {"name": "pgd", "settings": {"steps": 5}, **told(right)}
    named = {"model": "net", "defense": "identity", "data": "made-up", "threat": f"linf:{eps}"}
    measured = {"samples": SAMPLES, "clean": told(39), "robust": told(right), "attacks": [attack]}
    spec = {"command": "attack", "samples": SAMPLES}
    held = {"checkpoint_sha256": "c", "data_sha256": {"x": "d"}, "shards": {"files": {}}}
    run = Run(Path("curve") / folder, spec, held, {**named, **measured, **more}, [])
    run.__dict__["records"] = pd.DataFrame()
    return run


def of(*points: tuple[str, int], **more: Any) -> tuple[list[Source], dict[str, list[Row]]]:
    """The runs of a curve by the eps and what is right of each, and their rows."""
    runs = [run_of(*point, f"eps-{n:02d}", **more) for n, point in enumerate(points)]
    found = [
        Source(f"net {place}", run, pd.DataFrame(), f"net-{place}")
        for place, run in enumerate(runs)
    ]
    return found, {source.label: rows_of(source) for source in found}


def test_of_few_eps_all_are_named_with_clean_intervals_and_attack() -> None:
    found, rows = of(("0.1", 30), ("0.2", 10), suite="quick")
    (series,) = series_of(found)
    clean, first, last = (
        f"{100 * n / SAMPLES:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        for n in (39, 30, 10)
        for _, low, high in [proportion(n, SAMPLES)]
    )
    assert curve_verdict(series, rows) == (
        f"On 40 samples of made-up, net classifies {clean} correctly and under the suite quick "
        f"keeps {first} at linf:0.1 and {last} at linf:0.2."
    )
    assert curve_grid(series, rows).rows[0][:3] == ("clean", "40", "97.5")
    dots, places = curve_dots(series, rows)
    assert Curve("curve", "", dots, places).said == "0 97.5 %; 0.1 75.0 %; 0.2 25.0 %; 0 is clean"
    assert places == (0.0, 0.1, 0.2)
    assert [(dot.label, dot.kind, dot.value) for dot in dots] == [
        ("0", "clean", 39 / 40),
        ("0.1", "worst case", 30 / 40),
        ("0.2", "worst case", 10 / 40),
    ]


def test_of_many_eps_both_ends_and_where_half_is_passed() -> None:
    points = [("0", 39), ("0.1", 35), ("0.2", 20), ("0.3", 19), ("0.4", 5), ("0.5", 1)]
    found, rows = of(*points)
    (series,) = series_of(found)
    said = curve_verdict(series, rows)
    assert "under a list of attacks (pgd) keeps 87.5 %" in said
    assert " at linf:0.1 and 2.5 %" in said
    # Half is not less than half.
    assert "; it falls below 50 % between 50.0 %" in said
    assert " at linf:0.2 and 47.5 %" in said
    assert "linf:0.4" not in said
    assert "linf:0 " not in said
    # Clean stands once: eps 0 is that.
    assert [row[0] for row in curve_grid(series, rows).rows][:2] == ["linf:0", "linf:0.1"]
    dots, places = curve_dots(series, rows)
    assert len(places) == len(points)
    assert dots[0].label == "0"


def test_a_curve_that_stays_above_half_passes_it_nowhere() -> None:
    found, rows = of(*[(f"0.{place}", 39 - place) for place in range(1, 7)])
    (series,) = series_of(found)
    assert "below" not in curve_verdict(series, rows)


@pytest.mark.parametrize("folders", [("eps-00", "eps-01"), ("a", "b")])
def test_runs_that_differ_in_eps_are_called_by_it(folders: tuple[str, str]) -> None:
    runs = [run_of("0.02", 30, folders[0]), run_of("0.1", 20, folders[1])]
    found = sources(runs)
    assert [source.label for source in found] == ["net at linf:0.02", "net at linf:0.1"]
    assert found[1].key == "net-linf-0-1"
    # What is added later renames no file of the first.
    assert found[0].key == sources(runs[:1])[0].key
    # Of two runs at one eps it does not tell them apart: their folders do.
    other = [source.label for source in sources([*runs, run_of("0.1", 10, "c")])]
    assert other == [f"net ({folder})" for folder in (*folders, "c")]
