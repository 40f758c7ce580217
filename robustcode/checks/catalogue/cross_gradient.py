"""In a joint gradient a sample's own part is the smaller one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from robustcode.adversary import Batch, Gradient
from robustcode.attacks.losses import cross_entropy
from robustcode.checks.base import CHECKS, Check, Group, Untested
from robustcode.checks.examination import Examination
from robustcode.defenses.base import Defense
from robustcode.errors import ConfigError
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams

# Rows that are put into one batch where the defence does not say how many there are.
UNDECLARED = 16


@CHECKS.register("cross-gradient")
class CrossGradient(Check):
    """In a joint gradient a sample's own part is the smaller one.

    Raised when, at the samples themselves and by cross-entropy, the gradient that reaches half of
    the samples of a batch from the losses of their batch mates is larger than that of their own;
    as a warning where the attack follows it, as an info where it does not. Where no batch is
    attacked as a whole, the samples of the pilot are put into one.

    Why it matters: an attack that differentiates the summed loss steps where misclassified
    neighbours want it to, and leaves a defence standing that is not robust.

    What to do: follow each sample's own gradient (the adversary batch, or solo).

    False alarms: none; both gradients are of the same draw, and are compared as they are.

    Source: the research notes on coded smoothing, section 5.3.
    """

    code = "cross-gradient"
    group = Group.BATCH
    says = "of a joint gradient a sample's own part is the larger one"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.whole_batch:
            return None
        if exam.threat is None or len(exam.y) == 0:
            return "nothing is attacked"
        if exam.adversary.stacked:
            return "an input holds a whole batch already"
        if len(exam.finite) < 2 or not exam.slopes.reached:
            return "there is no gradient"
        return None if exam.coupled else "no other sample reaches a sample's scores"

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        followed = exam.adversary.gradient if isinstance(exam.adversary, Batch) else Gradient.OWN
        if exam.whole_batch:
            yield cross_gradient(exam.defense, *exam.whole_batch, exam.seed, followed, exam.pay_for)
            return
        rows = exam.finite[: exam.defense.batch if exam.defense.batch > 1 else UNDECLARED]
        given = exam.x[rows], exam.y[rows], exam.samples[rows]
        if not exam.defense.batch_coupled:
            yield _finding(*_undeclared(exam, *given), followed)
            return
        try:
            exam.defense.facing(Batch(), exam.samples[:0], exam.x[:0])
        except ConfigError as cause:
            raise Untested(f"its batch cannot be attacked as a whole: {cause}") from cause
        yield cross_gradient(exam.defense, *given, exam.seed, followed, exam.pay_for)


def cross_gradient(
    defense: Defense,
    x: Tensor,
    y: Tensor,
    samples: Tensor,
    seed: int,
    gradient: Gradient,
    pay: Callable[[Defense, Streams], None] = lambda defense, streams: None,
) -> Finding | None:
    """The finding of CrossGradient on one batch, of which attacks follow ``gradient``.

    ``pay`` is told of each gradient that is taken.
    """
    streams = Streams.of(seed, "cross gradient", samples, torch.zeros_like(samples))

    def of(which: Gradient) -> Tensor:
        facing = defense.facing(Batch(gradient=which), samples[:0], x[:0])
        leaf = x.detach().clone().requires_grad_()
        pay(facing, streams)
        with torch.enable_grad():
            loss = cross_entropy(facing.logits(leaf, streams), y).sum()
        if not loss.requires_grad:  # a model without a gradient is another finding
            return torch.zeros_like(x).flatten(1)
        (found,) = torch.autograd.grad(loss, leaf, allow_unused=True, materialize_grads=True)
        return found.flatten(1)

    return _finding(of(Gradient.OWN), of(Gradient.JOINT), gradient)


def _undeclared(exam: Examination, x: Tensor, y: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """The own and the joint gradients of rows whose defence is told of no batch, (rows, values)."""
    streams = Streams.of(exam.seed, "cross gradient", samples)
    leaf = x.detach().clone().requires_grad_()
    exam.pay(streams, len(x))
    with torch.enable_grad():
        losses = cross_entropy(exam.defense.logits(leaf, streams), y)
    own, joint = torch.zeros_like(leaf), torch.zeros_like(leaf)
    if not losses.requires_grad:  # what attacks follow is a surrogate
        raise Untested("its scores have no gradient, joint or own")
    for row, loss in enumerate(losses):
        (found,) = torch.autograd.grad(
            loss, leaf, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        own[row] = found[row]
        joint += found
    return own.flatten(1), joint.flatten(1)


def _finding(own: Tensor, joint: Tensor, gradient: Gradient) -> Finding | None:
    others = (joint - own).norm(dim=1)
    # Where confident neighbours have no gradient either, none of it is theirs.
    ratio = torch.where(others > 0, own.norm(dim=1) / others, torch.inf)
    agree = (own.sign() == joint.sign()).float().mean()
    median = float(ratio.median())
    if not math.isfinite(median) or median >= 1:
        return None
    followed = gradient is Gradient.JOINT
    return Finding(
        code="cross-gradient",
        severity=Severity.WARNING if followed else Severity.INFO,
        what=f"in the joint gradient of a batch a sample's own part is {median:.2g} times that of "
        f"its neighbours, in the median of {len(own)}, and {float(agree):.0%} of the signs are its "
        f"own{'' if followed else '; the attacks here follow the own part alone'}",
        remedy="do not differentiate the summed loss of a coded batch: take gradient=own"
        if followed
        else "distrust evaluations of this defence whose attack differentiates the batch jointly",
        figures={"ratio": median, "signs": float(agree), "samples": float(len(own))},
    )
