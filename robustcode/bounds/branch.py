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
from robustcode.bounds.choice import chosen, halves
from robustcode.bounds.reduced import Reduced
from robustcode.bounds.slopes import Dual, Start, ascend

# Evaluations of the whole specification before anything is split.
ROOT_STEPS = 50


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
    steps: int = 3
    tried: int = 3


class Outcome(NamedTuple):
    """How a search ended.

    Attributes:
        lower: above 0 if and only if the specification is proved, and then a lower bound on it;
            else the search's own worst one, in which roundings are not accounted for.
        domains: cases that were bounded.
        evaluations: of the bound, those with gradients counted twice.
        point: an input, as the reduced network has it, at which the specification is not above 0,
            (inputs,); None if none was met.
    """

    lower: float
    domains: int
    evaluations: int
    point: Tensor | None


def branch(
    reduced: Reduced,
    checker: Checker,
    spec: Tensor,
    effort: Effort,
    broken: Callable[[Tensor], bool],
) -> Outcome:
    """Prove that one row of ``spec``, (1, classes), is above 0, or end without.

    A case counts as proved only when the ``checker`` says so. ``broken`` tells of an input of the
    reduced network, (inputs,), whether the specification is at most 0 there on the network itself.

    Source: Bunel et al. 2020, arXiv:1909.06588, for branch and bound; Wang et al. 2021,
    arXiv:2103.06624, for the bound of a case.
    """
    search = _Search(reduced, checker, spec, effort)
    started = time.monotonic()
    while search.queue and effort.domains - search.domains >= 2:
        if effort.seconds and time.monotonic() - started > effort.seconds:
            break
        if broken(search.point):
            return search.outcome(search.point)
        search.step()
    return search.outcome(None)


class _Case(NamedTuple):
    """Ordered by its bound: the worst is split first."""

    lower: float
    number: int  # ties are broken by age
    signs: Tensor
    numbers: Tensor


class _Search:
    def __init__(self, reduced: Reduced, checker: Checker, spec: Tensor, effort: Effort) -> None:
        self.dual = Dual(reduced)
        self.checker, self.spec, self.effort = checker, spec, effort
        self.rows = reduced.rows(len(reduced.network.nodes) - 1, spec)
        self.queue: list[_Case] = []
        self.domains = self.evaluations = self.cases = 0
        self.proved = torch.inf
        self.point = self.rows.inputs[0]
        signs = torch.zeros(self.dual.open, 1, dtype=torch.int8)
        self._bound(signs, self.dual.first(1), ROOT_STEPS)

    def outcome(self, point: Tensor | None) -> Outcome:
        """What is known by now."""
        lower = min([self.proved, *(case.lower for case in self.queue)])
        return Outcome(lower, self.domains, self.evaluations, point)

    def step(self) -> None:
        """Split the worst cases."""
        room = (self.effort.domains - self.domains) // 2
        count = min(self.effort.batch, len(self.queue), room)
        cases = [heapq.heappop(self.queue) for _ in range(count)]
        signs = torch.stack([case.signs for case in cases], 1)
        numbers = torch.stack([case.numbers for case in cases], 1).float()
        tried = self.effort.tried
        places = chosen(self.dual, Start.of(self.rows, count), numbers, signs, tried)
        self.evaluations += count * (1 + 2 * tried)
        split, left = (places >= 0).nonzero().squeeze(1), (places < 0).nonzero().squeeze(1)
        if len(split):
            both = halves(signs[:, split], numbers[:, split], places[split])
            self._bound(*both, self.effort.steps)
        if len(left):  # nothing is to be split: its multipliers are all that can be better
            self._bound(signs[:, left], numbers[:, left], ROOT_STEPS)

    def _bound(self, signs: Tensor, numbers: Tensor, steps: int) -> None:
        """Bound new cases; those that are not proved wait."""
        columns = signs.shape[1]
        found = ascend(self.dual, Start.of(self.rows, columns), numbers, signs, steps)
        self.domains += columns
        self.evaluations += 2 * steps * columns
        lower = found.lower.double().nan_to_num(nan=-torch.inf)
        done = (lower > 0).nonzero().squeeze(1)
        if len(done):
            own = found.numbers[:, done], signs[:, done]
            lower[done] = self.checker.lower(self.dual, *own, self.spec)
            self.evaluations += len(done)
        self.point = found.point[:, int(lower.argmin())]
        for i in (~(lower > 0)).nonzero().squeeze(1).tolist():
            self.cases += 1
            # Copies: a view of a column would keep all columns in memory. Half precision will do,
            # as any numbers are a start.
            kept = signs[:, i].clone(), found.numbers[:, i].half()
            heapq.heappush(self.queue, _Case(float(lower[i]), self.cases, *kept))
        if bool((lower > 0).any()):
            self.proved = min(self.proved, float(lower[lower > 0].min()))
