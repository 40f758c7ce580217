"""Residual networks without batch norm, small enough to be verified."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.models.base import MODELS, Inputs

VERIFICATION_RESNET = Inputs(
    shape=(3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616)
)


class Block(nn.Module):
    """Two 3x3 convolutions, beside the input or a 1x1 convolution of it."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut.append(nn.Conv2d(channels, width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channels, ...) to (batch, width, ...), each side divided by the stride."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class VerificationResNet(nn.Module):
    """Images (batch, 3, 32, 32) -> logits (batch, classes).

    A convolution of stride 2, then per stage two blocks of which the first halves each side.

    Source: the VNN-COMP 2021 networks of Verified-Intelligence/alpha-beta-CROWN, whose
    checkpoints load.
    """

    def __init__(self, stem: int, stages: int, classes: int) -> None:
        super().__init__()
        self.inputs = VERIFICATION_RESNET
        width = 2 * stem
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Block(stem, width, 2), Block(width, width, 1))
        self.layer2 = nn.Sequential()
        if stages == 2:
            self.layer2.extend([Block(width, width, 2), Block(width, width, 1)])
        side = 32 // 2 ** (stages + 1)
        self.linear1 = nn.Linear(width * side**2, 100)
        self.linear2 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out = self.layer2(self.layer1(F.relu(self.conv1(x))))
        return self.linear2(F.relu(self.linear1(out.flatten(1))))


@MODELS.register("cifar_resnet2b")
def cifar_resnet2b(classes: int = 10) -> nn.Module:
    """Two blocks of 16 channels; normalises as its published checkpoint expects."""
    return VerificationResNet(stem=8, stages=1, classes=classes)


@MODELS.register("cifar_resnet4b")
def cifar_resnet4b(classes: int = 10) -> nn.Module:
    """Four blocks of 32 channels; normalises as its published checkpoint expects."""
    return VerificationResNet(stem=16, stages=2, classes=classes)
