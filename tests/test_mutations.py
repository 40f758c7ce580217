"""The attack contract is itself tested: bugs planted in PGD, each of which it must catch."""

import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import robustcode.attacks
from robustcode.attacks import Attack
from robustcode.errors import ContractError
from robustcode.testing import attack_checks, check_attack

SOURCES = Path(robustcode.attacks.__file__).parent
LENGTH = "return ascent.mul_(self.step"
PROJECTED = "climb.x_adv = threat.onto(climb.region, self._moved(before, ascent, threat))"
START = 'return threat.random(x, streams.child("start")) if self.random_start else x.clone()'


class Bug(NamedTuple):
    """One piece of source, replaced."""

    name: str
    module: str
    right: str
    wrong: str


BUGS = [
    Bug(
        "the gradient is not made a unit step",
        "pgd",
        "threat.steepest(here.gradient, climb.images)",
        "here.gradient",
    ),
    Bug(
        "one unit step is shared by the batch",
        "pgd",
        "threat.steepest(here.gradient, climb.images)",
        "here.gradient / here.gradient.norm().clamp(min=1e-30)",
    ),
    Bug("steps are ten times too long", "pgd", LENGTH, "return ascent.mul_(10 * self.step"),
    Bug("steps are ten times too short", "pgd", LENGTH, "return ascent.mul_(0.1 * self.step"),
    Bug("it descends", "pgd", LENGTH, "return ascent.mul_(-self.step"),
    Bug(
        "nothing is projected",
        "pgd",
        PROJECTED,
        "climb.x_adv = self._moved(before, ascent, threat)",
    ),
    Bug(
        "only the ball is projected on",
        "pgd",
        "region=threat.region(plain.rows(x[rows]))",
        "region=type(threat)(threat.norm, threat.eps, -9.0, 9.0).region(plain.rows(x[rows]))",
    ),
    Bug(
        "only the box is projected on",
        "pgd",
        PROJECTED,
        "climb.x_adv = self._moved(before, ascent, threat).clamp(threat.low, threat.high)",
    ),
    Bug(
        "the start is drawn from the global generator",
        "pgd",
        START,
        "return threat.project(x + threat.eps * (2 * torch.rand_like(x) - 1), x)",
    ),
    Bug(
        "the start is drawn by the place in the batch",
        "pgd",
        START,
        "noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)\n"
        "        return threat.project(x + threat.eps * (2 * noise - 1), x)",
    ),
    Bug(
        "all samples have the start of the first",
        "pgd",
        START,
        "first = streams[torch.zeros_like(streams.keys)]\n"
        '        return threat.random(x, first.child("start"))',
    ),
    Bug(
        "only the first draw is followed",
        "expectation",
        "gradient = gradient + more.gradient",
        "pass",
    ),
    Bug(
        "every step sees the same draw",
        "pgd",
        'at = stream.child("step", number)',
        "at = stream",
    ),
    Bug(
        "all samples see the draws of the first",
        "pgd",
        'at = stream.child("step", number)',
        'at = Streams(stream.keys[:1].expand(len(x)), stream.samples).child("step", number)',
    ),
    Bug(
        "the last iterate, not the best",
        "climb",
        "better = (lead < self.margin) & self.open()",
        "better = self.open()",
    ),
    Bug(
        "a lucky draw ends the search of a sample",
        "pgd",
        "            for candidate in (x_adv, seen):",
        "                x_adv = torch.where(column(lowest < 0, x), seen, x_adv)\n"
        "            for candidate in (x_adv, seen):",
    ),
    Bug(
        "samples that stay get the iterates of others",
        "climb",
        "self.x_adv = _moved_up(self.x_adv, going)",
        "self.x_adv = self.x_adv[: len(self.y)]",
    ),
    Bug(
        "samples that stay get the labels of others",
        "climb",
        "self.places[going], self.y[going], self.streams[going]",
        "self.places[going], self.y[: len(going) - left], self.streams[going]",
    ),
    Bug(
        "samples that stay get the streams of others",
        "climb",
        "self.places[going], self.y[going], self.streams[going]",
        "self.places[going], self.y[going], self.streams[: len(going) - left]",
    ),
    Bug(
        "samples that stay get the room of others",
        "climb",
        "_moved_up(part, going) for part in self.region",
        "part[: len(self.y)] for part in self.region",
    ),
    Bug(
        "samples that leave are written over others",
        "climb",
        "into.put(self.places[~going],",
        "into.put(self.places[:left],",
    ),
    Bug(
        "the proposal is written over the input",
        "climb",
        "return cls(x.clone(), unknown,",
        "return cls(x, unknown,",
    ),
]


def planted(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> type[Attack]:
    """PGD of a fresh copy of its modules, with one piece of their source replaced."""
    count = 0
    for name in ("climb", "expectation", "pgd"):  # in the order of their imports
        source = (SOURCES / f"{name}.py").read_text()
        if name == bug.module:
            count += source.count(bug.right)
            source = source.replace(bug.right, bug.wrong)
        # A second PGD cannot be registered.
        source = source.replace('@ATTACKS.register("pgd")\n', "")
        module = ModuleType(f"robustcode.attacks.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, f"{name} in which {bug.name}", "exec"), vars(module))
    assert count == 1, f"{bug.right!r} stands {count} times in {bug.module}; plant it anew"
    attack = vars(module)["PGD"]
    assert issubclass(attack, Attack)
    return attack


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_contract_catches(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = planted(bug, monkeypatch)
    with pytest.raises(ContractError, match="breaks the promise"):
        check_attack(attack())


def test_the_contract_catches_nothing_where_nothing_is_planted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    same = Bug("nothing is wrong", "pgd", LENGTH, LENGTH)
    kept = check_attack(planted(same, monkeypatch)())
    unasked = {
        "it asks for no gradient, as it declares",
        "it breaks every sample at twice its critical eps",
        "it finds the nearest wrong input of a linear classifier within 5 %",
    }
    assert set(kept) == {check.name for check in attack_checks()} - unasked
