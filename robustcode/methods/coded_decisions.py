"""What joint bounds prove of single decisions of a coded defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.defenses import ABSTAIN, CodedSmoothing
from robustcode.methods.coded_margins import Joint
from robustcode.methods.coded_mixing import Mixing, mixing
from robustcode.seeds import Streams


class Reached(NamedTuple):
    """What bounds prove of one decision about each row.

    Attributes:
        label: the class that it is for, int64 of shape (batch,); ABSTAIN if none.
        level: how many of the radii are proved for it, from the smallest, int64 of shape (batch,).
        margin: the least margin at the threat's eps, float64 of shape (batch,).
        passes: forward and backward passes that it took, int64 of shape (2, batch).
    """

    label: Tensor
    level: Tensor
    margin: Tensor
    passes: Tensor


@dataclass(frozen=True)
class Decisions:
    """The decisions of a coded defence, each in a draw that is known.

    Attributes:
        defense: the judged one.
        joint: bounds of its model.
        radii: ascending.
        at: which of them is the threat's eps.
    """

    defense: CodedSmoothing
    joint: Joint
    radii: tuple[float, ...]
    at: int

    def reached(self, x: Tensor, streams: Streams) -> Reached:
        """What is proved of the decision that the defence makes in the draws of ``streams``.

        A mean of votes is decided by the sums of scores, so that it is bounded as one draw of all
        of their coded images.
        """
        defense = self.defense
        # Fixed draws are the same at each vote.
        votes = defense.votes if defense.stochastic else 1
        drawn = [streams.child("vote", vote) for vote in range(votes)]
        scores = [defense.logits(x, one) for one in drawn]
        mixings = [mixing(defense, x, one) for one in drawn]
        if defense.mean or votes == 1:
            reached = self._of(Mixing.joined(mixings), x, torch.stack(scores).sum(0))
        else:
            pairs = zip(mixings, scores, strict=True)
            reached = majority([self._of(mixed, x, score) for mixed, score in pairs])
        reached.passes[0] += votes * self.forwards(streams)
        return reached

    def forwards(self, streams: Streams) -> Tensor:
        """Forward passes of one draw, int64 of shape (batch,)."""
        forwards = torch.as_tensor(self.defense.forwards(streams), device=streams.keys.device)
        return forwards.expand(len(streams))

    def _of(self, mixed: Mixing, x: Tensor, scores: Tensor) -> Reached:
        """What is proved of the class of the highest of ``scores``."""
        whole = torch.where(scores.isnan().any(1), ABSTAIN, scores.nan_to_num().argmax(1))
        tasks = mixed.decoder.shape[:2]
        images, label = x.unflatten(0, tasks), whole.view(tasks)
        passes = torch.zeros(2, *tasks, dtype=torch.int64, device=x.device)

        def least(wanted: Tensor, number: int) -> Tensor:
            found = self.joint.margins(mixed, images, label, wanted, self.radii[number])
            passes.add_(torch.stack([found.forwards, found.backwards]))
            return found.margin

        margin = least(label != ABSTAIN, self.at)
        holds = margin > 0
        level = torch.where(holds, self.at + 1, 0)
        # What holds within a ball holds within each that is smaller.
        rising, falling = holds, (label != ABSTAIN) & ~holds
        for number in range(self.at + 1, len(self.radii)):
            rising = least(rising, number) > 0
            level[rising] = number + 1
        for number in reversed(range(self.at)):
            holds = least(falling, number) > 0
            level[holds] = number + 1
            falling = falling & ~holds
        return Reached(whole, level.flatten(), margin.flatten(), passes.flatten(1))


def majority(votes: list[Reached]) -> Reached:
    """What is proved of the class of most votes.

    What more than half of the votes are proved for is decided, whatever the others are for. A vote
    for another class proves nothing of this one.
    """
    labels = torch.stack([one.label for one in votes])
    label = labels.mode(0).values
    level = torch.stack([one.level for one in votes]).where(labels == label, 0)
    margin = torch.stack([one.margin for one in votes]).where(labels == label, -torch.inf)
    last = len(votes) // 2  # from 0, of the fewest votes that are more than half
    return Reached(
        label,
        level.sort(0, descending=True).values[last],
        margin.sort(0, descending=True).values[last],
        torch.stack([one.passes for one in votes]).sum(0),
    )
