"""What attacks, defences and methods promise, as checks that third parties run on their own.

In a test of yours, each promise by itself::

    @pytest.mark.parametrize("check", attack_checks(), ids=str)
    def test_contract(check):
        check.run(MyAttack())

or all at once, ``check_attack(MyAttack())``; on the command line, for what is registered,
``robustcode check attack my-attack:steps=40``.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from robustcode.attacks import ATTACKS, Attack
from robustcode.components import Component
from robustcode.defenses import DEFENSES, Defense
from robustcode.errors import ConfigError
from robustcode.methods import METHODS, Method
from robustcode.registry import suggestion
from robustcode.testing.attack_contract import attack_checks, check_attack
from robustcode.testing.check import Check, trial
from robustcode.testing.defense_contract import (
    DefenseFactory,
    check_defense,
    defense_checks,
    example,
)
from robustcode.testing.method_contract import check_method, method_checks
from robustcode.workers import threads

__all__ = [
    "Check",
    "DefenseFactory",
    "attack_checks",
    "check_attack",
    "check_component",
    "check_defense",
    "check_method",
    "defense_checks",
    "method_checks",
]


def check_component(kind: str, spec: str) -> Iterator[str]:
    """Try each promise of a registered component, and yield a line for each that it keeps.

    ``kind`` is ``attack``, ``defense`` or ``method``, ``spec`` ``NAME`` or ``NAME:key=value,..``.
    ContractError, with the figures, at the first promise that is broken.
    """
    component = Component.parse(spec)
    count = 0
    with threads(1):  # the problems are too small to be shared out
        for name in _kept(kind, component):
            count += 1
            yield f"kept: {name}"
    article = "an" if kind == "attack" else "a"
    yield f"{component} keeps all {count} promises of {article} {kind}"


def _kept(kind: str, component: Component) -> Iterator[str]:
    if kind == "attack":
        attack: Attack = component.build(ATTACKS, "check")
        return trial(attack_checks(), attack)
    if kind == "defense":
        factory: DefenseFactory = _Registered(component)
        example(factory)  # impossible settings are the caller's fault, not the defence's
        return trial(defense_checks(), factory)
    if kind == "method":
        method: Method = component.build(METHODS, "check")
        return trial(method_checks(), method)
    known = ("attack", "defense", "method")
    raise ConfigError(
        f"no kind of component is called {kind!r}.{suggestion(kind, known)} "
        f"Known: {', '.join(known)}."
    )


class _Registered:
    """A registered defence around any model, which is named as the user named it."""

    def __init__(self, component: Component) -> None:
        self._component = component

    def __call__(self, model: nn.Module, mates: Tensor) -> Defense:
        defense: Defense = self._component.build(DEFENSES, "check", model=model, mates=mates)
        return defense

    def __repr__(self) -> str:
        return str(self._component)
