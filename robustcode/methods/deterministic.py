"""What deterministic methods share: whom they refuse, and which radii they look at."""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.adversary import Solo
from robustcode.bounds import Network, Region, margins, network_of
from robustcode.certificates import Certificate, status_of
from robustcode.defenses import ABSTAIN, Identity
from robustcode.errors import ConfigError
from robustcode.methods.base import Advance, Claim, Prover
from robustcode.seeds import Streams

# Arrays that a pass of coefficients keeps of one layer, and that bounds keep of every layer.
OF_ONE, OF_ALL = 4, 5


class Proved(NamedTuple):
    """What bounds showed of some samples within their radii, each (batch,).

    Attributes:
        margin: a lower bound on the least margin of the label, float64.
        forwards: forward passes that it took, int64; see Certificate.
        backwards: backward passes, likewise.
        reach: a radius, at most that of the region, that is proved even if the margin is not.
    """

    margin: Tensor
    forwards: Tensor
    backwards: Tensor
    reach: Tensor | None = None


class Deterministic(Prover):
    """Proofs that a plain network's margin stays above 0 in a region.

    The network is the one of real numbers with the weights as they are; a proof allows for all
    rounding in itself, but not for that of the network where it is deployed, in float32: see
    ``robustcode.bounds.forward_error``. The prediction is the deployed one.

    The threat's eps is looked at first. What holds in a ball holds in every smaller one, so that
    only larger radii are left if it is proved, and only smaller ones if not: from the smallest, up
    to the first that is not proved. Of a wrong prediction nothing is proved.
    """

    def __init__(self, claim: Claim, method: str) -> None:
        refuse_others(claim, method)
        self.claim = claim
        self.network: Network = network_of(claim.defense.model, claim.example)

    @property
    def together(self) -> int:
        """How many samples' bounds take the memory of ``claim.rows`` rows of coefficients."""
        values = [prod(node.shape) for node in self.network.nodes]
        most = self.claim.rows * OF_ONE * max(values) // (OF_ALL * sum(values))
        return min(max(1, most), self.claim.rows)

    @abstractmethod
    def margins(self, region: Region, spec: Tensor) -> Proved:
        """Lower bounds on the least of the margins ``spec``, (batch, rows, classes)."""

    def prove(self, x: Tensor, y: Tensor, streams: Streams, advance: Advance) -> list[Certificate]:
        """See Prover.prove."""
        found: list[Certificate] = []
        for rows in torch.arange(len(x), device=x.device).split(self.together):
            found += self._proofs(x[rows], y[rows], streams[rows])
            advance(len(rows))
        return found

    def _proofs(self, x: Tensor, y: Tensor, streams: Streams) -> list[Certificate]:
        predicted = self.claim.defense.decide(x.clone(), streams)
        found = _Found(self, x, y)
        eps = self.claim.threat.eps
        right = (predicted == y).nonzero().squeeze(1)
        at_eps = found.prove(eps, right)
        bound = found.margin.clone()
        larger = [radius for radius in self.claim.radii if radius > eps]
        smaller = [radius for radius in self.claim.radii if radius < eps]
        for rows, radii in (
            (right[at_eps], larger),
            (right[~at_eps], smaller),
        ):
            for radius in radii:
                rows = rows[found.prove(radius, rows)]
        classes = [None if label == ABSTAIN else label for label in predicted.tolist()]
        return [
            Certificate(
                sample=sample,
                label=int(y[i]),
                prediction=classes[i],
                status=status_of(classes[i], int(y[i]), float(found.radius[i]), eps),
                radius=float(found.radius[i]),
                bound=float(bound[i]) if bound[i] > -torch.inf else None,
                forwards=self.claim.defense.passes + int(found.forwards[i]),
                backwards=int(found.backwards[i]),
                seed=self.claim.seed,
            )
            for i, sample in enumerate(streams.samples.tolist())
        ]


class _Found:
    """What is known so far of a batch, (batch,) each."""

    def __init__(self, prover: Deterministic, x: Tensor, y: Tensor) -> None:
        self.prover, self.x = prover, x.double()
        self.spec = margins(y, prover.network.classes)
        self.radius = torch.zeros_like(y, dtype=torch.float64)
        # The last that was proved from below; nothing can be lower.
        self.margin = torch.full_like(self.radius, -torch.inf)
        self.forwards, self.backwards = torch.zeros_like(y), torch.zeros_like(y)

    def prove(self, radius: float, rows: Tensor) -> Tensor:
        """Which of these rows are proved within ``radius``, (rows,)."""
        if not len(rows):
            return torch.zeros_like(rows, dtype=torch.bool)
        threat = self.prover.claim.threat
        x = self.x[rows]
        # An attack's input may be some roundings out of the ball, and is not to break a proof.
        beyond = threat.rounding(self.prover.claim.example)
        size = x.new_full((len(x),), radius + beyond)
        region = Region(x, size, threat.norm, threat.low, threat.high)
        proved = self.prover.margins(region, self.spec[rows])
        self.margin[rows] = proved.margin
        self.forwards[rows] += proved.forwards
        self.backwards[rows] += proved.backwards
        holds = proved.margin > 0
        reach = torch.zeros_like(self.margin[rows]) if proved.reach is None else proved.reach
        reach = torch.where(holds, radius, (reach - beyond).nan_to_num().clamp(min=0))
        self.radius[rows] = torch.maximum(self.radius[rows], reach)
        return holds


def refuse_others(claim: Claim, method: str) -> None:
    """ConfigError for a defence that is not the plain network, and for an adversary of batches."""
    defense = claim.defense
    name = type(defense).__name__
    if defense.stochastic or defense.batch_coupled:
        raise ConfigError(
            f"method {method} proves something of one fixed network, and {name} is random or "
            "depends on the batch; take smoothing, or coded for coded inference"
        )
    if not isinstance(defense, Identity):
        raise ConfigError(
            f"method {method} cannot bound what {name} does to an image before the network; "
            "certify the network without the defence, or take smoothing"
        )
    if not isinstance(claim.adversary, Solo):
        raise ConfigError(
            "inputs of one batch do not act on each other in a plain network, so an adversary "
            "gains nothing by controlling several; take the adversary solo"
        )
