"""Every attack of torchattacks, as ``torchattacks:PGD`` or ``torchattacks:PGD:steps=20``."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.peers import (
    NAMES,
    NORMS,
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

PREFIX = "torchattacks"
# What the run gives: the others are settings.
BUDGETS = ("eps", "max_epsilon")
GIVEN = {"model", "norm", "seed", "verbose", "n_classes", *BUDGETS}
# An attack that changes few values, each by 1 at most, moves an input by no more than so many in
# l1; noise and the input itself have no norm.
SPARSE, ANY = frozenset({Norm.L1}), frozenset(Norm)
NO_NORM = {"GN", "VANILA"}
# Its documentation names l1 too; there it fails, for want of a line (version 3.5.1).
MISSTATED = {("FAB", "L1")}
NO_GRADIENT = {"GN", "OnePixel", "Pixle", "SPSA", "Square", "VANILA"}
UNUSABLE = {
    "LGV": "it trains models on a data loader first, which a run does not have",
    "MultiAttack": "it is a list of other attacks; name each with an --attack of its own",
}


class TorchattacksPeer(Peer):
    """An attack of torchattacks with its own defaults: steps are in the units of the input.

    Source: Kim 2020, arXiv:2010.01950.
    """

    def __post_init__(self) -> None:
        with settings_tried(self.name):
            # Never called: constructors look at a model's device and their own arguments only.
            self._made(nn.Linear(1, 1), ThreatModel(sorted(self.norms)[0], 0.1), 0, classes=10)

    def search(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, seed: int
    ) -> Tensor:
        """See Peer.search."""
        classes = 0
        if "n_classes" in self._parameters():
            with torch.no_grad():
                classes = model(x[:1]).shape[1]
        found: Tensor = self._made(model, threat, seed, classes)(x, y)
        return found

    def _made(self, model: nn.Module, threat: ThreatModel, seed: int, classes: int) -> Any:
        given = {
            "norm": NAMES[threat.norm],
            "seed": seed,
            "n_classes": classes,
            **dict.fromkeys(BUDGETS, threat.eps),
        }
        known = self._parameters()
        given = {key: value for key, value in given.items() if key in known}
        return self.kind(model, **given, **self.settings())

    def _parameters(self) -> set[str]:
        return set(inspect.signature(self.kind.__init__).parameters)


def _library() -> Any:
    return imported(PREFIX)


def _names() -> list[str]:
    library = _library()
    base = library.attack.Attack
    return sorted(
        name
        for name, kind in vars(library).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
    )


def _make(short: str) -> type[Peer]:
    name = f"{PREFIX}:{short}"
    if short in UNUSABLE:
        raise ConfigError(f"attack {name!r} cannot be run by itself: {UNUSABLE[short]}")
    kind = getattr(_library(), short)
    bounded = not set(BUDGETS).isdisjoint(inspect.signature(kind.__init__).parameters)
    return peer_class(
        TorchattacksPeer,
        name,
        settings_of_constructor(kind, GIVEN, name),
        __doc__=first_line(kind, PREFIX),
        kind=kind,
        norms=_norms(short, kind),
        bounded=bounded,
        minimal=not bounded and short not in NO_NORM,
        control=short in NO_NORM,
        needs_gradient=short not in NO_GRADIENT,
    )


def _norms(short: str, kind: object) -> frozenset[Norm]:
    """As its documentation says: ``Distance Measure : Linf, L2``."""
    if short in NO_NORM:
        return ANY
    said = re.search(r"Distance Measure\s*:\s*(.*)", inspect.getdoc(kind) or "")
    words = re.findall(r"L\w+", said[1]) if said else []
    words = [word for word in words if (short, word) not in MISSTATED]
    if words == ["L0"]:
        return SPARSE
    norms = frozenset(NORMS[word] for word in words if word in NORMS)
    if not norms:
        raise ConfigError(f"{PREFIX}:{short} does not say in which norm it works")
    return norms


ATTACKS.family(
    PREFIX,
    Family(
        says="every attack of torchattacks, with its own defaults: steps (alpha) do not follow eps",
        package=PREFIX,
        install="pip install tqdm && pip install --no-deps torchattacks",
        example="PGD",
        names=_names,
        make=_make,
    ),
)
