"""What a patient is: a flawed defence, and what it would have an evaluation believe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from robustcode.checkpoint import load_classifier
from robustcode.defenses.base import Defense
from robustcode.defenses.identity import Identity
from robustcode.errors import ConfigError

# Where the shipped digits classifier has lost everything: what is left there is the patient's lie.
THREAT = "linf:0.2"


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A defence that looks robust and is not.

    Either ``model`` makes it, as a classifier that hides its flaw from whoever evaluates it, or
    ``defense`` does around any classifier, or the ``settings`` of a stock defence bring it about.

    Attributes:
        name: as it is imported from this package, where it can be imported.
        says: how it comes to look robust, in one line.
        source: where the flaw, or the attack that undoes it, is described.
        caught_by: codes of the findings that name the flaw itself.
        model: makes a fresh classifier, of images (batch, 1, 8, 8).
        defense: makes a fresh defence, given ``model=``.
        settings: what an evaluation of it is given besides, as ``robustcode.attack`` names it.
        stochastic: two calls with one input can differ.
        coupled: what it answers to an input depends on the others in the batch.
        stateful: what it answers depends on what it was asked before.
        breakable: an attack that knows the flaw leaves almost nothing.
    """

    name: str
    says: str
    source: str
    caught_by: tuple[str, ...]
    model: Callable[[], nn.Module] | None = None
    defense: Callable[..., Defense] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    stochastic: bool = False
    coupled: bool = False
    stateful: bool = False
    breakable: bool = True

    @property
    def spec(self) -> dict[str, str]:
        """What an evaluation of it is given, by the names of the command line."""
        named = f"robustcode.testing.patients:{self.name}"
        if self.model is not None:
            chosen = {"model": named}
        elif self.defense is not None:
            chosen = {"model": "digits_cnn", "defense": named}
        else:
            chosen = {"model": "digits_cnn"}
        return {**chosen, "data": "digits", "threat": THREAT, **self.settings}

    def fresh(self) -> Defense:
        """The patient as a defence that nobody has asked anything yet."""
        if self.model is not None:
            return Identity(model=self.model())
        if self.defense is not None:
            return self.defense(model=shipped())
        raise ConfigError(
            f"patient {self.name!r} is a stock defence with settings of its own; build it from its "
            "spec"
        )


def shipped(model: nn.Module | None = None) -> nn.Module:
    """``model`` itself, or the digits classifier of the package where none is given."""
    return load_classifier("digits_cnn", classes=10) if model is None else model
