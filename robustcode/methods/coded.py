"""Certificates of coded inference, for a known draw of its permutation and over all draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from robustcode.adversary import Batch, Solo
from robustcode.bounds import network_of
from robustcode.certificates import Certificate, status_of
from robustcode.defenses import ABSTAIN, CodedSmoothing
from robustcode.errors import ConfigError
from robustcode.methods.base import METHODS, Advance, Claim, Method, Prover
from robustcode.methods.coded_decisions import Decisions
from robustcode.methods.coded_margins import Joint
from robustcode.methods.course import RULES, Estimator
from robustcode.seeds import Streams
from robustcode.stopping import Boundaries, Verdict
from robustcode.threat import Norm

HALF = 0.5


@METHODS.register("coded")
@dataclass(frozen=True, kw_only=True)
class Coded(Method):
    """Joint linear bounds over all coded images that a sample is in.

    Of a draw that is known, the bounds prove a class for all that the adversary may do, even if it
    knows that draw. A defence with ``fixed`` draws has one of each sample, so its certificate is
    for certain. Of one that draws afresh, a share q of the draws is proved so. Whatever the
    adversary does, and whether or not it sees the draw first, one decision is right with
    probability q at least: so the mean of q is below the robust accuracy that is expected. With
    q > 1/2 the sample is certified: what most of many decisions say is right. Both hold up to
    ``alpha``, over independent draws of the permutation and the mates. There is no union over
    perturbations, since each draw is proved for the whole ball at once.

    With adversary solo a sample moves among clean mates of the defence's own pool; with adversary
    batch all samples of its batch move, each by eps. Of mates beyond that, which an adversary may
    choose, nothing can be proved: batch integrity is required.

    The model is bounded as the function of real numbers that it is; see ``coded_margins.Joint``.

    Source: the research notes on certification, section 6, theorems A and B, derived there. Linear
    bounds of the model: CROWN, Zhang et al. 2018, arXiv:1811.00866.

    Attributes:
        estimator: fixed, of all draws, which bounds q from below; sequential, which stops as soon
            as q is shown to be above 1/2 or not worth more draws, and bounds it by 1/2; or anytime,
            which stops early and bounds q.
        alpha: probability with which a proof over draws may be false.
        draws: decisions that are looked at, or at most, of a defence that draws afresh.
        selection: further ones, of the clean sample, that choose the class which is proved.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)
    random: ClassVar[bool] = True

    estimator: Estimator = Estimator.FIXED
    alpha: float = 0.001
    draws: int = 20
    selection: int = 10

    def __post_init__(self) -> None:
        if self.selection < 1:
            raise ConfigError(f"selection = {self.selection}: make 1 or more")
        # What so few draws cannot show is said here.
        self.boundaries  # noqa: B018

    @property
    def boundaries(self) -> Boundaries:
        """When enough draws are proved."""
        return RULES[self.estimator].design(HALF, self.alpha, self.draws)

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        defense, adversary = claim.defense, claim.adversary
        if not isinstance(defense, CodedSmoothing):
            raise ConfigError(
                f"method coded proves something of coded inference, and {type(defense).__name__} "
                "codes nothing; take crown, or smoothing"
            )
        if defense.module:
            raise ConfigError(
                f"method coded proves something of a network that is coded as a whole, not of one "
                f"that is inside from module {defense.module!r} on; leave out module, or take "
                "smoothing"
            )
        if not isinstance(adversary, (Solo, Batch)):
            raise ConfigError(
                f"adversary {type(adversary).__name__.lower()} chooses batch mates, and against "
                "mates of its choice coded inference is uncertifiable: batch integrity is "
                "required; take adversary solo or batch"
            )
        return _Coded(self, claim, defense)


class _Tally:
    """What draws have shown of some samples so far."""

    def __init__(self, batch: int, radii: int) -> None:
        self.draws = np.zeros(batch, dtype=np.int64)
        # Draws that are proved at each radius for the chosen class, and at eps for the label.
        self.proved = np.zeros((batch, radii), dtype=np.int64)
        self.right = np.zeros(batch, dtype=np.int64)
        # Lower bounds on the probabilities of both at eps.
        self.shown = np.zeros((2, batch))
        self.verdicts = np.zeros((batch, radii), dtype=np.int64)

    def look(self, boundaries: Boundaries, look: int, rows: NDArray[np.int64]) -> None:
        """Decide what look number ``look`` decides of these samples.

        Radii share the draws at the error of one: what is proved at a radius is at each that is
        smaller, so that of the radii whose claim is false the smallest is the first to be claimed.
        """
        now = (self.proved[rows] >= boundaries.certify[look]).astype(np.int64)
        now -= self.proved[rows] <= boundaries.give_up[look]
        before = self.verdicts[rows]
        self.verdicts[rows] = np.where(before == Verdict.OPEN, now, before)


