"""JPEG compression."""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from robustcode.defenses.base import DEFENSES, Defense
from robustcode.defenses.straight_through import straight_through
from robustcode.errors import ConfigError
from robustcode.seeds import Streams


@DEFENSES.register("jpeg")
@dataclass(frozen=True, kw_only=True)
class JPEG(Defense):
    """Compress each image as a JPEG file and read it back, by Pillow.

    Images are rounded to 8 bits first, colour is subsampled 4:2:0 as is Pillow's default, and
    all of it runs on the CPU one image at a time. ``logits`` has no gradient; ``surrogate``
    passes it through.

    Source: Dziugaite et al. 2016, arXiv:1608.00853; Guo et al. 2018, arXiv:1711.00117.

    Attributes:
        quality: 1 to 100 on libjpeg's scale; 75 is Pillow's default.
    """

    differentiable: ClassVar[bool] = False

    model: nn.Module
    quality: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality = {self.quality}: that of a JPEG file is 1 to 100")

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        scores: Tensor = self.model(self._compressed(x))
        return scores

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.surrogate."""
        scores: Tensor = self.model(straight_through(x, self._compressed(x)))
        return scores

    def _compressed(self, x: Tensor) -> Tensor:
        """The images read back from their files, in [0, 1], without a graph."""
        if x.shape[1] not in (1, 3):
            raise ConfigError(f"jpeg takes images of 1 or 3 channels; these have {x.shape[1]}")
        pixels = x.detach().mul(255).round().clamp(0, 255).to("cpu", torch.uint8)
        read = torch.empty_like(pixels)
        for image, out in zip(pixels, read, strict=True):
            out.copy_(torch.from_numpy(self._round_trip(image.permute(1, 2, 0).numpy())))
        return read.to(x) / 255

    def _round_trip(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A uint8 image (height, width, channels) as its file's, (channels, height, width)."""
        file = io.BytesIO()
        grey = pixels.shape[2] == 1
        Image.fromarray(pixels[:, :, 0] if grey else pixels).save(
            file, "JPEG", quality=self.quality
        )
        read = np.array(Image.open(file))
        return read[None] if grey else read.transpose(2, 0, 1)
