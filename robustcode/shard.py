"""One shard: attacks propose, the threat model checks, the judge decides, records are written."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from robustcode.accepted import accepted
from robustcode.attacks import Attack
from robustcode.bracket import NO_PROOFS, Proofs
from robustcode.budget import Budget, BudgetSpent, Limit, Witness
from robustcode.defenses import Defense
from robustcode.errors import ConfigError, ContractError
from robustcode.fast import for_search
from robustcode.findings import Facts
from robustcode.judge import Verdict, judge, moved
from robustcode.memory import BatchLimit, give_back, rows_at_once
from robustcode.plan import PlannedAttack
from robustcode.progress import Progress, Silent
from robustcode.proposals import Judged, Outcome, Proposed
from robustcode.records import table_of, to_lines
from robustcode.seeds import Streams, seed_of
from robustcode.store import shard_name, write_atomic
from robustcode.subject import Subject
from robustcode.target import DefendedTarget, Ledger, answerable, total, widest
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
        max_passes: what the attacks may spend on a sample, as the mean over a shard; None for any.
        proved: samples that are not attacked: nothing allowed breaks them.
        proofs: what no attack can break, unless one of the two is wrong.
    """

    subject: Subject
    facts: Facts
    attacks: Sequence[PlannedAttack]
    threat: ThreatModel
    draws: int
    seed: int
    cascade: bool = False
    max_passes: int | None = None
    proved: frozenset[int] = frozenset()
    proofs: Proofs = NO_PROOFS


