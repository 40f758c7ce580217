"""Built-in attacks. Importing this module registers them."""

from robustcode.attacks.base import ATTACKS, Ascent, Attack, Loss, Target

__all__ = ["ATTACKS", "Ascent", "Attack", "Loss", "Target"]
