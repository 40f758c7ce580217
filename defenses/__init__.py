"""Built-in defences. Importing this module registers them."""

from robustcode.defenses.base import ABSTAIN, DEFENSES, Defense
from robustcode.defenses.identity import Identity

__all__ = ["ABSTAIN", "DEFENSES", "Defense", "Identity"]
