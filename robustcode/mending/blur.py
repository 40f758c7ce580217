"""Gradients of a mean over noise, where those at a point say nothing of its surroundings."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from robustcode.defenses.base import Defense
from robustcode.mending.base import Keeps, Scores, Way
from robustcode.seeds import Streams

# 8/255, the budget that images in [0, 1] are attacked with most often in linf: the slope that is
# wanted is the one on the scale on which the adversary moves.
SIGMA = 8 / 255


class Blur(Way):
    """Scores at the input plus Gaussian noise, of which an attack takes the mean gradient.

    For shattered gradients (JPEG, k-winners-take-all). Each draw is another noise, so the face is
    stochastic: attacks average ``draws`` of them.

    Source: the mean gradient over noise against shattered gradients, Athalye et al. 2018,
    arXiv:1802.00420, section 4, in the form that smoothed gradients have in Cohen et al. 2019,
    arXiv:1902.02918; the size of the noise is ours.
    """

    keeps: ClassVar[Keeps] = Keeps.NOTHING
    stochastic: ClassVar[bool] = True

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        noise = streams.child("blur").normal(*x.shape[1:], dtype=x.dtype)
        return follow(x + SIGMA * noise, streams)
