"""A described run of corruptions becomes a run folder."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from robustcode.components import Component, settings_of
from robustcode.config import CorruptSpec
from robustcode.corrupted import OWN, summarise_answers
from robustcode.corruptions import SEVERITIES, Scale, refuse_shape
from robustcode.errors import ConfigError
from robustcode.facts import diagnose
from robustcode.findings import Facts, in_order, in_short
from robustcode.progress import status
from robustcode.registry import suggestion
from robustcode.spoiling import Spoiling, cells_of, make_job, make_spoiling, spoil_shard
from robustcode.store import Run, RunFolder, load_run
from robustcode.subject import PILOT, Given, assemble, inputs_of, names_of, summary_labels
from robustcode.target import borrowed
from robustcode.workers import Work, run_shards, threads


def corrupt(spec: CorruptSpec, out: Path, given: Given | None = None, show: bool = True) -> Run:
    """Measure what ``spec`` describes into the folder ``out``, or go on where it was interrupted.

    A shard is a corruption at a severity, of all samples. A faulty request is refused and leaves
    nothing behind.
    """
    given = given or Given()
    _check(spec)
    folder = RunFolder(out)
    with threads(spec.threads):
        subject = assemble(spec, given)
        channels, height, width = subject.data.shape
        refuse_shape((height, width, channels))
        modes = [n or "the model" for n, m in subject.defense.model.named_modules() if m.training]
        with folder.locked(), borrowed(subject.defense.model):
            inputs = inputs_of(spec, subject)
            folder.open(spec.request(), inputs, names_of(subject.data))
            diagnosis = folder.read_diagnosis()
            if diagnosis is None:
                with status(f"testing the model on {PILOT} samples", show):
                    diagnosis = diagnose(spec, subject, modes)
                folder.write_diagnosis(diagnosis)
            facts = Facts(**diagnosis["facts"])
            spoiling = make_spoiling(spec, subject, facts)
            folder.write_spec(_resolved(spec, spoiling))
            work = Work(make_job, spec, given, inputs, facts)
            shards = dict.fromkeys(range(len(spoiling.cells)), subject.samples)
            run_shards(work, partial(spoil_shard, spoiling), shards, folder, show)
            _finish(spec, spoiling, diagnosis, folder)
    return load_run(out)


def _check(spec: CorruptSpec) -> None:
    """Refuse what is known to be wrong before any data is read."""
    for cell in cells_of(spec):
        if cell.corruption is not None:
            _ = cell.corruption.files  # refused where there are none
    for severity in spec.severities:
        if severity not in SEVERITIES:
            raise ConfigError(
                f"severity {severity} is not among those of corruptions, 1 to {SEVERITIES[-1]}"
            )
    if spec.scale is not None and spec.scale not in set(Scale):
        raise ConfigError(
            f"no strengths are called {spec.scale!r}.{suggestion(spec.scale, Scale)} "
            f"Known: {', '.join(Scale)}."
        )


def _finish(
    spec: CorruptSpec, spoiling: Spoiling, diagnosis: dict[str, Any], folder: RunFolder
) -> None:
    findings = in_order(diagnosis["findings"])
    summary = summarise_answers(
        folder.read_answers(),
        list(folder.manifest["shards"]["files"].values()),
        {c.name: str(c.corruption.group) for c in spoiling.cells if c.corruption is not None},
        spoiling.draws if spoiling.random else None,
    )
    summary["findings"] = in_short(findings)
    summary["checks"] = diagnosis["checks"]
    summary["corruption_scale"] = str(spoiling.scale)
    frost = next((c.corruption for c in spoiling.cells if c.name == "frost"), None)
    if frost is not None:
        summary["corruption_frost"] = "photographs" if frost.files else OWN
    for what in ("seconds", "cpu_seconds"):
        summary["cost"][what] = round(summary["cost"][what] + diagnosis[what], 3)
    folder.finish(findings, {**summary, **summary_labels(spec)})


def _resolved(spec: CorruptSpec, spoiling: Spoiling) -> dict[str, Any]:
    """The spec with all settings, so that a run does not change when a default does."""
    built = {c.name: c.corruption for c in spoiling.cells if c.corruption is not None}
    explicit = dataclasses.replace(
        spec,
        corruptions=tuple(Component(name, settings_of(one)) for name, one in built.items()),
        severities=tuple(sorted({c.severity for c in spoiling.cells if c.severity})),
        scale=str(spoiling.scale),
        defense=Component(spec.defense.name, settings_of(spoiling.subject.defense)),
    )
    return explicit.to_dict()
