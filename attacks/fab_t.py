"""FAB towards one class at a time: cheap with many classes, and stronger for it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.fab import FAB, others
from robustcode.errors import ConfigError


@ATTACKS.register("fab-t")
@dataclass(frozen=True, kw_only=True)
class TargetedFAB(FAB):
    """FAB that looks at the boundary of one class, for each of the classes that score highest.

    A step takes one backward pass where FAB takes one for every class. The searches of a sample
    towards its classes run side by side, and all end when one of them has broken it.

    Source: Croce and Hein 2020, arXiv:2003.01690, section 5 (FAB-T); the attack itself,
    arXiv:1907.02044.

    Attributes:
        targets: classes tried, by falling score of the sample itself; all others if there are
            fewer.
    """

    targets: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets < 1:
            raise ConfigError(f"targets = {self.targets}: at least 1 is needed")

    def _aims(self, clean: Tensor, y: Tensor) -> Tensor:
        return others(clean, y)[:, : self.targets, None]
