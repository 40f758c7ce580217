"""Nothing is both certified and broken: every method, model and threat, against attacks on it."""

from pathlib import Path
from typing import Any

import pytest

import robustcode
from robustcode.bracket import bracket
from robustcode.certify import METHODS
from robustcode.components import Component
from robustcode.store import Run

MODELS = ("digits_cnn", "digits_cnn:adversarial")
# Where some samples hold and some fall: between the two a false proof would show.
THREATS = {"digits_cnn": ("linf:0.03", "l2:0.3", "l1:1"), "digits_cnn:adversarial": ("linf:0.1",)}
SAMPLES = 16
# Settings where the defaults are missing or take long.
SETTINGS = {
    "smoothing": ["smoothing:sigma=0.2,draws=2000"],
    "coded": ["coded:draws=64"],
    "bab": ["bab:domains=200"],
}
DEFENSES = {"coded": ["coded-smoothing:k=4", "coded-smoothing:k=4,permutation=fixed"]}
CASES = [
    (model, threat, method, defense)
    for model in MODELS
    for threat in THREATS[model]
    for name in sorted(METHODS)
    if threat.partition(":")[0] in METHODS.get(name).norms
    for method in SETTINGS.get(name, [name])
    for defense in DEFENSES.get(name, ["identity"])
]


def prove(case: tuple[str, ...], out: Path) -> Run:
    model, threat, method, defense = case
    return robustcode.certify(
        *(model, "digits", threat, method, out),
        defense=defense,
        samples=SAMPLES,
        progress=False,
    )


def attack(certified: Run, out: Path, **spec: Any) -> Run:
    """Attack what the certificates speak of."""
    return robustcode.attack(
        *(certified.spec["model"], "digits", certified.spec["threat"], out),
        defense=certified.summary["certified"]["subject"],
        samples=SAMPLES,
        draws=20,
        certified=certified.path,
        progress=False,
        **spec,
    )


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_nothing_certified_is_broken(case: tuple[str, ...], tmp_path: Path) -> None:
    certified = prove(case, tmp_path / "certified")
    margins = ["pgd:steps=20,loss=margin", "apgd-ce:steps=20"]
    attacked = attack(certified, tmp_path / "attacked", attacks=margins)
    found = bracket(certified, attacked)
    assert (found.table[found.table.state == "certified"].robust > 0).all()


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_nothing_certified_is_broken_by_all_attacks_there_are(
    case: tuple[str, ...], tmp_path: Path
) -> None:
    certified = prove(case, tmp_path / "certified")
    bracket(certified, attack(certified, tmp_path / "attacked", suite="strong"))


def test_every_method_is_among_the_cases() -> None:
    assert {Component.parse(method).name for _, _, method, _ in CASES} == set(METHODS)
