"""Built-in attacks. Importing this module registers them."""

from robustcode.attacks.apgd import APGD
from robustcode.attacks.apgd_ce import APGDCE
from robustcode.attacks.apgd_dlr import APGDDLR
from robustcode.attacks.apgd_margin import APGDMargin
from robustcode.attacks.apgd_pm import APGDPM
from robustcode.attacks.apgd_t import APGDT
from robustcode.attacks.base import ATTACKS, Ascent, Attack, Loss, Target
from robustcode.attacks.fgsm import FGSM
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.attacks.noise import Noise
from robustcode.attacks.pgd import PGD
from robustcode.attacks.transfer import Transfer

__all__ = [
    "APGD",
    "APGDCE",
    "APGDDLR",
    "APGDPM",
    "APGDT",
    "ATTACKS",
    "FGSM",
    "LOSSES",
    "PGD",
    "APGDMargin",
    "Ascent",
    "Attack",
    "Loss",
    "LossName",
    "Noise",
    "Target",
    "Transfer",
]
