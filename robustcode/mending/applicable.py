"""Which ways of mending do anything for a defence."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.attacks.losses import negative_margin
from robustcode.defenses.base import Defense
from robustcode.errors import ConfigError
from robustcode.mending.base import Keeps
from robustcode.mending.mended import mend
from robustcode.mending.ways import WAYS, keeps
from robustcode.seeds import Streams

# Ways that help each other: cuts inside with processing outside of torch, and both with scores
# that have saturated.
TOGETHER = (
    "identity+through",
    "through+double",
    "through+presoftmax",
    "identity+through+presoftmax",
)
# Scores that are the same but for the order of sums; see facts.ROUNDING.
ROUNDING = 1e-4


def applicable(defense: Defense, x: Tensor) -> list[str]:
    """The ways, alone and ``TOGETHER``, that run on ``x``, keep what they promise and are followed.

    A way is left out where scores differ from the defence's by more than rounding, or for those
    that keep only the order, another class comes first (of those that keep nothing, for more than
    half of the inputs); or where the gradient of the margin is not
    finite, or zero for more than half of the inputs. ``x`` are a few inputs, (batch, ...); a way
    costs each two passes forward and one back.
    """
    return [way for way in (*WAYS, *TOGETHER) if applies(defense, way, x)]


def applies(defense: Defense, way: str, x: Tensor) -> bool:
    """Whether ``way`` is one of the ``applicable``."""
    streams = Streams.of(0, "mending", torch.arange(len(x), device=x.device))
    x = x.detach().clone().requires_grad_()
    try:
        mended = mend(defense, way)
        # Whoever draws from torch's own generator is to draw the same twice, and leave no trace.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            own = mended.logits(x, streams)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            scores = mended.surrogate(x, streams)
    except ConfigError:
        return False
    if not scores.requires_grad or not _kept(own, scores.detach(), keeps(way)):
        return False
    lead = negative_margin(scores, own.nan_to_num().argmax(1)).sum()
    try:
        (gradient,) = torch.autograd.grad(lead, x, allow_unused=True)
    except RuntimeError:  # on the way is a function that has no derivative at all
        return False
    if gradient is None or not gradient.isfinite().all():
        return False
    moved = (gradient != 0).flatten(1).any(1)
    return bool(2 * moved.sum() >= len(x))


def _kept(own: Tensor, mended: Tensor, what: Keeps) -> bool:
    if own.shape != mended.shape:
        return False
    told = own.isfinite().all(1)  # scores that are not numbers are nothing to keep
    own, mended = own[told], mended[told]
    if not mended.isfinite().all():
        return False
    if what is Keeps.NOTHING:
        agree = own.argmax(1) == mended.argmax(1)
        return bool(2 * agree.sum() >= len(own))
    size = own.abs().amax(1, keepdim=True).clamp(min=1e-30)
    if what is Keeps.VALUES:
        return bool(((own - mended).abs() <= ROUNDING * size).all())
    # The class that comes first by the one is first by the other too, or level with it.
    first = mended.argmax(1, keepdim=True)
    return bool((own.amax(1, keepdim=True) - own.gather(1, first) <= ROUNDING * size).all())
