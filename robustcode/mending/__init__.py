"""Surrogates made without a person, for defences whose own gradient leads nowhere."""

from robustcode.mending.applicable import TOGETHER, applicable, applies
from robustcode.mending.base import Keeps, NotMendableError, Way
from robustcode.mending.mended import Mended, mend
from robustcode.mending.ways import WAYS, is_stochastic, keeps

__all__ = [
    "TOGETHER",
    "WAYS",
    "Keeps",
    "Mended",
    "NotMendableError",
    "Way",
    "applicable",
    "applies",
    "is_stochastic",
    "keeps",
    "mend",
]
