"""One shard: attacks propose, the threat model checks, the judge decides, records are written."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from robustcode.attacks import Attack
from robustcode.defenses import ABSTAIN, Defense
from robustcode.errors import ContractError
from robustcode.fast import for_search
from robustcode.findings import Facts
from robustcode.judge import Verdict, judge
from robustcode.memory import BatchLimit
from robustcode.plan import PlannedAttack
from robustcode.progress import Progress
from robustcode.records import Record, to_lines
from robustcode.seeds import Streams, seed_of
from robustcode.store import shard_name, write_atomic
from robustcode.subject import Subject
from robustcode.target import DefendedTarget, Ledger, answerable
from robustcode.threat import ThreatModel, column


@dataclass(frozen=True)
class Trial:
    """All that a shard is tried with; the same for every shard of a run.

    Attributes:
        subject: the defence and its samples.
        facts: what the defence was tested to be.
        attacks: in the order of their records.
        threat: what they may do.
        draws: decisions of the judge per proposal when the defence is stochastic.
        seed: names all randomness.
        cascade: whether an attack is spared the samples that an earlier one broke.
    """

    subject: Subject
    facts: Facts
    attacks: Sequence[PlannedAttack]
    threat: ThreatModel
    draws: int
    seed: int
    cascade: bool = False


@dataclass(frozen=True)
class Judged:
    """An input of every sample of a shard, judged twice where the defence is stochastic.

    Attributes:
        x: the inputs.
        verdict: what is reported.
        choosing: on other draws, by which the worst of several inputs is chosen.
    """

    x: Tensor
    verdict: Verdict
    choosing: Verdict

    def take(self, rows: Tensor, other: Judged) -> None:
        """Let the verdicts on some rows be those of another, whose inputs stand there."""
        self.verdict.votes[rows] = other.verdict.votes[rows]
        self.choosing.votes[rows] = other.choosing.votes[rows]


@dataclass(frozen=True)
class Proposed:
    """What one attack found, and what it spent.

    ``carried`` are the places in the plan of the earlier attacks whose proposals stand in for
    this one's, -1 where it ran itself.
    """

    name: str
    carried: Tensor
    judged: Judged
    forwards: Tensor
    backwards: Tensor
    seconds: float


def run_shard(
    trial: Trial, samples: Tensor, folder: Path, number: int, progress: Progress
) -> dict[str, Any]:
    """Evaluate ``samples`` and write their files; the shard's entry for the manifest."""
    return _Shard(trial, samples, progress).run(folder, number)


