"""Randomness that nobody is told of: torch's global generator decides what the model sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.testing.patients.base import Patient, shipped


class NoisyInput(nn.Module):
    """Gaussian noise on the input, new at every call.

    Attributes:
        sigma: its standard deviation, in the units of the input.
    """

    def __init__(self, model: nn.Module, sigma: float = 0.2) -> None:
        super().__init__()
        self.model = model
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), other ones at each call."""
        scores: Tensor = self.model(x + self.sigma * torch.randn_like(x))
        return scores


class RandomResize(nn.Module):
    """Each image is shrunk to a random size and put at a random place on a black ground.

    Sizes and places are continuous, which an image of 8 x 8 needs.

    Attributes:
        smallest: side of the smallest size as a fraction of the image's.
    """

    def __init__(self, model: nn.Module, smallest: float = 0.9) -> None:
        super().__init__()
        self.model = model
        self.smallest = smallest

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), other ones at each call."""
        size = self.smallest + (1 - self.smallest) * torch.rand(len(x), device=x.device)
        room = (1 - size)[:, None] * (2 * torch.rand(len(x), 2, device=x.device) - 1)
        scores: Tensor = self.model(_placed(x, 1 / size, room))
        return scores


class Barrage(nn.Module):
    """A few random transforms of a larger set, in random order, with random strengths.

    What is drawn at a call holds for its whole batch, but for the noise.

    Attributes:
        transforms: how many are applied.
    """

    def __init__(self, model: nn.Module, transforms: int = 3) -> None:
        super().__init__()
        self.model = model
        self.transforms = transforms

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), other ones at each call."""
        for number in torch.randperm(len(BARRAGE))[: self.transforms].tolist():
            x = BARRAGE[number](x, float(torch.rand(())))
        scores: Tensor = self.model(x)
        return scores


def _placed(x: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Images seen from ``zoom`` times as far, (batch,), and moved by ``shift``, (batch, 2).

    Shifts are in half sides of the image.
    """
    scale = torch.diag_embed(zoom[:, None].expand(-1, 2))
    frame = torch.cat([scale, (shift * zoom[:, None])[:, :, None]], dim=2)
    grid = F.affine_grid(frame, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _noise(x: Tensor, strength: float) -> Tensor:
    return x + 0.2 * strength * torch.randn_like(x)


def _blur(x: Tensor, strength: float) -> Tensor:
    return x + 0.4 * strength * (F.avg_pool2d(x, 3, stride=1, padding=1) - x)


def _fewer_levels(x: Tensor, strength: float) -> Tensor:
    levels = 4 + round(8 * strength)
    # Straight through: this patient's fault is to be random.
    return x + ((x * levels).round() / levels - x).detach()


def _gamma(x: Tensor, strength: float) -> Tensor:
    # A power of zero has no slope; this little is not seen.
    return x.clamp(min=1e-3) ** (0.6 + 0.8 * strength)


def _contrast(x: Tensor, strength: float) -> Tensor:
    return x * (0.7 + 0.5 * strength)


def _zoom(x: Tensor, strength: float) -> Tensor:
    zoom = x.new_full((len(x),), 0.92 + 0.16 * strength)
    return _placed(x, zoom, x.new_zeros(len(x), 2))


def _shift(x: Tensor, strength: float) -> Tensor:
    # At most half a pixel of eight to either side.
    return _placed(x, x.new_ones(len(x)), x.new_full((len(x), 2), 0.25 * (strength - 0.5)))


def _drop(x: Tensor, strength: float) -> Tensor:
    return x * (torch.rand_like(x) > 0.1 * strength)


BARRAGE = (_noise, _blur, _fewer_levels, _gamma, _contrast, _zoom, _shift, _drop)
"""From images and a strength in [0, 1) to images."""


def noisy_input(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, behind Gaussian noise."""
    return NoisyInput(shipped(model)).eval()


def random_resize(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, behind a random size and place."""
    return RandomResize(shipped(model)).eval()


def barrage(model: nn.Module | None = None) -> nn.Module:
    """``model``, or the shipped one, behind a barrage of random transforms."""
    return Barrage(shipped(model)).eval()


PATIENTS = (
    Patient(
        name="noisy_input",
        says="draws Gaussian noise in secret: a search ends at its first lucky draw",
        source="Liu et al. 2018, arXiv:1712.00673; expectation over transformation, Athalye et al. "
        "2018, arXiv:1802.00420",
        caught_by=("declared-deterministic", "not-reproducible"),
        model=noisy_input,
        stochastic=True,
    ),
    Patient(
        name="random_resize",
        says="resizes and pads at random in secret: a search ends at its first lucky draw",
        source="Xie et al. 2018, arXiv:1711.01991, section 3; broken by Athalye et al. 2018, "
        "arXiv:1802.00420",
        caught_by=("declared-deterministic", "not-reproducible"),
        model=random_resize,
        stochastic=True,
    ),
    Patient(
        name="barrage",
        says="applies three of eight random transforms in secret, in random order",
        source="barrage of random transforms, Raff et al. 2019 (CVPR)",
        caught_by=("declared-deterministic", "not-reproducible"),
        model=barrage,
        stochastic=True,
    ),
)
