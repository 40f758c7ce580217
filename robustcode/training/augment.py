"""The usual augmentation of 32x32 colour images, one stream a sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcode.seeds import Streams

# He et al. 2016, arXiv:1512.03385, section 4.2: four pixels of zeros on each side.
PAD = 4
SHAPE = (3, 32, 32)


def crop_and_flip(x: Tensor, streams: Streams) -> Tensor:
    """A random crop of each padded image, mirrored half of the time, shape of ``x``."""
    height, width = x.shape[2:]
    top, left = streams.child("crop").integers(2 * PAD + 1, 2).unbind(1)
    mirrored = streams.child("flip").integers(2, 1).bool()
    columns = torch.arange(width, device=x.device).expand(len(x), -1)
    columns = left[:, None] + torch.where(mirrored, columns.flip(1), columns)
    rows = top[:, None] + torch.arange(height, device=x.device)
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    # The slice between index tensors sends the channels to the last place.
    cropped = F.pad(x, [PAD] * 4)[batch, :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()
