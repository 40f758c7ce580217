"""Who in a batch is adversarial, where a defence lets inputs of one batch act on each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from robustcode.errors import ConfigError
from robustcode.registry import Registry


class Gradient(StrEnum):
    """Which gradient an attacker follows whose sample shares a coded batch with others."""

    OWN = "own"
    JOINT = "joint"


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """What an adversary controls of the batch its sample is classified in.

    Attributes:
        batched: the samples under attack are each other's batch mates.
        stacked: an input is several images: those of every user that the adversary controls.
    """

    batched: ClassVar[bool] = False
    stacked: ClassVar[bool] = False


ADVERSARIES: Registry[type[Adversary]] = Registry("adversary", "robustcode.adversary", Adversary)


@ADVERSARIES.register("solo")
@dataclass(frozen=True, kw_only=True)
class Solo(Adversary):
    """One user: its sample is perturbed, its batch mates are clean and other ones at each draw."""


@ADVERSARIES.register("batch")
@dataclass(frozen=True, kw_only=True)
class Batch(Adversary):
    """Every user: all samples of a batch are perturbed, each against its own label.

    Samples share a batch with their neighbours in the run, in a fresh order at each draw. What is
    found is judged in that batch, and once more with each sample among clean mates. An attack that
    asks about part of a batch, as one that pursues several goals of each sample may, finds clean
    mates in the place of the others.

    With ``gradient=joint`` a sample follows the gradient of all losses of its batch. That is what
    an attack gets which differentiates the summed loss through the codec, as for any classifier.
    It is flawed: with cross-entropy a confident sample has hardly a gradient, so that of a
    misclassified neighbour, which leaks through the code, decides the sign of its step. It is here
    to show how robust a defence then looks.

    Attributes:
        gradient: own, of each sample's loss alone; or joint.
        reach: samples that each coded image is differentiated for, heaviest first, at the cost of a
            backward pass each. With cubic splines over Chebyshev points 3 leave out .2 % of an own
            gradient at 1.5 coded images per image and .8 % at 1 and .75, up to four times that at
            some places; 7 leave out 1e-5, and 1e-4 at 1 and .75.
    """

    batched: ClassVar[bool] = True

    gradient: Gradient = Gradient.OWN
    reach: int = 3

    def __post_init__(self) -> None:
        if self.reach < 1:
            raise ConfigError(f"reach = {self.reach}: a coded image serves 1 sample at least")


@dataclass(frozen=True, kw_only=True)
class _Several(Adversary):
    """Users that work together.

    All of their images make one input, each of which may move by eps. In l2 and l1 they would
    have one eps together, which is refused.

    Attributes:
        users: how many of the sample's k - 1 batch mates are theirs; 0 for all of them. They are
            clean images of the pool to begin with. The others are clean, and other ones each draw.
    """

    stacked: ClassVar[bool] = True

    users: int = 0

    def __post_init__(self) -> None:
        if self.users < 0:
            raise ConfigError(f"users = {self.users}: write how many, or 0 for the whole batch")


@ADVERSARIES.register("collusion")
@dataclass(frozen=True, kw_only=True)
class Collusion(_Several):
    """Several users against one of their own samples: all of their images may be perturbed."""


@ADVERSARIES.register("mates")
@dataclass(frozen=True, kw_only=True)
class Mates(_Several):
    """Malicious batch mates against a sample that nobody perturbs.

    Source: distribution invading attacks, Wu et al. 2023, arXiv:2301.12576, there against
    test-time adaptation.
    """
