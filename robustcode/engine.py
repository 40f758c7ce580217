"""The main job: a described evaluation becomes a run folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from robustcode.adversary import Batch
from robustcode.attacks.pgd import PGD
from robustcode.attacks.transfer import Transfer
from robustcode.attacks.transfer_pgd import TransferPGD
from robustcode.bracket import certified_among
from robustcode.budget import Limit
from robustcode.components import settings_of
from robustcode.config import RunSpec
from robustcode.errors import ConfigError, DataError, EngineError, StoreError
from robustcode.facts import test_facts
from robustcode.fast import for_search
from robustcode.findings import (
    Facts,
    Finding,
    budget_spent,
    compare_attacks,
    in_order,
    in_short,
    plain,
    stood_still,
)
from robustcode.gates import behind_transfer, cross_gradient
from robustcode.memory import ONE_ALONE, is_out_of_memory
from robustcode.plan import check_attacks, resolve
from robustcode.probes import probe
from robustcode.progress import status
from robustcode.records import Record, from_lines, table_of
from robustcode.shard import Trial, global_draws, refuse_false_proofs, run_shard
from robustcode.store import Run, RunFolder, load_run
from robustcode.subject import Given, Subject, assemble, inputs_of, summary_labels
from robustcode.suites import check_suite
from robustcode.summary import summarise, unfinished
from robustcode.target import answerable, borrowed
from robustcode.trial import make_job, make_trial
from robustcode.workers import Work, run_shards, threads

# Samples on which the evaluation itself is tested before it is run; 32 show a fault that touches
# a tenth of all samples with probability .97.
PILOT = 32
# Decisions of the judge per proposal in the pilot, for stochastic defences.
PILOT_DRAWS = 20


def evaluate(
    spec: RunSpec,
    out: Path,
    given: Given | None = None,
    show: bool = True,
    deadline: float | None = None,
) -> Run:
    """Run what ``spec`` describes into the folder ``out``, or go on where it was interrupted.

    Findings never stop a run: they are kept with its numbers. A budget that is spent ends it with
    intervals for what was not finished; ``deadline``, by time.monotonic, is that of several runs
    which share the time limit of ``spec``. A faulty request is refused and leaves nothing behind;
    a component that breaks its contract stops the run with ContractError.
    """
    # From here on, so that the pilot's time is part of what was allowed.
    if deadline is None and spec.max_seconds is not None:
        deadline = time.monotonic() + spec.max_seconds
    given = given or Given()
    check_suite(spec.suite)
    check_attacks(spec)
    request = _request(spec)
    folder = RunFolder(out)
    with threads(spec.threads):
        subject = assemble(spec, given)
        _check_proved(spec, subject)
        modes = [n or "the model" for n, m in subject.defense.model.named_modules() if m.training]
        with folder.locked(), borrowed(subject.defense.model):
            inputs = inputs_of(spec, subject)
            folder.open(request, inputs)
            diagnosis = folder.read_diagnosis()
            if new := diagnosis is None:
                started, cpu = time.perf_counter(), time.process_time()
                with status(f"testing the evaluation on {PILOT} samples", show):
                    diagnosis = _diagnose(spec, subject, modes)
                diagnosis["seconds"] = round(time.perf_counter() - started, 3)
                diagnosis["cpu_seconds"] = round(time.process_time() - cpu, 3)
                folder.write_diagnosis(diagnosis)
            facts = Facts(**diagnosis["facts"])
            if facts.stochastic and spec.proved:
                raise ConfigError(
                    f"{len(spec.proved)} samples are given as proved robust, but the defence "
                    "decides at random, and a proof speaks of one decision; leave out proved"
                )
            trial = make_trial(spec, subject, facts)
            if new:
                _refuse_false_proofs(spec, trial)
            folder.write_spec(_resolved(spec, trial))
            work = Work(make_job, spec, given, inputs, facts, len(trial.attacks))
            shards = dict(enumerate(subject.shards(spec.batch_size)))
            idle = run_shards(work, partial(run_shard, trial), shards, folder, show, deadline)
            _finish(spec, trial, diagnosis, folder, idle)
    return load_run(out)


def _request(spec: RunSpec) -> dict[str, Any]:
    """What makes two requests the same run: an earlier run counts by what it holds."""
    request = spec.request()
    for what in ("warm", "certified"):
        if (folder := getattr(spec, what)) is not None:
            request[what] = load_run(folder).digest
    return request


def _check_proved(spec: RunSpec, subject: Subject) -> None:
    count = len(subject.data)
    wrong = [sample for sample in spec.proved if not 0 <= sample < count]
    if wrong:
        raise DataError(
            f"sample {wrong[0]} is given as proved robust, but {subject.data.name} has samples 0 "
            f"to {count - 1}; check that the proofs are for this data"
        )


def _refuse_false_proofs(spec: RunSpec, trial: Trial) -> None:
    """Before anything is attacked for hours; the time it takes is that of one clean prediction."""
    samples = trial.subject.samples
    proved = samples[torch.isin(samples, torch.tensor(sorted(spec.proved), dtype=torch.int64))]
    for part in proved.split(spec.batch_size):
        if len(part):
            refuse_false_proofs(trial, part)


def _diagnose(spec: RunSpec, subject: Subject, modes: list[str]) -> dict[str, Any]:
    """Test the evaluation on a pilot; on a smaller one where memory is short."""
    size = min(PILOT, len(subject.samples))
    while True:
        try:
            with answerable("the model or its defence"), global_draws(spec.seed, subject.device):
                return _diagnose_on(size, spec, subject, modes)
        except (MemoryError, RuntimeError) as cause:
            if not is_out_of_memory(cause):
                raise
            if size == 1:
                raise EngineError(ONE_ALONE) from cause
            size //= 2


def _diagnose_on(size: int, spec: RunSpec, subject: Subject, modes: list[str]) -> dict[str, Any]:
    """Test the defence's facts, then the evaluation itself, on samples spread over all."""
    samples = subject.samples
    places = torch.linspace(0, len(samples) - 1, size).long()
    pilot = samples[places]
    x, y = subject.batch(pilot)
    pilot = pilot.to(subject.device)
    facts, findings = test_facts(subject.defense, x, pilot, spec.seed, modes)
    facts = dataclasses.replace(facts, adversary=spec.adversary.name)
    plan = resolve(spec, facts)
    gradient_attacks = [p.attack for p in plan if isinstance(p.attack, PGD)]
    # A suite may have none: what a pilot of PGD then says is said of the pilot.
    attack = gradient_attacks[0] if gradient_attacks else PGD(steps=20)
    search = for_search(subject.defense, subject.images(samples[places[:2]]))
    result = probe(
        subject.defense,
        search,
        facts,
        x,
        y,
        pilot,
        spec.threat,
        spec.seed,
        attack,
        PILOT_DRAWS if facts.stochastic else 1,
        planned=bool(gradient_attacks),
        together=subject.adversary.batched,
    )
    raised = [*findings, *result.findings, *_shared_batch(spec, subject)]
    return {
        "facts": dataclasses.asdict(facts),
        "findings": [plain(finding) for finding in raised],
        "forwards": result.forwards,
        "backwards": result.backwards,
    }


