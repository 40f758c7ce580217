"""One cell of a run of corruptions: every sample is spoilt, classified, and what is said kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from robustcode.answers import DIGITS, Answer, to_lines
from robustcode.components import Component
from robustcode.config import CorruptSpec
from robustcode.corrupted import CLEAN
from robustcode.corruptions import CORRUPTIONS, SEVERITIES, Corruption, Scale, every
from robustcode.defenses import ABSTAIN, Defense
from robustcode.defenses.wrapper import Around
from robustcode.findings import Facts
from robustcode.judge import Verdict
from robustcode.memory import BatchLimit
from robustcode.progress import Progress
from robustcode.seeds import Streams
from robustcode.shard import clocks, global_draws, written
from robustcode.store import shard_name
from robustcode.subject import Subject, as_tested
from robustcode.target import answerable, total
from robustcode.workers import Job

D = TypeVar("D", bound=Defense)


@dataclass(frozen=True)
class Cell:
    """One corruption at one severity; without a corruption, the samples as they are."""

    name: str
    severity: int
    corruption: Corruption | None

    def spoil(self, x: Tensor, scale: Scale, streams: Streams) -> Tensor:
        """Images (batch, channels, height, width), each spoilt by its own stream's randomness."""
        if self.corruption is None:
            return x
        keys = streams.child(self.name, self.severity).keys.tolist()
        pictures = np.moveaxis(x.cpu().numpy(), 1, -1)
        spoilt = [
            # A seed is not negative.
            self.corruption.corrupt(
                picture, self.severity, scale, np.random.default_rng(key % 2**64)
            )
            for picture, key in zip(pictures, keys, strict=True)
        ]
        return torch.from_numpy(np.moveaxis(np.stack(spoilt), -1, 1).copy()).to(x)


@dataclass(frozen=True)
class Spoiling:
    """All that a cell is worked through with; a shard is a cell.

    Attributes:
        subject: the defence and its samples.
        cells: in the order of their shards.
        scale: whose strengths.
        draws: decisions per image.
        random: whether they are random, so that shares are kept and no truth values.
        classes: width of the logits.
        seed: names all randomness.
        rows: images in a pass at most.
    """

    subject: Subject
    cells: tuple[Cell, ...]
    scale: Scale
    draws: int
    random: bool
    classes: int
    seed: int
    rows: int


def components_of(spec: CorruptSpec) -> tuple[Component, ...]:
    """The corruptions of a run, group by group."""
    asked = {component.name: component for component in spec.corruptions}
    for name in asked:
        CORRUPTIONS.get(name)
    return tuple(asked.get(name, Component(name)) for name in every() if not asked or name in asked)


def cells_of(spec: CorruptSpec) -> tuple[Cell, ...]:
    """The cells of a run: what is clean, then each corruption from its lowest severity on."""
    built = [(c.name, c.build(CORRUPTIONS, "corruptions")) for c in components_of(spec)]
    severities = sorted(spec.severities or SEVERITIES)
    return (
        Cell(CLEAN, 0, None),
        *(Cell(name, severity, one) for name, one in built for severity in severities),
    )


def make_spoiling(spec: CorruptSpec, subject: Subject, facts: Facts) -> Spoiling:
    """What every cell is worked through with."""
    _, height, width = subject.data.shape
    return Spoiling(
        subject=as_tested(subject, facts),
        cells=cells_of(spec),
        scale=Scale(spec.scale) if spec.scale else Scale.fitting(height, width),
        draws=spec.draws if facts.stochastic else 1,
        random=facts.stochastic,
        classes=facts.classes,
        seed=spec.seed,
        rows=spec.batch_size,
    )


def make_job(spec: CorruptSpec, subject: Subject, facts: Facts) -> Job:
    """What is done with each shard."""
    return partial(spoil_shard, make_spoiling(spec, subject, facts))


