"""What will be run: the attacks of a suite and of the user, named so that records can say which."""

from __future__ import annotations

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

    Settings are in the name only where one attack is planned twice.
    """

    name: str
    attack: Attack

    @property
    def component(self) -> Component:
        """The registered name with every setting, defaults included."""
        return Component(self.name.partition(":")[0], settings_of(self.attack))


def build_attacks(components: Sequence[Component], norm: Norm, path: str) -> list[PlannedAttack]:
    """The attacks that ``components`` name, each once; refused if one does not know the norm."""
    planned: list[PlannedAttack] = []
    names = [component.name for component in components]
    for i, component in enumerate(components):
        attack: Attack = component.build(ATTACKS, f"{path}[{i}]")
        if norm not in attack.norms:
            raise ConfigError(
                f"attack {component.name!r} does not work in {norm}, only in "
                f"{', '.join(sorted(attack.norms))}"
            )
        if any(attack == other.attack for other in planned):
            continue
        alone = names.count(component.name) == 1
        name = component.name if alone else str(component)
        planned.append(PlannedAttack(name, attack))
    if len({p.name for p in planned}) < len(
        planned
    ):  # same text, other types: cannot be told apart
        planned = [PlannedAttack(str(p.component), p.attack) for p in planned]
    return planned


def check_attacks(spec: RunSpec) -> None:
    """Refuse attacks that cannot be built, before anything long is begun."""
    build_attacks(spec.attacks, spec.threat.norm, "attacks")


def resolve(spec: RunSpec, facts: Facts) -> list[PlannedAttack]:
    """The suite's attacks for a defence with these facts, then the user's own."""
    suite = SUITES[spec.suite](facts) if spec.suite else []
    return build_attacks([*suite, *spec.attacks], spec.threat.norm, "attacks")
