"""alpha-CROWN: linear bounds with the best slopes that an ascent finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.bounds import (
    Interval,
    Region,
    crown_bounds,
    linear_bounds,
    relaxed,
    sizes_of,
)
from robustcode.bounds.alpha import optimised
from robustcode.bounds.checked import Checker
from robustcode.bounds.reduced import Reduced, few_open, refuse_pooling
from robustcode.bounds.slopes import Dual, Start, ascend
from robustcode.errors import ConfigError
from robustcode.methods.base import METHODS, Claim, Method, Prover
from robustcode.methods.crown import CROWNProver
from robustcode.methods.deterministic import Proved
from robustcode.threat import Norm


@METHODS.register("alpha-crown")
@dataclass(frozen=True, kw_only=True)
class AlphaCROWN(Method):
    """CROWN with the slopes of its lower lines chosen by ascent on the bound.

    Samples that CROWN proves are left at that. Every bound of an inner value has slopes of its
    own, and so has every class.

    Source: Xu et al. 2021, arXiv:2011.13824.

    Attributes:
        steps: evaluations of the bound of each inner value; the margins have twice as many.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)

    steps: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps = {self.steps}: an ascent takes 1 step at least")

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        return AlphaCROWNProver(claim, "alpha-crown", self.steps)


@dataclass(frozen=True, eq=False)
class Root:
    """One sample before anything is split.

    Attributes:
        reduced: its open ReLUs.
        checker: proves bounds.
        lower: of each margin, float64, (rows,).
        passes: of bounds, each way.
    """

    reduced: Reduced
    checker: Checker
    lower: Tensor
    passes: int


class AlphaCROWNProver(CROWNProver):
    """Optimised bounds made ready for one network."""

    def __init__(self, claim: Claim, method: str, steps: int) -> None:
        super().__init__(claim, method)
        refuse_pooling(self.network, method)
        self.steps = steps

    @torch.no_grad()
    def margins(self, region: Region, spec: Tensor) -> Proved:
        """See Deterministic.margins."""
        found = super().margins(region, spec)
        for i in (found.margin <= 0).nonzero().squeeze(1):
            one = region.rows(i[None])
            margin, passes = self.one(one, spec[i])
            found.margin[i] = torch.maximum(found.margin[i], margin)
            found.forwards[i] += passes
            found.backwards[i] += passes
        return found

    def one(self, region: Region, spec: Tensor) -> tuple[Tensor, int]:
        """The least margin of one sample that is proved, and the passes that it took."""
        network = self.network
        bounds = crown_bounds(network, region, rows=self.claim.rows)
        sizes = sizes_of(network, bounds)
        lower = linear_bounds(network, region, relaxed(network, bounds), spec[None], sizes=sizes)
        least, passes = lower.proved[0].clone(), len(spec)
        left = (least <= 0).nonzero().squeeze(1)
        if few_open(network, bounds):
            found, more = self.rest(region, spec[left], bounds)
            least[left] = torch.maximum(least[left], found)
            passes += more
        return least.min(), passes

    def rest(self, region: Region, spec: Tensor, bounds: list[Interval]) -> tuple[Tensor, int]:
        """Lower bounds on rows that CROWN does not prove, (rows,), and the passes they took."""
        root = self.root(region, spec, bounds)
        return root.lower, root.passes

    def root(self, region: Region, spec: Tensor, bounds: list[Interval], splits: int = 0) -> Root:
        """Bounds of ``spec``, (rows, classes), with optimised slopes."""
        reduced, bounds = optimised(self.network, region, bounds, self.steps, splits)
        checker, dual = Checker(reduced, bounds), Dual(reduced)
        start = Start.of(reduced.rows(len(self.network.nodes) - 1, spec))
        signs = torch.zeros(dual.open, len(spec), dtype=torch.int8)
        steps = 2 * self.steps
        ascent = ascend(dual, start, dual.first(len(spec)), signs, steps, proof=False)
        lower = checker.lower(dual, ascent.numbers, signs, spec)
        passes = self.steps * 2 * sum(reduced.sizes) * (1 + splits) + steps * len(spec)
        return Root(reduced, checker, lower, passes)
