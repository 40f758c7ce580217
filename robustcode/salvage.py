"""The numbers of a run that is not whole, recomputed from the verdicts that are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robustcode.certified import summarise_proofs
from robustcode.components import Component, number
from robustcode.summary import summarise


def asked_of(
    spec: Mapping[str, Any], manifest: Mapping[str, Any], summary: Mapping[str, Any] | None
) -> int | None:
    """How many samples were asked for; None if the folder does not say.

    Asked for all of a data set, it does where its last shard is listed: the shards before it are
    all of one size.
    """
    if summary is not None:
        return int(summary["samples"])
    if spec.get("indices"):
        return len(spec["indices"])
    if "samples" in spec:
        return int(spec["samples"])
    files, expected = manifest["shards"]["files"], manifest["shards"].get("expected")
    sizes = {name: entry.get("samples") for name, entry in files.items()}
    if not sizes or not expected or None in sizes.values():
        return None
    last, *_ = sorted(sizes, reverse=True)
    if not last.endswith(f"{expected - 1:05d}"):
        return None
    others = {size for name, size in sizes.items() if name != last}
    if expected > 1 and len(others) != 1:
        return None
    return int(sizes[last] + sum(others) * (expected - 1))


def attacks_in_part(
    records: pd.DataFrame,
    spec: Mapping[str, Any],
    manifest: Mapping[str, Any],
    diagnosis: Mapping[str, Any] | None,
    summary: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The contract's keys from the records of some shards; see summary.summarise.

    Args:
        records: of the shards that are intact, as records.read_records gives them.
        spec: spec.toml.
        manifest: with the intact shards only.
        diagnosis: what the pilot found, if that is there.
        summary: of the whole run, if that is there: its attacks are described there.
    """
    names = list(records["attack"].unique())
    settings = _settings(names, spec, summary)
    # A control spares no attack anything: those before the first that did are as good as controls.
    sparing = {*records["carried"].dropna()}
    first = next((place for place, name in enumerate(names) if name in sparing), len(names))
    attacks = [
        {"name": name, "settings": settings[name], "control": place < first}
        for place, name in enumerate(names)
    ]
    random = records["clean_correct"].dtype != bool
    facts = diagnosis["facts"] if diagnosis else {}
    found = summarise(
        records,
        attacks,
        _draws(records, spec) if random else None,
        list(manifest["shards"]["files"].values()),
        bool(sparing),
        detector=bool(facts.get("detector")),
    )
    return found | _beside(found, diagnosis) | _labels(spec, manifest)


def proofs_in_part(
    certificates: pd.DataFrame,
    spec: Mapping[str, Any],
    manifest: Mapping[str, Any],
    diagnosis: Mapping[str, Any] | None,
    summary: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The contract's keys from the certificates of some shards; see certified.summarise_proofs.

    Which defence the proofs speak of is known from ``summary`` alone, where it is not the subject's
    own; so without it nothing is set beside attacks.
    """
    said = (summary or {}).get("certified") or {}
    threat = str(spec["threat"])
    eps = number(threat.partition(":")[2], "eps")
    found = summarise_proofs(
        certificates,
        list(manifest["shards"]["files"].values()),
        method=said.get("method") or _named(manifest.get("request", {}).get("method")),
        subject=said.get("subject") or "",
        threat=threat,
        eps=eps,
        radii=sorted({eps, *spec.get("radii", ())}),
    )
    return found | _beside(found, diagnosis) | _labels(spec, manifest)


def _draws(records: pd.DataFrame, spec: Mapping[str, Any]) -> int:
    """Decisions of the judge per proposal: as asked for, else as many as were counted."""
    if "draws" in spec:
        return int(spec["draws"])
    return int(max(sum(votes) for votes in records["clean_votes"] if votes is not None))


def _settings(
    names: list[str], spec: Mapping[str, Any], summary: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """The settings of each attack: as the summary says, or the spec in the same order."""
    if summary is not None:
        told = {attack["name"]: attack.get("settings") or {} for attack in summary["attacks"]}
        return {name: told.get(name, {}) for name in names}
    listed = spec.get("attacks", [])
    if len(listed) != len(names):
        return {name: {} for name in names}
    return {
        name: {key: value for key, value in given.items() if key != "name"}
        if isinstance(given, dict)
        else {}
        for name, given in zip(names, listed, strict=True)
    }


def _beside(found: Mapping[str, Any], diagnosis: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the pilot looked at, and the costs with its own."""
    if diagnosis is None:
        return {}
    cost = dict(found["cost"])
    for what in ("forwards", "backwards", "seconds", "cpu_seconds"):
        cost[what] = round(cost[what] + diagnosis.get(what, 0), 3)
    kept = {what: diagnosis[what] for what in ("checks", "figures", "repairs") if what in diagnosis}
    return {"cost": cost, **kept}


def _labels(spec: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """How the run names what it evaluates, from what was asked."""
    asked = {**spec, **manifest.get("request", {})}
    return {
        "model": str(asked.get("model", "")),
        "checkpoint": Path(str(asked.get("checkpoint", ""))).name,
        "defense": _named(asked.get("defense")),
        "data": str(asked.get("data", "")),
        "threat": str(asked.get("threat", "")),
        "adversary": _named(asked.get("adversary")),
        "suite": str(asked.get("suite") or ""),
        "tested": None,
        "next": None,
    }


def _named(value: Any) -> str:
    """A component of a spec as the command line writes it."""
    if not isinstance(value, Mapping):
        return str(value or "")
    return str(
        Component(str(value.get("name", "")), {k: v for k, v in value.items() if k != "name"})
    )
