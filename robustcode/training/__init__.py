"""Training recipes and the loop around them. Importing this module registers the built-in ones."""

from robustcode.training.adversarial import Adversarial
from robustcode.training.base import RECIPES, Recipe
from robustcode.training.coded import CodedBranch, CodedTerm
from robustcode.training.coded_smoothing import CodedSmoothing
from robustcode.training.dres import Dres
from robustcode.training.loop import TrainingResult, train
from robustcode.training.mixup import Mixup
from robustcode.training.spec import Optimizer, Schedule, TrainSpec
from robustcode.training.standard import Standard
from robustcode.training.trades import Trades

__all__ = [
    "RECIPES",
    "Adversarial",
    "CodedBranch",
    "CodedSmoothing",
    "CodedTerm",
    "Dres",
    "Mixup",
    "Optimizer",
    "Recipe",
    "Schedule",
    "Standard",
    "Trades",
    "TrainSpec",
    "TrainingResult",
    "train",
]
