"""Branch and bound: suppose a ReLU's sign, both ways, until every case is proved."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.bounds.checked import Checker
from robustcode.bounds.choice import gaps
from robustcode.bounds.reduced import Reduced
from robustcode.bounds.slopes import Dual, Start, ascend


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a search may cost and how it is spent.

    Attributes:
        domains: cases that may be bounded.
        seconds: time that may pass; 0 for no limit. What is proved then depends on the machine.
        batch: cases that are split together.
        steps: evaluations for each case.
        tried: ReLUs of each case that are tried out before one is split.
    """

    domains: int
    seconds: float = 0.0
    batch: int = 128
    steps: int = 4
    tried: int = 3


class Outcome(NamedTuple):
    """How a search ended.

    Attributes:
        lower: a lower bound on the specification that is proved, float64; above 0 if the search
            was a success.
        domains: cases that were bounded.
        evaluations: of the bound, those with gradients counted twice.
        point: an input, in the reduced network's ball, at which the specification is not above 0,
            (inputs,); None if none was met.
    """

    lower: float
    domains: int
    evaluations: int
    point: Tensor | None


class _Case(NamedTuple):
    """Ordered by its bound: the worst is split first."""

    lower: float
    number: int  # ties are broken by age
    signs: Tensor
    numbers: Tensor


def branch(
    reduced: Reduced,
    checker: Checker,
    spec: Tensor,
    effort: Effort,
    broken: Callable[[Tensor], bool],
) -> Outcome:
    """Prove that one row of ``spec``, (1, classes), is above 0, or end without.

    A case counts as proved only when the ``checker`` says so. ``broken`` tells of a point in the
    ball, (inputs,), whether the specification is at most 0 there on the network itself.

    Source: Bunel et al. 2020, arXiv:1909.06588, for branch and bound; Wang et al. 2021,
    arXiv:2103.06624, for the bound of a case. What is split is chosen in the manner of De Palma et
    al. 2021, arXiv:2104.06718: by an estimate, and of the best by that, by trying them.
    """
    search = _Search(reduced, checker, spec, effort)
    started = time.monotonic()
    while search.queue:
        out = effort.domains - search.domains < 2
        if out or (effort.seconds and time.monotonic() - started > effort.seconds):
            break
        if broken(search.point):
            return search.outcome(search.point)
        search.step()
    return search.outcome(None)


class _Search:
    def __init__(self, reduced: Reduced, checker: Checker, spec: Tensor, effort: Effort) -> None:
        self.dual = Dual(reduced)
        self.checker, self.spec, self.effort = checker, spec, effort
        self.rows = reduced.rows(len(reduced.network.nodes) - 1, spec)
        self.queue: list[_Case] = []
        self.domains = self.evaluations = self.cases = 0
        self.proved = torch.inf
        self.point = self.rows.inputs.new_zeros(self.rows.inputs.shape[1])
        signs = torch.zeros(self.dual.open, 1, dtype=torch.int8)
        self._bound(signs, self.dual.first(1), ROOT_STEPS)

    def outcome(self, point: Tensor | None) -> Outcome:
        lower = min(self.proved, *(case.lower for case in self.queue), torch.inf)
        return Outcome(lower, self.domains, self.evaluations, point)

    def step(self) -> None:
        """Split the worst cases."""
        room = (self.effort.domains - self.domains) // 2
        count = min(self.effort.batch, len(self.queue), room)
        cases = [heapq.heappop(self.queue) for _ in range(count)]
        signs = torch.stack([case.signs for case in cases], 1)
        numbers = torch.stack([case.numbers for case in cases], 1).float()
        chosen = self._choice(signs, numbers)
        which = torch.arange(count)
        signs, numbers = signs.repeat(1, 2), numbers.repeat(1, 2)
        signs[chosen, which], signs[chosen, count + which] = 1, -1
        numbers[chosen, which] = numbers[chosen, count + which] = 0
        self._bound(signs, numbers, self.effort.steps)

    def _bound(self, signs: Tensor, numbers: Tensor, steps: int) -> None:
        """Bound new cases; those that are not proved wait."""
        columns = signs.shape[1]
        start = Start.of(self.rows, columns)
        found = ascend(self.dual, start, numbers, signs, steps)
        self.domains += columns
        self.evaluations += 2 * steps * columns
        lower = found.lower.double()
        done = (lower > 0).nonzero().squeeze(1)
        if len(done):
            lower[done] = self.checker.lower(
                self.dual, found.numbers[:, done], signs[:, done], self.spec
            )
            self.evaluations += len(done)
        least = lower.min(0)
        self.point = found.point[:, int(least.indices)]
        for i in (lower <= 0).nonzero().squeeze(1).tolist():
            self.cases += 1
            # Copies: a view of a column would keep all columns in memory. Half precision will do: any
            # numbers are a start.
            case = _Case(
                float(lower[i]), self.cases, signs[:, i].clone(), found.numbers[:, i].clone()
            )
            heapq.heappush(self.queue, case)
        if bool((lower > 0).any()):
            self.proved = min(self.proved, float(lower[lower > 0].min()))

    def _choice(self, signs: Tensor, numbers: Tensor) -> Tensor:
        """The ReLU to split in each column, (columns,)."""
        columns = signs.shape[1]
        found = self.dual.evaluate(Start.of(self.rows, columns), numbers, signs, gradient=False)
        self.evaluations += columns
        scores = gaps(self.dual, found.coefficients, numbers).masked_fill_(signs != 0, -1)
        tried = min(self.effort.tried, len(scores))
        best = scores.topk(tried, dim=0)
        if tried == 1:
            return best.indices[0]
        which = torch.arange(columns).repeat(tried)
        place = best.indices.flatten()
        gains = []
        start = Start.of(self.rows, columns * tried)
        own = numbers[:, which]
        own[place, torch.arange(len(place))] = 0
        for sign in (1, -1):
            supposed = signs[:, which]
            supposed[place, torch.arange(len(place))] = sign
            bound = self.dual.evaluate(start, own, supposed, gradient=False)
            gains.append(bound.lower.clamp(max=0).view(tried, columns) - found.lower)
        self.evaluations += 2 * columns * tried
        # The worse half decides how deep the search goes; the better one breaks ties.
        gain = torch.minimum(*gains) + BETTER * torch.maximum(*gains)
        gain = gain.masked_fill(best.values < 0, -torch.inf)
        return best.indices.gather(0, gain.argmax(0, keepdim=True)).squeeze(0)


ROOT_STEPS = 50
BETTER = 0.1

