"""Every registered attack keeps what an attack promises, third-party ones included."""

from collections.abc import Mapping

import pytest

from robustcode.attacks import ATTACKS, Attack
from robustcode.components import Component, Scalar
from robustcode.testing import Check, attack_checks, check_attack

# Less than the defaults, for time: what is promised does not depend on how long is searched, ..
BRIEF: Mapping[str, Mapping[str, Scalar]] = {
    **{name: {"steps": 10} for name in ("aggmo", "apgd-ce", "apgd-dlr", "apgd-margin", "apgd-pm")},
    **{name: {"steps": 10} for name in ("apgd-t", "cw", "ddn", "fab", "fab-t", "fmn", "mended")},
    **{name: {"steps": 10} for name in ("nes", "spsa")},
    "hopskipjump": {"steps": 3},
    "square": {"queries": 300},
    "transfer-pgd": {"before": 5, "steps": 10},
}
# .. but for this, which these do in as much as stands here; the others do it in brief.
STRENGTH = (
    "it breaks every sample 5 % above its critical eps",
    "it breaks every sample 5 % above its critical eps with the box in its way",
    "it finds the bottom of a curved score",
    "it finds the nearest wrong input of a linear classifier within 5 %",
    "it does not stop at a lucky draw",
    "it follows the mean over all the draws it is set to",
)
LONGER: Mapping[str, Mapping[str, Scalar]] = {
    "aggmo": {"steps": 40},
    "cw": {},
    "ddn": {"steps": 60},
    "hopskipjump": {},
    "nes": {},
    "spsa": {},
    "square": {"queries": 2000},
    "transfer-pgd": {"before": 20, "steps": 20},
}


@pytest.mark.parametrize("check", attack_checks(), ids=str)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack_keeps_its_promises(name: str, check: Check[Attack]) -> None:
    settings = BRIEF.get(name, {})
    if str(check) in STRENGTH:
        settings = LONGER.get(name, settings)
    check.run(Component(name, settings).build(ATTACKS, "test"))


def test_what_measures_strength_is_checked() -> None:
    assert set(STRENGTH) <= set(map(str, attack_checks()))


@pytest.mark.long
@pytest.mark.parametrize("name", BRIEF)
def test_an_attack_keeps_them_in_its_defaults(name: str) -> None:
    check_attack(Component(name, {}).build(ATTACKS, "test"))


@pytest.mark.parametrize(
    "spec",
    [
        "fgsm:loss=dlr",
        "fgsm:draws=3",
        "pgd:loss=dlr,steps=20",
        "pgd:loss=margin,restarts=2,steps=20",
        "pgd:until_broken=false,random_start=false,steps=20",
    ],
)
def test_settings_keep_them_too(spec: str) -> None:
    attack: Attack = Component.parse(spec).build(ATTACKS, "test")
    for check in attack_checks():
        check.run(attack)


def test_what_is_held_to_less_says_so() -> None:
    """Only a control may miss what can be found, and only FGSM is one step."""
    attacks = {name: ATTACKS.get(name) for name in ATTACKS}
    assert {name for name, attack in attacks.items() if attack.control} == {"noise"}
    assert {name for name, attack in attacks.items() if attack.one_step} == {"fgsm"}
