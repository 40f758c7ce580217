"""What the attacks proposed on one shard, as it is kept: records, and the worst inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from robustcode.defenses import ABSTAIN
from robustcode.judge import Verdict, moved
from robustcode.records import Record
from robustcode.threat import ThreatModel, column

LEVELS = 255  # the most that a uint8 holds
# Values that are tried before all are: almost every scale that is not exact fails on them.
SIFTED = 1000


@dataclass(frozen=True)
class Judged:
    """An input of every sample of a shard, judged twice where the defence is stochastic.

    Attributes:
        x: the inputs.
        verdict: what is reported.
        choosing: on other draws, by which the worst of several inputs is chosen.
        rebatched: where ``verdict`` is of inputs in one batch, those of each among strangers.
    """

    x: Tensor
    verdict: Verdict
    choosing: Verdict
    rebatched: Verdict | None = None

    def hopeless(self, y: Tensor) -> Tensor:
        """Where no decision was right, by the draws that choose; bool of shape (batch,)."""
        return self.choosing.share_right(y) == 0

    def take(self, rows: Tensor, other: Judged) -> None:
        """Let the verdicts on some rows be those of another, whose inputs stand there."""
        self.verdict.take(rows, other.verdict)
        self.choosing.take(rows, other.choosing)

    def less(self, rows: Tensor, other: Judged) -> Judged:
        """The same but for some rows, on which inputs and verdicts are those of another."""
        self.take(rows, other)
        return replace(self, x=other.x.where(column(rows, self.x), self.x))


@dataclass(frozen=True)
class Proposed:
    """What one attack found, and what it spent.

    ``carried`` are the places in the plan of the earlier attacks whose proposals stand in for
    this one's, -1 where it ran itself. Where it is not ``finished`` the sample itself stands. A
    ``control`` is there to be compared with.
    """

    name: str
    control: bool
    carried: Tensor
    finished: Tensor
    judged: Judged
    forwards: Tensor
    backwards: Tensor
    seconds: float

    def broken(self, y: Tensor) -> Tensor:
        """Which samples it left no chance, bool of shape (batch,)."""
        return self.judged.hopeless(y) & self.finished


@dataclass(frozen=True)
class Outcome:
    """Everything that came of a shard.

    Attributes:
        samples: int64, indices in the split.
        y: their labels.
        proved: those that were not attacked since nothing can break them.
        clean: the samples themselves.
        proposed: what each attack made of them, in the order of the plan.
    """

    samples: Tensor
    y: Tensor
    proved: Tensor
    clean: Judged
    proposed: Sequence[Proposed]

    @cached_property
    def worst(self) -> Tensor:
        """Place of the attack whose proposal is each sample's worst; -1 for the sample itself.

        Of equals the first if they leave no chance, since it did the work, and else the last that
        is no control: a later run goes on from there, and later attacks are the stronger ones. An
        attack that only ties with the untouched sample still stands for it, so that a proposal is
        shown wherever one was made.
        """
        shares = torch.stack([p.judged.choosing.share_right(self.y) for p in self.proposed])
        # Nothing is known of an attack that did not come to an end.
        shares[~torch.stack([p.finished for p in self.proposed])] = torch.inf
        least, first = shares.min(0).values, shares.argmin(0)
        searched = torch.tensor([not p.control for p in self.proposed], device=shares.device)
        equals = (shares == least) & searched[:, None]
        last = len(shares) - 1 - equals.flip(0).int().argmax(0)
        chosen = last.where((least > 0) & equals.any(0), first)
        return chosen.where(least <= self.clean.choosing.share_right(self.y), -1)

    def pictures(self) -> dict[str, Tensor]:
        """What is kept of the inputs, for later runs and for a report's gallery.

        ``sample``: int64 of shape (batch,). ``attack``: whose proposal is the worst, by its place
        in the plan. ``x_adv``: that proposal, float32 of shape (batch, channels, height, width).
        ``broken``: whether some attack broke the sample. ``moved``: where ``x_adv`` is not the
        sample itself. ``x``: the samples that were moved, in that order; they are ``x / scale``,
        and of uint8 wherever that loses nothing: a quarter of what ``x_adv`` takes.
        """
        x_adv = self.clean.x.clone()
        for place, p in enumerate(self.proposed):
            x_adv = p.judged.x.where(column(self.worst == place, x_adv), x_adv)
        broken = torch.stack([p.broken(self.y) for p in self.proposed]).any(0)
        changed = moved(x_adv, self.clean.x)
        x, scale = as_levels(self.clean.x[changed].cpu())
        pictures = {
            "sample": self.samples,
            "attack": self.worst,
            "x_adv": x_adv,
            "broken": broken,
            "moved": changed,
            "x": x,
            "scale": torch.tensor([scale]),
        }
        return {name: value.cpu().contiguous() for name, value in pictures.items()}

    def records(self, threat: ThreatModel, seed: int, votes: bool) -> list[Record]:
        """One for each sample and attack, sample by sample; with ``votes`` if they can differ."""
        clean = {
            "sample": self.samples.tolist(),
            "label": self.y.tolist(),
            "clean": _classes(self.clean.verdict),
            "clean_correct": self._correct(self.clean.verdict, votes),
            "clean_votes": _counts(self.clean.verdict, votes),
            "proved": self.proved.tolist(),
        }
        columns = [
            _rows({**clean, **self._of(place, threat, votes)}, attack=p.name, seed=seed)
            for place, p in enumerate(self.proposed)
        ]
        return [Record(**row) for rows in zip(*columns, strict=True) for row in rows]

    def _of(self, place: int, threat: ThreatModel, votes: bool) -> dict[str, list[Any]]:
        """What the records say of one attack, by field; None where it did not come to an end."""
        p, done = self.proposed[place], self.proposed[place].finished.tolist()
        choosing = p.judged.choosing.share_right(self.y).tolist()
        names = [other.name for other in self.proposed]
        return {
            "prediction": _classes(p.judged.verdict),
            "correct": _where(done, self._correct(p.judged.verdict, votes)),
            "votes": _where(done, _counts(p.judged.verdict, votes)),
            "choosing": _where(done, choosing if votes else [None] * len(done)),
            "selected": (self.worst == place).tolist(),
            "rebatched": _where(done, self._rebatched(p.judged, votes)),
            "distance": threat.distance(p.judged.x, self.clean.x).tolist(),
            "forwards": p.forwards.tolist(),
            "backwards": p.backwards.tolist(),
            "carried": [names[other] if other >= 0 else None for other in p.carried.tolist()],
            "finished": done,
        }

    def _rebatched(self, judged: Judged, votes: bool) -> list[Any]:
        if judged.rebatched is None:
            return [None] * len(self.samples)
        return self._correct(judged.rebatched, votes)

    def _correct(self, verdict: Verdict, votes: bool) -> list[Any]:
        shares = verdict.share_right(self.y).tolist()
        return shares if votes else [share == 1 for share in shares]


def as_levels(x: Tensor) -> tuple[Tensor, int]:
    """The inputs as ``x * scale`` in uint8, with the least scale up to 255 that is exact.

    Where none is, ``x`` as it is and 1. Dividing gives back every value. Of 8-bit files the scale
    is 255, of the digits 16.
    """
    scale, against = 1, x.flatten()[:SIFTED]
    while scale <= LEVELS:
        if not _inexact(against, scale).any():
            wrong = x[_inexact(x, scale)]
            if not len(wrong):
                return (x * scale).round().to(torch.uint8), scale
            # What one full look has found sifts all scales that follow.
            against = torch.cat([against, wrong[:SIFTED]])
        scale += 1
    return x, 1


def _inexact(x: Tensor, scale: int) -> Tensor:
    """Which values are no whole number of levels from 0 to 255; not a number is none."""
    level = (x * scale).round()
    return ~((level / scale == x) & (level >= 0) & (level <= LEVELS))


def _rows(columns: dict[str, list[Any]], **same: Any) -> list[dict[str, Any]]:
    """A table's rows from its columns, and what is the same in all of them."""
    return [
        {**dict(zip(columns, row, strict=True)), **same}
        for row in zip(*columns.values(), strict=True)
    ]


def _where(known: list[bool], values: list[Any]) -> list[Any]:
    return [value if is_known else None for is_known, value in zip(known, values, strict=True)]


def _classes(verdict: Verdict) -> list[int | None]:
    return [None if label == ABSTAIN else label for label in verdict.majority().tolist()]


def _counts(verdict: Verdict, votes: bool) -> list[Any]:
    counts = verdict.votes.tolist()
    return [tuple(row) if votes else None for row in counts]
