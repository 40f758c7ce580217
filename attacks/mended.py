"""A gradient attack that follows a surrogate made for the defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target, require_counts
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel


@ATTACKS.register("mended")
@dataclass(frozen=True, kw_only=True)
class Mended(Attack):
    """Another attack, on a face of the defence whose gradient has been mended without a person.

    Where the defence's own gradient is whole, the default follows just that. The defence must
    still be asked about what is found: here its own logits are what candidates are compared by
    where the mended face is stochastic, and the judge's decision is the defence's in any case.

    Source: backward pass differentiable approximation, Athalye et al. 2018, arXiv:1802.00420,
    section 4; that the surrogate is found by tracing is ours.

    Attributes:
        way: how the gradient is mended: one of identity, through, inside, double, log, scale,
            presoftmax, blur, or several as ``through+double``; see ``robustcode.mending``.
        attack: a registered attack that follows gradients, with its defaults but for these:
        steps: its ascent steps, if it has such a setting; so for the others.
        restarts: its independent starts.
        draws: draws of the defence, and of a way that is random, averaged per step.
        optional: follow the defence's own gradient where the way does not lead through, instead of
            refusing.
    """

    way: str = "identity+through"
    attack: str = "apgd-margin"
    steps: int = 100
    restarts: int = 1
    draws: int = 1
    optional: bool = False

    def __post_init__(self) -> None:
        require_counts(self, "steps", "restarts", "draws")
        attack = self._attack()
        for name in ("norms", "control", "minimal", "coarse", "one_step"):
            object.__setattr__(self, name, getattr(attack, name))

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        return self._attack().perturb(target.mended(self.way, self.optional), x, y, threat, streams)

    def _attack(self) -> Attack:
        cls: Any = ATTACKS.get(self.attack)
        if cls is Mended or not cls.needs_gradient:
            raise ConfigError(
                f"attack = {self.attack!r}: a mended gradient is of use to an attack that follows "
                "gradients, such as apgd-margin"
            )
        has = getattr(cls, "__dataclass_fields__", {})
        mine = {"steps": self.steps, "restarts": self.restarts, "draws": self.draws}
        attack: Attack = cls(**{name: value for name, value in mine.items() if name in has})
        return attack
