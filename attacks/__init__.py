"""Built-in attacks. Importing this module registers them."""

from robustcode.attacks.base import ATTACKS, Ascent, Attack, Loss, Target
from robustcode.attacks.fgsm import FGSM
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.attacks.noise import Noise
from robustcode.attacks.pgd import PGD
from robustcode.attacks.transfer import Transfer

__all__ = [
    "ATTACKS",
    "FGSM",
    "LOSSES",
    "PGD",
    "Ascent",
    "Attack",
    "Loss",
    "LossName",
    "Noise",
    "Target",
    "Transfer",
]
