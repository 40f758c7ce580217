"""Branch and bound: a proof by cases of the signs of ReLUs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcode.bounds import Interval, Region
from robustcode.bounds.alpha import optimised
from robustcode.bounds.branch import Effort, branch
from robustcode.bounds.falsify import PASSES, lowest
from robustcode.errors import ConfigError
from robustcode.methods.alpha_crown import AlphaCROWNProver, Root
from robustcode.methods.base import METHODS, Claim, Method, Prover
from robustcode.seeds import Streams
from robustcode.threat import Norm

# Evaluations of each inner bound.
STEPS = 20
# Cases that are tried before bounds inside the network are worked on: half of what CROWN leaves
# open on CNN-A needs fewer than a hundred.
FIRST = 1000
# Seconds: a limit that has passed; 0 would be none.
MOMENT = 1e-9


@METHODS.register("bab")
@dataclass(frozen=True, kw_only=True)
class BranchAndBound(Method):
    """Proof by cases, each bounded linearly with multipliers for what it supposes (beta-CROWN).

    Samples that CROWN proves are left at that, and of the others an input that breaks them is
    looked for. Then alpha-CROWN, and one search for each class that is still open.

    Source: Wang et al. 2021, arXiv:2103.06624.

    Attributes:
        domains: cases that may be bounded for one sample. What is proved is the same on every
            machine as long as roundings are.
        seconds: time that one sample may take; 0 for no limit. With a limit, what is proved
            depends on the machine and its load.
        splits: splits of each bound of an inner value, once the first thousand cases have not
            been enough.
    """

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)

    domains: int = 20_000
    seconds: float = 0.0
    splits: int = 8

    def __post_init__(self) -> None:
        if self.domains < 1:
            raise ConfigError(f"domains = {self.domains}: a search bounds 1 case at least")
        if not self.seconds >= 0:
            raise ConfigError(f"seconds = {self.seconds:g}: give a time, or 0 for no limit")
        if self.splits < 0:
            raise ConfigError(f"splits = {self.splits}: write how many, or 0 for none")

    def prepare(self, claim: Claim) -> Prover:
        """See Method.prepare."""
        return BranchAndBoundProver(claim, self)


class BranchAndBoundProver(AlphaCROWNProver):
    """Searches made ready for one network."""

    def __init__(self, claim: Claim, method: BranchAndBound) -> None:
        super().__init__(claim, "bab", STEPS)
        self.method = method

    def rest(self, region: Region, spec: Tensor, bounds: list[Interval]) -> tuple[Tensor, int]:
        """See AlphaCROWNProver.rest."""
        return _Sample(self, region, spec, bounds).prove()


class _Sample:
    """The proof of one sample, as far as it got."""

    def __init__(
        self,
        prover: BranchAndBoundProver,
        region: Region,
        spec: Tensor,
        bounds: list[Interval],
    ) -> None:
        self.prover, self.region, self.spec, self.bounds = prover, region, spec, bounds
        self.left = prover.method.domains
        self.started = time.monotonic()
        self.passes = 0
        self.broken = False

    def prove(self) -> tuple[Tensor, int]:
        """Lower bounds, (rows,), and the passes that they took."""
        splits = self.prover.method.splits
        if self._falsified():
            return torch.full_like(self.spec[:, 0], -torch.inf), self.passes
        root = self._root(0)
        lower = self._branched(root, root.lower, min(FIRST, self.left))
        if bool((lower <= 0).any()) and not self.broken and self.left:
            if splits:
                root = self._root(splits)
            lower = self._branched(root, torch.maximum(lower, root.lower), self.left)
        return lower, self.passes

    def _root(self, splits: int) -> Root:
        root = self.prover.root(self.region, self.spec, self.bounds, splits)
        self.passes += root.passes
        return root

    def _falsified(self) -> bool:
        """Whether an input is found that has the margin at 0 or below."""
        reduced, _ = optimised(self.prover.network, self.region, self.bounds, 0)
        streams = Streams.of(self.prover.claim.seed, "bab", torch.zeros(1, dtype=torch.int64))
        rows = reduced.rows(len(self.prover.network.nodes) - 1, self.spec)
        points = lowest(reduced, rows, streams)
        self.passes += PASSES * len(self.spec)
        logits = self.prover.network(reduced.input_at(points))
        return bool(((self.spec * logits).sum(1) <= 0).any())

    def _branched(self, root: Root, lower: Tensor, domains: int) -> Tensor:
        """Better bounds; the search ends with the first class that it cannot prove."""
        lower = lower.clone()
        for row in lower.argsort().tolist():
            if lower[row] > 0:
                continue
            seconds = self.prover.method.seconds
            if seconds:
                seconds = max(seconds - (time.monotonic() - self.started), MOMENT)
            effort = Effort(domains=domains, seconds=seconds)
            spec = self.spec[row : row + 1]

            def breaks(point: Tensor, spec: Tensor = spec) -> bool:
                logits = self.prover.network(root.reduced.input_at(point[:, None]))
                return bool((spec * logits).sum() <= 0)

            found = branch(root.reduced, root.checker, spec, effort, breaks)
            self.passes += found.evaluations
            self.left -= found.domains
            domains -= found.domains
            self.broken = found.point is not None
            if found.lower <= 0:
                break
            lower[row] = found.lower
        return lower
