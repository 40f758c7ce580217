"""Named lists of attacks, chosen by the norm and by what the defence was tested to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robustcode.components import Component, Scalar
from robustcode.errors import UnknownNameError
from robustcode.findings import Facts
from robustcode.gradients import draws_for
from robustcode.registry import suggestion
from robustcode.threat import Norm

Settings = Mapping[str, Scalar]
Suite = Callable[[Facts, Norm], list[Component]]

# Wrong classes in AutoAttack, version standard: Croce and Hein 2020, arXiv:2003.01690, section 5;
# in l1 the paper of 2021, arXiv:2103.01208, takes fewer and starts cross-entropy five times.
TARGETS, TARGETS_L1, RESTARTS_L1 = 9, 5, 5
# Draws that its version rand averages, and restarts of its version plus.
RAND_DRAWS, PLUS_RESTARTS = 20, 5


def quick(facts: Facts, norm: Norm) -> list[Component]:
    """Seconds: the control, and `scout`, which spends its passes on who is near the boundary."""
    if facts.stochastic:
        draws = {"draws": min(4, draws_for(facts.noise))}
        return [
            Component("noise"),
            Component("fgsm", draws),
            *_moved(facts, Component("transfer", {"steps": 20})),
            Component("pgd", {"steps": 20, "loss": "margin", **draws}),
        ]
    return [Component("noise", {"tries": 2}), Component("scout")]


def standard(facts: Facts, norm: Norm) -> list[Component]:
    """AutoAttack as published, with the control: version standard, or rand for a random defence."""
    return [Component("noise"), *(rand if facts.stochastic else autoattack)(facts, norm)]


def autoattack(facts: Facts, norm: Norm) -> list[Component]:
    """AutoAttack, version standard: APGD-CE, targeted APGD, targeted FAB, Square."""
    sparse = norm is Norm.L1
    return [
        Component("apgd-ce", {"restarts": RESTARTS_L1} if sparse else {}),
        Component("apgd-t", {"targets": TARGETS_L1 if sparse else TARGETS}),
        Component("fab-t", {"targets": TARGETS}),
        Component("square"),
    ]


def plus(facts: Facts, norm: Norm) -> list[Component]:
    """AutoAttack, version plus: six attacks, three of them started five times."""
    return [
        Component("apgd-ce", {"restarts": PLUS_RESTARTS}),
        Component("apgd-dlr", {"restarts": PLUS_RESTARTS}),
        Component("fab", {"restarts": PLUS_RESTARTS}),
        Component("square"),
        Component("apgd-t", {"targets": TARGETS}),
        Component("fab-t", {"targets": TARGETS}),
    ]


def rand(facts: Facts, norm: Norm) -> list[Component]:
    """AutoAttack, version rand: APGD on two losses over 20 draws, judged on fresh ones here."""
    draws = {"draws": RAND_DRAWS} if facts.stochastic else {}
    return [Component("apgd-ce", draws), Component("apgd-dlr", draws)]


def adaptive(facts: Facts, norm: Norm) -> list[Component]:
    """Chosen by the tested facts: always transfer, and what the defence's weak spots call for.

    A random defence is attacked over as many draws as its gradients' measured noise asks for: by
    both losses, from the transfer example, with a step rule that sees the same draws at each step,
    and by momenta over fresh ones. One without gradients is attacked through its surrogate (see
    target.DefendedTarget) and without gradients. What the pilot's findings asked for and was seen
    to help is run before these, which are then given what it left; see repair.
    """
    if facts.stochastic or facts.adversary == "batch":
        # Of a whole batch only what asks about all of it at once: each of these does.
        draws = {"draws": draws_for(facts.noise)}
        followed = [
            *_moved(facts, Component("transfer-pgd", draws)),
            Component("pgd", {"steps": 50, "loss": "ce", **draws}),
            Component("pgd", {"steps": 50, "loss": "margin", **draws}),
            Component("apgd-margin", {"steps": 50, "hold": True, **draws}),
            Component("aggmo", {"steps": 100, **draws}),
        ]
        blind = Component("square", {"queries": 1000, "draws": 4})
    else:
        followed = [
            Component("scout"),
            Component("apgd-ce"),
            Component("apgd-margin", {"restarts": 2}),
            Component("apgd-t", {"targets": TARGETS, "order": "malt"}),
        ]
        blind = Component("square")
    without = [] if facts.differentiable else [blind]
    return [
        Component("noise"),
        *_moved(facts, Component("transfer")),
        *map(Component.parse, facts.remedies),
        *followed,
        *without,
    ]


def _moved(facts: Facts, attack: Component) -> list[Component]:
    """An attack that looks at the plain model; none if the adversary controls no sample there."""
    return [] if facts.adversary == "mates" else [attack]


def strong(facts: Facts, norm: Norm) -> list[Component]:
    """The union of everything sensible: hours rather than minutes."""
    if facts.stochastic:
        draws = {"draws": draws_for(facts.noise)}
        return [
            *adaptive(facts, norm),
            *rand(facts, norm),
            Component("apgd-margin", draws),
            *(
                [Component("apgd-t", {"targets": 3, "order": "malt", **draws})]
                if facts.adversary != "batch"
                else []
            ),
            *([Component("square", {"queries": 1000, "draws": 4})] if facts.differentiable else []),
        ]
    losses = ("apgd-ce", "apgd-margin", "apgd-pm", "apgd-dlr")
    return [
        Component("noise"),
        Component("scout"),
        *_moved(facts, Component("transfer")),
        *map(Component.parse, facts.remedies),
        # Many short searches before long ones: they break most of what is broken, for little.
        *(Component(name, {"steps": 20, "restarts": 10}) for name in losses),
        *(Component(name, {"restarts": 3}) for name in losses),
        Component("apgd-t", {"targets": TARGETS, "order": "malt", "loss": "margin"}),
        Component("apgd-t", {"targets": TARGETS, "restarts": 2}),
        Component("fab-t", {"targets": TARGETS}),
        Component("fmn"),
        Component("square"),
    ]


SUITES: dict[str, Suite] = {
    "quick": quick,
    "standard": standard,
    "adaptive": adaptive,
    "strong": strong,
    "autoattack": autoattack,
    "autoattack-plus": plus,
    "autoattack-rand": rand,
}


def check_suite(name: str | None) -> None:
    """Raise UnknownNameError if no suite has this name."""
    if name is not None and name not in SUITES:
        raise UnknownNameError(
            f"no suite is called {name!r}.{suggestion(name, SUITES)} Known: {', '.join(SUITES)}."
        )
