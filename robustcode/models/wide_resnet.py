"""Wide residual networks for CIFAR."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.models.base import MODELS, Inputs


class Block(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice, beside the input or a 1x1 convolution of it."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut = (  # the name that published checkpoints use
            nn.Conv2d(channels, width, 1, stride, bias=False) if channels != width else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channels, ...) to (batch, width, ...), each side divided by the stride."""
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(nn.Module):
    """Four blocks, of which the first changes the shape."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            Block(channels, width, stride), *(Block(width, width, 1) for _ in range(3))
        )

    def forward(self, x: Tensor) -> Tensor:
        """See Block."""
        return self.layer(x)


class WideResNet(nn.Module):
    """Images (batch, 3, 32, 32) -> logits (batch, classes): WRN-28-10 without dropout.

    Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 1; attribute names of the
    TRADES and RobustBench checkpoints.

    Attributes:
        unused_keys: beginnings of keys that a checkpoint may have in excess. TRADES' training
            code made a first stage twice and never ran the copy, yet it was saved.
    """

    unused_keys = ("sub_block1.",)

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inputs = Inputs(shape=(3, 32, 32))
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, 160, 1)
        self.block2 = Stage(160, 320, 2)
        self.block3 = Stage(320, 640, 2)
        self.bn1 = nn.BatchNorm2d(640)
        self.fc = nn.Linear(640, classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(out)).mean((2, 3)))


@MODELS.register("wide_resnet28_10")
def wide_resnet28_10(classes: int = 10) -> nn.Module:
    """WideResNet-28-10; takes the image as it is unless --mean and --std are given."""
    return WideResNet(classes)
