"""No defence: the plain model, so that it goes through the same harness as the others."""

from dataclasses import dataclass

from torch import Tensor, nn

from robustcode.defenses.base import DEFENSES, Defense
from robustcode.seeds import Streams


@DEFENSES.register("identity")
@dataclass(frozen=True, kw_only=True)
class Identity(Defense):
    """The model as it is."""

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        scores: Tensor = self.model(x)
        return scores