class _Coded(Prover):
    def __init__(self, method: Coded, claim: Claim, defense: CodedSmoothing) -> None:
        self.method, self.claim, self.defense = method, claim, defense
        network = network_of(defense.model, claim.example)
        joint = Joint(network, claim.threat, claim.example.dtype, claim.rows)
        self.at = claim.radii.index(claim.threat.eps)
        self.decisions = Decisions(defense, joint, claim.radii, self.at)

    @torch.no_grad()
    def prove(self, x: Tensor, y: Tensor, streams: Streams, advance: Advance) -> list[Certificate]:
        """See Prover.prove."""
        found: dict[int, Certificate] = {}
        prove = self._over_draws if self.defense.stochastic else self._of_one
        for rows in self._groups(streams):
            proved = prove(x[rows], y[rows], streams[rows])
            found.update(zip(rows.tolist(), proved, strict=True))
            advance(len(rows))
        return [found[row] for row in range(len(x))]

    def _groups(self, streams: Streams) -> Iterator[Tensor]:
        """Rows that are proved together: those of a coded batch, or as many as memory holds."""
        rows = torch.arange(len(streams), device=streams.keys.device)
        if streams.together is None:
            each = self.defense.passes * self.defense.votes
            yield from rows.split(max(1, self.claim.rows // each))
        else:
            for number in streams.together.samples.unique():
                yield rows[streams.together.samples == number]

    def _of_one(self, x: Tensor, y: Tensor, streams: Streams) -> list[Certificate]:
        """Theorem A: of the one draw that there is."""
        reached = self.decisions.reached(x, streams)
        return [
            self._certificate(
                int(streams.samples[row]),
                int(y[row]),
                int(reached.label[row]),
                int(reached.level[row]),
                float(reached.margin[row]),
                reached.passes[:, row],
            )
            for row in range(len(x))
        ]

    def _over_draws(self, x: Tensor, y: Tensor, streams: Streams) -> list[Certificate]:
        """Theorem B: of a share of all draws."""
        method = self.method
        chosen, forwards = self._chosen(x, streams.child("select"))
        passes = torch.stack([forwards, torch.zeros_like(forwards)])
        boundaries, bound = method.boundaries, RULES[method.estimator].bound
        tally = _Tally(len(x), len(self.claim.radii))
        rows = torch.arange(len(x), device=x.device)
        for look, after in enumerate(boundaries.looks.tolist()):
            at = rows.cpu().numpy()
            for draw in range(int(tally.draws[at[0]]), after):
                reached = self.decisions.reached(x[rows], streams[rows].child("draw", draw))
                level = reached.level.cpu().numpy()
                passed = np.arange(len(self.claim.radii)) < level[:, None]
                tally.proved[at] += passed & _equal(reached.label, chosen[rows])[:, None]
                tally.right[at] += passed[:, self.at] & _equal(reached.label, y[rows])
                passes[:, rows] += reached.passes
            tally.draws[at] = after
            if bound is not None:
                counts = np.stack([tally.proved[at, self.at], tally.right[at]])
                shown = bound(counts, after, method.alpha)
                tally.shown[:, at] = np.maximum(tally.shown[:, at], shown)
            tally.look(boundaries, look, at)
            undecided = torch.from_numpy((tally.verdicts == Verdict.OPEN).any(1)).to(x.device)
            if not undecided.any():
                break
            # Samples of one batch are drawn together until all are decided.
            if streams.together is None:
                rows = undecided.nonzero().squeeze(1)
        levels = (tally.verdicts == Verdict.CERTIFIED).sum(1)
        least, share = np.maximum(tally.shown, np.where(levels > self.at, HALF, 0))
        share = np.where(_equal(chosen, y), share, tally.shown[1])
        held: list[float | None] = [None] * len(x)
        if method.estimator is Estimator.FIXED:
            held = (tally.right / tally.draws).tolist()
        return [
            replace(
                self._certificate(
                    int(streams.samples[row]),
                    int(y[row]),
                    int(chosen[row]),
                    int(levels[row]),
                    float(least[row]),
                    passes[:, row],
                ),
                share=float(share[row]),
                held=held[row],
                alpha=method.alpha,
                draws=method.selection + int(tally.draws[row]),
            )
            for row in range(len(x))
        ]

    def _chosen(self, x: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        """The class that most decisions about the clean sample are for, and passes it took.

        ABSTAIN where there is none.
        """
        votes = torch.zeros(len(x), self.claim.classes + 1, dtype=torch.int64, device=x.device)
        for draw in range(self.method.selection):
            label = self.defense.decide(x, streams.child("draw", draw))
            votes += F.one_hot(label + 1, votes.shape[1])  # abstentions in front
        most = votes[:, 1:].max(1)
        alone = (votes[:, 1:] == most.values[:, None]).sum(1) == 1
        each = self.defense.votes * self.decisions.forwards(streams)
        return most.indices.where(alone, ABSTAIN), self.method.selection * each

    def _certificate(
        self, sample: int, label: int, decided: int, level: int, bound: float, passes: Tensor
    ) -> Certificate:
        prediction = None if decided == ABSTAIN else decided
        radius = self.claim.radii[level - 1] if level else 0.0
        return Certificate(
            sample=sample,
            label=label,
            prediction=prediction,
            status=status_of(prediction, label, radius, self.claim.threat.eps),
            radius=radius,
            bound=None if decided == ABSTAIN else bound,
            forwards=int(passes[0]),
            backwards=int(passes[1]),
            seed=self.claim.seed,
        )


def _equal(first: Tensor, second: Tensor) -> NDArray[np.bool_]:
    return (first == second).cpu().numpy()
