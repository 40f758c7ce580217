"""What will be run: the attacks of a suite and of the user, named so that records can say which."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from robustcode.attacks import ATTACKS, Attack
from robustcode.components import Component, settings_of
from robustcode.config import RunSpec
from robustcode.errors import ConfigError
from robustcode.findings import Facts
from robustcode.suites import SUITES
from robustcode.threat import Norm


@dataclass(frozen=True)
class PlannedAttack:
    """An attack under the name its records carry: the registered one, or with its settings.

    Settings are in the name only where one attack is planned twice, and then those that differ
    from the defaults, in the order of the fields: randomness is keyed to the name, so it must not
    depend on how the settings were written.
    """

    name: str
    attack: Attack

    @property
    def component(self) -> Component:
        """The registered name with every setting, defaults included."""
        return Component(Component.parse(self.name).name, settings_of(self.attack))


def build_attacks(components: Sequence[Component], norm: Norm, path: str) -> list[PlannedAttack]:
    """The attacks that ``components`` name, each once; refused if one does not know the norm."""
    unique: list[tuple[str, Attack]] = []
    for i, component in enumerate(components):
        attack: Attack = component.build(ATTACKS, f"{path}[{i}]")
        if norm not in attack.norms:
            raise ConfigError(
                f"attack {component.name!r} does not work in {norm}, only in "
                f"{', '.join(sorted(attack.norms))}"
            )
        if not any(_same(attack, other) for _, other in unique):
            unique.append((component.name, attack))
    names = [name for name, _ in unique]
    planned = [
        PlannedAttack(name if names.count(name) == 1 else _told_apart(name, attack), attack)
        for name, attack in unique
    ]
    for plan in planned:
        if [other.name for other in planned].count(plan.name) > 1:
            raise ConfigError(
                f"{path}: two attacks {plan.name!r} differ in nothing a name can hold; give one"
            )
    return planned


def _same(attack: Attack, other: Attack) -> bool:
    plain = not dataclasses.is_dataclass(attack)  # such a one has no settings to differ in
    return attack == other or (plain and type(attack) is type(other))


def _told_apart(name: str, attack: Attack) -> str:
    settings = settings_of(attack)
    if dataclasses.is_dataclass(attack):
        for f in dataclasses.fields(attack):
            if getattr(attack, f.name) == f.default:
                settings.pop(f.name, None)
    return str(Component(name, settings))


def check_attacks(spec: RunSpec) -> None:
    """Refuse attacks that cannot be built, before anything long is begun."""
    build_attacks(spec.attacks, spec.threat.norm, "attacks")


def resolve(spec: RunSpec, facts: Facts) -> list[PlannedAttack]:
    """The suite's attacks for a defence with these facts, then the user's own."""
    suite = SUITES[spec.suite](facts, spec.threat.norm) if spec.suite else []
    return build_attacks([*suite, *spec.attacks], spec.threat.norm, "attacks")
