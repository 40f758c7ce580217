"""Networks by name, and the classifier that normalises inside."""

# Importing an architecture registers it.
from robustcode.models import (
    cifar_resnet,
    plain_cnn,
    preact_resnet,
    trades_cnn,
    verification_resnet,
    wide_resnet,
)
from robustcode.models.base import MODELS, Inputs, inputs_of
from robustcode.models.build import build_model
from robustcode.models.normalize import Classifier, Normalize, as_classifier
from robustcode.models.shipped import SHIPPED

__all__ = [
    "MODELS",
    "SHIPPED",
    "Classifier",
    "Inputs",
    "Normalize",
    "as_classifier",
    "build_model",
    "cifar_resnet",
    "inputs_of",
    "plain_cnn",
    "preact_resnet",
    "trades_cnn",
    "verification_resnet",
    "wide_resnet",
]
