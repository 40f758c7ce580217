"""A defence as the adversary sees it, with every pass counted for the sample it was spent on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustcode.attacks.base import Ascent, Loss
from robustcode.budget import Budget, Witness
from robustcode.defenses.base import Defense
from robustcode.defenses.identity import Identity
from robustcode.defenses.wrapper import inside
from robustcode.errors import ContractError, RobustcodeError
from robustcode.importing import reason
from robustcode.memory import BatchLimit, is_out_of_memory
from robustcode.mending import is_stochastic, mend
from robustcode.nearby import Nearby, chain_for
from robustcode.seeds import Streams

# Rows of a query where nobody knows better, and at most on a CPU: there a wider one takes up
# memory in proportion and saves a tenth of the time or less.
WIDTH = 128


class Ledger:
    """Forward and backward passes spent on each sample, and paid for from a budget.

    Attributes:
        samples: int64, ascending; the samples that may be charged.
        forwards: int64, passes of the model per sample.
        backwards: likewise.
    """

    def __init__(
        self,
        samples: Tensor,
        listener: Callable[[int], None] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.samples = samples
        self.forwards = torch.zeros_like(samples)
        self.backwards = torch.zeros_like(samples)
        self._listener = listener
        self._budget = budget or Budget()

    def charge(self, samples: Tensor, forwards: Tensor | int, backwards: Tensor | int = 0) -> None:
        """Add passes for every occurrence of a sample in ``samples``; BudgetSpent if too many.

        They are the same number for each, or int64 of shape (samples,).
        """
        spent = total(forwards, len(samples)) + total(backwards, len(samples))
        self._budget.spend(spent)
        rows = torch.searchsorted(self.samples, samples)
        for passes, account in ((forwards, self.forwards), (backwards, self.backwards)):
            if isinstance(passes, Tensor):
                account.index_add_(0, rows, passes)
            elif passes:
                account.index_add_(0, rows, torch.full_like(rows, passes))
        if self._listener is not None:
            self._listener(spent)

    def reset(self, samples: Tensor) -> None:
        """Forget what was spent on samples whose work is begun again."""
        rows = torch.searchsorted(self.samples, samples)
        self._budget.give_back(int((self.forwards[rows] + self.backwards[rows]).sum()))
        self.forwards[rows] = 0
        self.backwards[rows] = 0


def total(passes: Tensor | int, rows: int) -> int:
    """Passes of all rows, given those of each or the same number for every one."""
    return int(passes.sum()) if isinstance(passes, Tensor) else passes * rows


class DefendedTarget:
    """The face of a defence that attacks may query; see attacks.base.Target.

    Gradients are taken for the input alone: parameters get no ``.grad`` and no graph.

    Attributes:
        stochastic: whether two draws can differ, as tested and not only as declared.
    """

    def __init__(
        self,
        defense: Defense,
        ledger: Ledger,
        *,
        stochastic: bool,
        differentiable: bool,
        width: int | BatchLimit = WIDTH,
        witness: Witness | None = None,
        original: Defense | None = None,
    ) -> None:
        """``width``: rows that fit into one query, or the limit that goes down with memory.

        Besides, no query is wider than ``WIDTH`` on a CPU; see there. ``original`` is what
        ``defense`` is a faster copy of, if it is one: a copy may have lost the parts that a way of
        mending looks for.
        """
        self.stochastic = stochastic
        self._limit = width if isinstance(width, BatchLimit) else BatchLimit(width)
        self._defense = defense
        self._original = defense if original is None else original
        self._ledger = ledger
        # What a surrogate gets wrong says little of the defence.
        self._witness = witness if differentiable else None
        # BPDA: what has no useful gradient is followed by its surrogate.
        self._scores = defense.logits if differentiable else defense.surrogate

    @property
    def width(self) -> int:
        """See Target.width. A batch that is halved for want of memory halves its queries too."""
        size, fits = self._limit.size, widest(self._defense, self._ledger.samples.device)
        return size if fits is None else min(size, fits)

    @property
    def undefended(self) -> DefendedTarget:
        """The plain model inside the defence, asked in batches with mates where that is."""
        plain = self._defense.undefended
        rows = self._defense.passes // max(1, inside(self._defense).passes)
        return self.beside(plain) if rows <= 1 else self._beside(_Plain(model=plain, rows=rows))

    def beside(self, model: nn.Module) -> DefendedTarget:
        """See Target.beside."""
        return self._beside(Identity(model=model))

    def _beside(self, other: Defense) -> DefendedTarget:
        """Another face at the same expense. What it gets wrong is not the defence's: no witness."""
        return DefendedTarget(
            other,
            self._ledger,
            stochastic=False,
            differentiable=True,
            width=self._limit,
        )

    def mended(self, way: str, optional: bool = False) -> DefendedTarget:
        """See Target.mended. What a surrogate gets wrong says little of the defence: no witness."""
        return DefendedTarget(
            mend(self._original, way, optional),
            self._ledger,
            stochastic=self.stochastic or is_stochastic(way),
            differentiable=False,
            width=self._limit,
        )

    @torch.no_grad()
    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Target.logits."""
        self._ledger.charge(streams.samples, self._defense.forwards(streams))
        scores = self._defense.logits(x, streams)
        self._see(x, scores, streams)
        return scores

    def ascent(self, x: Tensor, y: Tensor, loss: Loss, streams: Streams) -> Ascent:
        """See Target.ascent. A target that has no gradient at all gives zeros, and a finding."""
        return self.ascents(x, y, (loss,), streams)[0]

    def ascents(
        self, x: Tensor, y: Tensor, losses: Sequence[Loss], streams: Streams
    ) -> list[Ascent]:
        """See Target.ascents."""
        backwards = self._defense.backwards(streams) * len(losses)
        self._ledger.charge(streams.samples, self._defense.forwards(streams), backwards)
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            scores = self._scores(x, streams)
            self._see(x, scores, streams)
            if not scores.requires_grad:
                return [Ascent(scores.detach(), torch.zeros_like(x)) for _ in losses]
            # A sum, not a mean: each sample's gradient must not depend on the batch it is in.
            totals = [loss(scores, y).sum() for loss in losses]
        found = []
        for number, total in enumerate(totals, 1):
            (gradient,) = torch.autograd.grad(
                total, x, allow_unused=True, retain_graph=number < len(totals)
            )
            if gradient is None:
                gradient = torch.zeros_like(x)
            elif 0 in gradient.stride():  # of a mean over pixels: one number in many places
                gradient = gradient.clone(memory_format=torch.contiguous_format)
            # NaN would stay for ever in the iterate; a zero leaves it where it is. See findings.
            found.append(Ascent(scores.detach(), torch.nan_to_num_(gradient, nan=0.0)))
        return found

    def nearby(self, x: Tensor, streams: Streams, size: tuple[int, int]) -> Nearby | None:
        """See Target.nearby."""
        plain = type(self._defense) is Identity and not self.stochastic
        chain = chain_for(self._defense.model, x, size) if plain else None
        if chain is None:
            return None

        def pay(rows: Tensor) -> None:
            self._ledger.charge(streams.samples[rows], 1)

        def see(x: Tensor, scores: Tensor, rows: Tensor) -> None:
            self._see(x, scores, streams[rows])

        self._ledger.charge(streams.samples, 1)
        return Nearby(chain, x, self.width, pay, None if self._witness is None else see)

    def scores(self, x: Tensor, streams: Streams) -> Tensor:
        """See Target.scores. A backward pass is charged when it is made."""
        self._ledger.charge(streams.samples, self._defense.forwards(streams))
        with torch.enable_grad():
            scores = self._scores(x, streams)
        self._see(x, scores, streams)
        if scores.requires_grad:
            passes = self._defense.backwards(streams)
            scores.register_hook(lambda _: self._ledger.charge(streams.samples, 0, passes))
        return scores

    def _see(self, x: Tensor, scores: Tensor, streams: Streams) -> None:
        if self._witness is not None:
            self._witness.see(x, scores.detach(), streams)


@dataclass(frozen=True, kw_only=True)
class _Plain(Identity):
    """A model that is asked about several ``rows`` to answer for one."""

    rows: int

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return self.rows


def widest(defense: Defense, device: torch.device) -> int | None:
    """Rows that a query has at most; None for any."""
    # Inputs that are classified together are best asked about together.
    return max(WIDTH, defense.batch) if device.type == "cpu" else None


@contextmanager
def answerable(who: str) -> Iterator[None]:
    """What a component raises is its broken promise, never a defence that held nor a crash.

    Memory that ran out passes through: the batch is halved for it.
    """
    try:
        yield
    except (RobustcodeError, MemoryError):
        raise
    except (Exception, SystemExit) as cause:
        if is_out_of_memory(cause):
            raise
        raise ContractError(f"{who} failed: {reason(cause)}") from cause


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Evaluate a model in eval mode without parameter gradients, then give it back as it came."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(p, p.requires_grad) for p in model.parameters()]
    try:  # an interrupt may come as soon as anything is changed
        model.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires in wanted:
            parameter.requires_grad_(requires)
