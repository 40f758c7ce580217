"""What a certificate is, and what a method that gives certificates promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from robustcode.adversary import Adversary, Solo
from robustcode.certificates import Certificate
from robustcode.defenses import Defense
from robustcode.importing import named_code
from robustcode.registry import Registry
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is to be proved: of which defence, against whom, and at which radii.

    Attributes:
        defense: the judged one, its model in evaluation mode with frozen parameters.
        threat: the norm, the box and the eps that decides.
        radii: ascending, in the threat's norm; ``threat.eps`` is one of them.
        classes: how many the model tells apart.
        example: one image, (1, channels, height, width), on the device.
        adversary: what it controls of a batch.
        seed: the run's seed.
        rows: inputs of the model that may be in memory at once.
    """

    defense: Defense
    threat: ThreatModel
    radii: tuple[float, ...]
    classes: int
    example: Tensor
    adversary: Adversary = field(default_factory=Solo)
    seed: int = 0
    rows: int = 256


# Called with the number of samples that are decided, as they are: for a progress bar.
Advance = Callable[[int], None]


class Prover(ABC):
    """A method made ready for one claim; what it learnt of the model it keeps."""

    @abstractmethod
    def prove(self, x: Tensor, y: Tensor, streams: Streams, advance: Advance) -> list[Certificate]:
        """A certificate for each row, in order.

        ``x`` is (batch, channels, height, width) in [0, 1], ``y`` int64 of shape (batch,).
        ``streams.samples`` are the numbers of the samples. What is found for one must not depend
        on the others, unless they are its batch mates by ``streams.together``. Memory is that of
        ``claim.rows`` inputs of the model, not of the batch or of the draws.
        """


class Method(ABC):
    """A way to certify: its settings, and what it can speak of.

    Attributes:
        norms: in which it proves anything.
        random: whether its proofs hold up to ``alpha``, and not for certain.
    """

    norms: ClassVar[frozenset[Norm]]
    random: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, claim: Claim) -> Prover:
        """Make ready what is done once; ConfigError for what can be known to be in vain.

        That is a threat, a defence or a layer that it cannot speak of, or a radius that it could
        not prove of any sample.
        """

    def subject(self, claim: Claim) -> str:
        """The defence that the proofs speak of, as ``NAME:key=value,..``, if not the claim's own.

        Empty if it is. Randomized smoothing speaks of a smoothed classifier around the claim's.
        """
        return ""


METHODS: Registry[type[Method]] = Registry("method", "robustcode.methods", Method, named_code)
