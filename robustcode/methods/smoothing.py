"""Randomized smoothing: proofs by noise and votes, for a classifier of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.stats import binom
from torch import Tensor

from robustcode.adversary import Solo
from robustcode.certificates import Certificate, status_of
from robustcode.defenses.gaussian_noise import GaussianNoise
from robustcode.errors import ConfigError
from robustcode.methods.base import METHODS, Advance, Claim, Method, Prover
from robustcode.methods.course import (
    NO_PROOF,
    RULES,
    Choice,
    Estimator,
    Proof,
    choose,
    prove,
    shown,
)
from robustcode.methods.votes import NO_VOTE, Ballot, Course, Vote, poll
from robustcode.noise import KINDS, Kind, Noise
from robustcode.seeds import Streams
from robustcode.stopping import Ladder, ladder, needed
from robustcode.threat import Norm


@METHODS.register("smoothing")
@dataclass(frozen=True, kw_only=True)
class Smoothing(Method):
    """Proofs about the class that most draws of a classifier under noise are for.

    The smoothed classifier says the class that is the likeliest one when noise is added to the
    input. Draws show that its probability is above what a radius takes, see ``robustcode.noise``;
    then no input within the radius has another class. The classifier may be any, with any defence
    around it, of which each draw here is one of ``Defense.logits``: one that is random itself is
    drawn afresh together with the noise, and the proof then holds for an adversary who does not
    know the draw. A draw whose scores are not numbers is for no class.

    First a class is chosen by some draws, then others prove it; nothing is proved of any other.
    All radii are judged on one stream of draws, at the error of one; see
    ``robustcode.stopping.Ladder``. Without proof that the class has half of the draws the method
    abstains. A defence that adds noise to its input, ``smoothing`` or ``gaussian-noise``, brings
    its own; the proof is then about that defence with endlessly many votes.

    Source: Cohen et al. 2019, arXiv:1902.02918; the sequential rule is from this project's research
    notes on certification, section 4; random classifiers, section 6.4 there, from Salman et al.
    2019, arXiv:1906.04584.

    Attributes:
        sigma: standard deviation of the noise in each input value, in the units of the input.
        noise: gaussian if nobody says; uniform and laplace are for l1.
        estimator: sequential, fixed or anytime.
        alpha: probability with which the proof of one sample may be false.
        draws: most draws for the proof of one sample. With the default a radius of 3.3 sigma can
            be proved; five times as many prove .1 to .9 points more of a test set at up to 2 sigma
            and 3 at 3 sigma, for two to four times the cost (replay of published logs, section 4.4
            of the notes).
        selection: most draws that choose the class; fewer where one is clearly ahead.
        labels: make no draws to prove a class that is not the label. Certified accuracy stays what
            it is, but the certificates are not what is deployed, where no label is known.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)
    random: ClassVar[bool] = True

    sigma: float | None = None
    noise: Kind | None = None
    estimator: Estimator = Estimator.SEQUENTIAL
    alpha: float = 0.001
    draws: int = 20_000
    selection: int = 100
    labels: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError(
                f"alpha = {self.alpha:g} is not between 0 and 1; .001 is usual: one proof in a "
                "thousand false"
            )
        if self.sigma is not None and not self.sigma > 0:
            raise ConfigError(f"sigma = {self.sigma:g} smooths nothing; take one above 0")
        for name in ("draws", "selection"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: make 1 or more")

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        if not isinstance(claim.adversary, Solo):
            raise ConfigError(
                "smoothing proves something about one perturbed input among clean ones; take the "
                "adversary solo, or for a whole batch the method coded-noise"
            )
        noise = self._noise(claim)
        kind = next(kind for kind, cls in KINDS.items() if isinstance(noise, cls))
        if claim.threat.norm not in noise.units:
            able = ", ".join(k for k, cls in KINDS.items() if claim.threat.norm in cls.units)
            raise ConfigError(
                f"noise = {kind} proves nothing worth having in {claim.threat.norm}; take {able}"
            )
        unit = noise.units[claim.threat.norm](claim.example[0].numel())
        probabilities = [self._probability(noise, radius, unit, claim) for radius in claim.radii]
        # The lowest rung is whether the class is that of most draws. Where nobody asks for it, by
        # a radius of 0, no draw is made for it.
        free = int(probabilities[0] > 0.5)
        design = RULES[self.estimator].design
        rungs = ladder([0.5] * free + probabilities, self.alpha, self.draws, design)
        return SmoothingProver(self, claim, noise, unit, rungs, free)

    def subject(self, claim: Claim) -> str:
        """See Method.subject."""
        if isinstance(claim.defense, GaussianNoise):
            return ""
        return f"smoothing:sigma={self.sigma},noise={self.noise or Kind.GAUSSIAN}"

    def _noise(self, claim: Claim) -> Noise:
        if isinstance(claim.defense, GaussianNoise):
            if self.sigma is not None or self.noise is not None:
                raise ConfigError(
                    "the defence adds noise of its own, which the proof is about; leave out sigma "
                    "and noise, or the defence"
                )
            noise = claim.defense.distribution
        elif self.sigma is None:
            raise ConfigError(
                "no noise: write smoothing:sigma=VALUE, or certify a defence with noise"
            )
        else:
            noise = KINDS[self.noise or Kind.GAUSSIAN](sigma=self.sigma)
        if noise.sigma == 0:
            raise ConfigError("a defence with sigma = 0 adds no noise, so nothing is proved of it")
        return noise

    def _probability(self, noise: Noise, radius: float, unit: float, claim: Claim) -> float:
        """What a class must exceed to keep the majority within ``radius``."""
        probability = max(0.5, noise.probability(radius / unit))
        what = f"radius {radius:g} in {claim.threat.norm}"
        if probability >= 1:
            raise ConfigError(
                f"{what} is beyond what any number of draws proves with sigma = {noise.sigma:g}; "
                "take a smaller radius or a larger sigma"
            )
        least = needed(probability, self.alpha)
        if self.draws < least:
            raise ConfigError(
                f"{what} takes {least:,} draws or more with sigma = {noise.sigma:g} and alpha = "
                f"{self.alpha:g}, even if all are for one class; draws = {self.draws:,} allows "
                "fewer: set draws, a smaller radius or a larger sigma"
            )
        return probability


@dataclass(frozen=True)
class SmoothingProver(Prover):
    """Smoothing made ready for one claim.

    Attributes:
        unit: how large in the threat's norm the ball is that a radius of 1 of the noise proves.
        rungs: one half, then what each radius of the claim takes; one half only once.
        free: how many of them, from the lowest, are none of the claim's.
    """

    method: Smoothing
    claim: Claim
    noise: Noise
    unit: float
    rungs: Ladder
    free: int

    @torch.no_grad()
    def prove(self, x: Tensor, y: Tensor, streams: Streams, advance: Advance) -> list[Certificate]:
        """See Prover.prove."""
        named = streams.child("smoothing")
        courses = [self._course(label) for label in y.tolist()]

        found = poll(courses, self.votes(x, named), self.claim.classes, self.claim.rows, advance)
        bound = RULES[self.method.estimator].bound
        least = shown([proof for _, proof in found], self.rungs, bound)
        of_each = zip(streams.samples.tolist(), y.tolist(), found, least, strict=True)
        return [
            self._certificate(sample, label, choice, proof, probability)
            for sample, label, (choice, proof), probability in of_each
        ]

    def votes(self, x: Tensor, streams: Streams) -> Vote:
        """What makes the draws that are asked for of rows of ``x``."""

        def vote(places: Tensor, numbers: Tensor) -> Ballot:
            where = places.to(x.device)
            return self._vote(x[where], streams[where].each(numbers.to(x.device)))

        return vote

    def _vote(self, x: Tensor, streams: Streams) -> Ballot:
        """One draw of each row."""
        defense = self.claim.defense
        if not isinstance(defense, GaussianNoise):
            x = x + self.noise.draw(streams, tuple(x.shape[1:]), x.dtype)
            streams = streams.child("defense")
        scores = defense.logits(x, streams)
        classes = scores.argmax(1).masked_fill(scores.isnan().any(1), NO_VOTE)
        return Ballot(classes, defense.forwards(streams))

    def _course(self, label: int) -> Course[tuple[Choice, Proof]]:
        """What is asked of one sample."""
        choice = yield from choose(self.method.selection)
        if choice.chosen is None or (self.method.labels and choice.chosen != label):
            return choice, NO_PROOF
        proof = yield from prove(choice.chosen, self.rungs, self.free)
        return choice, proof

    def _certificate(
        self, sample: int, label: int, choice: Choice, proof: Proof, probability: float
    ) -> Certificate:
        """What is proved of one sample, whose class has more than ``probability``."""
        proved = proof.rungs > 0
        prediction = choice.chosen if proved or proof is NO_PROOF else None
        bound = self.noise.left(probability, self.claim.threat.eps / self.unit) if proved else None
        radius = self._radius(proof.rungs, probability)
        return Certificate(
            sample=sample,
            label=label,
            prediction=prediction,
            status=status_of(prediction, label, radius, self.claim.threat.eps),
            radius=radius,
            bound=bound,
            share=self._share(bound if prediction == label else None),
            alpha=self.method.alpha,
            draws=choice.draws + proof.draws,
            forwards=choice.forwards + proof.forwards,
            seed=self.claim.seed,
        )

    def _radius(self, rungs: int, probability: float) -> float:
        """The largest radius that is proved, in the threat's norm."""
        radii = (0.0,) * (1 + self.free) + self.claim.radii
        if RULES[self.method.estimator].bound is None:
            return radii[rungs]
        # A rung's own radius, where rounding on the way from its probability would fall short.
        return max(radii[rungs], self.unit * self.noise.radius(probability))

    def _share(self, least: float | None) -> float | None:
        """The least probability that a decision of the votes that are deployed is right."""
        if not isinstance(self.claim.defense, GaussianNoise):
            return None  # endlessly many votes
        votes = self.claim.defense.votes
        return 0.0 if least is None else float(binom.sf(votes // 2, votes, least))
