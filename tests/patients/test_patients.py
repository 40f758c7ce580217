"""Patients look robust and are not; honest models are what they look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest
import torch
from torch import Tensor

from robustcode.checkpoint import load_classifier
from robustcode.components import Component
from robustcode.data import load_data
from robustcode.defenses import DEFENSES, Defense
from robustcode.models import MODELS
from robustcode.seeds import Streams
from robustcode.testing.patients import PATIENTS


class Measured(Protocol):
    """See conftest.Measured."""

    @property
    def clean(self) -> float: ...
    @property
    def plain(self) -> float: ...
    @property
    def by_hand(self) -> float: ...


# A stock defence with settings is tried as such where it is at home.
OWN = [name for name, patient in PATIENTS.items() if patient.model or patient.defense]


# One test for each: workers of pytest-xdist do not share what is measured.
@pytest.mark.parametrize("name", PATIENTS)
def test_plain_pgd_leaves_much_of_what_falls_to_who_has_read_the_code(
    name: str, measured: Callable[[str], Measured]
) -> None:
    found = measured(name)
    assert found.clean >= 0.9
    assert found.plain >= found.by_hand + 0.2
    assert found.by_hand <= 0.05 or not PATIENTS[name].breakable


def test_plain_pgd_leaves_no_more_of_an_honest_model_than_there_is(
    honest: object, weighed: Callable[[object], Measured]
) -> None:
    found = weighed(honest)
    assert found.plain <= found.by_hand + 0.1  # half of what makes a fake
    assert 0 < found.by_hand < 1, "neither all nor nothing is left"
    assert found.clean >= 0.6


@pytest.mark.parametrize("name", [name for name in OWN if not PATIENTS[name].stochastic])
def test_answers_depend_on_mates_or_on_the_past_where_the_patient_says_so(name: str) -> None:
    patient = PATIENTS[name]
    x = load_data("digits").images(range(64))
    noise = Streams.of(0, "near", torch.arange(64)).normal(64).view_as(x)
    alone = _scores(patient.fresh(), x[::2])
    mated = _scores(patient.fresh(), x)[::2]
    assert patient.coupled is not _close(alone, mated)
    asked = patient.fresh()
    _scores(asked, (x[::2] + 0.1 * noise[::2]).clamp(0, 1))
    assert patient.stateful is not _close(alone, _scores(asked, x[::2]))


@pytest.mark.parametrize("name", [name for name in OWN if not PATIENTS[name].stateful])
def test_answers_are_random_where_the_patient_says_so(name: str) -> None:
    defense, x = PATIENTS[name].fresh(), load_data("digits").images(range(8))
    with torch.random.fork_rng(devices=[]):
        first, second = _scores(defense, x), _scores(defense, x)
        assert PATIENTS[name].stochastic is not torch.equal(first, second)


@pytest.mark.parametrize("name", OWN)
def test_a_patient_keeps_its_flaw_to_itself(name: str) -> None:
    defense = PATIENTS[name].fresh()
    assert defense.differentiable
    assert not defense.stochastic
    assert not defense.batch_coupled


@pytest.mark.parametrize("name", OWN)
def test_a_patient_is_found_by_its_spec(name: str) -> None:
    spec = PATIENTS[name].spec
    model = load_classifier(spec["model"], classes=10)
    named = Component.parse(spec.get("defense", "identity"))
    defense: Defense = named.build(DEFENSES, "defense", model=model)
    fresh, x = PATIENTS[name].fresh(), load_data("digits").images(range(8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = _scores(defense, x)
        torch.manual_seed(0)
        assert torch.equal(found, _scores(fresh, x))


def test_nobody_is_offered_a_patient() -> None:
    assert not PATIENTS.keys() & {*DEFENSES, *MODELS}
    assert not any("patients" in DEFENSES.get(name).__module__ for name in DEFENSES)


@torch.no_grad()
def _scores(defense: Defense, x: Tensor) -> Tensor:
    return defense.logits(x, Streams.of(0, "asked", torch.arange(len(x))))


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether they differ by no more than the rounding of sums in another order."""
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3)
