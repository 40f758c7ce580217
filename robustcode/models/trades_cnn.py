"""The MNIST network of TRADES: four convolutions, two poolings, three linear layers."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from robustcode.models.base import MODELS, Inputs


class TradesCNN(nn.Module):
    """Images (batch, 1, 28, 28) -> logits (batch, classes).

    Without the dropout that its authors train with: evaluated, it does nothing.

    Source: Zhang et al. 2019, arXiv:1901.08573, section 5.3; Carlini and Wagner 2017,
    arXiv:1608.04644, table 1.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inputs = Inputs(shape=(1, 28, 28))
        self.feature_extractor = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 32, 3),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 32, 3),
                relu2=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv3=nn.Conv2d(32, 64, 3),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(64, 64, 3),
                relu4=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                fc1=nn.Linear(64 * 4 * 4, 200),
                relu1=nn.ReLU(),
                fc2=nn.Linear(200, 200),
                relu2=nn.ReLU(),
                fc3=nn.Linear(200, classes),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.classifier(self.feature_extractor(x))


@MODELS.register("mnist_trades_cnn")
def mnist_trades_cnn(classes: int = 10) -> nn.Module:
    """The network of the published checkpoint ``mnist_smallcnn``."""
    return TradesCNN(classes)
