"""Nothing is both certified and broken: every method, model and threat, against attacks on it."""

from pathlib import Path
from typing import Any

import pytest

import robustcode
from robustcode.bracket import bracket
from robustcode.components import Component
from robustcode.methods import METHODS
from robustcode.store import Run

MODELS = ("digits_cnn", "digits_cnn:adversarial")
# Where some samples hold and some fall: between the two a false proof would show.
THREATS = {"digits_cnn": ("linf:0.03", "l2:0.3", "l1:1"), "digits_cnn:adversarial": ("linf:0.1",)}
SAMPLES = 8
# Settings where the defaults are missing, take long or reach less far than the threats.
SETTINGS = {
    "smoothing": "smoothing:sigma=0.4,draws=2000",
    "coded": "coded:draws=10",
    "coded-noise": "coded-noise:sigma=0.4,draws=500",
    "bab": "bab:domains=50",
}
# What a method proves something of, where that is not the plain network, and against whom.
DEFENSES = {
    "coded": [
        ("coded-smoothing:k=4", "solo"),
        ("coded-smoothing:k=4,fixed=true", "solo"),
        ("coded-smoothing:k=4", "batch"),
    ],
}
# Of what a method with noise around coded batches proves, attacks know no defence by name.
NOT_ATTACKED = {"coded-noise"}
CASES = [
    (model, threat, SETTINGS.get(name, name), defense, adversary)
    for model in MODELS
    for threat in THREATS[model]
    for name in sorted(set(METHODS) - NOT_ATTACKED)
    if threat.partition(":")[0] in METHODS.get(name).norms
    for defense, adversary in DEFENSES.get(name, [("identity", "solo")])
]
# One threat of each model and one adversary here, the others where time allows.
QUICK = [
    pytest.param(
        case,
        marks=[] if case[1] in ("linf:0.03", "l2:0.3") and case[4] == "solo" else pytest.mark.long,
    )
    for case in CASES
]


def prove(case: tuple[str, ...], out: Path) -> Run:
    model, threat, method, defense, adversary = case
    return robustcode.certify(
        *(model, "digits", threat, method, out),
        defense=defense,
        adversary=adversary,
        samples=SAMPLES,
        progress=False,
    )


def attack(certified: Run, out: Path, **spec: Any) -> Run:
    """Attack what the certificates speak of."""
    return robustcode.attack(
        *(certified.spec["model"], "digits", certified.spec["threat"], out),
        defense=certified.summary["certified"]["subject"],
        adversary=certified.spec["adversary"]["name"],
        samples=SAMPLES,
        draws=20,
        certified=certified.path,
        progress=False,
        **spec,
    )


@pytest.mark.parametrize("case", QUICK, ids=" ".join)
def test_nothing_certified_is_broken(case: tuple[str, ...], tmp_path: Path) -> None:
    certified = prove(case, tmp_path / "certified")
    margins = ["pgd:steps=10,loss=margin"]
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
    tried = {Component.parse(case[2]).name for case in CASES}
    assert tried | NOT_ATTACKED == set(METHODS)
