"""Training recipes and the loop around them. Importing this module registers the built-in ones."""

from robustcode.training.adversarial import Adversarial
from robustcode.training.base import RECIPES, Recipe
from robustcode.training.coded import CodedBranch, CodedTerm
from robustcode.training.coded_smoothing import CodedSmoothing
from robustcode.training.crown_ibp import CrownIBP
from robustcode.training.dres import Dres
from robustcode.training.gaussian import Gaussian
from robustcode.training.ibp import IBP
from robustcode.training.loop import TrainingResult, train
from robustcode.training.mixup import Mixup
from robustcode.training.smoothadv import SmoothAdv
from robustcode.training.spec import Optimizer, Schedule, TrainSpec
from robustcode.training.standard import Standard
from robustcode.training.trades import Trades

__all__ = [
    "IBP",
    "RECIPES",
    "Adversarial",
    "CodedBranch",
    "CodedSmoothing",
    "CodedTerm",
    "CrownIBP",
    "Dres",
    "Gaussian",
    "Mixup",
    "Optimizer",
    "Recipe",
    "Schedule",
    "SmoothAdv",
    "Standard",
    "Trades",
    "TrainSpec",
    "TrainingResult",
    "train",
]