def _shared_batch(spec: RunSpec, subject: Subject) -> list[Finding]:
    """What is wrong with the joint gradient of the first batch that is attacked as a whole."""
    if not isinstance(subject.adversary, Batch):
        return []
    samples = subject.samples[: subject.defense.batch]
    x, y = subject.batch(samples)
    followed = subject.adversary.gradient
    own = samples.to(subject.device)
    found = cross_gradient(subject.defense, x, y, own, spec.seed, followed)
    return [] if found is None else [found]


def _finish(
    spec: RunSpec, trial: Trial, diagnosis: dict[str, Any], folder: RunFolder, idle: bool
) -> None:
    entries = folder.manifest["shards"]["files"]
    rows: list[Record] = []
    within: dict[str, set[int]] = {}
    for entry in entries.values():
        found: list[Record] = []
        for name in entry["sha256"]:
            if name.startswith("records/"):
                found += from_lines((folder.path / name).read_bytes(), name)
        within.setdefault(str(entry.get("over")), set()).update(row.sample for row in found)
        rows += found
    records = table_of(rows)
    asked = len(trial.subject.samples)
    begun = records["sample"].nunique()
    if begun != asked and spec.max_seconds is None:
        raise StoreError(f"{folder.path} lacks records; run the same command again")
    left = unfinished(records)
    findings = [
        *diagnosis["findings"],
        *map(plain, _budget_findings(spec, asked, asked - begun, left, within, idle)),
    ]
    if spec.threat.eps > 0:  # with no room to move, nothing can be told from noise
        noise = {p.name for p in trial.attacks if p.attack.control}
        still = {p.name for p in trial.attacks if p.attack.control or p.attack.minimal}
        findings += map(plain, compare_attacks(records, noise))
        findings += map(plain, stood_still(records, still))
        searches = {p.name for p in trial.attacks if p.attack.needs_gradient}
        searches -= {p.name for p in trial.attacks if isinstance(p.attack, Transfer | TransferPGD)}
        if not any(finding["code"] == "behind-transfer" for finding in findings):
            findings += map(plain, behind_transfer(records, searches - noise))
    findings = in_order(findings)
    attacks = [
        {"name": p.name, "settings": settings_of(p.attack), "control": p.attack.control}
        for p in trial.attacks
    ]
    summary = summarise(
        records,
        attacks,
        trial.draws if trial.facts.stochastic else None,
        list(entries.values()),
        trial.cascade,
        asked,
    )
    summary["findings"] = in_short(findings)
    for what in ("forwards", "backwards", "seconds", "cpu_seconds"):
        summary["cost"][what] = round(summary["cost"][what] + diagnosis[what], 3)
    if spec.certified is not None:
        summary["certified"] = certified_among(
            load_run(spec.certified), records["sample"], str(spec.threat), spec.threat.eps
        )
    summary |= summary_labels(spec)
    folder.finish(findings, summary)


def _budget_findings(
    spec: RunSpec,
    asked: int,
    never_begun: int,
    left: set[int],
    within: Mapping[str, set[int]],
    idle: bool,
) -> list[Finding]:
    """A finding for each budget that ran out; ``within`` are the samples by what stopped them."""
    limits = {Limit.PASSES: spec.max_passes, Limit.SECONDS: spec.max_seconds}
    found = []
    for limit, value in limits.items():
        short = sorted(left & within.get(limit, set()))
        more = never_begun if limit is Limit.SECONDS else 0
        if value is not None and (short or more):
            found.append(budget_spent(limit, value, short, more, asked, idle))
    return found


def _resolved(spec: RunSpec, trial: Trial) -> dict[str, Any]:
    """The spec with its suite spelt out, so that a run does not change when a suite does."""
    explicit = dataclasses.replace(
        spec,
        suite=None,
        warm=None,
        cascade=trial.cascade,
        max_seconds=None,
        # Whole, so that the run's own spec works from every folder.
        certified=None if spec.certified is None else str(Path(spec.certified).resolve()),
        attacks=tuple(planned.component for planned in trial.attacks),
        defense=dataclasses.replace(spec.defense, settings=settings_of(trial.subject.defense)),
        adversary=dataclasses.replace(
            spec.adversary, settings=settings_of(trial.subject.adversary)
        ),
    )
    return explicit.to_dict()
