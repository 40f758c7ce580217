"""Built-in defences. Importing this module registers them."""

from robustcode.defenses.base import ABSTAIN, DEFENSES, Defense
from robustcode.defenses.bit_depth import BitDepth
from robustcode.defenses.coded_smoothing import CodedSmoothing, coded_inference
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.defenses.identity import Identity
from robustcode.defenses.jpeg import JPEG
from robustcode.defenses.random_resize_pad import RandomResizePad

__all__ = [
    "ABSTAIN",
    "DEFENSES",
    "JPEG",
    "BitDepth",
    "CodedSmoothing",
    "Defense",
    "GaussianNoise",
    "Identity",
    "RandomResizePad",
    "coded_inference",
]
