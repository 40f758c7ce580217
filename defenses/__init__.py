"""Built-in defences. Importing this module registers them."""

from robustcode.defenses.base import ABSTAIN, DEFENSES, Defense
from robustcode.defenses.bit_depth import BitDepth
from robustcode.defenses.coded_batch import coded_inference
from robustcode.defenses.coded_smoothing import CodedSmoothing
from robustcode.defenses.confidence import Confidence
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.identity import Identity
from robustcode.defenses.jpeg import JPEG
from robustcode.defenses.mixup_inference import MixupInference
from robustcode.defenses.random_ensemble import RandomEnsemble
from robustcode.defenses.random_resize_pad import RandomResizePad
from robustcode.defenses.smoothing import Smoothing

__all__ = [
    "ABSTAIN",
    "DEFENSES",
    "JPEG",
    "BitDepth",
    "CodedSmoothing",
    "Confidence",
    "Defense",
    "GaussianNoise",
    "Identity",
    "MixupInference",
    "RandomEnsemble",
    "RandomResizePad",
    "Smoothing",
    "coded_inference",
]
