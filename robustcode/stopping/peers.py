"""Stopping rules of others, as their code has them, to be audited and to be learnt from.

Each speaks of one class that was chosen beforehand, but for ``iss``, whose error comes from the
choice. Source: the repositories named below, as the project's research notes on certification,
section 1.4, have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri
from scipy.stats import binom

from robustcode.errors import ConfigError
from robustcode.statistics import lower_bound
from robustcode.stopping.boundaries import Boundaries, check
from robustcode.stopping.evidence import both, least
from robustcode.stopping.fixed import fewest, most
from robustcode.stopping.rules import RULES, Rule
from robustcode.stopping.schedule import looks
from robustcode.stopping.walk import Counts, Floats

RATES = 0.5 + 0.001 * np.arange(501)  # success rates that ``iss`` plans for


@RULES.register("horvath")
@dataclass(frozen=True, kw_only=True)
class Horvath(Rule):
    """Stages of draws, each judged by itself and, if undecided, thrown away for the next.

    Source: adaptive sampling of Horvath et al. 2022 (ICLR), as in
    eth-sri/smoothing-ensembles, smooth_ensemble_adaptive.py.

    Attributes:
        stages: draws of each; those not below the most draws of all give way to one of that many.
        beta: probability with which all stages together may give up a stream that is worth it.
    """

    stages: tuple[int, ...] = (1_000, 10_000, 125_000)
    beta: float = 1e-4

    def examined(self, probability: float, alpha: float, draws: int) -> Stages:
        """See Rule.examined."""
        sizes = np.array([*(size for size in self.stages if size < draws), draws])
        if sizes[0] < 1 or (np.diff(sizes) < 1).any():
            raise ConfigError(f"stages of {self.stages} draws do not rise from 1 on")
        give_up = most(probability, self.beta / max(1, len(sizes) - 1), sizes)
        certify = fewest(probability, alpha / len(sizes), sizes)
        give_up[-1] = certify[-1] - 1
        return Stages(sizes, certify, give_up)


@dataclass(frozen=True)
class Stages:
    """Looks at fresh draws each: ``looks``, ``certify`` and ``give_up`` count one stage only."""

    looks: Counts
    certify: Counts
    give_up: Counts

    def power(self, probability: float) -> float:
        """See Examined.power. The stages are independent, so that it is a sum of products."""
        return float(self._reached(probability) @ self._certified(probability))

    def draws(self, probability: float) -> float:
        """See Examined.draws."""
        return float(self._reached(probability) @ self.looks)

    def _certified(self, probability: float) -> Floats:
        return np.asarray(binom.sf(self.certify - 1, self.looks, probability))

    def _reached(self, probability: float) -> Floats:
        stopped = self._certified(probability) + binom.cdf(self.give_up, self.looks, probability)
        return np.asarray(np.cumprod(np.append(1, 1 - stopped[:-1])), np.float64)


@RULES.register("voracek")
@dataclass(frozen=True, kw_only=True)
class Voracek(Rule):
    """A bet by the Krichevsky-Trofimov estimator, certified when it has won 1 / (2 alpha)-fold.

    It bets on both sides of p0 and looks after each draw.

    Source: Voracek 2024 (NeurIPS), arXiv:2406.17830, as in vvoracek/RS_conf_seq, thresholds.py.

    Attributes:
        growth: how many times as many draws each look has as the one before; 1 for a look after
            each draw, as published.
    """

    growth: float = 1.0

    def examined(self, probability: float, alpha: float, draws: int) -> Boundaries:
        """See Rule.examined."""
        if not self.growth >= 1:
            raise ConfigError(
                f"growth = {self.growth:g} is below 1; looks come one after the other"
            )
        every = 1 + np.arange(draws)
        certify = _won(every, probability, alpha)
        give_up = every - _won(every, 1 - probability, alpha)
        # Its thresholds only rise: fewer successes than a later look lets pass are few now too.
        certify = np.minimum.accumulate(certify[::-1])[::-1]
        give_up = np.maximum.accumulate(give_up)
        kept = (looks(draws, self.growth) if self.growth > 1 else every) - 1
        certify, give_up = np.minimum(certify[kept], every[kept] + 1), give_up[kept].copy()
        give_up[-1] = certify[-1] - 1
        return Boundaries(
            probability=probability,
            alpha=alpha,
            looks=every[kept],
            certify=certify,
            give_up=give_up,
        )


def _won(every: Counts, probability: float, alpha: float) -> Counts:
    start = np.ceil(every * probability).astype(np.int64)
    goal = -math.log(2 * alpha)
    return least(lambda hits: both(hits, every, probability) > goal, start, every + 1)


@RULES.register("iss")
@dataclass(frozen=True, kw_only=True)
class ISS(Rule):
    """A number of draws planned from a first few, which are then counted among them.

    The first few also choose the class. A class that came first by luck keeps that luck in its
    final count, which the Clopper-Pearson bound is not told: at a tie of two classes twice as many
    chances are taken as ``alpha`` pays for.

    Source: roy-ch/Input-Specific-Certification (AAAI 2022), certify_iss.py; defaults as in its
    scripts/run_cifar10.sh.

    Attributes:
        first: draws that choose and plan.
        batch: draws are made in multiples of this many.
        loss: how much less than that of all draws the radius may be, in units of the input.
        sigma: the noise.
    """

    most = 100_000

    first: int = 2_000
    batch: int = 200
    loss: float = 0.01
    sigma: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.first:
            raise ConfigError(
                f"batch = {self.batch} and first = {self.first}: the first draws are one batch or "
                "more"
            )
        if not (self.loss > 0 and self.sigma > 0):
            raise ConfigError(f"loss = {self.loss:g} and sigma = {self.sigma:g} must be above 0")

    def examined(self, probability: float, alpha: float, draws: int) -> Planned:
        """See Rule.examined."""
        check(probability, alpha, draws)
        if draws < self.first:
            raise ConfigError(f"draws = {draws} are fewer than the first = {self.first}")
        first = self.first // self.batch * self.batch
        plan = self._plan(alpha, draws // self.batch)
        chosen = np.arange(first + 1)
        # The larger of the plans at both ends of a two-sided interval is taken; since no plan is
        # smaller than that of a lower rate, it is that at the upper end.
        high = 1 - lower_bound(first - chosen, first, alpha / 2)
        total = self.batch * plan[np.searchsorted(RATES, high - 1e-12)]
        if ((total > 0) & (total < first)).any():
            raise ConfigError(
                f"a loss of {self.loss:g} in radius plans fewer draws than the first = {first}, "
                "which are counted among them; lower first or loss"
            )
        enough = np.where(total > 0, fewest(probability, alpha, np.maximum(total, 1)), total + 1)
        return Planned(first, total, enough)

    def _plan(self, alpha: float, upper: int) -> Counts:
        """Batches to draw for each of ``RATES``, never fewer than before; 0 for none at all."""

        def radius(batches: Counts) -> Floats:
            count = self.batch * batches
            bound = betaincinv(count * RATES, count * (1 - RATES) + 1, alpha)
            return np.asarray(self.sigma * ndtri(bound), np.float64)

        goal = radius(np.full(501, upper)) - self.loss
        fewest_batches = least(
            lambda batches: radius(batches) >= goal, np.ones(501, np.int64), np.full(501, upper)
        )
        return np.where(goal > 0, np.maximum.accumulate(np.where(goal > 0, fewest_batches, 0)), 0)


@dataclass(frozen=True)
class Planned:
    """Two classes, of which the first draws choose one and the number of further draws.

    Attributes:
        first: draws that choose; the class that has more of them is chosen.
        total: draws in all, by the count of the chosen class, shape (first + 1,); 0 for giving up.
        enough: successes in all that certify, likewise.
    """

    first: int
    total: Counts
    enough: Counts

    def power(self, probability: float) -> float:
        """See Examined.power. Either class may be the one that is certified."""
        return self._of(probability, tied=True) + self._of(1 - probability, tied=False)

    def draws(self, probability: float) -> float:
        """See Examined.draws."""
        counts = np.arange(self.first + 1)
        made = self.first + self._further()[np.maximum(counts, self.first - counts)]
        return float(binom.pmf(counts, self.first, probability) @ made)

    def _of(self, probability: float, tied: bool) -> float:
        """The share of a class of that ``probability``, which is also chosen if ``tied``."""
        counts = np.arange(
            self.first // 2 + (0 if tied and self.first % 2 == 0 else 1), self.first + 1
        )
        short, further = self.enough[counts] - counts, self._further()[counts]
        certified = np.where(self.total[counts] > 0, binom.sf(short - 1, further, probability), 0)
        return float(binom.pmf(counts, self.first, probability) @ certified)

    def _further(self) -> Counts:
        return np.maximum(self.total - self.first, 0)
