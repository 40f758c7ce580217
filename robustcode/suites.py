"""Named lists of attacks, chosen by what the defence was tested to be."""

from __future__ import annotations

from collections.abc import Callable

from robustcode.components import Component
from robustcode.errors import UnknownNameError
from robustcode.findings import Facts
from robustcode.registry import suggestion


def quick(facts: Facts) -> list[Component]:
    """Seconds: the control, one step, and twenty steps."""
    draws = _draws(facts, 4)
    return [
        Component("noise"),
        Component("fgsm", draws),
        Component("pgd", {"steps": 20, **draws}),
    ]


def standard(facts: Facts) -> list[Component]:
    """Minutes: three losses of a hundred steps, each started three times.

    Not yet the published AutoAttack: numbers of this suite do not compare with its.
    """
    draws = _draws(facts, 4)
    losses = ("ce", "margin", "dlr") if facts.classes > 2 else ("ce", "margin")
    # A fixed step of eps / 20 over 100 steps covers the ball five times over.
    long = {"steps": 100, "step": 0.05, "restarts": 3, **draws}
    return [
        Component("noise"),
        Component("fgsm", draws),
        *(Component("pgd", {**long, "loss": loss}) for loss in losses),
    ]


def adaptive(facts: Facts) -> list[Component]:
    """Chosen by the tested facts: expectation over draws if random, and always transfer.

    A gradient that is missing is followed by the defence's surrogate whatever the suite is; see
    target.DefendedTarget.
    """
    draws = _draws(facts, 10)
    return [
        Component("noise"),
        Component("transfer"),
        Component("pgd", {"steps": 50, "loss": "ce", **draws}),
        Component("pgd", {"steps": 50, "loss": "margin", **draws}),
    ]


def _draws(facts: Facts, draws: int) -> dict[str, bool | int | float | str]:
    return {"draws": draws} if facts.stochastic else {}


SUITES: dict[str, Callable[[Facts], list[Component]]] = {
    "quick": quick,
    "standard": standard,
    "adaptive": adaptive,
}


def check_suite(name: str | None) -> None:
    """Raise UnknownNameError if no suite has this name."""
    if name is not None and name not in SUITES:
        raise UnknownNameError(
            f"no suite is called {name!r}.{suggestion(name, SUITES)} Known: {', '.join(SUITES)}."
        )