def spoil_shard(
    spoiling: Spoiling,
    samples: Tensor,
    folder: Path,
    number: int,
    progress: Progress,
    deadline: float | None = None,
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Answer ``samples`` in one cell and write the file; the shard's entry for the manifest."""
    began = clocks()
    cell = spoiling.cells[number]
    defense = _among_its_like(spoiling, cell)
    limit = BatchLimit(min(spoiling.rows, len(samples)))
    called = f"{cell.name} {cell.severity}" if cell.severity else cell.name

    def answered(rows: slice) -> list[Answer]:
        part = samples[rows]
        progress.attack(called, len(samples) - rows.start)
        with global_draws(spoiling.seed, spoiling.subject.device, called, int(part[0])):
            found = _answers(spoiling, cell, defense, part)
        progress.passes(sum(answer.forwards for answer in found))
        return found

    answers = [answer for part in limit.map(answered, len(samples)) for answer in part]
    file = folder / "corruptions" / f"{shard_name(number)}.jsonl"
    return written(file, to_lines(answers), len(samples), len(answers), began)


def _among_its_like(spoiling: Spoiling, cell: Cell) -> Defense:
    """The defence with batch mates that are spoilt as its inputs are.

    Images that are classified together come from one camera in one weather.
    """
    defense = spoiling.subject.defense
    mates = getattr(defense, "mates", None)
    if cell.corruption is None or not isinstance(mates, Tensor) or len(mates) == 0:
        return defense
    streams = Streams.of(spoiling.seed, "corrupted mates", torch.arange(len(mates)))
    beside = {"mates": cell.spoil(mates, spoiling.scale, streams)}
    return _with(defense, beside)


def _with(defense: D, fields: Mapping[str, Any]) -> D:
    replaced: D = dataclasses.replace(defense, **fields)  # type: ignore[type-var]  # one, by contract
    return replaced


def _answers(spoiling: Spoiling, cell: Cell, defense: Defense, samples: Tensor) -> list[Answer]:
    subject = spoiling.subject
    own = samples.to(subject.device)
    x = cell.spoil(
        subject.images(samples),
        spoiling.scale,
        Streams.of(spoiling.seed, "corruption", samples),
    )
    y = subject.data.targets(samples).to(subject.device)
    streams = Streams.of(spoiling.seed, "corrupt", own).child(cell.name, cell.severity)
    with answerable("the model or its defence"):
        verdict, scores, passes = hear(defense, x, streams, spoiling.draws, spoiling.classes)
    likeliest = scores.argmax(1)
    numbers = scores.isfinite().all(1).tolist()
    shares = verdict.share_right(y).tolist()
    rows = zip(
        samples.tolist(),
        y.tolist(),
        verdict.majority().tolist(),
        shares,
        likeliest.tolist(),
        scores.gather(1, likeliest[:, None]).squeeze(1).exp().clamp(max=1.0).tolist(),
        scores.gather(1, y[:, None]).squeeze(1).clamp(max=0.0).tolist(),
        numbers,
        passes.tolist(),
        strict=True,
    )
    return [
        Answer(
            sample=sample,
            label=label,
            corruption=cell.name,
            severity=cell.severity,
            prediction=None if prediction == ABSTAIN else prediction,
            correct=share if spoiling.random else share == 1.0,
            likeliest=likely if scored else None,
            confidence=round(confidence, DIGITS) if scored else None,
            likelihood=round(likelihood, DIGITS) if scored else None,
            forwards=forwards,
            seed=spoiling.seed,
        )
        for (
            sample,
            label,
            prediction,
            share,
            likely,
            confidence,
            likelihood,
            scored,
            forwards,
        ) in rows
    ]


@torch.no_grad()
def hear(
    defense: Defense, x: Tensor, streams: Streams, draws: int, classes: int
) -> tuple[Verdict, Tensor, Tensor]:
    """Decisions, logarithms of mean probabilities, and the passes that both cost.

    Shapes (batch, classes) and (batch,). Probabilities are the softmax of scores, its mean over
    all votes of all ``draws``; a decision is the defence's own. Where that is made of scores in the
    usual way, the same passes serve both.
    """
    votes = torch.zeros(len(x), classes, dtype=torch.int64, device=x.device)
    mean = x.new_full((len(x), classes), -torch.inf, dtype=torch.float64)
    passes = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    usual = type(defense).decide is Defense.decide
    for draw in range(draws):
        own = streams.child("draw", draw)
        heard = Overheard(inner=defense)
        label = (heard if usual else defense).decide(x, own)
        if not usual:
            for vote in range(defense.votes):
                heard.logits(x, own.child("vote", vote))
        for scores in heard.heard:
            mean = torch.logaddexp(mean, scores.double().log_softmax(1))
        asked = len(heard.heard) * (1 if usual else 2)
        passes += asked * total(defense.forwards(own[:1]), 1)
        decided = label != ABSTAIN
        votes[decided.nonzero().squeeze(1), label[decided]] += 1
    noticed = torch.zeros(len(x), dtype=torch.bool, device=x.device) if defense.detector else None
    return Verdict(votes, draws, noticed), mean - torch.logsumexp(mean, 1, keepdim=True), passes


@dataclass(frozen=True, kw_only=True)
class Overheard(Around):
    """A defence that decides by its scores, in the usual way, and what these were.

    Attributes:
        heard: the scores of each vote.
    """

    heard: list[Tensor] = field(default_factory=list, repr=False, compare=False)

    def asked(self, what: str, x: Tensor, streams: Streams) -> Tensor:
        """See Around.asked."""
        answer = super().asked(what, x, streams)
        if what == "logits":
            self.heard.append(answer)
        return answer

    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.decide."""
        return Defense.decide(self, x, streams)
