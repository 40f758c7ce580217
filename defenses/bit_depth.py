"""Fewer bits per value."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from robustcode.defenses.base import DEFENSES, Defense
from robustcode.defenses.straight_through import straight_through
from robustcode.errors import ConfigError
from robustcode.seeds import Streams


@DEFENSES.register("bit-depth")
@dataclass(frozen=True, kw_only=True)
class BitDepth(Defense):
    """Round every value to one of 2^bits levels, evenly spaced from 0 to 1.

    The gradient of ``logits`` is zero, as that of rounding is; ``surrogate`` passes it through.

    Source: Xu et al. 2018, arXiv:1704.01155, section III-A.

    Attributes:
        bits: 1 to 8; images of 8 bits are unchanged by 8.
    """

    differentiable: ClassVar[bool] = False

    model: nn.Module
    bits: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ConfigError(f"bits = {self.bits}: the depth of a value is 1 to 8 bits")

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        scores: Tensor = self.model(self._rounded(x))
        return scores

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.surrogate."""
        scores: Tensor = self.model(straight_through(x, self._rounded(x)))
        return scores

    def _rounded(self, x: Tensor) -> Tensor:
        levels = 2**self.bits - 1
        return (x * levels).round() / levels
