"""The residual networks that were made for CIFAR: three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.models.base import MODELS, Inputs

# What the published checkpoints were trained with: ImageNet's values, on CIFAR-10.
CIFAR_RESNET = Inputs(shape=(3, 32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, beside a shortcut without parameters."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.added = width - channels

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channels, ...) to (batch, width, ...), each side divided by the stride."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        """Option A of the paper: every second pixel, and channels of zeros on either side."""
        if not self.added:
            return x
        before = self.added // 2
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, before, self.added - before))


class CifarResNet(nn.Module):
    """Images (batch, 3, 32, 32) -> logits (batch, classes), with 6 ``blocks`` + 2 layers.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2; attribute names of
    akamaster/pytorch_resnet_cifar10, whose checkpoints load.
    """

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.inputs = CIFAR_RESNET
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16, stride=1)
        self.layer2 = _stage(blocks, 16, 32, stride=2)
        self.layer3 = _stage(blocks, 32, 64, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean((2, 3)))


def _stage(blocks: int, channels: int, width: int, stride: int) -> nn.Sequential:
    first = Block(channels, width, stride)
    return nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1)))


@MODELS.register("cifar_resnet20")
def cifar_resnet20(classes: int = 10) -> nn.Module:
    """ResNet-20; normalises with ImageNet's values, as its published checkpoint expects."""
    return CifarResNet(3, classes)


@MODELS.register("cifar_resnet32")
def cifar_resnet32(classes: int = 10) -> nn.Module:
    """ResNet-32; normalises with ImageNet's values, as its published checkpoint expects."""
    return CifarResNet(5, classes)


@MODELS.register("cifar_resnet44")
def cifar_resnet44(classes: int = 10) -> nn.Module:
    """ResNet-44; normalises with ImageNet's values, as its published checkpoint expects."""
    return CifarResNet(7, classes)


@MODELS.register("cifar_resnet56")
def cifar_resnet56(classes: int = 10) -> nn.Module:
    """ResNet-56; normalises with ImageNet's values, as its published checkpoint expects."""
    return CifarResNet(9, classes)