class _Shard:
    def __init__(self, trial: Trial, samples: Tensor, progress: Progress) -> None:
        self.trial = trial
        self.progress = progress
        self.defense: Defense = trial.subject.defense
        self.samples = samples.to(trial.subject.device)
        self.x, self.y = trial.subject.batch(samples)
        self.search = for_search(self.defense, self.x[:2])
        self.limit = BatchLimit(len(samples))
        self.judged_forwards = 0
        self.draws = trial.draws if trial.facts.stochastic else 1

    def run(self, folder: Path, number: int) -> dict[str, Any]:
        started, cpu = time.perf_counter(), time.process_time()
        first = int(self.samples[0])
        with global_draws(self.trial.seed, self.trial.subject.device, first):
            clean = self._judge(self.x, "clean")
            proposed: list[Proposed] = []
            for planned in self.trial.attacks:
                proposed.append(self._attack(planned, clean, proposed))
        worst = self._worst(clean, proposed)
        files = {
            f"adversarial/{shard_name(number)}.safetensors": save(
                self._pictures(clean, proposed, worst)
            ),
            f"records/{shard_name(number)}.jsonl": to_lines(self._records(clean, proposed, worst)),
        }
        return {
            "sha256": {name: write_atomic(folder / name, data) for name, data in files.items()},
            "samples": len(self.samples),
            "cost": {
                "judge_forwards": self.judged_forwards,
                "seconds": round(time.perf_counter() - started, 3),
                "cpu_seconds": round(time.process_time() - cpu, 3),
                "peak_memory_mb": peak_memory_mb(),
                "attack_seconds": {p.name: round(p.seconds, 3) for p in proposed},
            },
        }

    def _attack(
        self, planned: PlannedAttack, clean: Judged, earlier: Sequence[Proposed]
    ) -> Proposed:
        """Proposals for the samples worth attacking; the others stay as they are, at no cost."""
        started = time.perf_counter()
        carried = self._broken_by(earlier)
        worth = carried < 0
        if not self.trial.facts.stochastic:
            # A sample that is wrong by itself is broken already: no perturbation is needed.
            worth = worth & (clean.verdict.share_right(self.y) == 1)
        rows = worth.nonzero().squeeze(1)
        self.progress.attack(planned.name, len(rows))
        ledger = Ledger(self.samples, self.progress.passes)
        target = DefendedTarget(
            self.search,
            ledger,
            stochastic=self.trial.facts.stochastic,
            differentiable=self.trial.facts.differentiable,
            width=self.limit.size,
        )
        streams = Streams.of(self.trial.seed, "search", self.samples).child(planned.name)
        x_adv = self.x.clone()
        for place, other in enumerate(earlier):
            x_adv = other.judged.x.where(column(carried == place, x_adv), x_adv)

        def propose(part: slice) -> None:
            chosen = rows[part]
            x, y = self.x[chosen], self.y[chosen]
            found = _ask(planned.attack, target, x, y, self.trial.threat, streams[chosen])
            self.trial.threat.check(found, x, by=repr(planned.attack))
            x_adv[chosen] = found

        self.limit.map(propose, len(rows), undo=lambda part: ledger.reset(self.samples[rows[part]]))
        judged = self._judge(x_adv, planned.name, (carried < 0).nonzero().squeeze(1))
        for place, other in enumerate(earlier):
            judged.take(carried == place, other.judged)
        spent = ledger.forwards, ledger.backwards, time.perf_counter() - started
        return Proposed(planned.name, carried, judged, *spent)

    def _broken_by(self, earlier: Sequence[Proposed]) -> Tensor:
        """Place of the first attack that left no chance to a sample, -1 if none did.

        By the draws that choose among attacks: a later one could not be chosen for the sample.
        """
        broken_by = torch.full_like(self.samples, -1)
        if not self.trial.cascade:
            return broken_by
        for place, proposed in enumerate(earlier):
            # A control is there to be compared with: every attack meets all of its samples.
            if not self.trial.attacks[place].attack.control:
                broken = proposed.judged.choosing.share_right(self.y) == 0
                broken_by[broken & (broken_by < 0)] = place
        return broken_by

    def _judge(self, x: Tensor, what: str, rows: Tensor | None = None) -> Judged:
        """Verdicts on some rows, or all; what stands in the others is to be filled in."""
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        streams = Streams.of(self.trial.seed, "judge", self.samples).child(what)[rows]
        classes, asked = self.trial.facts.classes, x[rows]

        def verdict(purpose: str) -> Verdict:
            def votes(part: slice) -> Tensor:
                own = streams[part].child(purpose)
                with answerable("the model or its defence"):
                    return judge(self.defense, asked[part], own, self.draws, classes).votes

            parts = self.limit.map(votes, len(rows))
            passes = self.draws * self.defense.votes * self.defense.passes
            self.judged_forwards += len(rows) * passes
            given = torch.zeros(len(x), classes, dtype=torch.int64, device=x.device)
            given[rows] = torch.cat([given[:0], *parts])
            return Verdict(given, self.draws)

        estimate = verdict("estimate")
        return Judged(x, estimate, verdict("choose") if self.trial.facts.stochastic else estimate)

    def _worst(self, clean: Judged, proposed: Sequence[Proposed]) -> Tensor:
        """Row of the attack whose proposal is each sample's worst; -1 for the sample itself.

        The first one wins a tie, and an attack that only ties with the untouched sample still
        stands for it, so that a proposal is shown wherever one was made.
        """
        shares = torch.stack([p.judged.choosing.share_right(self.y) for p in proposed])
        least, first = shares.min(0).values, shares.argmin(0)
        return first.where(least <= clean.choosing.share_right(self.y), -1)

    def _pictures(
        self, clean: Judged, proposed: Sequence[Proposed], worst: Tensor
    ) -> dict[str, Tensor]:
        x_adv = clean.x.clone()
        for i, p in enumerate(proposed):
            x_adv = p.judged.x.where(column(worst == i, x_adv), x_adv)
        pictures = {"sample": self.samples, "attack": worst, "x_adv": x_adv}
        return {name: value.cpu().contiguous() for name, value in pictures.items()}

    def _records(self, clean: Judged, proposed: Sequence[Proposed], worst: Tensor) -> list[Record]:
        stochastic = self.trial.facts.stochastic
        at_rest, by_itself = clean.verdict.majority().tolist(), clean.verdict
        label, samples = self.y.tolist(), self.samples.tolist()

        def correct(verdict: Verdict) -> list[Any]:
            shares = verdict.share_right(self.y).tolist()
            return shares if stochastic else [share == 1 for share in shares]

        def votes(verdict: Verdict, row: int) -> tuple[int, ...] | None:
            return tuple(verdict.votes[row].tolist()) if stochastic else None

        clean_correct = correct(by_itself)
        tables = []
        for p in proposed:
            tables.append(
                (
                    p.judged.verdict.majority().tolist(),
                    correct(p.judged.verdict),
                    p.judged.choosing.share_right(self.y).tolist(),
                    self.trial.threat.distance(p.judged.x, self.x).tolist(),
                    p.forwards.tolist(),
                    p.backwards.tolist(),
                    p.carried.tolist(),
                )
            )
        records = []
        for row, sample in enumerate(samples):
            for i, (p, table) in enumerate(zip(proposed, tables, strict=True)):
                prediction, right, choosing, distance, forwards, backwards, carried = (
                    t[row] for t in table
                )
                records.append(
                    Record(
                        sample=sample,
                        label=label[row],
                        clean=_class(at_rest[row]),
                        attack=p.name,
                        prediction=_class(prediction),
                        correct=right,
                        votes=votes(p.judged.verdict, row),
                        choosing=choosing if stochastic else None,
                        clean_correct=clean_correct[row],
                        clean_votes=votes(by_itself, row),
                        selected=int(worst[row]) == i,
                        distance=distance,
                        forwards=forwards,
                        backwards=backwards,
                        seed=self.trial.seed,
                        carried=proposed[carried].name if carried >= 0 else None,
                    )
                )
        return records


