"""Built-in attacks. Importing this module registers them."""

from robustcode.attacks.aggmo import AggMo
from robustcode.attacks.apgd import APGD
from robustcode.attacks.apgd_ce import APGDCE
from robustcode.attacks.apgd_dlr import APGDDLR
from robustcode.attacks.apgd_margin import APGDMargin
from robustcode.attacks.apgd_pm import APGDPM
from robustcode.attacks.apgd_t import APGDT
from robustcode.attacks.autoattack_peer import AutoAttackPeer
from robustcode.attacks.base import ATTACKS, Ascent, Attack, Loss, Target
from robustcode.attacks.cw import CW
from robustcode.attacks.ddn import DDN
from robustcode.attacks.deepfool import DeepFool
from robustcode.attacks.fab import FAB
from robustcode.attacks.fab_t import TargetedFAB
from robustcode.attacks.fgsm import FGSM
from robustcode.attacks.fmn import FMN
from robustcode.attacks.foolbox_peer import FoolboxPeer
from robustcode.attacks.hopskipjump import HopSkipJump
from robustcode.attacks.losses import LOSSES, LossName
from robustcode.attacks.mended import Mended
from robustcode.attacks.nes import NES
from robustcode.attacks.noise import Noise
from robustcode.attacks.pgd import PGD
from robustcode.attacks.scout import Scout
from robustcode.attacks.spsa import SPSA
from robustcode.attacks.square import Square
from robustcode.attacks.torchattacks_peer import TorchattacksPeer
from robustcode.attacks.transfer import Transfer
from robustcode.attacks.transfer_pgd import TransferPGD
from robustcode.attacks.warm import Warm

__all__ = [
    "APGD",
    "APGDCE",
    "APGDDLR",
    "APGDPM",
    "APGDT",
    "ATTACKS",
    "CW",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "LOSSES",
    "NES",
    "PGD",
    "SPSA",
    "APGDMargin",
    "AggMo",
    "Ascent",
    "Attack",
    "AutoAttackPeer",
    "DeepFool",
    "FoolboxPeer",
    "HopSkipJump",
    "Loss",
    "LossName",
    "Mended",
    "Noise",
    "Scout",
    "Square",
    "Target",
    "TargetedFAB",
    "TorchattacksPeer",
    "Transfer",
    "TransferPGD",
    "Warm",
]
