"""Logs in the form of Cohen et al.: the published ones are read, and ours read like them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from robustcode.certificates import Certificate, Status
from robustcode.errors import DataError
from robustcode.methods.cohen import Row, read_tsv, to_tsv

PUBLISHED = Path(__file__).parents[2] / ".." / "shared" / "data" / "results" / "smoothing_cohen2019"
LOGS = PUBLISHED / "data" / "certify" / "cifar10" / "resnet110"

published = pytest.mark.skipif(not LOGS.exists(), reason="the published logs are not here")

CERTIFICATES = [
    Certificate(sample=3, label=2, prediction=2, status=Status.CERTIFIED, radius=0.1 + 0.2),
    Certificate(sample=7, label=2, prediction=5, status=Status.WRONG, radius=0.25),
    Certificate(sample=8, label=0, prediction=None, status=Status.ABSTAINED, radius=0.0),
]
SECONDS = [0.5, 3725.25, 0.0]


@published
@pytest.mark.parametrize(
    ("sigma", "certified"),
    # The published table of the same logs, vary_noise_cifar10.md beside them.
    [
        ("0.12", [0.59, 0.00, 0.00, 0.00, 0.00, 0.00]),
        ("0.25", [0.60, 0.43, 0.27, 0.00, 0.00, 0.00]),
        ("0.50", [0.55, 0.41, 0.32, 0.23, 0.15, 0.09]),
        ("1.00", [0.39, 0.34, 0.28, 0.22, 0.17, 0.14]),
    ],
)
def test_published_logs_give_the_published_table(sigma: str, certified: list[float]) -> None:
    rows = read_tsv(LOGS / f"noise_{sigma}" / "test" / f"sigma_{sigma}")
    assert len(rows) == 500
    for radius, share in zip((0.25, 0.5, 0.75, 1.0, 1.25, 1.5), certified, strict=True):
        found = sum(row.correct and row.radius >= radius for row in rows) / len(rows)
        # Two digits are printed, and a share of 500 that ends in half a hundredth is rounded either
        # way.
        assert found == pytest.approx(share, abs=0.0051)


@published
def test_a_published_line_means_what_it_says() -> None:
    first, second, *_ = read_tsv(LOGS / "noise_0.25" / "test" / "sigma_0.25")
    assert first == Row(0, 3, 3, 0.378, True, 15.4)
    assert second == Row(20, 7, None, 0.0, False, 15.6)
    assert read_tsv(LOGS / "noise_0.12" / "test" / "sigma_0.12")[0].seconds == 13.736080


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(to_tsv(CERTIFICATES, SECONDS))
    assert read_tsv(log) == [
        Row(3, 2, 2, 0.1 + 0.2, True, 0.5),
        Row(7, 2, 5, 0.25, False, 3725.25),
        Row(8, 0, None, 0.0, False, 0.0),
    ]


def test_others_read_it_as_they_read_the_published_ones(tmp_path: Path) -> None:
    """By the way of the authors' own analysis: pandas, tabs, ``correct & (radius >= r)``."""
    log = tmp_path / "log"
    log.write_text(to_tsv(CERTIFICATES, SECONDS))
    table = pd.read_csv(log, delimiter="\t")
    assert table.columns.tolist() == ["idx", "label", "predict", "radius", "correct", "time"]
    assert (table["correct"] & (table["radius"] >= 0.25)).tolist() == [1, 0, 0]
    assert table["predict"].tolist() == [2, 5, -1]
    assert pd.to_timedelta(table["time"])[1] == timedelta(seconds=3725.25)


def test_each_certificate_has_a_time() -> None:
    with pytest.raises(ValueError, match="their numbers differ"):
        to_tsv(CERTIFICATES, SECONDS[:2])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "its first line is not idx label predict radius correct time"),
        ("idx\tlabel\tpredict\tcorrect\ttime\n", "its first line is not"),
        ("idx\tlabel\tpredict\tradius\tcorrect\ttime\n1\t2\t2\tfar\t1\t3\n", "line 2: .*far"),
        ("idx\tlabel\tpredict\tradius\tcorrect\ttime\n1\t2\t2\n", "line 2: not enough"),
    ],
)
def test_what_is_no_log_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_tsv(tmp_path / "log")
