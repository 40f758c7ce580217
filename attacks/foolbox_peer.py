"""Every attack of foolbox, as ``foolbox:LinfPGD`` or ``foolbox:L2DeepFoolAttack:steps=20``."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.peers import (
    Peer,
    first_line,
    imported,
    peer_class,
    settings_of_constructor,
    settings_tried,
)
from robustcode.errors import ConfigError
from robustcode.registry import Family
from robustcode.threat import Norm, ThreatModel

PREFIX = "foolbox"
# What the run gives, or what writes files.
GIVEN = {"distance", "constraint", "tensorboard"}
# Few values changed, each by 1 at most, is at most so many in l1.
NORMS = {"linf": Norm.LINF, "l2": Norm.L2, "l1": Norm.L1, "l0": Norm.L1}
# Their classes do not say it: the first states l1 and minimises what its constructor is told, the
# second resets values and then goes along each towards the clean one.
STATED = {
    "HopSkipJumpAttack": frozenset({Norm.LINF, Norm.L2}),
    "PointwiseAttack": frozenset({Norm.L2, Norm.L1}),
}
NO_GRADIENT = (
    "Noise",
    "Contrast",
    "Blur",
    "Boundary",
    "Dataset",
    "GenAttack",
    "HopSkipJump",
    "Inversion",
    "Pointwise",
)
UNUSABLE = {
    "BinarizationRefinementAttack": "it only refines what another attack has found",
    "GenAttack": "it only works towards a class that somebody has chosen",
    "SpatialAttack": "it turns and shifts whole images, which is in no ball of a norm",
}


class FoolboxPeer(Peer):
    """An attack of foolbox with its own defaults.

    It need not keep within eps: "this is not guaranteed and the caller should verify this or clip
    the result" (foolbox.attacks.base.FixedEpsilonAttack.run). So every result is taken to the
    nearest allowed input.

    Source: Rauber et al. 2020, Foolbox Native, JOSS 5(53), 2607.
    """

    bounded = False

    def __post_init__(self) -> None:
        with settings_tried(self.name):
            self._made(sorted(self.norms)[0])

    def search(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, seed: int
    ) -> Tensor:
        """See Peer.search. An attack that minimises the distance may stop when it is within eps."""
        library = _library()
        classifier = library.PyTorchModel(model, (threat.low, threat.high), device=x.device)
        attack, wrong = self._made(threat.norm), library.criteria.Misclassification(y)
        if hasattr(attack, "feed"):  # the other inputs of the batch are what it chooses from
            attack.feed(classifier, x)
        budget = {"early_stop": threat.eps} if self.minimal else {"epsilon": threat.eps}
        found: Tensor = attack.run(classifier, x, wrong, **budget)
        return found

    def _made(self, norm: Norm) -> Any:
        given = {"distance": getattr(_library().distances, norm.value), "constraint": norm.value}
        known = inspect.signature(self.kind.__init__).parameters
        given = {key: value for key, value in given.items() if key in known}
        return self.kind(**given, **self.settings())


def _library() -> Any:
    return imported(PREFIX)


def _names() -> list[str]:
    attacks = _library().attacks
    base = attacks.base.Attack
    return sorted(
        name
        for name, kind in vars(attacks).items()
        if inspect.isclass(kind) and issubclass(kind, base) and not inspect.isabstract(kind)
    )


def _make(short: str) -> type[Peer]:
    name = f"{PREFIX}:{short}"
    if short in UNUSABLE:
        raise ConfigError(f"attack {name!r} cannot be run by itself: {UNUSABLE[short]}")
    attacks = _library().attacks
    kind = getattr(attacks, short)
    return peer_class(
        FoolboxPeer,
        name,
        settings_of_constructor(kind, GIVEN, name),
        __doc__=first_line(kind, PREFIX),
        kind=kind,
        norms=_norms(kind),
        minimal=issubclass(kind, attacks.base.MinimizationAttack),
        control="Additive" in kind.__name__,
        needs_gradient=not any(part in kind.__name__ for part in NO_GRADIENT),
    )


def _norms(kind: Any) -> frozenset[Norm]:
    """That of the distance it minimises or keeps, or any where it is told."""
    if kind.__name__ in STATED:
        return STATED[kind.__name__]
    if "distance" in inspect.signature(kind.__init__).parameters:
        return frozenset(Norm)
    # An attribute of most classes and a property of others; neither looks at the instance.
    distance = object.__new__(kind).distance
    distances = _library().distances
    return frozenset(norm for word, norm in NORMS.items() if getattr(distances, word) is distance)


ATTACKS.family(
    PREFIX,
    Family(
        says="every attack of foolbox, with its own defaults",
        package=PREFIX,
        install="pip install robustcode[peers]",
        example="LinfPGD",
        names=_names,
        make=_make,
    ),
)
