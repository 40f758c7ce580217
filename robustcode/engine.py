"""The main job: a described evaluation becomes a run folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcode.bracket import certified_among
from robustcode.budget import Limit
from robustcode.checks import (
    Examination,
    Looked,
    Results,
    Stopped,
    examine,
    review,
    said_again,
    together,
)
from robustcode.checks.catalogue import every
from robustcode.checks.examination import DRAWS, FEWEST_DRAWS
from robustcode.checks.figures import figures_of
from robustcode.commands import command_of, next_suite
from robustcode.components import settings_of
from robustcode.config import RunSpec
from robustcode.defenses.wrapper import inside
from robustcode.errors import ConfigError, DataError, EngineError, StoreError
from robustcode.fast import for_search
from robustcode.findings import Facts, in_order, in_short, plain
from robustcode.memory import ONE_ALONE, is_out_of_memory
from robustcode.plan import check_attacks, resolve
from robustcode.progress import status
from robustcode.records import Record, from_lines, table_of
from robustcode.repair import answered, remedies, repair
from robustcode.shard import Trial, global_draws, refuse_false_proofs, run_shard
from robustcode.store import Run, RunFolder, load_run
from robustcode.subject import (
    PILOT,
    Given,
    Subject,
    as_tested,
    assemble,
    choose,
    inputs_of,
    names_of,
    spread,
    summary_labels,
    unasked,
)
from robustcode.suites import check_suite
from robustcode.summary import summarise, unfinished
from robustcode.target import answerable, borrowed
from robustcode.trial import make_job, make_trial
from robustcode.workers import Work, run_shards, threads

# Suites whose plan is mended where the pilot finds it wanting.
REPAIRED = ("adaptive", "strong")


def evaluate(
    spec: RunSpec,
    out: Path,
    given: Given | None = None,
    show: bool = True,
    deadline: float | None = None,
    asked_for: RunSpec | None = None,
) -> Run:
    """Run what ``spec`` describes into the folder ``out``, or go on where it was interrupted.

    Findings never stop a run: they are kept with its numbers. A budget that is spent ends it with
    intervals for what was not finished; ``deadline``, by time.monotonic, is that of several runs
    which share the time limit of ``spec``. ``asked_for`` is the evaluation that this one tests:
    the command to run next is about that. A faulty request is refused and leaves nothing behind;
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
            folder.open(request, inputs, names_of(subject.data))
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
            trial = make_trial(spec, as_tested(subject, facts), facts)
            if new:
                _refuse_false_proofs(spec, trial)
            folder.write_spec(_resolved(spec, trial))
            work = Work(make_job, spec, given, inputs, facts, len(trial.attacks))
            shards = dict(enumerate(subject.shards(spec.batch_size)))
            idle = run_shards(work, partial(run_shard, trial), shards, folder, show, deadline)
            # Objects cannot be named in a command.
            following = (asked_for or spec) if given == Given() else None
            tested = None
            if asked_for is not None:
                tested = len(choose(asked_for, len(subject.data), subject.data.name))
            _finish(spec, trial, diagnosis, folder, idle, (following, tested))
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
    first = examination(size, spec, unasked(subject), modes)
    reports = [examine(first, [check for check in every() if not check.of_the_attack])]
    tested = as_tested(subject, first.facts)
    # What is searched from here on is the defence as it will be evaluated.
    same = tested.defense is subject.defense
    exam = first if same else examination(size, spec, tested, modes)
    reports.append(examine(exam, [check for check in every() if check.of_the_attack]))
    findings = [finding for report in reports for finding in report.findings]
    facts = dataclasses.replace(
        exam.facts, batch_coupled=first.facts.batch_coupled, stateful=first.facts.stateful
    )
    repairs = repair(exam, findings) if spec.suite in REPAIRED else []
    told = answered(findings, repairs)
    lines = together(*(report.looked for report in reports))
    ledgers = [first.ledger] if exam is first else [first.ledger, exam.ledger]
    return {
        "facts": dataclasses.asdict(
            dataclasses.replace(facts, remedies=remedies(repairs, spec.threat.norm))
        ),
        "findings": [plain(finding) for finding in told],
        "checks": [dataclasses.asdict(line) for line in said_again(lines, told)],
        "repairs": [dataclasses.asdict(one) for one in repairs],
        "figures": figures_of(exam),
        "forwards": sum(int(ledger.forwards.sum()) for ledger in ledgers),
        "backwards": sum(int(ledger.backwards.sum()) for ledger in ledgers),
    }