@contextmanager
def global_draws(seed: int, device: torch.device, *names: int | str) -> Iterator[None]:
    """A model may draw from torch's global generator: here its draws repeat, and are its own."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed_of(seed, "global", *names))
        yield


def _ask(
    attack: Attack, target: DefendedTarget, x: Tensor, y: Tensor, threat: ThreatModel, own: Streams
) -> Tensor:
    """An attack's proposals for copies of the inputs: it cannot change what it is judged on.

    What it raises is a broken promise, and never a defence that held.
    """
    with answerable(repr(attack)):
        found = attack.perturb(target, x.clone(), y.clone(), threat, own)
    if not isinstance(found, Tensor):
        raise ContractError(f"{attack!r} returned {type(found).__name__}, not a tensor")
    return found.detach()


def _class(label: int) -> int | None:
    return None if label == ABSTAIN else label


def peak_memory_mb() -> float:
    """The most memory this process has held, in MB; on a GPU the most that torch has allocated."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def split(samples: Tensor, size: int) -> list[Tensor]:
    """Consecutive shards of ``size`` samples."""
    return list(samples.split(size))


def digest_of(samples: Tensor) -> str:
    """A short name for a choice of samples, to tell whether two runs are of the same ones."""
    return hashlib.sha256(samples.numpy().tobytes()).hexdigest()[:16]
