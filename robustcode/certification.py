"""A described certification becomes a run folder."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from robustcode.certificates import table_of
from robustcode.certified import summarise_proofs
from robustcode.components import Component, settings_of
from robustcode.config import CertifySpec
from robustcode.facts import diagnose
from robustcode.findings import Facts, in_order, in_short
from robustcode.methods.cohen import to_tsv
from robustcode.progress import status
from robustcode.proving import Proving, make_job, make_proving, prove_shard, refuse_detector
from robustcode.store import Run, RunFolder, load_run, write_atomic
from robustcode.subject import Given, assemble, inputs_of, names_of, summary_labels
from robustcode.target import borrowed
from robustcode.workers import Work, run_shards, threads


def certify(spec: CertifySpec, out: Path, given: Given | None = None, show: bool = True) -> Run:
    """Prove what ``spec`` describes into the folder ``out``, or go on where it was interrupted.

    A faulty request, or one that is known to be in vain, is refused and leaves nothing behind; a
    method that breaks its contract stops the run with ContractError.
    """
    given = given or Given()
    folder = RunFolder(out)
    with threads(spec.threads):
        subject = assemble(spec, given)
        refuse_detector(spec, subject)
        modes = [n or "the model" for n, m in subject.defense.model.named_modules() if m.training]
        with folder.locked(), borrowed(subject.defense.model):
            inputs = inputs_of(spec, subject)
            folder.open(spec.request(), inputs, names_of(subject.data))
            diagnosis = folder.read_diagnosis()
            if new := diagnosis is None:
                diagnosis = diagnose(spec, subject, modes)
            facts = Facts(**diagnosis["facts"])
            with status(f"making {spec.method} ready", show):
                proving = make_proving(spec, subject, facts)
            if new:
                folder.write_diagnosis(diagnosis)
            folder.write_spec(_resolved(spec, proving))
            work = Work(make_job, spec, given, inputs, facts)
            shards = dict(enumerate(subject.shards(spec.batch_size)))
            run_shards(work, partial(prove_shard, proving), shards, folder, show)
            _finish(spec, proving, diagnosis, folder)
    return load_run(out)


def _finish(
    spec: CertifySpec, proving: Proving, diagnosis: dict[str, Any], folder: RunFolder
) -> None:
    entries = folder.manifest["shards"]["files"]
    findings = in_order(diagnosis["findings"])
    proofs = folder.read_certificates()
    summary = summarise_proofs(
        table_of(proofs),
        list(entries.values()),
        method=proving.name,
        subject=_spoken_of(spec, proving),
        threat=str(spec.threat),
        eps=spec.threat.eps,
        radii=spec.curve,
    )
    summary["findings"] = in_short(findings)
    summary["checks"] = diagnosis["checks"]
    for what in ("seconds", "cpu_seconds"):
        summary["cost"][what] = round(summary["cost"][what] + diagnosis[what], 3)
    summary |= summary_labels(spec)
    seconds = [
        entry["cost"]["seconds"] / entry["samples"]
        for entry in entries.values()
        for _ in range(entry["samples"])
    ]
    write_atomic(folder.path / "certificates.tsv", to_tsv(proofs, seconds).encode())
    folder.finish(findings, summary)


def _spoken_of(spec: CertifySpec, proving: Proving) -> str:
    """The defence that the proofs speak of, as it would be named for an attack on it."""
    defense = _defense(spec, proving)
    if not proving.spoken_of:
        return str(defense)
    # No component has the two, one around the other: attacks on either are of something else.
    return proving.spoken_of + ("" if defense.name == "identity" else f" around {defense}")


def _resolved(spec: CertifySpec, proving: Proving) -> dict[str, Any]:
    """The spec with all settings, so that a run does not change when a default does."""
    explicit = dataclasses.replace(
        spec,
        method=Component(spec.method.name, settings_of(proving.method)),
        defense=_defense(spec, proving),
        adversary=dataclasses.replace(
            spec.adversary, settings=settings_of(proving.subject.adversary)
        ),
    )
    return explicit.to_dict()


def _defense(spec: CertifySpec, proving: Proving) -> Component:
    return Component(spec.defense.name, settings_of(proving.subject.defense))
