"""What falls to somebody who has read the code falls to `--suite adaptive` with no setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

import robustcode
from robustcode.testing.patients import PATIENTS


class Measured(Protocol):
    """See conftest.Measured."""

    @property
    def samples(self) -> tuple[int, ...]: ...
    @property
    def by_hand(self) -> float: ...


# Of a random patient's accuracy; as many as the attack by hand is judged by.
DRAWS = 50
# Two points, and what the means of as many draws differ by.
AS_GOOD = 0.02
BREAKABLE = [name for name, patient in PATIENTS.items() if patient.breakable]
# One whose own loss is repaired, one whose gradient is, one that forgets and one that refuses.
QUICK = ("scaled_logits", "thermometer", "growing_exemplars", "SureOrSilent")


def others_long() -> list[Any]:
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in BREAKABLE
    ]


@pytest.mark.parametrize("name", others_long())
def test_no_more_is_left_than_by_hand(
    name: str, measured: Callable[[str], Measured], tmp_path: Path
) -> None:
    found = measured(name)
    run = robustcode.attack(
        **PATIENTS[name].spec,
        out=tmp_path / "run",
        suite="adaptive",
        indices=list(found.samples),
        draws=DRAWS,
        progress=False,
    )
    assert run.summary["robust"]["accuracy"] <= found.by_hand + AS_GOOD
