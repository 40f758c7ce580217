"""Residual networks with batch norm and ReLU before each convolution."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.models.base import MODELS, Inputs


class Block(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice; the shortcut starts behind the first ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.changes_shape = stride != 1 or channels != width
        self.shortcut = nn.Sequential()
        if self.changes_shape:
            self.shortcut.append(nn.Conv2d(channels, width, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channels, ...) to (batch, width, ...), each side divided by the stride."""
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (self.shortcut(active) if self.changes_shape else x)


class PreActResNet18(nn.Module):
    """Images (batch, 3, 32, 32) -> logits (batch, classes).

    With the norm and ReLU before the last mean that the paper asks for. Checkpoints whose
    shortcuts start before the first ReLU, or that end without that norm, are of other networks:
    the latter are refused for their missing keys; the former cannot be told from their keys,
    and show by a clean accuracy far below the published one.

    Source: He et al. 2016, arXiv:1603.05027, section 4 and appendix; attribute names of
    kuangliu/pytorch-cifar, with RobustBench's ``bn`` for the last norm (its PreActBlockV2).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inputs = Inputs(shape=(3, 32, 32))
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out = self.layer2(self.layer1(self.conv1(x)))
        out = F.relu(self.bn(self.layer4(self.layer3(out))))
        return self.linear(out.mean((2, 3)))


@MODELS.register("preact_resnet18")
def preact_resnet18(classes: int = 10) -> nn.Module:
    """PreActResNet-18; takes the image as it is unless --mean and --std are given."""
    return PreActResNet18(classes)
