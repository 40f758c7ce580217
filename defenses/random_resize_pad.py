"""A random size, at a random place."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustcode.defenses.base import DEFENSES, Defense
from robustcode.errors import ConfigError
from robustcode.seeds import Streams


@DEFENSES.register("random-resize-pad")
@dataclass(frozen=True, kw_only=True)
class RandomResizePad(Defense):
    """Shrink each image to a random size and put it at a random place on a black ground.

    Sizes are uniform from ``shrink`` times the side, rounded up, to the side; places are
    uniform among those where the image fits. The size is one draw for both sides, so that a
    square stays square.

    Source: Xie et al. 2018, arXiv:1711.01991, section 3. Two departures: they enlarge images
    from 299 to between 299 and 330 and pad to 331, which needs a network that accepts another
    size, where this shrinks and pads back to the size it was given; and it interpolates
    bilinearly (not antialiased) where they take the nearest pixel.

    Attributes:
        shrink: smallest side as a fraction of the input's, in (0, 1]. The paper's is 0.90, which
            would leave an 8x8 image only one size.
        votes: draws that one deployed decision is made of; a tie is an abstention.
    """

    stochastic: ClassVar[bool] = True

    model: nn.Module
    shrink: float = 0.875
    votes: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.shrink <= 1:
            raise ConfigError(f"shrink = {self.shrink}: the smallest side is in (0, 1] of the side")
        super().__post_init__()

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        size = streams.child("size").uniform(1, dtype=torch.float64)[:, 0]
        place = streams.child("place").uniform(2, dtype=torch.float64)
        rows = self._axis(x, x.shape[-2], size, place[:, 0])
        columns = self._axis(x, x.shape[-1], size, place[:, 1])
        # Resizing and padding are linear on each axis: one matrix from each side.
        scores: Tensor = self.model(rows @ x @ columns.transpose(-1, -2))
        return scores

    def _axis(self, x: Tensor, side: int, size: Tensor, place: Tensor) -> Tensor:
        """One axis resized and padded, as matrices of shape (batch, 1, side, side).

        ``size`` and ``place`` are uniform in [0, 1), shape (batch,).
        """
        smallest = math.ceil(side * self.shrink)
        length = smallest + (size * (side - smallest + 1)).floor()
        start = (place * (side - length + 1)).floor()
        pixel = torch.arange(side, device=x.device)
        offset = pixel - start[:, None]
        inside = (offset >= 0) & (offset < length[:, None])
        # Where the centre of a shrunken pixel lies among the centres of the original ones.
        source = (offset + 0.5) * side / length[:, None] - 0.5
        weight = (1 - (source[:, :, None] - pixel).abs()).clamp(min=0) * inside[:, :, None]
        return weight[:, None].to(x.dtype)
