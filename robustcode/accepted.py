"""A detector as its adversary faces it: an input counts only if it is wrong and accepted."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import Around
from robustcode.findings import Facts
from robustcode.seeds import Streams

# How far a refused input is from being accepted counts up to this share of a lead's usual size, and
# a right input is that much above every wrong one. The more, the further do attacks that take
# scores for straight, such as FAB, step over the edge of what is wrong.
STEP = 0.3
# How far every input is from the boundary at the least, in the same units: what only tells yes from
# no may say 0 for accepted. Of scores a hundred times as large as their leads it is still fifty
# roundings of float32.
ROOM = 1e-3
# A gradient passes from the lead to the rejection over this share of a lead's usual size. Where it
# jumps, steps of one length go to and fro at the edge.
BLEND = 0.1


def accepted(defense: Defense, facts: Facts, samples: Tensor, y: Tensor) -> Defense:
    """The defence as attacks on ``samples``, of the classes ``y`` (batch,), are to search it.

    The same one if it is no detector, or where nobody says the classes: then nothing is attacked.
    """
    if not facts.detector or len(y) == 0:
        return defense
    order = samples.argsort()
    return Accepted(
        inner=defense,
        samples=samples[order],
        y=y[order],
        lead=facts.lead,
        size=facts.rejection,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Accepted(Around):
    """Scores in which the true class leads unless a wrong one is on top and is accepted.

    Whatever attack searches a classifier, by its scores, their gradients or its decisions, then
    searches for what matters about a detector. The lead of the true class is, in three ranks:
    its own and a step more where the input is right; how firmly it is refused, of that step, where
    it is wrong and refused; and negative, by the lead or the rejection that is nearer to 0, where
    it is wrong and accepted. So a search first gets a class wrong and then looks for acceptance:
    the larger of lead and rejection would not do, since most detectors refuse what is between two
    classes, and a search that minds that from the start turns back before it.

    The gradient is that of the condition at hand, and of both where one passes into the other: one
    alone leads back over the edge. A rejection is brought to the units of the logits by the
    logarithm of its multiple of ``size``, squeezed below 1: neither drowns the other, and no
    softmax saturates, where the units of a rejection span orders of magnitude.

    Source: Carlini and Wagner 2017, Adversarial Examples Are Not Easily Detected,
    arXiv:1705.07263, who attack classifier and detector at once by making the detector one more
    class. The ranks, the passage and the sizes are this package's own.

    Attributes:
        samples: ascending, those under attack.
        y: their classes.
        lead: usual size of the lead of a top class.
        size: usual size of a rejection.
    """

    samples: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    lead: float = 1.0
    size: float = 1.0

    def asked(self, what: str, x: Tensor, streams: Streams) -> Tensor:
        """See Around.asked. Scores are those of the two together."""
        answer = super().asked(what, x, streams)
        return self._joined(answer, x, streams) if what in ("logits", "surrogate") else answer

    def _joined(self, scores: Tensor, x: Tensor, streams: Streams) -> Tensor:
        true = self.y[torch.searchsorted(self.samples, streams.samples)][:, None]
        other = scores.scatter(1, true, -torch.inf).amax(1, keepdim=True)
        # The same numbers, also where scores have a gradient and the rejection has none.
        rejection = super().asked("rejection_surrogate", x, streams)
        height = self._in_logits(rejection).to(scores)[:, None]
        # A class may be masked by -inf, which has no product with a share of 0.
        own = (scores.gather(1, true) - other).clamp(min=torch.finfo(scores.dtype).min)
        lead = torch.where(own > 0, own + STEP * self.lead, own.maximum(height)).detach()
        gap = torch.where(height > 0, own, own - height).detach() / (BLEND * self.lead)
        share = gap.sigmoid()
        followed = share * own + (1 - share) * height
        return scores.scatter(1, true, other + lead + (followed - followed.detach()))

    def _in_logits(self, rejection: Tensor) -> Tensor:
        """The rejection in the units of the logits, with its sign, between -STEP and STEP leads."""
        # What is not a number refuses; see Defense.decide.
        largest = torch.finfo(rejection.dtype).max
        ratio = (rejection / self.size).nan_to_num(nan=largest)
        size = ratio.abs().log1p()
        height = ratio.sign() * size / (1 + size) + torch.where(ratio > 0, ROOM, -ROOM)
        return STEP * self.lead * height