def examination(size: int, spec: RunSpec, subject: Subject, modes: list[str]) -> Examination:
    """What is examined before an evaluation: ``size`` samples, spread over all."""
    samples = subject.samples
    pilot = spread(samples, size)
    x, y = subject.batch(pilot)
    return Examination(
        defense=subject.defense,
        x=x,
        y=y,
        samples=pilot.to(subject.device),
        seed=spec.seed,
        threat=spec.threat,
        training=modes,
        search=for_search(subject.defense, subject.images(pilot[:2])),
        adversary=subject.adversary,
        plan_of=partial(resolve, spec),
        # Fewer where the judge of the run makes fewer, which is a finding of its own.
        draws=min(spec.draws, max(FEWEST_DRAWS, DRAWS // _passes_of(subject))),
        whole_batch=_whole_batch(subject),
        data=subject.data,
        chosen=samples,
    )


def _passes_of(subject: Subject) -> int:
    """Of one decision on one sample: what takes many is asked for fewer decisions in a pilot."""
    return subject.defense.votes * max(1, subject.defense.passes)


def _whole_batch(subject: Subject) -> tuple[Tensor, Tensor, Tensor] | None:
    """The first batch that is attacked as a whole, if any is: inputs, labels and indices."""
    if not subject.adversary.batched:
        return None
    samples = subject.samples[: subject.defense.batch]
    return *subject.batch(samples), samples.to(subject.device)


def _finish(
    spec: RunSpec,
    trial: Trial,
    diagnosis: dict[str, Any],
    folder: RunFolder,
    idle: bool,
    following: tuple[RunSpec | None, int | None],
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
    report = review(
        Results(
            records=records,
            attacks=trial.attacks,
            threat=spec.threat,
            asked=asked,
            stopped=_stopped(spec, asked - begun, left, within, idle),
            # One that an added attack has answered is looked for again in what became of it.
            raised=frozenset(
                finding["code"]
                for finding in diagnosis["findings"]
                if finding["severity"] != "info"
            ),
            repaired=any(one["kept"] for one in diagnosis["repairs"]),
        )
    )
    findings = in_order([*diagnosis["findings"], *map(plain, report.findings)])
    pilot = [Looked(**line) for line in diagnosis["checks"]]
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
        trial.facts.detector,
    )
    summary["findings"] = in_short(findings)
    summary["checks"] = [dataclasses.asdict(line) for line in together(pilot, report.looked)]
    summary["figures"] = diagnosis["figures"]
    summary["repairs"] = diagnosis["repairs"]
    for what in ("forwards", "backwards", "seconds", "cpu_seconds"):
        summary["cost"][what] = round(summary["cost"][what] + diagnosis[what], 3)
    if spec.certified is not None:
        summary["certified"] = certified_among(
            load_run(spec.certified), records["sample"], str(spec.threat), spec.threat.eps
        )
    summary |= summary_labels(spec)
    summary["tested"] = following[1]
    summary["next"] = _next(*following, findings, folder.path)
    folder.finish(findings, summary)


def _next(
    spec: RunSpec | None, tested: int | None, findings: list[dict[str, Any]], out: Path
) -> str | None:
    """The command to run next, of a spec that can be written down.

    After a test of ``tested`` samples with nothing found that is the evaluation that was tested.
    """
    if spec is None:
        return None
    suite = next_suite(spec.suite, findings)
    if suite is None and tested is None:
        return None
    suite = suite or spec.suite or "standard"
    further = dataclasses.replace(spec, suite=suite, attacks=(), cascade=None, warm=None)
    # Beside the run, also where that is the folder somebody stands in.
    return command_of(further, f"{out if out.name else out.resolve()}-{suite}")


def _stopped(
    spec: RunSpec,
    never_begun: int,
    left: set[int],
    within: Mapping[str, set[int]],
    idle: bool,
) -> list[Stopped]:
    """Each budget that ran out; ``within`` are the samples by what stopped them."""
    limits = {Limit.PASSES: spec.max_passes, Limit.SECONDS: spec.max_seconds}
    found = []
    for limit, value in limits.items():
        short = sorted(left & within.get(limit, set()))
        more = never_begun if limit is Limit.SECONDS else 0
        if value is not None and (short or more):
            found.append(
                Stopped(limit=limit, value=value, samples=short, never_begun=more, idle=idle)
            )
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
        defense=dataclasses.replace(
            spec.defense, settings=settings_of(inside(trial.subject.defense))
        ),
        adversary=dataclasses.replace(
            spec.adversary, settings=settings_of(trial.subject.adversary)
        ),
    )
    return explicit.to_dict()
