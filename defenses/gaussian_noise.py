"""Gaussian noise on the input, and a vote."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from robustcode.defenses.base import DEFENSES, Defense
from robustcode.noise import Gaussian, Noise
from robustcode.seeds import Streams


@DEFENSES.register("gaussian-noise")
@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Defense):
    """Classify ``x`` plus Gaussian noise; with several votes, the class of most draws.

    Noise is added before any normalisation inside ``model``, so ``sigma`` is in the units of
    the input: 0.25 is a quarter of the range of images in [0, 1]. What the model sees is not
    clipped back to that range, as certificates of randomized smoothing require.

    Source: Cohen et al. 2019, arXiv:1902.02918, section 3; as a defence without a certificate,
    Liu et al. 2018, arXiv:1712.00673.

    Attributes:
        sigma: standard deviation of the noise in each input value.
        votes: draws that one deployed decision is made of; a tie is an abstention.
    """

    stochastic: ClassVar[bool] = True

    model: nn.Module
    sigma: float = 0.25
    votes: int = 1

    def __post_init__(self) -> None:
        Gaussian(sigma=self.sigma)  # a wrong sigma is met here
        super().__post_init__()

    @property
    def distribution(self) -> Noise:
        """What is added to the input."""
        return Gaussian(sigma=self.sigma)

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        noise = self.distribution.draw(streams, tuple(x.shape[1:]), x.dtype)
        scores: Tensor = self.model(x + noise)
        return scores