def run_shard(
    trial: Trial,
    samples: Tensor,
    folder: Path,
    number: int,
    progress: Progress,
    deadline: float | None = None,
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate ``samples`` and write their files; the shard's entry for the manifest.

    Attacks end at ``deadline``, by time.monotonic; the judge decides on what they have found.
    ``kept`` is the entry of an earlier try that ran out of time: it stands, with its files, if this
    one runs out of time with fewer verdicts.
    """
    return _Shard(trial, samples, progress, deadline).run(folder, number, kept)


def refuse_false_proofs(trial: Trial, samples: Tensor) -> None:
    """ConfigError if the defence is wrong on one of ``samples`` that is said to be proved robust.

    Each shard refuses them too; asked beforehand, nothing has been written yet.
    """
    shard = _Shard(trial, samples, Silent(), None)
    with global_draws(trial.seed, trial.subject.device, int(samples[0])):
        shard.refuse_false_proofs()


class _Shard:
    def __init__(
        self, trial: Trial, samples: Tensor, progress: Progress, deadline: float | None
    ) -> None:
        self.trial = trial
        self.progress = progress
        self.defense: Defense = trial.subject.defense
        self.samples = samples.to(trial.subject.device)
        self.x, self.y = trial.subject.batch(samples)
        self.batches = trial.subject.batches(self.samples)
        whole = 1 if self.batches is None else self.defense.batch
        self.limit = BatchLimit(len(samples), whole)
        self.judged_forwards = 0
        self.draws = trial.draws if trial.facts.stochastic else 1
        passes = None if trial.max_passes is None else trial.max_passes * len(samples)
        self.budget = Budget(passes, deadline)
        self.proved = torch.tensor([n in trial.proved for n in samples.tolist()])
        self.proved = self.proved.to(self.x.device)

    def refuse_false_proofs(self) -> None:
        self._refuse_false_proofs(self._judge(self.x, "clean"))

    def run(self, folder: Path, number: int, kept: Mapping[str, Any] | None) -> dict[str, Any]:
        began = clocks()
        # Only here: to refuse a false proof nothing is searched.
        search = for_search(self.defense, self.trial.subject.images(self.samples[:2].cpu()))
        self.search = accepted(search, self.trial.facts, self.samples, self.y)
        if self.batches is None:
            one = Streams.of(self.trial.seed, "search", self.samples[:1])
            each = total(self.search.backwards(one), 1)
            self.limit.size = rows_at_once(self.limit.size, each, self.samples.device)
        first = int(self.samples[0])
        with global_draws(self.trial.seed, self.trial.subject.device, first):
            clean = self._judge(self.x, "clean")
            self._refuse_false_proofs(clean)
            proposed: list[Proposed] = []
            for planned in self.trial.attacks:
                proposed.append(self._attack(planned, clean, proposed))
                give_back()
        outcome = Outcome(self.samples, self.y, self.proved, clean, proposed)
        records = outcome.records(
            self.trial.threat, self.trial.seed, votes=self.trial.facts.stochastic
        )
        verdicts = sum(record.finished for record in records)
        less = kept is not None and verdicts < kept.get("verdicts", 0)
        if kept is not None and less and self.budget.over is Limit.SECONDS:
            return dict(kept)
        files = {
            f"adversarial/{shard_name(number)}.safetensors": save(outcome.pictures()),
            f"records/{shard_name(number)}.jsonl": to_lines(records),
        }
        written = {name: write_atomic(folder / name, data) for name, data in files.items()}
        # After the proposals are on disk: they are one of the two witnesses.
        self.trial.proofs.refuse_broken(table_of(records), str(folder / next(iter(files))))
        return {
            "sha256": written,
            "samples": len(self.samples),
            "over": self.budget.over,
            "verdicts": verdicts,
            "cost": {
                "judge_forwards": self.judged_forwards,
                **spent(*began),
                "attack_seconds": {p.name: round(p.seconds, 3) for p in proposed},
            },
        }

    def _attack(
        self, planned: PlannedAttack, clean: Judged, earlier: Sequence[Proposed]
    ) -> Proposed:
        """Proposals for the samples worth attacking; the others stay as they are, at no cost."""
        started = time.perf_counter()
        carried = self._broken_by(earlier)
        rows = self._worth(clean, carried).nonzero().squeeze(1)
        self.progress.attack(planned.name, len(rows))
        ledger = Ledger(self.samples, self.progress.passes, self.budget)
        witness = self._witness()
        target = DefendedTarget(
            self.search,
            ledger,
            # Nobody leaves a shared batch when broken: the others' scores would be of another one.
            stochastic=self.trial.facts.stochastic or self.batches is not None,
            differentiable=self.trial.facts.differentiable,
            width=self.limit,
            witness=witness,
            original=accepted(self.defense, self.trial.facts, self.samples, self.y),
        )
        streams = Streams.of(self.trial.seed, "search", self.samples, self.batches)
        streams = streams.child(planned.name)
        finished = torch.ones_like(carried, dtype=torch.bool)
        finished[rows] = False
        seen = torch.zeros_like(finished)
        x_adv = self.x.clone()
        for place, other in enumerate(earlier):
            x_adv = other.judged.x.where(column(carried == place, x_adv), x_adv)

        def propose(part: slice) -> None:
            chosen = rows[part]
            # Copies: an attack cannot change what it is judged on.
            x, y = self.x[chosen], self.y[chosen]
            found = _ask(planned.attack, target, x, y, self.trial.threat, streams[chosen])
            del x
            self.trial.threat.check(found, self.x[chosen], by=repr(planned.attack))
            x_adv[chosen] = found
            finished[chosen] = True

        def undo(part: slice) -> None:
            ledger.reset(self.samples[rows[part]])

        try:
            self.limit.map(propose, len(rows), undo)
        except BudgetSpent:
            if witness is not None:
                seen = witness.found & ~finished
                x_adv[seen] = witness.x_adv[seen]
        asked = (carried < 0) & (finished | seen)
        # A batch is judged whole, with what stands in for samples that were not attacked.
        alone = None if self.batches is not None else asked.nonzero().squeeze(1)
        judged = self._judge(x_adv, planned.name, alone)
        for place, other in enumerate(earlier):
            judged.take(carried == place, other.judged)
        # A sample that is broken is broken, however its attack ended.
        finished |= seen & judged.hopeless(self.y)
        judged = judged.less(~finished, clean)
        if self.batches is not None:
            judged = replace(judged, rebatched=self._verdict(x_adv, planned.name, "rebatched"))
        spent = ledger.forwards, ledger.backwards, time.perf_counter() - started
        control = planned.attack.control
        return Proposed(planned.name, control, carried, finished, judged, *spent)

    def _worth(self, clean: Judged, carried: Tensor) -> Tensor:
        """Which samples an attack is given, bool of shape (batch,)."""
        worth = (carried < 0) & ~self.proved
        if self.batches is not None:
            return worth  # a sample that is wrong by itself is still somebody's batch mate
        if self.trial.threat.eps == 0:
            worth = torch.zeros_like(worth)  # no input but the sample itself is allowed
        if not self.trial.facts.stochastic:
            # A sample that is wrong by itself is broken already: no perturbation is needed.
            worth = worth & (clean.verdict.share_right(self.y) == 1)
        return worth

    def _witness(self) -> Witness | None:
        """What remembers for an attack that may be stopped; one lucky draw would prove nothing."""
        if self.trial.facts.stochastic or not self.budget.limited:
            return None
        return Witness(self.x, self.y, self.samples, self.trial.threat)

    def _refuse_false_proofs(self, clean: Judged) -> None:
        wrong = self.proved & (clean.verdict.share_right(self.y) < 1)
        if wrong.any():
            sample = int(self.samples[wrong][0])
            raise ConfigError(
                f"sample {sample} is said to be proved robust, but without any perturbation the "
                "model is wrong on it; check that the proofs are for this model and data"
            )

    def _broken_by(self, earlier: Sequence[Proposed]) -> Tensor:
        """Place of the first attack that left no chance to a sample, -1 if none did.

        By the draws that choose among attacks: a later one could not be chosen for the sample.
        """
        broken_by = torch.full_like(self.samples, -1)
        if not self.trial.cascade:
            return broken_by
        for place, proposed in enumerate(earlier):
            # A control is there to be compared with: every attack meets all of its samples.
            if not proposed.control:
                broken_by[proposed.broken(self.y) & (broken_by < 0)] = place
        return broken_by

    def _judge(self, x: Tensor, what: str, rows: Tensor | None = None) -> Judged:
        """Verdicts on some rows, or all; what stands in the others is to be filled in."""
        estimate = self._verdict(x, what, "estimate", self.batches, rows)
        if not self.trial.facts.stochastic:
            return Judged(x, estimate, estimate)
        return Judged(x, estimate, self._verdict(x, what, "choose", self.batches, rows))

    def _verdict(
        self,
        x: Tensor,
        what: str,
        purpose: str,
        batches: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Verdict:
        """Decisions on some rows, or all, in ``batches`` or each among strangers."""
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        streams = Streams.of(self.trial.seed, "judge", self.samples, batches)
        streams = streams.child(what)[rows].child(purpose)
        classes, asked = self.trial.facts.classes, x[rows]

        def votes(part: slice) -> Tensor:
            own = streams[part]
            with answerable("the model or its defence"):
                self.judged_forwards += self._cost(own)
                return judge(self.defense, asked[part], own, self.draws, classes).votes

        # What is classified in batches is judged in whole ones.
        most = widest(self.defense, x.device) if batches is None else None
        parts = self.limit.map(votes, len(rows), most=most)
        given = torch.zeros(len(x), classes, dtype=torch.int64, device=x.device)
        given[rows] = torch.cat([given[:0], *parts])
        # The samples themselves are judged strictly, also where they stand for a proposal.
        noticed = moved(x, self.x) if self.trial.facts.detector else None
        return Verdict(given, self.draws, noticed)

    def _cost(self, streams: Streams) -> int:
        """Passes of the judge on some rows."""
        return self.draws * self.defense.votes * total(self.defense.forwards(streams), len(streams))


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
    """An attack's proposals. What it raises is a broken promise, and never a defence that held."""
    with answerable(repr(attack)):
        found = attack.perturb(target, x, y, threat, own)
    if not isinstance(found, Tensor):
        raise ContractError(f"{attack!r} returned {type(found).__name__}, not a tensor")
    return found.detach()


def clocks() -> tuple[float, float]:
    """Now, by the clock and by the CPU time of this process, in seconds; for ``spent``."""
    return time.perf_counter(), time.process_time()


def spent(clock: float, cpu: float) -> dict[str, float]:
    """What was spent since ``clocks`` said so, and the most memory this process has held."""
    now, now_cpu = clocks()
    return {
        "seconds": round(now - clock, 3),
        "cpu_seconds": round(now_cpu - cpu, 3),
        "peak_memory_mb": peak_memory_mb(),
    }


def written(
    file: Path, lines: bytes, samples: int, verdicts: int, began: tuple[float, float]
) -> dict[str, Any]:
    """Write the one file of a shard that no budget ends; the shard's entry for the manifest.

    ``file`` is in a folder of the run, ``began`` what ``clocks`` said at the beginning.
    """
    return {
        "sha256": {f"{file.parent.name}/{file.name}": write_atomic(file, lines)},
        "samples": samples,
        "over": None,
        "verdicts": verdicts,
        "cost": spent(*began),
    }


def peak_memory_mb() -> float:
    """The most memory this process has held, in MB; on a GPU the most that torch has allocated."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def digest_of(samples: Tensor) -> str:
    """A short name for a choice of samples, to tell whether two runs are of the same ones."""
    return hashlib.sha256(samples.numpy().tobytes()).hexdigest()[:16]
